"""Days on which the clock or the calendar is not as usual."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from brokers.exchange.prices import Hours
from risk.gateway.stored import DecisionState
from risk.gateway.submission import Mode

HALF_DAY = datetime(2023, 11, 24, tzinfo=UTC).date()
AFTER_A_CHANGE = (datetime(2023, 11, 6, tzinfo=UTC).date(), 14, 30)  # winter time since yesterday


def go_to(venue: Any, day: Any) -> None:
    """Go to the opening of a session; nothing is open before it."""
    opening = Hours("XNYS").times(day)[0]
    venue.admin("PUT", "/clock", {"now": opening.isoformat()})


def wake(venue: Any) -> None:
    """Let the gateway look at where it is, as it does after a long sleep."""
    venue.permit.renew(venue.epoch, 30_000)
    venue.gateway.recover()


def test_on_a_half_day_nothing_is_accepted_after_its_cut_off_and_nothing_waits_for_tomorrow(
    venue: Any,
) -> None:
    go_to(venue, HALF_DAY)
    venue.advance(1800)
    wake(venue)
    early = venue.decision(1, S000="0.05")
    assert early.expires_at.hour == 18, "13:00 in New York"
    assert venue.gateway.submit(early, Mode.paper).state is DecisionState.accepted
    venue.run(steps=14)
    venue.require_equal_books()
    venue.advance((datetime(2023, 11, 24, 17, 50, tzinfo=UTC) - venue.now).total_seconds())
    wake(venue)
    late = venue.gateway.submit(venue.decision(2, S001="0.05"), Mode.paper)
    assert late.state is DecisionState.refused and "closing_buffer" in late.reasons
    venue.advance(1800)
    wake(venue)
    closed = venue.gateway.submit(venue.decision(3, S001="0.05"), Mode.paper)
    assert closed.state is DecisionState.refused and "market_closed" in closed.reasons
    sent = len(venue.posted())
    venue.next_session()
    venue.run(steps=3)
    assert len(venue.posted()) == sent, "nothing was kept for the next opening"


def test_what_a_half_day_leaves_open_expires_at_its_close(venue: Any) -> None:
    go_to(venue, HALF_DAY)
    venue.advance(1800)
    wake(venue)
    venue.admin("PATCH", "/terms", {"share_per_step": "0"})
    answer = venue.gateway.submit(venue.decision(1, S000="0.05"), Mode.paper)
    venue.run(steps=3)
    venue.admin("PUT", "/clock", {"to": "next_close"})
    venue.advance(1800)
    venue.run(steps=2)
    done = venue.gateway.answer(answer.decision_id)
    assert done.state is DecisionState.done
    assert [one.state.value for one in venue.ledger.orders()] == ["expired"]
    assert venue.broker.open_orders() == []


def test_the_day_after_a_change_of_the_clocks_begins_when_new_york_says(venue: Any) -> None:
    day, hour, minute = AFTER_A_CHANGE
    go_to(venue, day)
    assert (venue.now.hour, venue.now.minute) == (hour, minute)
    venue.advance(600)
    wake(venue)
    early = venue.gateway.submit(venue.decision(1, S000="0.05"), Mode.paper)
    assert early.state is DecisionState.refused and "opening_buffer" in early.reasons
    venue.advance(600)
    wake(venue)
    answer = venue.gateway.submit(venue.decision(2, S000="0.05"), Mode.paper)
    assert answer.state is DecisionState.accepted, answer.verdict
    venue.run(steps=14)
    venue.require_equal_books()


def test_a_session_that_is_called_off_without_notice_trades_nothing(venue: Any) -> None:
    venue.admin("POST", "/closures", {"session": "2023-06-05"})  # the gateway's calendar has it
    venue.admin("PUT", "/clock", {"now": "2023-06-05T14:00:00+00:00"})
    wake(venue)
    answer = venue.gateway.submit(venue.decision(1, S000="0.05"), Mode.paper)
    assert answer.state is DecisionState.refused and "market_closed" in answer.reasons
    venue.run(steps=2)
    assert venue.posted() == []
    venue.next_session()
    assert venue.now.date().isoformat() == "2023-06-06"
    again = venue.decision(2, S000="0.05")
    answer = venue.gateway.submit(again, Mode.paper)
    # The gateway's calendar takes the session for one that took place, and its prices for missing.
    assert answer.state is DecisionState.accepted, answer.verdict
    venue.run(steps=14)
    venue.require_equal_books()


def test_a_closing_earlier_than_the_calendar_says_trades_nothing(venue: Any) -> None:
    true = venue.exchange.hours.times(datetime(2023, 6, 5, tzinfo=UTC).date())
    early = true[0], true[1] - timedelta(hours=2)
    venue.exchange.hours._times[datetime(2023, 6, 5, tzinfo=UTC).date()] = early
    venue.admin("PUT", "/clock", {"now": "2023-06-05T14:00:00+00:00"})
    wake(venue)
    answer = venue.gateway.submit(venue.decision(1, S000="0.05"), Mode.paper)
    assert answer.state is DecisionState.refused and "calendar_disagrees" in answer.reasons
    assert venue.posted() == []


@pytest.mark.parametrize("shift_s", [3600.0, -3600.0, 2.0])
def test_a_machines_clock_that_jumped_trades_nothing(venue: Any, shift_s: float) -> None:
    observer = venue.gateway._observer
    observer._own_clock = lambda: venue.now + timedelta(seconds=shift_s)
    answer = venue.gateway.submit(venue.decision(1, S000="0.05"), Mode.paper)
    assert answer.state is DecisionState.refused and "clock_skew" in answer.reasons
    venue.run(steps=1)
    assert venue.posted() == [] and venue.ledger.latch().tripped
