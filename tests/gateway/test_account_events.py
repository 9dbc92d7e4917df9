"""What happens to an account beside our orders: what explains itself is booked, the rest stops."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from market.errors import InputError
from risk.gateway.records import OrderState
from risk.gateway.stored import DecisionState
from risk.gateway.submission import Mode

PERSON = "a person"


def hold(venue: Any) -> None:
    """Let the account hold two names, the books be equal, and the day be over."""
    answer = venue.gateway.submit(venue.decision(S000="0.08", S001="0.05"), Mode.paper)
    assert answer.state is DecisionState.accepted, answer.verdict
    venue.run(steps=14)
    require_equal_cents(venue)
    venue.admin("PUT", "/clock", {"to": "next_close"})


def require_equal_cents(venue: Any) -> None:
    """Compare the shares and the cents of ledger and exchange."""
    venue.require_equal_books()
    assert venue.ledger.cash() == venue.broker.account().cash
    found = venue.gateway.reconcile()
    assert found.cash == (venue.broker.account().cash,) * 2


def require_stopped(venue: Any, symbol: str) -> None:
    """See the difference at once, and trading stopped."""
    assert symbol in venue.gateway.reconcile().drifted
    venue.gateway.step()
    assert venue.ledger.latch().tripped


def test_dividends_fees_and_cash_that_moved_are_booked_to_the_cent(venue: Any) -> None:
    hold(venue)
    before = venue.ledger.cash()
    shares = venue.ledger.positions()["S000"]
    venue.admin("POST", "/dividends", {"symbol": "S000", "per_share": "0.255"})
    venue.admin("POST", "/fees", {"amount": "0.07"})
    venue.admin("POST", "/cash", {"amount": "-250.50"})
    venue.next_session()
    require_equal_cents(venue)
    paid = (shares * Decimal("0.255")).quantize(Decimal("0.01"))
    assert venue.ledger.cash() == before + paid - Decimal("250.57")
    assert not venue.ledger.latch().tripped


@pytest.mark.parametrize("ratio", ["3", "0.5"])
def test_a_split_is_booked_and_its_name_waits_for_prices_that_fit(
    venue: Any, ratio: str, soak: bool
) -> None:
    if ratio != "3" and not soak:
        pytest.skip("a reverse split with --soak")
    hold(venue)
    before = venue.ledger.positions()
    venue.admin("POST", "/splits", {"symbol": "S000", "ratio": ratio})
    venue.next_session()
    require_equal_cents(venue)
    assert venue.ledger.positions()["S000"] == before["S000"] * Decimal(ratio)
    assert venue.ledger.latch().armed
    answer = venue.gateway.submit(venue.decision(2, S000="0.02", S001="0.08"), Mode.paper)
    venue.run(steps=14)
    sent = {one["symbol"] for one in venue.bodies()[2:]}
    assert "S000" not in sent, "the market source still has its price from before the split"
    assert answer.state in (DecisionState.accepted, DecisionState.refused)
    require_equal_cents(venue)


def test_a_name_that_is_exchanged_for_another_is_booked(venue: Any) -> None:
    hold(venue)
    before = venue.ledger.positions()
    venue.admin("POST", "/renames", {"symbol": "S000", "to": "S004"})
    venue.next_session()
    require_equal_cents(venue)
    assert venue.ledger.positions() == {"S001": before["S001"], "S004": before["S000"]}


def test_an_activity_is_booked_once_however_often_it_is_seen_and_whoever_restarts(
    venue: Any,
) -> None:
    hold(venue)
    venue.admin("POST", "/dividends", {"symbol": "S000", "per_share": "1"})
    for _ in range(3):
        venue.gateway.reconcile()
    venue.ledger.close()
    again = venue.rebuild()
    for _ in range(3):
        again.gateway.recover()
    require_equal_cents(again)
    booked = again.ledger.activities(again.now.date() - timedelta(days=9))
    assert [one.kind for one in booked] == ["DIV"]


def test_shares_that_somebody_moved_stop_trading_until_a_person_accepts_them(venue: Any) -> None:
    hold(venue)
    venue.admin("POST", "/shares", {"symbol": "S003", "qty": "7"})
    venue.next_session()
    require_stopped(venue, "S003")
    account = venue.broker.account().id
    with pytest.raises(InputError, match="not the gateway's account"):
        venue.gateway.accept("PA0", PERSON, "looked into")
    assert "S003" in venue.gateway.reconcile().drifted
    assert venue.gateway.accept(account, PERSON, "a transfer from the other depot").clean
    require_equal_cents(venue)
    assert not venue.ledger.latch().armed
    assert venue.gateway.arm(account, venue.ledger.latch(), PERSON).allowed
    answer = venue.gateway.submit(venue.decision(2, S000="0.08", S001="0.05"), Mode.paper)
    assert answer.state is DecisionState.accepted, answer.verdict
    venue.run(steps=14)
    assert ("S003", "sell") in {(one["symbol"], one["side"]) for one in venue.bodies()}
    require_equal_cents(venue)


def test_nothing_is_accepted_while_trading_is_armed_or_an_order_is_open(venue: Any) -> None:
    account = venue.broker.account().id
    with pytest.raises(InputError, match="halted only"):
        venue.gateway.accept(account, PERSON, "in passing")
    venue.admin("PATCH", "/terms", {"share_per_step": "0"})
    venue.gateway.submit(venue.decision(S000="0.08"), Mode.paper)
    venue.run(steps=3)
    venue.ledger.trip("the test", "test", venue.now)
    with pytest.raises(InputError, match="not ended"):
        venue.gateway.accept(account, PERSON, "in passing")


def test_cash_that_nothing_explains_is_told_and_stops_nothing(venue: Any) -> None:
    hold(venue)
    kept = venue.exchange.store
    with kept.transaction():  # past every activity, as no broker should
        kept.set_fact("cash", str(Decimal(kept.fact("cash")) - Decimal("0.03")))
    found = venue.gateway.reconcile()
    ours, theirs = found.cash
    assert ours - theirs == Decimal("0.03") and found.clean
    assert venue.ledger.latch().armed


def test_an_execution_between_two_questions_is_no_drift(
    venue: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    venue.admin("PATCH", "/terms", {"share_per_step": "0.2"})
    venue.gateway.submit(venue.decision(S000="0.08"), Mode.paper)
    venue.run(steps=2)
    true = type(venue.broker).account

    def account(broker: Any) -> Any:  # time passes behind the executions that were just asked for
        found = true(broker)
        venue.advance(60.0)
        return found

    monkeypatch.setattr(type(venue.broker), "account", account)
    for _ in range(4):
        venue.permit.renew(venue.epoch, 30_000)
        venue.gateway.step()
    monkeypatch.undo()
    assert venue.ledger.latch().armed, venue.ledger.latch()
    venue.run(steps=14)
    require_equal_cents(venue)


def test_a_strangers_execution_latches_though_the_broker_fails_right_after_it_was_seen(
    venue: Any,
) -> None:
    hold(venue)
    venue.next_session()
    order = {"symbol": "S002", "qty": "3", "side": "buy", "type": "market"}
    venue.foreign_order({**order, "time_in_force": "day"})
    where = {"method": "GET", "path": "/v2/account", "kind": "status", "status": 500}
    venue.admin("POST", "/faults", {**where, "times": None})
    assert not venue.gateway.reconcile().known
    assert "buy 3 S002" in venue.ledger.latch().reason and venue.ledger.latch().tripped
    venue.admin("DELETE", "/faults")
    require_equal_cents(venue)


@pytest.mark.parametrize("end", ["cancelled by a kill", "expired with its session"])
def test_the_next_decision_starts_from_what_was_filled_and_not_from_what_was_wanted(
    venue: Any, end: str, soak: bool
) -> None:
    if end.startswith("expired") and not soak:
        pytest.skip("the other end with --soak")
    venue.admin("PATCH", "/terms", {"share_per_step": "0.13"})
    first = venue.gateway.submit(venue.decision(S000="0.08"), Mode.paper)
    venue.run(steps=6, seconds=60.0)
    venue.admin("PATCH", "/terms", {"share_per_step": "0"})
    if end == "cancelled by a kill":
        venue.gateway.kill("the test", PERSON)
    venue.admin("PUT", "/clock", {"to": "next_close"})
    venue.advance(1800)
    venue.run(steps=2)
    (order,) = venue.gateway.answer(first.decision_id).orders
    order = venue.ledger.order(order.client_order_id)
    assert order.state is OrderState.partly_done and 0 < order.filled < order.quantity
    require_equal_cents(venue)
    venue.admin("PATCH", "/terms", {"share_per_step": "1"})
    venue.next_session()
    latch = venue.ledger.latch()
    if not latch.armed:
        assert venue.gateway.arm(venue.broker.account().id, latch, PERSON).allowed
    second = venue.gateway.submit(venue.decision(2, S000="0.08"), Mode.paper)
    assert second.state is DecisionState.accepted, second.verdict
    venue.run(steps=14)
    sent = Decimal(venue.bodies()[-1]["qty"])
    missing = order.quantity - order.filled
    assert abs(sent - missing) <= order.quantity * Decimal("0.2"), "only what was missing"
    require_equal_cents(venue)
