"""What changed an account at Alpaca beside executions, as records.

Of an activity that is not a trade Alpaca promises a day and an amount; shares only of some kinds,
and of a dividend the number that was entitled to it, which changes nothing.
"""

from datetime import date
from decimal import Decimal

from brokers.members import Members
from risk.gateway.records import Activity

BY_COMPANY = frozenset({"SPLIT", "SSP", "SPIN", "SSO", "NC", "SC", "MA", "REORG"})
BY_SOMEBODY = frozenset({"ACATS", "JNLS"})  # transfers of shares
ZERO = Decimal(0)


def activity_of(raw: object) -> Activity:
    """Return an activity; one that was not carried out, or was taken back, changes nothing.

    Raises:
        ValueError: if it is an execution, or something of it is missing or odd.
    """
    members = Members("activity", raw).named_by("id")
    kind = members.text("activity_type")
    if kind == "FILL":
        raise members.odd("activity_type")
    try:
        day = date.fromisoformat(members.text("date"))
    except ValueError:
        raise members.odd("date") from None
    valid = members.optional_text("status") in (None, "executed")
    moves = valid and kind in BY_COMPANY | BY_SOMEBODY
    shares = members.optional_number("qty") if moves else None
    amount = members.optional_number("net_amount") if valid else None
    return Activity(
        id=members.text("id"),
        kind=kind,
        symbol=members.optional_text("symbol"),
        shares=shares or ZERO,
        cash=amount or ZERO,
        corporate=kind in BY_COMPANY,
        day=day,
    )
