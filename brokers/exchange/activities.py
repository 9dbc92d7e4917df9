"""Pages of the account's activities, as Alpaca cuts them."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

from brokers.exchange.admission import malformed

Json = dict[str, Any]


def page(
    activities: Sequence[Json],
    *,
    kinds: frozenset[str] | None,
    trades: bool | None,
    after: datetime | None,
    until: datetime | None,
    day: date | None,
    descending: bool,
    size: int,
    token: str | None,
) -> list[Json]:
    """Return one page of the activities that are wanted.

    Args:
        activities: all of them, oldest first, each with its time as `at`.
        kinds: activity types; None is all.
        trades: only executions, or only what is none; None is all.
        after: only later ones.
        until: no later ones.
        day: only those of a day in UTC.
        descending: newest first.
        size: at most so many.
        token: id of the last activity of the page before; None is the first page.

    Raises:
        Rejection: if no wanted activity has the token.
    """
    found = []
    for activity in activities:
        at = datetime.fromisoformat(activity["at"])
        if (
            (kinds is None or activity["activity_type"] in kinds)
            and trades in (None, activity["activity_type"] == "FILL")
            and (after is None or at > after)
            and (until is None or at <= until)
            and (day is None or at.date() == day)
        ):
            found.append({name: value for name, value in activity.items() if name != "at"})
    if descending:
        found.reverse()
    if token is None:
        return found[:size]
    places = [place for place, activity in enumerate(found) if activity["id"] == token]
    if not places:
        raise malformed("invalid page_token")
    return found[places[0] + 1 :][:size]
