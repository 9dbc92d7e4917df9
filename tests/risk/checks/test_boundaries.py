"""Every reason code at its edge: what is still allowed, what no longer is, missing and NaN."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from risk.checks.judge import (
    judge_arming,
    judge_basket,
    judge_caller,
    judge_decision,
    judge_limits,
    judge_order,
)
from risk.gateway.records import Side
from risk.gateway.state import NameDay, OpenOrder
from risk.gateway.stored import DayTotals
from risk.gateway.verdict import ReasonCode, Verdict

D = Decimal
NAN, INFINITY = D("NaN"), D("Infinity")
TINY = D("0.000001")
SECOND = timedelta(seconds=1)
INSTANT = timedelta(microseconds=1)
R = ReasonCode
Case = Any  # GatewayCase of conftest.py


@dataclass(frozen=True)
class Edge:
    """Values on both sides of a limit: `good` must not give the code, `bad` must."""

    code: ReasonCode
    judge: Callable[[Case, Any], Verdict]
    good: tuple[Any, ...]
    bad: tuple[Any, ...]


def ordered(case: Case, **order: Any) -> Verdict:
    return judge_order(case.state, case.order(**order), case.limits)


def by_order(field: str, **others: Any) -> Callable[[Case, Any], Verdict]:
    return lambda case, value: ordered(case, **{field: value}, **others)


def by_state(field: str, **order: Any) -> Callable[[Case, Any], Verdict]:
    return lambda case, value: ordered(case.with_state(**{field: value}), **order)


def by_account(field: str, **order: Any) -> Callable[[Case, Any], Verdict]:
    def judge(case: Case, value: Any) -> Verdict:
        if value is None:
            return ordered(case.with_state(account=None), **order)
        return ordered(case.with_account(**{field: value}), **order)

    return judge


def by_name(kind: str, field: str, symbol: str = "CCC", **order: Any) -> Callable[..., Verdict]:
    """Judge with one word of a source changed; a value of "gone" takes the whole record away."""

    def judge(case: Case, value: Any) -> Verdict:
        if value == "gone":
            records = dict(getattr(case.state, kind))
            del records[symbol]
            return ordered(case.with_state(**{kind: records}), symbol=symbol, **order)
        return ordered(case.with_name(kind, symbol, **{field: value}), symbol=symbol, **order)

    return judge


def by_day(field: str) -> Callable[[Case, Any], Verdict]:
    def judge(case: Case, value: Any) -> Verdict:
        totals = DayTotals(0, 0, D(0), 0)
        day = None if value is None else replace(totals, **{field: value})
        return ordered(case.with_state(day=day))

    return judge


def by_decision(field: str) -> Callable[[Case, Any], Verdict]:
    def judge(case: Case, value: Any) -> Verdict:
        return judge_decision(case.state, replace(case.decision, **{field: value}), case.limits)

    return judge


def decided(field: str) -> Callable[[Case, Any], Verdict]:
    """Judge the decision in another state."""
    return lambda case, value: judge_decision(
        replace(case.state, **{field: value}), case.decision, case.limits
    )


def by_weight(case: Case, value: Any) -> Verdict:
    return by_decision("weights")(case, {"AAA": value})


def by_agent(case: Case, value: Any) -> Verdict:
    mine, other = {"AAA": value}, {"AAA": D("0.1")}
    agents = {"balanced": (D("0.5"), mine), "aggressive": (D("0.5"), other)}
    return by_decision("agents")(case, agents)


def by_agent_gross(case: Case, value: Any) -> Verdict:
    books = {"AAA": D("0.25"), "BBB": D("0.25"), "CCC": D("0.25"), "DDD": value}
    return by_decision("agents")(case, {"one": (D(1), books)})


def by_agent_share(case: Case, value: Any) -> Verdict:
    books = case.decision.weights
    return by_decision("agents")(case, {"one": (D("0.5"), books), "other": (value, books)})


def by_distance(case: Case, value: Any) -> Verdict:
    """Judge with two agents whose books differ by this share of NAV."""
    one, other = {"AAA": value}, {"BBB": value}
    return by_decision("agents")(case, {"one": (D("0.5"), one), "other": (D("0.5"), other)})


def by_quorum(case: Case, value: Any) -> Verdict:
    books = case.decision.weights
    agents = {f"agent{row}": (D(1) / value, books) for row in range(value)}
    return by_decision("agents")(case, agents | {"idle": (D(0), books)})


def by_basket_names(case: Case, value: Any) -> Verdict:
    orders = [
        case.order("AAA", Side.sell),
        case.order("BBB", Side.sell),
        case.order("CCC", quantity=D(10)),
    ]
    return judge_basket(case.state, orders, value, case.limits)


def by_clock(field: str) -> Callable[[Case, Any], Verdict]:
    return lambda case, value: ordered(
        case.with_state(clock=replace(case.state.clock, **{field: value}))
    )


def by_calendar_gap(case: Case, value: timedelta) -> Verdict:
    return by_clock("next_close")(case, case.state.hours.close + value)


def by_open(case: Case, value: timedelta) -> Verdict:
    return ordered(case.with_state(now=case.state.hours.open + value))


def by_close(case: Case, value: timedelta) -> Verdict:
    return ordered(case.with_state(now=case.state.hours.close - value))


def by_age(kind: str) -> Callable[[Case, Any], Verdict]:
    """Judge with the state's time of something this long ago; None is never."""

    def judge(case: Case, value: timedelta | None) -> Verdict:
        return ordered(case.with_state(**{kind: None if value is None else case.state.now - value}))

    return judge


def by_quote_age(case: Case, value: timedelta) -> Verdict:
    return ordered(case.with_name("quotes", "CCC", at=case.state.now - value))


def by_quote(case: Case, value: tuple[Decimal, Decimal]) -> Verdict:
    return ordered(case.with_name("quotes", "CCC", bid=value[0], ask=value[1]))


def by_second_age(case: Case, value: Any) -> Verdict:
    if value is None:
        return ordered(case.with_state(previous_close=None))
    return ordered(case.with_name("second", "CCC", at=case.state.previous_close + value))


def by_parent(case: Case, value: Any) -> Verdict:
    earlier = None if value is None else {(case.decision.id, "CCC", Side.buy): value}
    return ordered(case.with_state(parents=earlier))


def by_bought(case: Case, value: Any) -> Verdict:
    return ordered(case.with_state(name_day={"CCC": NameDay(value, D(0))}))


def by_sold(case: Case, value: Any) -> Verdict:
    return ordered(case.with_state(name_day={"CCC": NameDay(D(0), value)}))


def by_holding(*symbols: str, order: str = "CCC") -> Callable[[Case, Any], Verdict]:
    """Judge a buy of 50 with this many shares held of each name; None is not known."""

    def judge(case: Case, value: Any) -> Verdict:
        if value is None:
            return ordered(case.with_state(positions=None), symbol=order)
        return ordered(case.holding(dict.fromkeys(symbols, value)), symbol=order)

    return judge


def by_short(case: Case, value: Any) -> Verdict:
    """Judge a sale of 150 shares, 50 of them short, of a name that may be lent like this."""
    lending = case.with_limits(max_short_weight="0.1").with_name(
        "assets", "AAA", shortable=value[0], easy_to_borrow=value[1]
    )
    return ordered(lending, symbol="AAA", side=Side.sell, quantity=D(150))


def by_open_orders(case: Case, value: Any) -> Verdict:
    orders = value and tuple(OpenOrder("other", "CCC", side, D(1), D(100)) for side in value)
    return ordered(case.with_state(open_orders=orders))


def by_reducing(case: Case, value: Any) -> Verdict:
    return ordered(case.with_state(reducing=True), symbol="AAA", side=Side.sell, quantity=value)


def by_used(case: Case, value: Any) -> Verdict:
    own = case.order().request.client_order_id
    return by_state("used_ids")(case, frozenset({own}) if value == "own" else value)


def by_decision_id(case: Case, value: str) -> Verdict:
    return judge_order(case.state, replace(case.order(), decision_id=value), case.limits)


def by_gone(case: Case, field: str) -> Verdict:
    return ordered(case.with_state(**{field: None}) if field else case)


def by_last_equity(case: Case, value: Any) -> Verdict:
    """Judge with this equity after a last close, and a peak, of 100,000."""
    return by_account("equity")(case, value)


def by_typed(case: Case, value: str) -> Verdict:
    return judge_arming(case.state, value, case.limits)


def by_open_at_arming(case: Case, value: Any) -> Verdict:
    orders = value and tuple(OpenOrder("x", "CCC", Side.buy, D(1), D(1)) for _ in range(value))
    known = () if value == 0 else orders
    return judge_arming(replace(case.state, open_orders=known), case.state.account.id, case.limits)


def by_signers(case: Case, value: frozenset[str]) -> Verdict:
    looser = replace(case.limits, max_weight="0.3")
    today = case.state.hours.session
    return judge_limits(case.limits, looser, value, today + timedelta(days=1), today)


def by_effective(case: Case, value: int) -> Verdict:
    looser = replace(case.limits, max_weight="0.3")
    today = case.state.hours.session
    both = frozenset({"ann", "bob"})
    return judge_limits(case.limits, looser, both, today + timedelta(days=value), today)


def by_caller(_case: Case, value: Any) -> Verdict:
    return judge_caller(value, "trade")


def by_reads(case: Case, value: Any) -> Verdict:
    return by_state("equity_reads")(case, value)


def by_worth(case: Case, value: Any) -> Verdict:
    """Judge with positions of 20,000 and this cash beside an equity of 100,000."""
    return by_account("cash")(case, value)


def by_expiry(case: Case, value: timedelta) -> Verdict:
    return by_decision("expires_at")(case, case.state.now + value)


def by_end(case: Case, value: timedelta) -> Verdict:
    return by_decision("expires_at")(case, case.state.hours.close + value)


def by_wait(case: Case, value: Any) -> Verdict:
    received = None if value is None else case.state.now - value
    return decided("received_at")(case, received)


SELL = {"symbol": "AAA", "side": Side.sell}
ALL = D(100_000)

EDGES = (
    Edge(R.quantity_cap, lambda c, v: ordered(c.with_limits(max_quantity="50"), quantity=v),
         (50 - TINY, D(50)), (50 + TINY, NAN, INFINITY)),
    Edge(R.quantity_adv, by_name("facts", "adv"), (D("5000.01"), D(5000)),
         (D("4999.99"), D(0), D(-1), NAN, None, "gone")),
    Edge(R.notional_cap, by_order("quantity"), (100 - TINY, D(100)), (100 + TINY, NAN)),
    Edge(R.notional_cap, by_account("equity"), (D(50_000), D("50000.01")),
         (D("49999.99"), D(0), NAN, None)),
    Edge(R.notional_cap, lambda c, v: ordered(c, quantity=D("99.99"), limit=v), (D("100.01"),),
         (D("100.02"), D("101"))),
    Edge(R.market_order, by_order("limit"), (D(100),), (None,)),
    Edge(R.price_collar, by_order("limit"), (D("101.49"), D("101.50"), D("98.50")),
         (D("101.51"), D("98.49"), NAN, None, D(0))),
    Edge(R.sigma_collar, by_name("facts", "sigma", limit=D("101.20")), (D("0.0041"), D("0.004")),
         (D("0.0039"), D(0), D(-1), NAN, None, "gone")),
    Edge(R.quote_missing, by_name("quotes", "last"), (D(100),),
         (D(0), D(-1), NAN, INFINITY, "gone")),
    Edge(R.quote_missing, by_quote, ((None, None), (D(100), None)), ((D(100), D(0)), (NAN, D(1)))),
    Edge(R.quote_stale, by_quote_age, (59 * SECOND, 60 * SECOND, -SECOND),
         (60 * SECOND + INSTANT, -SECOND - INSTANT)),
    Edge(R.quote_crossed, by_quote, ((D("99.99"), D(100)), (D(100), D(100))),
         ((D("100.01"), D(100)),)),
    Edge(R.quote_jump, by_name("facts", "close"), (D("124.99"), D(125), D("83.34")),
         (D("125.01"), D("83.33"), D(0), NAN, None, "gone")),
    Edge(R.second_source, by_name("second", "last"), (D("124.99"), D(125), D("83.34")),
         (D("125.01"), D("83.33"), D(1), D(10_000), NAN, "gone")),
    Edge(R.second_stale, by_second_age, (timedelta(0), SECOND),
         (-INSTANT, timedelta(days=2), None)),
    Edge(R.second_stale, lambda c, v: by_name("second", "at")(c, c.state.now + v),
         (timedelta(0),), (INSTANT,)),
    Edge(R.second_stale, by_name("second", "last"), (D(100),), ("gone",)),
    Edge(R.close_stale, by_name("facts", "close_session"), (date(2024, 3, 5),),
         (date(2024, 3, 4), date(2024, 3, 6), None, "gone")),
    Edge(R.close_stale, by_state("previous_session"), (date(2024, 3, 5),),
         (date(2024, 3, 4), None)),
    Edge(R.participation_order, by_parent, (D(0), 9_950 - TINY, D(9_950)),
         (9_950 + TINY, NAN, None)),
    Edge(R.participation_order, by_state("counted"), (frozenset(),), (None,)),
    Edge(R.participation_day, by_bought, (D(0), 19_950 - TINY, D(19_950)), (19_950 + TINY, NAN)),
    Edge(R.participation_day, by_state("name_day"), ({},), (None,)),
    Edge(R.position_cap, by_holding("CCC"), (D(0), 200 - TINY, D(200)), (200 + TINY, NAN, None)),
    Edge(R.gross_exposure, by_holding("AAA", "BBB"), (475 - TINY, D(475)), (475 + TINY, NAN, None)),
    Edge(R.net_exposure, by_holding("AAA", "BBB"), (475 - TINY, D(475)), (475 + TINY, NAN, None)),
    Edge(R.multiplier, by_account("multiplier"), (D("0.99"), D(1)), (D("1.01"), NAN, None)),
    Edge(R.sector_cap, by_holding("AAA", "BBB", order="AAA"), (175 - TINY, D(175)),
         (175 + TINY, NAN, None)),
    Edge(R.sector_missing, by_name("facts", "sector"), ("health",), (None, "gone")),
    Edge(R.cash_floor, by_account("cash"), (D("7000.01"), D(7000)), (D("6999.99"), NAN, None)),
    Edge(R.buying_power, by_account("buying_power"), (D("5000.01"), D(5000)), (D("4999.99"), NAN)),
    Edge(R.target_weight, by_weight, (D("0.25"), D("0.250001")), (D("0.2500011"), D(1), NAN)),
    Edge(R.agent_weight, by_agent, (D("0.25"), D("0.250001")), (D("0.2500011"), NAN)),
    Edge(R.agent_gross, by_agent_gross, (D("0.25"), D("0.250001")), (D("0.2500011"), NAN)),
    Edge(R.agent_sum, by_agent_share, (D("0.499999"), D("0.5"), D("0.500001")),
         (D("0.4999989"), D("0.5000011"), D("1.5"), NAN)),
    Edge(R.agent_sum,
         lambda c, v: by_decision("agents")(
             c, {"one": (v, c.decision.weights), "other": (1 - v, c.decision.weights)}),
         (D(0), D(1), D("0.3")), (D("1.1"), D("-0.1"))),
    Edge(R.turnover_day, by_day("notional"), (D("44999.99"), D(45_000)),
         (D("45000.01"), NAN, None)),
    Edge(R.turnover_day, by_state("counted"), (frozenset(),), (None,)),
    Edge(R.turnover_week, by_state("week_notional"), (D("94999.99"), D(95_000)),
         (D("95000.01"), NAN, None)),
    Edge(R.orders_decision, by_basket_names, (3, 2), (1, 0)),
    Edge(R.orders_day, by_day("orders"), (98, 99), (100, None)),
    Edge(R.orders_day, by_state("parents"), ({},), (None,)),
    Edge(R.slices_parent, by_order("slices"), (9, 10), (11, 0)),
    Edge(R.slices_parent, by_order("slice", slices=2), (0, 1), (2,)),
    Edge(R.slices_day, by_day("slices"), (498, 499), (500, None)),
    Edge(R.throttle_second, by_state("messages_second"), (0, 1), (2, None)),
    Edge(R.throttle_minute, by_state("messages_minute"), (118, 119), (120, None)),
    Edge(R.repeated_failures, by_state("failures"), (0, 2), (3, None)),
    Edge(R.unknown_orders, by_state("unknown_orders"), (2, 3), (4, None)),
    Edge(R.duplicate_order, by_used, (frozenset(), frozenset({"x"})), ("own", None)),
    Edge(R.foreign_id, by_decision_id, ("d" * 64,), ("e" * 64, "")),
    Edge(R.foreign_id, by_account("id"), ("PA1",), ("PA2", "", None)),
    Edge(R.request_conflict, decided("recorded_body"), (None, "b" * 64), ("c" * 64,)),
    Edge(R.request_replayed, decided("recorded_body"), (None, "c" * 64), ("b" * 64,)),
    Edge(R.wash_trade, by_open_orders, ((), (Side.buy,)), ((Side.sell,), None)),
    Edge(R.not_allowed, by_state("allowed"), (frozenset({"CCC"}),), (frozenset({"AAA"}), None)),
    Edge(R.not_allowed, decided("allowed"), (frozenset({"AAA", "CCC"}),),
         (frozenset({"AAA"}), None)),
    Edge(R.restricted, by_state("restricted"), (frozenset({"AAA"}),), (frozenset({"CCC"}), None)),
    Edge(R.quarantined, by_state("quarantined"), (frozenset({"AAA"}),), (frozenset({"CCC"}), None)),
    Edge(R.short_sale, by_order("quantity", **SELL), (100 - TINY, D(100)), (100 + TINY, NAN)),
    Edge(R.short_sale,
         lambda c, v: ordered(c.with_limits(max_short_weight="0.01"), quantity=v, **SELL),
         (D(110),), (110 + TINY, NAN)),
    Edge(R.short_sale, by_state("positions", **SELL), (), (None, {})),
    Edge(R.short_barred, by_account("no_shorting"), (True,), (False,)),
    Edge(R.borrow_status,
         lambda c, v: by_name("assets", "shortable", "AAA", side=Side.sell, quantity=v)(c, False),
         (D(100),), (100 + TINY,)),
    Edge(R.borrow_status, by_short, ((True, True),), ((False, True), (True, False))),
    Edge(R.round_trip, by_sold, (D(0),), (TINY, NAN)),
    Edge(R.round_trip, lambda c, v: by_state("name_day", **SELL)(c, {"AAA": NameDay(v, D(9))}),
         (D(0),), (TINY, NAN)),
    Edge(R.round_trip, by_state("name_day"), ({},), (None,)),
    Edge(R.clock_missing, lambda c, v: by_state("clock")(c, v and c.state.clock), (True,), (None,)),
    Edge(R.market_closed, by_clock("is_open"), (True,), (False, None)),
    Edge(R.market_closed, lambda c, v: by_state("hours")(c, v and c.state.hours), (True,), (None,)),
    Edge(R.market_closed, by_open, (timedelta(0),), (-INSTANT,)),
    Edge(R.market_closed, by_close, (INSTANT,), (timedelta(0),)),
    Edge(R.calendar_disagrees, by_calendar_gap, (60 * SECOND, -60 * SECOND),
         (60 * SECOND + INSTANT, -60 * SECOND - INSTANT)),
    Edge(R.opening_buffer, by_open, (900 * SECOND,), (900 * SECOND - INSTANT,)),
    Edge(R.closing_buffer, by_close, (900 * SECOND,), (900 * SECOND - INSTANT,)),
    Edge(R.not_tradable, by_name("assets", "tradable"), (True,), (False, None, "gone")),
    Edge(R.position_jump,
         lambda c, v: by_state("ledger_positions", symbol="AAA")(c, v and {"AAA": v}),
         (D(100), D(125), D("83.34")), (D("125.01"), D("83.33"), D(10), NAN, None)),
    Edge(R.position_jump, by_state("ledger_positions", symbol="AAA"), ({"AAA": D(100)},), ({},)),
    Edge(R.daily_loss, by_account("equity"), (D("97000.01"), D(97_000)),
         (D("96999.99"), D(0), NAN, None)),
    Edge(R.daily_loss, by_account("last_equity"), (ALL,), (D(0), D(-1), NAN)),
    Edge(R.drawdown, by_account("equity"), (D("90000.01"), D(90_000)),
         (D("89999.99"), NAN, None)),
    Edge(R.drawdown, by_state("peak_equity"), (ALL,), (D(0), NAN, None)),
    Edge(R.latch, by_state("armed"), (True,), (False, None)),
    Edge(R.halt_file, by_state("halted"), (False,), (True, None)),
    Edge(R.suspended, by_account("suspended"), (False,), (True, None)),
    Edge(R.blocked, by_account("blocked"), (False,), (True, None)),
    Edge(R.kill_unverified, by_open_at_arming, (0,), (1, None)),
    Edge(R.permit, by_state("permit_left_s"), (TINY, D(30)), (D(0), D(-1), NAN, None)),
    Edge(R.permit_ttl, by_state("permit_left_s"), (D(29), D(30)), (30 + TINY, NAN, None)),
    Edge(R.ledger, by_state("ledger_writable"), (True,), (False, None)),
    Edge(R.audit, by_state("audit_intact"), (True,), (False, None)),
    Edge(R.state_missing, by_gone, ("",), ("account", "positions", "ledger_positions",
                                           "open_orders", "day", "name_day")),
    Edge(R.reduce_only, by_reducing, (TINY, D(100)), (100 + TINY, NAN, D(0))),
    Edge(R.reduce_only, by_state("reducing"), (False,), (True,)),
    Edge(R.quantity_invalid, by_order("quantity"), (TINY, D(50), D("1E+2")),
         (D(0), D(-1), TINY / 10, NAN, INFINITY, D("-0"))),
    Edge(R.quantity_invalid,
         by_name("assets", "fractionable", quantity=D("1.5")),
         (True,), (False, None, "gone")),
    Edge(R.price_invalid, by_order("limit"), (D("100.01"), D("1"), D("0.9999")),
         (D("100.001"), D("0.99999"), D(0), D(-1), NAN, INFINITY)),
    Edge(R.symbol_invalid, by_order("symbol"), ("CCC", "BRK.B"),
         ("ccc", "СCC", "C CC", "A" * 9, "CCC\n", ".A")),
    Edge(R.account_mismatch, by_decision("account"), ("PA1",), ("PA2", "")),
    Edge(R.account_mismatch, by_typed, ("PA1",), ("PA2", "", "pa1")),
    Edge(R.weight_invalid, by_weight, (D(0), D(1), D("1.000001")),
         (-TINY, D("1.0000011"), NAN, INFINITY)),
    Edge(R.weight_invalid, lambda c, v: by_weight(c.with_limits(max_short_weight="0.1"), v),
         (D("-0.1"),), (D("-0.100001"),)),
    Edge(R.weight_invalid, by_agent, (D(0), D(1)), (-TINY, NAN)),
    Edge(R.weight_sum, lambda c, v: by_decision("weights")(c, {"AAA": D("0.9"), "CCC": v}),
         (D("0.1"), D("0.100001")), (D("0.1000011"), NAN)),
    Edge(R.weight_move, lambda c, v: decided("last_weights")(c, v and {"BBB": v}),
         (D("0.84"), D("0.85")), (D("0.850001"), NAN, None)),
    Edge(R.weight_move, lambda c, v: decided("last_weights")(c, {"AAA": v, "CCC": D("0.05")}),
         (D("0.1"), D("1.1")), (D("1.100001"),)),
    Edge(R.decision_stale, by_decision("as_of"), (date(2024, 3, 5),),
         (date(2024, 3, 4), date(2024, 3, 6))),
    Edge(R.decision_stale, decided("previous_session"), (date(2024, 3, 5),), (None,)),
    Edge(R.model_unknown, decided("models"), (frozenset({"a" * 64}),), (frozenset(), None)),
    Edge(R.ramp, by_state("ramp"), (D("0.25"), D(1)),
         (D("0.249999"), D(0), D("1.000001"), NAN, None)),
    Edge(R.quorum, by_quorum, (2, 3), (1,)),
    Edge(R.disagreement, lambda c, v: by_distance(c.with_limits(max_disagreement="0.5"), v),
         (D("0.5"), D("0.25")), (D("0.500001"), NAN)),
    Edge(R.decision_expired, by_expiry, (timedelta(0), SECOND), (-INSTANT,)),
    Edge(R.session_ended, by_end, (timedelta(0), -SECOND),
         (INSTANT, timedelta(days=-1), timedelta(hours=-6, minutes=-30))),
    Edge(R.session_ended, lambda c, v: decided("hours")(c, v and c.state.hours), (True,), (None,)),
    Edge(R.decision_late, by_wait, (899 * SECOND, 900 * SECOND), (900 * SECOND + INSTANT, None)),
    Edge(R.unauthenticated, by_caller, (frozenset(),), (None,)),
    Edge(R.role_missing, by_caller, (frozenset({"trade", "read"}),), (frozenset({"read"}),)),
    Edge(R.limits_signatures, by_signers, (frozenset({"ann", "bob"}),),
         (frozenset({"ann"}), frozenset())),
    Edge(R.limits_effective, by_effective, (1, 2), (0, -1)),
    Edge(R.limits_version, by_state("limits_version"), (), ("other", None)),
    Edge(R.reconcile_stale, by_age("reconciled_at"), (29 * SECOND, 30 * SECOND, -SECOND),
         (30 * SECOND + INSTANT, -SECOND - INSTANT, None)),
    Edge(R.reconcile_stale, by_state("drifted"), (frozenset(),), (None,)),
    Edge(R.reconcile_stale, by_state("foreign"), (frozenset(),), (None,)),
    Edge(R.drift, by_state("drifted"), (frozenset(),), (frozenset({"ZZZ"}),)),
    Edge(R.foreign_order, by_state("foreign"), (frozenset(),), (frozenset({"x"}),)),
    Edge(R.snapshot_stale, by_age("account_at"), (29 * SECOND, 30 * SECOND, -SECOND),
         (30 * SECOND + INSTANT, -SECOND - INSTANT, None)),
    Edge(R.snapshot_jump, by_reads,
         ((ALL, ALL, ALL), (D(1), ALL, ALL, ALL), (D(110_000), D(105_000), ALL)),
         ((D("110000.01"), ALL, ALL), (ALL, ALL), (), None, (NAN, ALL, ALL), (ALL, ALL, NAN),
          (D(0), ALL, ALL), (ALL, ALL, D(100_001)))),
    Edge(R.snapshot_implausible, by_worth, (D(80_000), D(81_000), D(79_000)),
         (D("81000.01"), D("78999.99"), NAN, None)),
    Edge(R.snapshot_implausible, by_account("equity"), (ALL,), (D(0), D(-1), NAN, INFINITY)),
    Edge(R.clock_skew, by_state("skew_s"), (D(1), D(-1)), (1 + TINY, -1 - TINY, NAN, None)),
    Edge(R.clock_alert, by_state("skew_s"), (D("0.05"), D("-0.05")), (D("0.050001"), NAN, None)),
)  # fmt: skip

GOOD = [(edge, value) for edge in EDGES for value in edge.good]
BAD = [(edge, value) for edge in EDGES for value in edge.bad]


def named(pair: tuple[Edge, Any]) -> str:
    return f"{pair[0].code.name}-{pair[1]!r}"[:80]


def codes(verdict: Verdict) -> set[ReasonCode]:
    return {item.code for item in verdict.violations}


@pytest.mark.parametrize("pair", GOOD, ids=map(named, GOOD))
def test_at_its_limit_and_within_nothing_is_said(case: Case, pair: tuple[Edge, Any]) -> None:
    edge, value = pair
    assert edge.code not in codes(edge.judge(case, value))


@pytest.mark.parametrize("pair", BAD, ids=map(named, BAD))
def test_beyond_its_limit_or_unknown_it_is_refused(case: Case, pair: tuple[Edge, Any]) -> None:
    edge, value = pair
    verdict = edge.judge(case, value)
    assert edge.code in codes(verdict)
    assert not verdict.allowed or edge.code is ReasonCode.clock_alert


def test_every_reason_has_an_edge_on_both_sides() -> None:
    assert {edge.code for edge in EDGES if edge.bad} == set(ReasonCode)
    never = set(ReasonCode) - {edge.code for edge in EDGES if edge.good}
    assert never == {ReasonCode.limits_version}  # its good side is every other case
