"""What an order cost beside the market, how long it took, and that known costs are found again."""

import json
import sys
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from cli.__main__ import main
from risk.gateway.canonical import number
from risk.gateway.decision_answer import to_answer
from risk.gateway.quality import Quality, legs, qualities, record, summary
from risk.gateway.records import Side
from risk.gateway.replay import judged_again
from risk.gateway.submission import Mode
from risk.gateway.verify import verify

HALF_SPREAD_BP, SLIPPAGE_BP, COMMISSION_BP = Decimal(6), Decimal(3), Decimal(2)
BOOKS = (("S000", "S001", "S002"), ("S003", "S004"))


def costly(venue: Any) -> None:
    """Let trading cost something from now on."""
    terms = {
        "half_spread_bp": number(HALF_SPREAD_BP),
        "slippage_bp": number(SLIPPAGE_BP),
        "commission_bp": number(COMMISSION_BP),
    }
    venue.admin("PATCH", "/terms", terms)


def found(venue: Any, decision_id: str) -> list[Quality]:
    return qualities(venue.ledger, venue.ledger.orders(decision_id=decision_id))


def test_an_order_is_measured_from_its_decision_to_its_last_fill(venue: Any) -> None:
    costly(venue)
    answer = venue.gateway.submit(venue.decision(S000="0.08", S001="0.05"), Mode.paper)
    before = found(venue, answer.decision_id)
    assert all(one.arrival is None and one.slippage_bp is None for one in before)
    venue.run(steps=6)
    for one in found(venue, answer.decision_id):
        order, arrival = one.order, one.arrival
        assert arrival is not None and order.average_price is not None
        # The exchange fills at the ask of that moment and its slippage, on ticks of a cent.
        price = arrival.price * (1 + HALF_SPREAD_BP / 10_000)
        paid = price * (1 + SLIPPAGE_BP / 10_000)
        assert paid <= order.average_price <= paid + Decimal("0.02")
        at = order.average_price
        assert one.arrival_bp == pytest.approx((at / arrival.price - 1) * 10_000)
        assert one.slippage_bp == pytest.approx((at / order.reference_price - 1) * 10_000)
        notional = order.average_price * order.filled
        exact = notional * COMMISSION_BP / 10_000
        assert exact <= one.commission <= exact + Decimal("0.01")
        assert arrival.adv is not None and one.participation == order.filled / arrival.adv
        assert arrival.sigma is not None and arrival.sigma > 0
        assert arrival.ack_ms is not None and 0 <= arrival.ack_ms < 30_000
        assert one.filling_s is not None and 0 <= one.waiting_s <= one.filling_s < 1
    assert verify(venue.ledger, venue.ledger.anchor, judged_again).problems == ()


def test_a_sell_below_the_price_has_cost_what_a_buy_above_it_has(venue: Any) -> None:
    venue.gateway.submit(venue.decision(S000="0.08"), Mode.paper)
    venue.run(steps=4)
    venue.next_session()
    costly(venue)
    answer = venue.gateway.submit(venue.decision(2, S001="0.08"), Mode.paper)
    venue.run(steps=8)
    by_side = {one.order.side: one for one in found(venue, answer.decision_id)}
    assert set(by_side) == {Side.buy, Side.sell}
    for one in by_side.values():
        assert one.order.average_price is not None and one.arrival is not None
        assert HALF_SPREAD_BP + SLIPPAGE_BP < one.arrival_bp < HALF_SPREAD_BP + SLIPPAGE_BP + 3
    assert by_side[Side.sell].order.average_price < by_side[Side.sell].arrival.price


def test_a_lost_answer_leaves_no_answering_time_but_the_first_price(venue: Any) -> None:
    venue.fault("reset", after=True)
    answer = venue.gateway.submit(venue.decision(S000="0.05"), Mode.paper)
    venue.run(steps=1, seconds=60)
    (first,) = found(venue, answer.decision_id)
    venue.run(steps=3, seconds=60)
    (last,) = found(venue, answer.decision_id)
    assert first.arrival is not None and last.arrival is not None
    assert (last.arrival.at, last.arrival.price) == (first.arrival.at, first.arrival.price)
    assert last.arrival.ack_ms is None and last.arrival.accepted_at is not None
    assert last.order.filled == last.order.quantity


def test_an_order_that_was_told_to_wait_is_measured_from_the_attempt_that_counts(
    venue: Any,
) -> None:
    venue.fault("status", status=429, retry_after=1)
    answer = venue.gateway.submit(venue.decision(S000="0.05"), Mode.paper)
    venue.gateway.step()
    (waiting,) = found(venue, answer.decision_id)
    venue.advance(30)
    venue.run(steps=4, seconds=60)
    (done,) = found(venue, answer.decision_id)
    assert waiting.arrival is not None and done.arrival is not None
    assert done.arrival.at > waiting.arrival.at
    assert done.arrival.ack_ms is not None and done.order.filled == done.order.quantity


def test_what_was_carried_and_how_it_went_is_told_as_often_as_it_is_asked(venue: Any) -> None:
    decision = venue.decision(S000="0.24", S001="0.24", S002="0.24")  # half of NAV a day
    first = to_answer(venue.gateway.submit(decision, Mode.paper))
    assert first.carried and all(one.arrival_price is None for one in first.orders)
    venue.run(steps=4)
    later = to_answer(venue.gateway.answer(decision.id))
    again = to_answer(venue.gateway.submit(decision, Mode.paper))
    assert later == again and later.carried == first.carried and later.violations is None
    for one in later.orders:  # later slices are still to come
        known = one.filled != "0"
        assert (one.arrival_bp is not None) == known == (one.ack_ms is not None)
    assert any(one.filled != "0" for one in later.orders)


def test_a_refused_decision_carries_nothing(venue: Any) -> None:
    venue.halt_file.halt("a person wants it")
    answer = venue.gateway.submit(venue.decision(S000="0.05"), Mode.paper)
    assert (
        to_answer(answer).carried
        == []
        == to_answer(venue.gateway.answer(answer.decision_id)).carried
    )


def trade_for(venue: Any, days: int) -> None:
    """Turn the account over, day by day, in all names there are."""
    for day in range(days):
        weights = dict.fromkeys(BOOKS[day % 2], "0.05")
        answer = venue.gateway.submit(venue.decision(day + 1, **weights), Mode.paper)
        assert answer.orders, answer.verdict
        venue.run(steps=6, seconds=30)
        if day + 1 < days:
            venue.next_session()


def test_costs_that_an_exchange_is_known_to_take_are_found_by_the_verb(
    venue: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    costly(venue)
    few = run_costs(venue, tmp_path, monkeypatch, capsys)
    assert few["costs"] == few["configured"] and few["standard_errors"] == {}
    assert "0 trades are too few" in few["said"][0]
    trade_for(venue, 3)
    told = run_costs(venue, tmp_path, monkeypatch, capsys)
    listed = legs(qualities(venue.ledger, venue.ledger.orders()))
    assert told["trades"] == len(listed) >= 12 and told["filled_share"] == 1.0
    # What the exchange's rounding adds to its terms: a tick of its quote and one of its fill, and
    # a cent of each commission.
    cheapest = min(leg.notional / leg.filled for leg in listed)
    ticks_bp = float(2 * Decimal("0.01") / cheapest * 10_000)
    cents_bp = float(len(listed) * Decimal("0.01") / sum(leg.notional for leg in listed) * 10_000)
    errors, costs = told["standard_errors"], told["costs"]
    known = 2.0 * float(HALF_SPREAD_BP + SLIPPAGE_BP)
    print(
        f"{told['trades']} trades: spread {known} bp, fitted {costs['spread_bp']:.2f} "
        f"+- {errors['spread_bp']:.2f}, a tick is {ticks_bp / 2:.2f} bp; commission "
        f"{COMMISSION_BP} bp, fitted {costs['commission_bp']:.3f} "
        f"+- {errors['commission_bp']:.3f}; impact 0, fitted {costs['impact']:.3f} "
        f"+- {errors['impact']:.3f}"
    )
    assert known - 2 * errors["spread_bp"] <= costs["spread_bp"]
    assert costs["spread_bp"] <= known + 2 * ticks_bp + 2 * errors["spread_bp"]
    assert errors["spread_bp"] < 1.0
    assert float(COMMISSION_BP) - 1e-6 <= costs["commission_bp"]
    assert costs["commission_bp"] <= float(COMMISSION_BP) + cents_bp + 1e-6
    # Nobody moves this exchange's prices: what is taken for impact is no more than its ticks.
    for leg in listed:
        assert leg.sigma is not None and leg.participation is not None
        unit = float(leg.sigma) * float(leg.participation) ** 0.5 * 1e4
        assert costs["impact"] * unit <= ticks_bp
    assert told["from"] == "2023-06-01" and told["until"] == "2023-06-05"


def test_the_verb_shows_each_order_of_a_session_and_their_sum(
    venue: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*words: str) -> tuple[int, str, str]:
        given = ["tercet", "gateway", "quality", f"control.ledger={venue.ledger.place}", *words]
        monkeypatch.setattr(sys, "argv", given)
        return (main(), *capsys.readouterr())

    code, _, problem = told()
    assert code == 2 and "has no order" in problem
    costly(venue)
    venue.gateway.submit(venue.decision(S000="0.08", S001="0.05"), Mode.paper)
    venue.run(steps=4)
    code, shown, problem = told()  # of the last session with orders
    assert code == 0, problem
    found = json.loads(shown)
    assert found["session"] == "2023-06-01"
    assert {one["symbol"] for one in found["orders"]} == {"S000", "S001"}
    assert found["summary"]["filled_share"] == 1.0 and found["summary"]["arrival_bp"] > 9.0
    for words, problem in (("session=2023-06-02", "no order of 2023-06-02"), ("session=x", "date")):
        code, _, error = told(words)
        assert code == 2 and problem in error


def run_costs(
    venue: Any,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> dict[str, Any]:
    given = [
        "tercet", "costs", f"control.ledger={venue.ledger.place}", f"out={folder / 'costs.json'}",
        f"control.anchor={folder / 'anchor'}", f"control.halt_file={folder / 'HALT'}",
        "doubt.spread_bp=50", "least_trades=12",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", given)
    assert main() == 0, capsys.readouterr().err
    assert "env/costs=fitted" in capsys.readouterr().out
    told: dict[str, Any] = json.loads((folder / "costs.json").read_text())
    return told


def test_slices_are_one_leg_measured_from_the_first_price(venue: Any) -> None:
    venue.gateway.submit(venue.decision(S000="0.05"), Mode.paper)
    venue.run(steps=3)
    (whole,) = qualities(venue.ledger, venue.ledger.orders())
    assert whole.arrival is not None and whole.order.average_price is not None
    later = replace(whole.arrival, at=whole.arrival.at.replace(minute=59), price=Decimal(1))
    second = replace(whole, order=replace(whole.order, slice=1), arrival=later)
    (leg,) = legs([second, whole])
    assert leg.filled == 2 * whole.order.filled and leg.slippage_bp == whole.arrival_bp
    assert leg.commission == 2 * whole.commission
    unknown = replace(second, arrival=None)
    assert legs([whole, unknown]) == []  # the price of one slice is not known: no half truths


def test_a_day_is_added_up_by_what_was_traded(venue: Any) -> None:
    costly(venue)
    venue.gateway.submit(venue.decision(S000="0.08", S001="0.02"), Mode.paper)
    venue.run(steps=6)
    every = qualities(venue.ledger, venue.ledger.orders())
    told = summary(every)
    worth = [one.order.filled * one.order.average_price for one in every]
    mean = sum(a * one.arrival_bp for a, one in zip(worth, every, strict=True)) / sum(worth)
    assert told["arrival_bp"] == pytest.approx(float(mean), abs=0.051)
    assert told["orders"] == told["sent"] == told["with_fills"] == len(every)
    assert told["filled_share"] == 1.0
    assert Decimal(told["commission"]) == sum(one.commission for one in every)
    json.dumps([told, *map(record, every)], allow_nan=False)
    empty = summary([])
    assert empty["filled_share"] is None and empty["arrival_bp"] is None
