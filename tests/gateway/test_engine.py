"""From a decision to filled orders and equal books, and what a lost answer may not do."""

import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from risk.gateway.records import OrderState
from risk.gateway.replay import judged_again
from risk.gateway.stored import DecisionState
from risk.gateway.submission import Mode
from risk.gateway.verify import verify
from risk.gateway.writer import Conflict


def test_a_decision_becomes_filled_orders_and_equal_books(venue: Any) -> None:
    answer = venue.gateway.submit(venue.decision(S000="0.08", S001="0.05"), Mode.paper)
    assert answer.state is DecisionState.accepted, answer.verdict
    assert {order.symbol for order in answer.orders} == {"S000", "S001"}
    venue.run()
    done = venue.gateway.answer(answer.decision_id)
    assert done.state is DecisionState.done
    assert {order.state for order in done.orders} == {OrderState.filled}
    venue.require_equal_books()
    assert len(venue.posted()) == len(done.orders)
    assert all(order.filled == order.quantity for order in done.orders)
    assert venue.ledger.latch().armed


def test_the_same_decision_again_gets_the_same_answer_and_sends_nothing(venue: Any) -> None:
    decision = venue.decision(S000="0.05")
    first = venue.gateway.submit(decision, Mode.paper)
    again = venue.gateway.submit(decision, Mode.paper)
    assert first.orders == again.orders and again.state is first.state
    with pytest.raises(Conflict):
        venue.gateway.submit(replace(decision, body_sha256="f" * 64), Mode.paper)
    with pytest.raises(Conflict):
        venue.gateway.submit(decision, Mode.dry_run)


def test_a_dry_run_judges_and_plans_and_sends_nothing(venue: Any) -> None:
    answer = venue.gateway.submit(venue.decision(S000="0.05"), Mode.dry_run)
    assert answer.state is DecisionState.done
    assert {(one.symbol, one.state) for one in answer.orders} == {("S000", OrderState.intent)}
    assert list(venue.ledger.orders(decision_id=answer.decision_id)) == []
    venue.run(steps=3)
    assert venue.posted() == []


def test_without_a_permit_nothing_is_accepted_and_nothing_is_sent(venue: Any) -> None:
    accepted = venue.gateway.submit(venue.decision(S000="0.05"), Mode.paper)
    venue.permit.revoke()
    for _ in range(3):
        venue.gateway.step()
        venue.advance(20)
    assert venue.posted() == []
    refused = venue.gateway.submit(venue.decision(2, S001="0.05"), Mode.paper)
    assert refused.state is DecisionState.refused and "permit" in refused.reasons
    venue.run()
    assert venue.gateway.answer(accepted.decision_id).state is DecisionState.done


def test_a_halt_file_stops_everything(venue: Any) -> None:
    venue.gateway.submit(venue.decision(S000="0.05"), Mode.paper)
    venue.halt_file.halt("a person wants it")
    venue.run(steps=3)
    assert venue.posted() == []


def test_a_kill_drops_what_was_not_sent_and_cancels_what_was(venue: Any) -> None:
    answer = venue.gateway.submit(venue.decision(S000="0.05", S001="0.05"), Mode.paper)
    venue.gateway.kill("a person wants it", "operator")
    venue.run(steps=3)
    assert venue.posted() == [] and not venue.ledger.latch().armed
    ended = venue.gateway.answer(answer.decision_id)
    assert {order.state for order in ended.orders} == {OrderState.dropped}
    assert list(venue.broker.open_orders()) == []


def test_a_position_that_no_fill_explains_stops_trading(venue: Any) -> None:
    answer = venue.gateway.submit(venue.decision(S000="0.05"), Mode.paper)
    venue.run()
    body = {"symbol": "S001", "qty": "3", "side": "buy", "type": "market", "time_in_force": "day"}
    venue.foreign_order(body)
    venue.advance(120)
    venue.gateway.step()
    assert not venue.ledger.latch().armed
    assert venue.gateway.answer(answer.decision_id).state is DecisionState.done


def test_a_second_decision_sells_before_it_buys(venue: Any) -> None:
    venue.gateway.submit(venue.decision(S000="0.08", S001="0.08"), Mode.paper)
    venue.run()
    venue.next_session()
    second = venue.gateway.submit(venue.decision(2, S001="0.02", S002="0.08"), Mode.paper)
    assert second.state is DecisionState.accepted, second.verdict
    venue.run(steps=60)
    sides = [one["side"] for one in venue.bodies()[2:]]
    assert sides == sorted(sides, key=lambda side: side != "sell")
    assert {"sell", "buy"} == set(sides)
    venue.require_equal_books()


FAULTS = [
    *({"kind": "status", "status": status, "after": after}
      for status in (500, 502, 503, 504) for after in (False, True)),
    *({"kind": kind, "after": after} for kind in ("reset", "html", "empty")
      for after in (False, True)),
    {"kind": "truncated"},
    {"kind": "unknown_enum"},
    {"kind": "hide", "seconds": 2},
    {"kind": "status", "status": 429, "retry_after": 1},
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=str)
@pytest.mark.parametrize("nth", [1, 2])
def test_a_lost_answer_loses_no_order_and_doubles_none(
    venue: Any, fault: dict[str, Any], nth: int, soak: bool
) -> None:
    if nth > 1 and not soak:
        pytest.skip("the second order's answer is lost with --soak")
    answer = venue.gateway.submit(venue.decision(S000="0.08", S001="0.05"), Mode.paper)
    venue.fault(**fault, nth=nth)
    venue.run()
    time.sleep(fault.get("seconds", 0))  # the broker hides it by the clock on the wall
    venue.admin("PUT", "/clock", {"to": "next_close"})  # what moved past its limit expires
    venue.run(steps=3)
    done = venue.gateway.answer(answer.decision_id)
    assert done.state is DecisionState.done, done.orders
    found = list(venue.broker.orders(venue.now - timedelta(days=1)))
    assert sorted(one.client_order_id for one in found) == sorted(
        order.client_order_id for order in done.orders
    )
    assert {one.client_order_id: one.filled for one in found} == {
        order.client_order_id: order.filled for order in done.orders
    }
    assert any(order.state is OrderState.filled for order in done.orders)
    venue.require_equal_books()


def test_the_audit_can_be_walked_again_and_every_verdict_judged_anew(venue: Any) -> None:
    venue.gateway.submit(venue.decision(S000="0.08"), Mode.paper)
    venue.gateway.submit(venue.decision(2, S000="0.9"), Mode.paper)
    venue.run(steps=5)
    found = verify(venue.ledger, venue.ledger.anchor, judged_again)
    assert found.ok, found.problems
    assert found.verdicts >= 1


def test_an_order_that_never_arrives_ends_after_its_session_and_not_before(venue: Any) -> None:
    answer = venue.gateway.submit(venue.decision(S000="0.08"), Mode.paper)
    venue.fault("status", status=500, after=False, times=None)
    venue.run(steps=4)
    (order,) = venue.gateway.answer(answer.decision_id).orders
    assert order.state is OrderState.unknown
    assert len({one["client_order_id"] for one in venue.bodies()}) == 1
    venue.admin("PUT", "/clock", {"to": "next_close"})
    venue.run(steps=1)
    assert venue.gateway.answer(answer.decision_id).orders[0].state is OrderState.unknown
    venue.advance(1800)
    venue.run(steps=2)
    done = venue.gateway.answer(answer.decision_id)
    assert done.state is DecisionState.done and done.orders[0].state is OrderState.expired
    venue.require_equal_books()


@pytest.mark.parametrize("share", ["1", "0.4"])
def test_an_order_that_was_given_up_and_is_filled_all_the_same_is_written_down_as_filled(
    venue: Any, share: str
) -> None:
    """A broker that hid it for longer than its session shows its executions then."""
    answer = venue.gateway.submit(venue.decision(S000="0.08"), Mode.paper)
    venue.admin("PATCH", "/terms", {"share_per_step": "0"})  # nothing fills yet
    venue.fault("status", status=500, after=True)
    venue.gateway.step()
    (order,) = venue.gateway.answer(answer.decision_id).orders
    assert order.state is OrderState.unknown
    with venue.ledger.writing(venue.epoch) as writer:  # as `Courier.give_up` does
        writer.set_order(order.client_order_id, OrderState.expired, at=venue.now)
    venue.admin("PATCH", "/terms", {"share_per_step": share})
    states = []
    for _ in range(12):
        venue.run(steps=1)
        (order,) = venue.gateway.answer(answer.decision_id).orders
        states.append(order.state)
    assert (order.state, order.filled) == (OrderState.filled, order.quantity), states
    assert (OrderState.partly_done in states) == (share != "1")
    venue.require_equal_books()
