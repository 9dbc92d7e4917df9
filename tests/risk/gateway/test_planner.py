"""What is planned passes the checks, whatever account, weights, prices and limits it is for."""

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from risk.checks.judge import judge_basket, judge_order
from risk.checks.order import reduces
from risk.gateway.execution import ExecutionSettings, Schedule
from risk.gateway.limits import GatewayLimits
from risk.gateway.planner import Plan, plan
from risk.gateway.records import Asset, OrderRequest, Position, Quote, Side
from risk.gateway.state import GatewayState, NameDay, NameFacts, OpenOrder, ProposedOrder
from risk.gateway.stored import DayTotals

D = Decimal
Case = Any  # GatewayCase of conftest.py
SETTINGS = ExecutionSettings(
    limit_offset="0.003",
    drift_band="0.002",
    headroom="0.005",
    min_notional="1",
    slice_adv="0.001",
    slice_interval_s=300,
    schedule=Schedule.twap,
    max_trades_day=20,
)
NAMES = tuple("ABCDEFGH")


def fraction(low: str, high: str, places: int = 4) -> st.SearchStrategy[Decimal]:
    return st.decimals(low, high, places=places)


@st.composite
def accounts(draw: st.DrawFn) -> tuple[Any, ...]:
    """Return everything that differs between two accounts, as plain values."""
    names = NAMES[: draw(st.integers(1, len(NAMES)))]
    raw = {name: draw(st.sampled_from((0, 0, 1, 2, 5, 20))) for name in names}
    total = max(sum(raw.values()), 1)
    invested = draw(fraction("0", "1", 2))
    weights = {
        name: min(D(share) * invested / total, D("0.25")).quantize(D("0.000001"), "ROUND_FLOOR")
        for name, share in raw.items()
    }
    records = {
        name: {
            "price": draw(fraction("0.5", "900", 2)),
            "spread": draw(fraction("0", "0.02", 4)),
            "held": draw(st.sampled_from((D(0), D(0), D("0.05"), D("0.2"), D("0.5"), D("0.9"))))
            / len(names),
            "fractional": draw(st.booleans()),
            "adv": draw(st.sampled_from((300, 20_000, 1_000_000, 50_000_000))),
            "sigma": draw(fraction("0.0005", "0.06")),
            "sector": draw(st.sampled_from(("energy", "health", "banks"))),
            "traded": draw(st.sampled_from((D(0),) * 9 + (D(3),))),
            "broken": draw(st.sampled_from(("",) * 20 + ("halted", "stale", "open", "unlisted"))),
        }
        for name in names
    }
    return (
        weights,
        records,
        draw(fraction("500", "5000000", 2)),
        draw(st.sampled_from((D(1),) * 4 + (D("0.25"), D("0.01")))),
        draw(st.sampled_from((D(0), D(0), D("0.1"), D("0.6")))),
        draw(st.sampled_from((0, 0, 15, 19, 20))),
        draw(st.sampled_from(TURNOVERS)),
        draw(st.sampled_from(SECTORS)),
    )


TURNOVERS, SECTORS = ("0.5", "2"), ("0.4", "1")


def situation(case: Case, drawn: tuple[Any, ...]) -> tuple[GatewayState, Any, GatewayLimits]:
    """Return the state of a drawn account, its decision and limits; the rest is cash."""
    weights, records, nav, ramp, traded, orders, turnover, sector = drawn
    case = case.with_limits(
        max_turnover_day=turnover, max_turnover_week=turnover, max_sector=sector
    )
    base = case.state
    positions, quotes, second, assets, facts, name_day = {}, {}, {}, {}, {}, {}
    open_orders: list[OpenOrder] = []
    for name, item in records.items():
        price = item["price"]
        step = D("0.000001") if item["fractional"] else D(1)
        held = (nav * item["held"] / price / step).to_integral_value("ROUND_FLOOR") * step
        if held:
            positions[name] = Position(name, held, price, price)
        half = price * item["spread"] / 2
        stale = item["broken"] == "stale"
        at = base.now - timedelta(seconds=300 if stale else 1)
        quotes[name] = Quote(name, price - half, price + half, price, at)
        second[name] = Quote(name, None, None, price, base.previous_close)
        tradable = item["broken"] != "halted"
        assets[name] = Asset(name, tradable, item["fractional"], True, True)
        facts[name] = NameFacts(
            price, date(2024, 3, 5), D(item["adv"]), item["sigma"], item["sector"], frozenset()
        )
        if item["traded"]:
            name_day[name] = NameDay(item["traded"], D(0))
        if item["broken"] == "open":
            open_orders.append(OpenOrder(f"x{name}", name, Side.buy, D(1), price))
    worth = sum((item.quantity * item.price for item in positions.values()), D(0))
    reserved = sum((item.remaining * item.limit_price for item in open_orders), D(0))
    account = replace(
        base.account,
        cash=nav - worth,
        equity=nav,
        last_equity=nav,
        buying_power=max(nav - worth - reserved, D(0)),
    )
    state = replace(
        base,
        account=account,
        positions=positions,
        ledger_positions={name: item.quantity for name, item in positions.items()},
        open_orders=tuple(open_orders),
        quotes=quotes,
        second=second,
        assets=assets,
        facts=facts,
        allowed=frozenset(n for n, item in records.items() if item["broken"] != "unlisted"),
        name_day=name_day,
        equity_reads=(nav,) * 3,
        peak_equity=nav,
        ramp=ramp,
        day=DayTotals(orders, orders, traded * nav, 0),
        week_notional=traded * nav,
    )
    return state, replace(case.decision, weights=weights), case.limits


def filled(state: GatewayState, order: ProposedOrder) -> GatewayState:
    """Return the state after an order filled wholly at its limit, counted as the ledger does."""
    request = order.request
    assert request.limit_price is not None
    sign = 1 if request.side is Side.buy else -1
    notional = request.quantity * request.limit_price
    positions = dict(state.positions or {})
    before = positions.get(request.symbol)
    held = (before.quantity if before else D(0)) + sign * request.quantity
    price = state.quotes[request.symbol].last
    positions[request.symbol] = Position(request.symbol, held, price, price)
    if not held:
        del positions[request.symbol]
    cash = state.account.cash - sign * notional
    equity = cash + sum((item.quantity * item.price for item in positions.values()), D(0))
    day = state.name_day.get(request.symbol, NameDay(D(0), D(0)))
    bought, sold = (request.quantity, D(0)) if sign > 0 else (D(0), request.quantity)
    return replace(
        state,
        positions=positions,
        ledger_positions={name: item.quantity for name, item in positions.items()},
        account=replace(
            state.account,
            cash=cash,
            equity=equity,
            buying_power=state.account.buying_power - sign * notional,
        ),
        equity_reads=(equity,) * 3,
        name_day=state.name_day | {request.symbol: NameDay(day.bought + bought, day.sold + sold)},
    )


def made_durable(state: GatewayState, planned: Plan) -> GatewayState:
    """Return the state in which the whole plan is intents that the totals count."""
    parents: dict[tuple[str, str, Side], Decimal] = {}
    notional = D(0)
    for order in planned.orders:
        request = order.request
        key = (order.decision_id, request.symbol, request.side)
        parents[key] = parents.get(key, D(0)) + request.quantity
        notional += request.quantity * request.limit_price
    return replace(
        state,
        counted=frozenset(order.request.client_order_id for order in planned.orders),
        parents=parents,
        day=DayTotals(
            state.day.orders + len(parents),
            state.day.slices + len(planned.orders),
            state.day.notional + notional,
            0,
        ),
        week_notional=state.week_notional + notional,
    )


@hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(drawn=accounts(), vwap=st.booleans())
def test_a_plan_passes_the_checks_as_a_basket_and_order_by_order(
    case: Case, drawn: tuple[Any, ...], vwap: bool
) -> None:
    state, decision, limits = situation(case, drawn)
    settings = replace(SETTINGS, schedule=Schedule.vwap if vwap else Schedule.twap)
    planned = plan(decision, state, limits, settings)
    if not planned.orders:
        return
    names = len({*decision.weights, *state.positions})
    assert judge_basket(state, planned.orders, names, limits).violations == ()
    state = made_durable(state, planned)
    for order in planned.orders:
        assert judge_order(state, order, limits).violations == ()
        state = filled(state, order)


@hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(drawn=accounts())
def test_sells_come_first_and_what_is_planned_and_carried_is_what_was_wanted(
    case: Case, drawn: tuple[Any, ...]
) -> None:
    state, decision, limits = situation(case, drawn)
    planned = plan(decision, state, limits, SETTINGS)
    sides = [order.request.side for order in planned.orders]
    assert sides == sorted(sides, key=[Side.sell, Side.buy].index)
    nav = state.account.equity
    for name in {*decision.weights, *state.positions}:
        price = state.quotes[name].last
        held = state.positions[name].quantity if name in state.positions else D(0)
        wanted = decision.weights.get(name, D(0)) * nav - held * price
        done = sum(
            (
                order.request.quantity * order.reference_price
                for order in planned.orders
                if order.request.symbol == name
            ),
            D(0),
        )
        left = sum((item.notional for item in planned.carried if item.symbol == name), D(0))
        sent = [order.request.side for order in planned.orders if order.request.symbol == name]
        assert all(side is (Side.buy if wanted > 0 else Side.sell) for side in sent)
        assert abs(abs(wanted) - done - left) <= price + D("0.01")  # less than a whole share


def sessions_until_invested(
    case: Case, weights: dict[str, Decimal], most: int
) -> list[GatewayState]:
    """Return the state after each session in which something was traded, from cash on."""
    state = case.holding({}).with_account(cash=D(100_000), buying_power=D(100_000)).state
    states = []
    for number in range(most):
        decision = replace(case.decision, weights=weights, id=f"{number:064}")
        planned = plan(decision, state, case.limits, SETTINGS)
        if not planned.orders:
            break
        assert judge_basket(state, planned.orders, len(weights), case.limits).violations == ()
        traded = D(0)
        for order in planned.orders:
            state = filled(state, order)
            traded += order.request.quantity * order.request.limit_price
        states.append(state)
        week = traded if number % 5 == 0 else state.week_notional + traded
        state = replace(state, name_day={}, week_notional=D(0) if number % 5 == 4 else week)
        state = replace(state, account=replace(state.account, last_equity=state.account.equity))
    return states


def test_a_first_day_from_cash_is_carried_over_several_sessions(case: Case) -> None:
    wide = case.with_limits(max_sector="1")
    weights = {name: D("0.19") for name in ("AAA", "BBB", "CCC", "DDD", "EEE")}
    states = sessions_until_invested(wide, weights, 30)
    assert 2 <= len(states) <= 6
    first, last = states[0], states[-1]
    invested = sum((item.quantity * item.price for item in first.positions.values()), D(0))
    assert D("45000") < invested <= D("50000")  # the day's turnover
    for name, weight in weights.items():
        held = last.positions[name].quantity * 100 / last.account.equity
        assert abs(held - weight) <= SETTINGS.drift_band + D("0.002")


@pytest.mark.parametrize("ramp", ["0.01", "0.05", "0.25"])
def test_a_young_policy_invests_no_more_than_the_ramp_leaves_it(case: Case, ramp: str) -> None:
    young = case.with_limits(max_sector="1").with_state(ramp=D(ramp))
    weights = {name: D("0.19") for name in ("AAA", "BBB", "CCC", "DDD", "EEE")}
    states = sessions_until_invested(young, weights, 30)
    worth = sum((item.quantity * item.price for item in states[-1].positions.values()), D(0))
    assert D("0.9") * D(ramp) * D("0.95") <= worth / 100_000 <= D(ramp)


def test_a_ramp_does_not_sell_what_the_decision_wants_to_keep(case: Case) -> None:
    decision = replace(case.decision, weights={"AAA": D("0.1"), "BBB": D("0.05")})
    planned = plan(decision, case.with_state(ramp=D("0.01")).state, case.limits, SETTINGS)
    assert [(order.request.symbol, order.request.quantity) for order in planned.orders] == [
        ("BBB", D(50))
    ]


def test_what_is_carried_says_which_limit_leaves_it(case: Case) -> None:
    weights = {"AAA": D("0.1"), "BBB": D("0.1"), "CCC": D("0.1"), "DDD": D("0.2")}
    decision = replace(case.decision, weights=weights)

    def reason(changed: Case, symbol: str = "CCC") -> set[str]:
        planned = plan(decision, changed.state, changed.limits, SETTINGS)
        return {item.reason for item in planned.carried if item.symbol == symbol}

    assert reason(case) == set()
    assert reason(case.with_limits(max_turnover_day="0.2")) == {"max_turnover_day"}
    assert reason(case.with_limits(min_cash="0.7")) == {"min_cash"}
    assert reason(case.with_limits(max_gross="0.3")) == {"max_gross"}
    assert reason(case.with_limits(max_weight="0.05")) == {"max_weight"}
    assert reason(case.with_limits(max_parent_adv="0.00001")) == {"max_parent_adv"}
    assert reason(case.with_state(ramp=D("0.25"))) == {"ramp"}
    assert reason(case.with_state(restricted=frozenset({"CCC"}))) == {"restricted"}
    assert reason(case.with_name("assets", "CCC", tradable=False)) == {"not_tradable"}
    assert reason(case.with_account(last_equity=D(120_000))) == {"daily_loss"}
    assert reason(case.with_state(reducing=True)) == {"reduce_only"}
    assert reason(case.with_name("facts", "CCC", sector=None)) == {"sector_missing"}
    assert reason(case.with_state(day=DayTotals(20, 20, D(0), 0))) == {"max_trades_day"}
    stranger = OpenOrder("x", "CCC", Side.buy, D(1), D(100))
    assert reason(case.with_state(open_orders=(stranger,))) == {"open_order"}


def test_in_reduce_only_mode_whole_positions_leave_in_one_order_past_tiny_caps(case: Case) -> None:
    tight = case.with_limits(
        max_quantity="1", max_order_weight="0.0001", max_turnover_day="0.0001", max_slices=1
    ).with_state(reducing=True)
    decision = replace(case.decision, weights={})
    planned = plan(decision, tight.state, tight.limits, SETTINGS)
    assert [order.request.quantity for order in planned.orders] == [D(100), D(100)]
    for order in planned.orders:
        assert reduces(tight.state, order)
        assert judge_order(tight.state, order, tight.limits).allowed


def test_a_short_is_covered_to_nothing_before_anything_is_bought(case: Case) -> None:
    short = case.holding({"CCC": D(-50)})
    decision = replace(case.decision, weights={"CCC": D("0.1")})
    planned = plan(decision, short.state, short.limits, SETTINGS)
    (order,) = planned.orders
    assert (order.request.side, order.request.quantity) == (Side.buy, D(50))
    assert {item.reason for item in planned.carried} == {"position"}


def test_an_order_above_a_share_of_the_volume_goes_in_slices(case: Case) -> None:
    thin = case.with_name("facts", "CCC", adv=D(10_000))
    decision = replace(case.decision, weights={"AAA": D("0.1"), "BBB": D("0.1"), "CCC": D("0.09")})
    planned = plan(decision, thin.state, thin.limits, SETTINGS)
    quantities = [order.request.quantity for order in planned.orders]
    assert sum(quantities) == 90
    assert len(quantities) == 9
    assert max(quantities) <= 10  # a thousandth of the volume
    gaps = {
        later.send_after - sooner.send_after
        for sooner, later in zip(planned.orders, planned.orders[1:], strict=False)
    }
    assert gaps == {timedelta(seconds=300)}
    assert len({order.request.client_order_id for order in planned.orders}) == 9


def test_slices_end_before_the_closing_buffer(case: Case) -> None:
    late = case.with_name("facts", "CCC", adv=D(10_000)).with_state(
        now=case.state.hours.close - timedelta(seconds=900 + 650)
    )
    late = late.with_name("quotes", "CCC", at=late.state.now)
    decision = replace(case.decision, weights={"CCC": D("0.09")})
    planned = plan(decision, late.state, late.limits, SETTINGS)
    slices = [order for order in planned.orders if order.request.symbol == "CCC"]
    assert len(slices) == 3
    assert slices[-1].send_after <= late.state.hours.close - timedelta(seconds=900)


def test_a_plan_needs_to_know_what_the_account_holds(case: Case) -> None:
    for field in ("account", "positions", "open_orders", "day"):
        with pytest.raises(ValueError, match="must be known"):
            plan(case.decision, replace(case.state, **{field: None}), case.limits, SETTINGS)


def test_nothing_is_planned_on_numbers_that_are_none(case: Case) -> None:
    nan = D("NaN")
    for broken in (
        case.with_account(equity=nan),
        case.with_account(cash=nan, buying_power=nan),
        case.with_state(week_notional=None),
        case.with_state(day=DayTotals(0, 0, nan, 0)),
        case.with_state(ramp=nan),
        case.with_state(peak_equity=None),
    ):
        planned = plan(case.decision, broken.state, broken.limits, SETTINGS)
        assert not [o for o in planned.orders if o.request.side is Side.buy]
        assert "CCC" in {item.symbol for item in planned.carried}


def test_a_plan_is_the_same_each_time(case: Case) -> None:
    first = plan(case.decision, case.state, case.limits, SETTINGS)
    weights = dict(reversed(case.decision.weights.items()))
    again = plan(replace(case.decision, weights=weights), case.state, case.limits, SETTINGS)
    assert first == again


def test_a_position_is_left_to_the_last_share(case: Case) -> None:
    odd = case.holding({"AAA": D("12.345678")})
    decision = replace(case.decision, weights={})
    (order,) = plan(decision, odd.state, odd.limits, SETTINGS).orders
    assert isinstance(order.request, OrderRequest)
    assert order.request.quantity == D("12.345678")
