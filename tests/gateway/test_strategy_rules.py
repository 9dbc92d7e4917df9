"""The strategy's rules at work: over the real engine, ledger and exchange."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from market.errors import InputError
from risk.breakers import BreakerRules
from risk.exits import ExitRules
from risk.gateway.engine import Gateway
from risk.gateway.market_days import MarketDays
from risk.gateway.market_facts import BarsSource
from risk.gateway.observer import Observer, Permissions
from risk.gateway.records import OrderState, Side
from risk.gateway.replay import judged_again
from risk.gateway.stored import EXITS, DecisionState
from risk.gateway.strategist import Strategist
from risk.gateway.strategy import StrategyRules
from risk.gateway.submission import Mode
from risk.gateway.verify import verify

D = Decimal
NO_EXITS = ExitRules(None, None, None, None, None)
NO_BREAKERS = BreakerRules(None, None, None, None, None, None)
MODEL = "a" * 64


def rules(**changed: Any) -> StrategyRules:
    """Return rules that bind nothing but what is named."""
    words = {
        "exits": NO_EXITS,
        "breakers": NO_BREAKERS,
        "max_sector": "1",
        "max_top3": "1",
        "max_correlation": "0.99",
        "max_correlated": "1",
        "ramp": ["1"],
        "ramp_sessions": 1,
        "exits_before_close_s": 3600,
    }
    return StrategyRules(**words | changed)


@pytest.fixture
def ruled(venue: Any, limits: Any) -> Callable[..., Strategist]:
    """Return what puts the venue's gateway under rules."""

    def put(**changed: Any) -> Strategist:
        def load() -> Any:
            return venue.bars

        def now() -> Any:
            return venue.broker.clock().now

        strategy = rules(**changed)
        days = MarketDays(load, lambda: "1", "XNYS")
        found = Strategist(venue.ledger, venue.epoch, venue.broker, strategy, days, now)
        names = frozenset(venue.bars.symbols)
        observer = Observer(
            venue.broker, venue.ledger, venue.epoch,
            BarsSource(load, lambda: "1", "XNYS", 1e9, 0.99), venue.permit, venue.halt_file,
            Permissions(names, frozenset(), frozenset({MODEL})), venue.memory, now, now,
        )  # fmt: skip
        venue.gateway = Gateway(
            venue.broker, venue.ledger, venue.epoch, observer, limits,
            venue.gateway._submission._execution, now, found,
        )  # fmt: skip
        return found

    return put


def last_entry(venue: Any) -> dict[str, Any]:
    session = venue.now.date()
    found: dict[str, Any] = json.loads(venue.ledger.rebalances(session)[-1].body)
    return found


def to_the_last_hour(venue: Any) -> None:
    """Let time pass to half past three in New York."""
    close = venue.broker.clock().next_close
    venue.advance((close - venue.now - timedelta(minutes=30)).total_seconds())
    venue.permit.renew(venue.epoch, 30_000)


def test_a_cap_makes_the_orders_smaller_and_the_log_says_which(
    venue: Any, ruled: Callable[..., Strategist]
) -> None:
    ruled(max_top3="0.10")
    answer = venue.gateway.submit(venue.decision(S000="0.08", S001="0.08"), Mode.paper)
    assert answer.state is DecisionState.accepted, answer.verdict
    changes = last_entry(venue)["changes"]
    assert {one["rule"] for one in changes} == {"max_top3"}
    assert [(one["symbol"], D(one["before"]), D(one["after"])) for one in changes] == [
        ("S000", D("0.08"), D("0.05")), ("S001", D("0.08"), D("0.05")),
    ]  # fmt: skip
    worth = sum(order.quantity * order.reference_price for order in answer.orders)
    assert 9_900 <= worth <= 10_000
    venue.run(steps=5)
    venue.require_equal_books()


def test_before_a_close_is_known_no_decision_is_accepted(
    venue: Any, ruled: Callable[..., Strategist], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MarketDays, "last", lambda self, now: None)
    ruled()
    answer = venue.gateway.submit(venue.decision(S000="0.08"), Mode.paper)
    assert answer.state is DecisionState.refused and answer.reasons == ("state_missing",)


def test_an_account_that_is_worth_nothing_has_no_close_until_it_is_funded(
    venue: Any, ruled: Callable[..., Strategist], monkeypatch: pytest.MonkeyPatch
) -> None:
    true = venue.broker.account

    def empty() -> Any:
        return replace(true(), equity=D(0), last_equity=D(0), cash=D(0))

    monkeypatch.setattr(venue.broker, "account", empty)
    ruled()
    venue.gateway.step()
    assert venue.ledger.days(1) == []
    monkeypatch.undo()
    venue.gateway.step()
    assert venue.ledger.days(1)[0].starting_equity == D(100_000)


def test_a_position_is_left_on_a_day_without_any_decision_and_not_entered_again(
    venue: Any, ruled: Callable[..., Strategist]
) -> None:
    ruled()
    venue.gateway.submit(venue.decision(S000="0.08", S001="0.08"), Mode.paper)
    venue.run(steps=5)
    venue.next_session()
    # Whatever a name does over night, it is a millionth up or down.
    ruled(exits=ExitRules(0.000001, 0.000001, None, None, 2))
    venue.run(steps=2)
    assert len(venue.posted()) == 2, "the look is late in the session"
    to_the_last_hour(venue)
    venue.run(steps=6)
    found = [one for one in venue.ledger.decisions(venue.now.date()) if one.mode == EXITS]
    assert [one.state for one in found] == [DecisionState.done]
    orders = venue.ledger.orders(decision_id=found[0].decision.id)
    assert {(one.symbol, one.side, one.state) for one in orders} == {
        ("S000", Side.sell, OrderState.filled), ("S001", Side.sell, OrderState.filled),
    }  # fmt: skip
    assert venue.broker.positions() == {}
    rules_hit = {one["rule"] for one in last_entry(venue)["changes"]}
    assert rules_hit and rules_hit <= {"stop_loss", "take_profit"}
    venue.require_equal_books()
    # Two whole sessions pass without a new entry, the third may enter.
    entered = []
    for number in (2, 3, 4):
        venue.next_session()
        answer = venue.gateway.submit(venue.decision(number, S000="0.05"), Mode.paper)
        assert answer.state in (DecisionState.accepted, DecisionState.done), answer.verdict
        entered.append(bool(answer.orders))
        venue.run(steps=5)
    assert entered == [False, False, True]
    assert verify(venue.ledger, venue.ledger.anchor, judged_again).ok


def test_exits_wait_for_leave_to_trade_and_then_happen(
    venue: Any, ruled: Callable[..., Strategist], caplog: pytest.LogCaptureFixture
) -> None:
    ruled()
    venue.gateway.submit(venue.decision(S000="0.08"), Mode.paper)
    venue.run(steps=5)
    venue.next_session()
    ruled(exits=ExitRules(0.000001, 0.000001, None, None, 0))
    to_the_last_hour(venue)
    venue.halt_file.halt("a person wants it")
    venue.run(steps=3)
    assert len(venue.posted()) == 1 and "halt_file" in caplog.text
    venue.halt_file.path.unlink()
    venue.advance(60)
    venue.run(steps=5)
    assert [one["side"] for one in venue.bodies()] == ["buy", "sell"]
    assert venue.broker.positions() == {}


def test_exits_are_not_held_back_by_limits_of_size(
    venue: Any, ruled: Callable[..., Strategist]
) -> None:
    ruled()
    venue.gateway.submit(venue.decision(S000="0.08", S001="0.08"), Mode.paper)
    venue.run(steps=5)
    venue.next_session()
    ruled(exits=ExitRules(0.000001, 0.000001, None, None, 0))
    tiny = {"max_turnover_day": D("0.0001"), "max_order_weight": D("0.0001"), "max_quantity": D(1)}
    tiny |= {"max_day_adv": D("1e-9"), "max_parent_adv": D("1e-9"), "max_order_adv": D("1e-9")}
    assert venue.gateway.tighten(replace(venue.gateway.limits, **tiny), "a person").allowed
    to_the_last_hour(venue)
    venue.run(steps=6)
    assert [one["side"] for one in venue.bodies()] == ["buy", "buy", "sell", "sell"]
    assert venue.broker.positions() == {}


def test_exits_are_looked_for_once_and_not_after_a_decision_of_the_day(
    venue: Any, ruled: Callable[..., Strategist]
) -> None:
    ruled()
    venue.gateway.submit(venue.decision(S000="0.08"), Mode.paper)
    venue.run(steps=5)
    ruled(exits=ExitRules(0.000001, 0.000001, None, None, 0))
    to_the_last_hour(venue)
    venue.run(steps=5)
    assert len(venue.posted()) == 1, "the day's decision had its own look"


def test_breakers_halve_what_was_wanted_and_do_not_melt_it_away(
    venue: Any, ruled: Callable[..., Strategist]
) -> None:
    ruled()
    venue.gateway.submit(venue.decision(S000="0.08"), Mode.paper)
    venue.run(steps=5)
    bought = venue.ledger.positions()["S000"]
    calm = BreakerRules(None, None, None, 0.000001, None, None)  # any volatility halves
    for _ in range(3):
        venue.next_session()
        ruled(breakers=calm)
        to_the_last_hour(venue)
        venue.run(steps=5)
    half = venue.ledger.positions()["S000"]
    assert D("0.4") < half / bought < D("0.6")
    assert len([one for one in venue.bodies() if one["side"] == "sell"]) <= 2


def test_a_stop_of_the_whole_book_sells_it_and_lasts_its_cooldown(
    venue: Any, ruled: Callable[..., Strategist]
) -> None:
    ruled()
    venue.gateway.submit(venue.decision(S000="0.08", S001="0.05"), Mode.paper)
    venue.run(steps=5)
    stop = BreakerRules(None, None, None, None, 0.000001, 2)  # any volatility stops
    venue.next_session()
    ruled(breakers=stop)
    to_the_last_hour(venue)
    venue.run(steps=6)
    assert venue.broker.positions() == {}
    day = venue.ledger.days(1)[0]
    assert (day.exposure, day.stopped) == (D(0), 2)
    answer_states = []
    for number in (2, 3):
        venue.next_session()
        ruled(breakers=stop)
        answer = venue.gateway.submit(venue.decision(number, S000="0.05"), Mode.paper)
        answer_states.append((answer.state, len(answer.orders)))
        venue.run(steps=3)
    assert answer_states == [(DecisionState.done, 0)] * 2
    assert venue.ledger.days(1)[0].stopped == 0


def test_every_close_is_kept_with_its_regime_and_what_the_model_made_of_it(
    venue: Any, ruled: Callable[..., Strategist]
) -> None:
    ruled()
    venue.gateway.submit(venue.decision(S000="0.08"), Mode.paper)
    venue.run(steps=5)
    for _ in range(3):
        venue.next_session()
        venue.run(steps=1)
    days = venue.ledger.days(10)
    assert [str(one.session) for one in reversed(days)] == [
        "2023-05-31", "2023-06-01", "2023-06-02", "2023-06-05",
    ]  # fmt: skip
    assert all(venue.ledger.regime(one.session) is not None for one in days)
    made = venue.ledger.performance(MODEL)
    assert [one.day for one in made] == [one.session for one in reversed(days)][1:]
    product = D(1)
    for one in made:
        product *= 1 + one.returns
    assert abs(product * days[-1].equity - days[0].equity) < D("0.01")
    assert verify(venue.ledger, venue.ledger.anchor, judged_again).ok


def test_a_deposit_is_no_gain_and_raises_the_floor_with_it(
    venue: Any, ruled: Callable[..., Strategist]
) -> None:
    ruled()
    venue.gateway.submit(venue.decision(S000="0.08"), Mode.paper)
    venue.run(steps=5)
    venue.next_session()
    venue.run(steps=1)
    venue.admin("POST", "/cash", {"amount": "40000"})
    venue.run(steps=2)
    venue.next_session()
    venue.run(steps=1)
    last, before = venue.ledger.days(2)
    assert before.equity < 110_000 and last.equity > 130_000
    assert D(139_000) < last.starting_equity < D(141_000) and last.peak < 150_000
    made = venue.ledger.performance(MODEL)[-1]
    assert made.day == last.session and abs(made.returns) < D("0.02")


def test_a_policy_climbs_the_ramp_by_sessions_without_a_trip_or_by_a_person(
    venue: Any, ruled: Callable[..., Strategist]
) -> None:
    strategist = ruled(ramp=["0.01", "0.05", "1"], ramp_sessions=2)
    answer = venue.gateway.submit(venue.decision(S000="0.10"), Mode.paper)
    worth = sum(order.quantity * order.reference_price for order in answer.orders)
    assert 0 < worth <= 1_000, "a hundredth of the capital"
    assert {one.reason for one in answer.carried} == {"ramp"}
    venue.run(steps=5)
    for number in (2, 3):
        venue.next_session()
        venue.gateway.submit(venue.decision(number, S000="0.10"), Mode.paper)
        venue.run(steps=5)
    ramp = venue.ledger.ramp(MODEL)
    assert (ramp.stage, ramp.sessions, ramp.actor) == (1, 0, "gateway")
    assert strategist.share(MODEL) == D("0.05") and strategist.share("b" * 64) == D("0.01")
    with pytest.raises(InputError, match="stages 0 to 2"):
        strategist.set_stage(MODEL, 3, "a person")
    with pytest.raises(InputError, match="one stage at a time"):
        strategist.set_stage("b" * 64, 2, "a person")
    strategist.set_stage(MODEL, 2, "a person")
    assert strategist.share(MODEL) == D(1)
    assert verify(venue.ledger, venue.ledger.anchor, judged_again).ok


def test_a_session_with_a_trip_begins_the_stage_anew(
    venue: Any, ruled: Callable[..., Strategist]
) -> None:
    ruled(ramp=["0.01", "1"], ramp_sessions=2)
    venue.gateway.submit(venue.decision(S000="0.10"), Mode.paper)
    venue.run(steps=5)
    venue.next_session()
    assert venue.gateway.reconcile().clean
    venue.run(steps=1)
    assert venue.ledger.ramp(MODEL).sessions == 1
    venue.gateway.submit(venue.decision(2, S000="0.10"), Mode.paper)
    venue.gateway.kill("a person wants it", "operator")
    venue.next_session()
    venue.run(steps=1)
    assert (venue.ledger.ramp(MODEL).stage, venue.ledger.ramp(MODEL).sessions) == (0, 0)
