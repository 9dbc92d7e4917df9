"""What a violation says, and cases in which two checks meet: mistakes that were put in survived."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from risk.checks.arithmetic import exactly
from risk.checks.judge import (
    judge_arming,
    judge_basket,
    judge_decision,
    judge_order,
    trips,
)
from risk.checks.order import open_shares, reduces, tick, volume
from risk.gateway.limits import RULES
from risk.gateway.records import Side
from risk.gateway.state import NameDay, OpenOrder, ProposedOrder
from risk.gateway.stored import DayTotals
from risk.gateway.verdict import ReasonCode, Verdict

D = Decimal
NAN = D("NaN")
R = ReasonCode
SELL = {"symbol": "AAA", "side": Side.sell}
Case = Any  # GatewayCase of conftest.py


def ordered(case: Case, **order: Any) -> Verdict:
    return judge_order(case.state, case.order(**order), case.limits)


def codes(verdict: Verdict) -> set[ReasonCode]:
    return {item.code for item in verdict.violations}


def said(verdict: Verdict, code: ReasonCode) -> list[tuple[str, str, str, str]]:
    """Return (limit, allowed, proposed, symbol) of every violation of a code."""
    return [
        (item.limit, item.allowed, item.proposed, item.symbol)
        for item in verdict.violations
        if item.code is code
    ]


def test_a_price_of_one_has_ticks_of_a_hundredth() -> None:
    assert tick(D(1)) == D("0.01")
    assert tick(D("0.9999")) == D("0.0001")


def test_the_values_seen_and_allowed_are_told_exactly(case: Case) -> None:
    halted = ordered(case.with_name("assets", "CCC", tradable=False))
    assert said(halted, R.not_tradable) == [("", "True", "False", "CCC")]
    unknown = ordered(case.with_state(assets={}))
    assert said(unknown, R.not_tradable) == [("", "True", "missing", "CCC")]
    worthless = ordered(case.with_name("quotes", "CCC", last=D("-3")))
    assert said(worthless, R.quote_missing) == [("", "a positive price", "-3", "CCC")]
    silent = ordered(case.with_state(quotes={}))
    assert said(silent, R.quote_missing) == [("", "a positive price", "missing", "CCC")]
    traded = {"CCC": NameDay(D(0), D(7))}
    assert said(ordered(case.with_state(name_day=traded)), R.round_trip) == [("", "0", "7", "CCC")]
    assert said(ordered(case.with_state(name_day=None)), R.round_trip) == [
        ("", "0", "missing", "CCC")
    ]
    barred = ordered(case.with_name("assets", "AAA", shortable=False), **SELL, quantity=D(101))
    assert said(barred, R.borrow_status) == [("", "True", "False", "AAA")]
    long = "X" * 50
    assert said(ordered(case, symbol=long), R.symbol_invalid)[0][2] == "'" + "X" * 39
    from_nowhere = judge_decision(
        case.state, replace(case.decision, weights={long: D("0.1")}), case.limits
    )
    assert said(from_nowhere, R.not_allowed) == [("", "the allow-list", "'" + "X" * 39, "X" * 16)]


def test_a_quote_of_tomorrow_and_one_of_yesterday_break_different_limits(case: Case) -> None:
    day = timedelta(days=1)
    late = ordered(case.with_name("quotes", "CCC", at=case.state.now - day))
    early = ordered(case.with_name("quotes", "CCC", at=case.state.now + day))
    assert said(late, R.quote_stale) == [("max_quote_age_s", "60", "86400", "CCC")]
    assert said(early, R.quote_stale) == [("max_clock_skew_s", "-1", "-86400", "CCC")]


def test_a_slice_beyond_its_parent_breaks_the_limit_of_slices(case: Case) -> None:
    found = ordered(case, slice=3, slices=2)
    assert said(found, R.slices_parent) == [("max_slices", "1", "3", "CCC")]


def test_every_limit_that_a_violation_names_is_one_of_its_control(case: Case) -> None:
    """Everything at once, from a state in which nothing is right."""
    broken = case.with_state(
        account=None, account_at=None, quotes={}, facts={}, assets={}, second={}, permit_left_s=NAN,
        skew_s=NAN, equity_reads=(), reconciled_at=None, failures=None, messages_second=None,
        messages_minute=None, unknown_orders=None, day=None, week_notional=None, parents=None,
    )  # fmt: skip
    found = (
        *ordered(broken).violations,
        *judge_basket(broken.state, (case.order(), case.order(**SELL)), 0, case.limits).violations,
    )
    assert len({item.code for item in found}) > 30
    elsewhere = {R.quote_stale, R.reconcile_stale, R.snapshot_stale, R.weight_sum}
    for item in found:
        if item.limit in RULES and item.code not in elsewhere:
            assert item.code.control in RULES[item.limit].controls, item


@pytest.mark.parametrize("changes", [{"symbol": ""}, {"slice": -1}])
def test_a_leg_without_a_name_or_a_number_has_no_id_and_does_not_stop_the_checks(
    case: Case, changes: dict[str, Any]
) -> None:
    order = case.order()
    request = replace(order.request, symbol=changes.get("symbol", order.request.symbol))
    odd = replace(order, request=request, slice=changes.get("slice", 0))
    found = judge_order(case.state, odd, case.limits)
    assert said(found, R.foreign_id)[0][1] == "missing"


def test_half_a_quote_is_not_crossed(case: Case) -> None:
    for bid, ask in ((None, D(100)), (D(100), None)):
        assert R.quote_crossed not in codes(
            ordered(case.with_name("quotes", "CCC", bid=bid, ask=ask))
        )


def test_a_sale_in_another_name_is_no_wash_trade(case: Case) -> None:
    elsewhere = OpenOrder("x", "AAA", Side.sell, D(1), D(100))
    assert ordered(case.with_state(open_orders=(elsewhere,))).allowed
    here = OpenOrder("x", "CCC", Side.sell, D(1), D(100))
    assert codes(ordered(case.with_state(open_orders=(here,)))) == {R.wash_trade}


def test_an_order_is_never_less_of_the_volume_than_itself(case: Case) -> None:
    """A parent whose slices were not counted does not make the order itself small."""
    order = case.order(quantity=D(10_001))
    counted = case.with_state(counted=frozenset({order.request.client_order_id}), parents={})
    found = judge_order(counted.state, order, case.limits)
    assert said(found, R.participation_order) == [("max_parent_adv", "10000.00", "10001", "CCC")]


@pytest.mark.parametrize("sold", ["99.5", "100", "40"])
def test_an_exit_is_no_short_sale_whatever_its_price_is(case: Case, sold: str) -> None:
    quotes = {name: one for name, one in case.state.quotes.items() if name != "AAA"}
    blind = case.with_state(quotes=quotes).with_name("positions", "AAA", price=NAN)
    found = codes(ordered(blind, **SELL, quantity=D(sold)))
    assert R.quote_missing in found and R.short_sale not in found


def test_a_short_sale_needs_an_account_and_a_name_that_is_known(case: Case) -> None:
    nobody = case.with_state(account=None)
    assert said(ordered(nobody, **SELL, quantity=D(150)), R.short_sale) == [
        ("max_short_weight", "NaN", "5000", "AAA")
    ]
    assert said(ordered(nobody, **SELL), R.short_sale) == [("max_short_weight", "NaN", "0", "AAA")]
    nowhere = case.with_state(assets={})
    assert said(ordered(nowhere, **SELL, quantity=D(150)), R.borrow_status) == [
        ("", "True", "missing", "AAA")
    ]
    assert R.borrow_status not in codes(ordered(nowhere, **SELL, quantity=D(100)))


def test_a_short_position_is_explained_like_a_long_one(case: Case) -> None:
    short = case.holding({"AAA": D(-100)})
    for ours, explained in ((D(-100), True), (D(-125), True), (D("-125.01"), False)):
        state = replace(short.state, ledger_positions={"AAA": ours})
        found = codes(judge_order(state, case.order("AAA", quantity=D(10)), case.limits))
        assert (R.position_jump not in found) is explained


def test_without_a_ledger_no_position_is_explained_not_even_none(case: Case) -> None:
    assert R.position_jump in codes(ordered(case.with_state(ledger_positions=None)))


def test_an_account_that_is_not_known_has_no_room_for_an_order(case: Case) -> None:
    found = ordered(case.with_state(account=None))
    assert said(found, R.notional_cap) == [("max_order_weight", "NaN", "5000", "CCC")]


def test_only_open_orders_of_the_same_name_and_side_come_before_an_order(case: Case) -> None:
    order = case.order(**SELL, quantity=D(100))
    others = (
        OpenOrder("a", "AAA", Side.buy, D(60), D(100)),
        OpenOrder("b", "BBB", Side.sell, D(60), D(100)),
        OpenOrder(order.request.client_order_id, "AAA", Side.sell, D(100), D(100)),
    )
    state = replace(case.state, open_orders=others)
    with exactly():
        assert open_shares(state, order, Side.sell) == 0
        assert open_shares(state, order, Side.buy) == 60
        assert reduces(state, order)


@pytest.mark.parametrize(
    ("adv", "expected"),
    [("0.5", "0.5"), ("0", "NaN"), ("-1", "NaN"), ("NaN", "NaN"), (None, "NaN")],
)
def test_a_volume_is_positive_or_not_known(case: Case, adv: str | None, expected: str) -> None:
    known = case.with_name("facts", "CCC", adv=None if adv is None else D(adv)).state
    with exactly():
        assert str(volume(known, "CCC")) == expected
        assert str(volume(known, "ZZZ")) == "NaN"


@pytest.mark.parametrize(
    ("changes", "code", "allowed", "proposed"),
    [
        ({"armed": False}, R.latch, "True", "False"),
        ({"armed": None}, R.latch, "True", "missing"),
        ({"halted": True}, R.halt_file, "False", "True"),
        ({"permit_left_s": D(0)}, R.permit, "more than 0", "0"),
        ({"limits_version": "v"}, R.limits_version, "v", None),
        ({"ledger_writable": False}, R.ledger, "True", "False"),
        ({"audit_intact": False}, R.audit, "True", "False"),
        ({"ramp": D(2)}, R.ramp, "a share in (0, 1]", "2"),
        ({"drifted": frozenset({"AAA"})}, R.drift, "none", "AAA"),
        ({"drifted": None}, R.reconcile_stale, "known", "missing"),
        ({"foreign": frozenset({"x"})}, R.foreign_order, "none", "x"),
        ({"foreign": None}, R.reconcile_stale, "known", "missing"),
        ({"failures": 3}, R.repeated_failures, "2", "3"),
        ({"messages_second": 2}, R.throttle_second, "1", "2"),
        ({"messages_minute": 120}, R.throttle_minute, "119", "120"),
    ],
)  # fmt: skip
def test_the_gate_tells_what_it_wants_and_what_it_sees(
    case: Case, changes: dict[str, Any], code: ReasonCode, allowed: str, proposed: str | None
) -> None:
    ((_, wanted, seen, _),) = said(ordered(case.with_state(**changes)), code)
    assert (wanted, seen) == (allowed, case.limits.version if proposed is None else proposed)


@pytest.mark.parametrize(
    ("field", "value", "code", "allowed"),
    [
        ("suspended", True, R.suspended, "False"),
        ("blocked", True, R.blocked, "False"),
        ("no_shorting", False, R.short_barred, "True"),
    ],
)
def test_the_gate_tells_what_it_wants_of_the_account(
    case: Case, field: str, value: bool, code: ReasonCode, allowed: str
) -> None:
    ((_, wanted, seen, _),) = said(ordered(case.with_account(**{field: value})), code)
    assert (wanted, seen) == (allowed, str(value))


def test_an_account_that_is_not_known_is_told_as_missing(case: Case) -> None:
    found = ordered(case.with_state(account=None))
    for code in (R.suspended, R.blocked, R.multiplier, R.cash_floor, R.snapshot_implausible):
        assert [seen for _, _, seen, _ in said(found, code)] == ["missing"], code
    for code in (R.daily_loss, R.drawdown):
        assert [seen for _, _, seen, _ in said(found, code)] == ["NaN"], code


def test_equity_of_half_a_dollar_is_equity(case: Case) -> None:
    """Nothing in the checks takes one unit of currency for nothing."""
    small = D("0.5")
    poor = case.with_state(
        equity_reads=(small,) * 3, peak_equity=small, positions={}, ledger_positions={}
    ).with_account(equity=small, cash=small, last_equity=small, buying_power=small)
    found = codes(ordered(poor))
    assert not found & {R.snapshot_implausible, R.snapshot_jump, R.daily_loss, R.drawdown}
    half = codes(ordered(poor.with_account(cash=D("0.49"))))
    assert R.snapshot_implausible in half


def test_a_ramp_of_nothing_is_no_ramp(case: Case) -> None:
    found = said(ordered(case.with_state(ramp=D(0))), R.ramp)
    assert ("", "a share in (0, 1]", "0", "") in found


def test_losses_trip_by_the_limits_of_their_own_names(case: Case) -> None:
    low = case.with_state(equity_reads=(D(50_000),) * 3)
    found = {item.code: item.limit for item in trips(low.state, case.limits)}
    assert found == {R.daily_loss: "max_day_loss", R.drawdown: "max_drawdown"}
    assert trips(replace(low.state, account=None), case.limits) == ()
    unknown = replace(case.state, peak_equity=None)
    assert [item.proposed for item in trips(unknown, case.limits)] == ["NaN"]


def test_readings_of_nothing_or_less_confirm_nothing(case: Case) -> None:
    for read in (D(0), D(-1)):
        state = case.with_state(equity_reads=(read,) * 3).with_account(equity=read).state
        assert trips(state, case.limits) == ()
    penny = case.with_state(equity_reads=(D("0.5"),) * 3).state
    assert {item.code for item in trips(penny, case.limits)} == {R.daily_loss, R.drawdown}


def test_an_early_reading_of_the_account_breaks_the_limit_of_the_clock(case: Case) -> None:
    minute = timedelta(minutes=1)
    early = ordered(case.with_state(account_at=case.state.now + minute))
    assert said(early, R.snapshot_stale) == [("max_clock_skew_s", "-1", "-60", "")]
    late = ordered(case.with_state(account_at=case.state.now - minute))
    assert said(late, R.snapshot_stale) == [("max_snapshot_age_s", "30", "60", "")]


def test_outside_the_hours_of_the_calendar_the_broker_is_heard_too(case: Case) -> None:
    closed = replace(case.state.clock, is_open=False)
    found = ordered(case.with_state(clock=closed, hours=None))
    assert said(found, R.market_closed) == [
        ("", "open at the broker", "False", ""),
        ("", "a session of the calendar", "missing", ""),
    ]


def test_an_order_that_the_broker_has_already_does_not_count_twice(case: Case) -> None:
    """One whose answer was lost is judged again under its id, and may be open by then."""
    order = case.order(quantity=D(100))
    own = OpenOrder(order.request.client_order_id, "CCC", Side.buy, D(100), D(100))
    tight = case.with_limits(max_weight="0.1", max_turnover_day="0.1").with_state(
        open_orders=(own,)
    )
    assert judge_order(tight.state, order, tight.limits).violations == ()
    other = replace(own, client_order_id="x")
    crowded = replace(tight.state, open_orders=(other,))
    assert codes(judge_order(crowded, order, tight.limits)) >= {R.position_cap, R.turnover_day}


def test_a_sale_alone_may_fill_or_not_whichever_is_worse(case: Case) -> None:
    lending = case.with_limits(max_short_weight="0.1", max_weight="0.08")
    found = judge_order(lending.state, case.order(**SELL, quantity=D(150)), lending.limits)
    assert said(found, R.position_cap) == [("max_weight", "8000.00", "10000", "AAA")]


def test_what_is_open_has_to_be_paid_too(case: Case) -> None:
    other = (OpenOrder("x", "DDD", Side.buy, D(50), D(100)),)
    rich = case.with_state(open_orders=other).with_account(cash=D(12_000))
    assert R.cash_floor not in codes(ordered(rich))
    poor = rich.with_account(cash=D("11999.99"))
    assert said(ordered(poor), R.cash_floor) == [("min_cash", "2000.00", "1999.99", "")]


def test_a_sale_alone_brings_nothing_before_it_has_filled(case: Case) -> None:
    lending = case.with_limits(max_short_weight="0.1").with_account(cash=D(1_000))
    found = judge_order(lending.state, case.order(**SELL, quantity=D(150)), lending.limits)
    assert said(found, R.cash_floor) == [("min_cash", "2000.00", "1000", "")]


@pytest.mark.parametrize("field", ["positions", "open_orders"])
def test_exposures_of_a_book_that_is_half_known_are_not_known(case: Case, field: str) -> None:
    found = ordered(case.with_state(**{field: None}))
    for code in (R.gross_exposure, R.net_exposure, R.ramp):
        assert [seen for _, _, seen, _ in said(found, code)] == ["NaN"], code


def test_without_open_orders_neither_cash_nor_turnover_is_known(case: Case) -> None:
    found = ordered(case.with_state(open_orders=None))
    assert said(found, R.cash_floor) == [("min_cash", "0.02", "missing", "")]
    assert [seen for _, _, seen, _ in said(found, R.turnover_day)] == ["NaN"]
    assert [seen for _, _, seen, _ in said(found, R.turnover_week)] == ["NaN"]


def test_without_a_ramp_nothing_may_be_invested(case: Case) -> None:
    found = said(ordered(case.with_state(ramp=None)), R.ramp)
    assert ("", "NaN", "25000", "") in found


def test_a_book_that_is_short_has_a_net_exposure_too(case: Case) -> None:
    """-60,000 at worst, if the buy of 5,000 does not fill."""
    short = case.holding({"AAA": D(-600)})
    for cap, expected in (("0.60", []), ("0.59", [("max_net", "59000.00", "60000", "")])):
        capped = short.with_limits(max_net=cap)
        assert said(ordered(capped), R.net_exposure) == expected


def test_orders_of_a_day_are_not_known_without_what_was_counted(case: Case) -> None:
    for field in ("counted", "parents", "day"):
        found = ordered(case.with_state(**{field: None}))
        for code in (R.orders_day, R.slices_day):
            assert [seen for _, _, seen, _ in said(found, code)] == ["missing"], field


def test_slices_together_break_the_limit_of_their_parent(case: Case) -> None:
    orders = [case.order(quantity=D(6_000), slice=row, slices=2) for row in range(2)]
    found = judge_basket(case.state, orders, 3, case.limits)
    assert said(found, R.participation_order) == [("max_parent_adv", "10000.00", "12000", "CCC")]


def test_what_a_sale_without_a_price_brings_is_not_known(case: Case) -> None:
    sale = case.order(**SELL, quantity=D(10), limit=None)
    found = judge_basket(case.state, (sale, case.order(quantity=D(10))), 3, case.limits)
    assert said(found, R.cash_floor) == [("min_cash", "2000.00", "NaN", "")]
    assert said(found, R.buying_power)[0][1] == "NaN"


def test_a_decision_of_nobody_is_not_for_an_account_that_is_not_known(case: Case) -> None:
    state = replace(case.state, account=None)
    for account in (None, "", "PA1"):
        found = judge_decision(state, replace(case.decision, account=account), case.limits)
        assert R.account_mismatch in codes(found)


def test_a_decision_is_told_which_weight_is_too_large_and_by_which_limit(case: Case) -> None:
    large = replace(case.decision, weights={"AAA": D("0.3")})
    found = judge_decision(case.state, large, case.limits)
    assert said(found, R.target_weight) == [("max_weight", "0.250001", "0.3", "AAA")]


@pytest.mark.parametrize("whose", ["the account's", "an agent's"])
def test_a_name_that_is_not_allowed_is_found_in_every_book(case: Case, whose: str) -> None:
    book = {"ZZZ": D("0.1")}
    changes: dict[str, Any] = {"weights": book}
    if whose == "an agent's":
        agents = case.decision.agents
        changes = {"agents": {**agents, "balanced": (agents["balanced"][0], book)}}
    found = judge_decision(case.state, replace(case.decision, **changes), case.limits)
    assert said(found, R.not_allowed) == [("", "the allow-list", "'ZZZ'", "ZZZ")]


def test_shorts_are_exposure_of_an_agent_too(case: Case) -> None:
    lending = case.with_limits(max_short_weight="1", max_agent_weight="1")
    for short, expected in (
        ("-0.4", []),
        ("-0.5", [("max_agent_gross", "1.000001", "1.1", "one")]),
    ):
        agents = {"one": (D(1), {"AAA": D("0.6"), "BBB": D(short)})}
        wanted = replace(case.decision, agents=agents)
        found = judge_decision(lending.state, wanted, lending.limits)
        assert said(found, R.agent_gross) == expected


def test_a_basket_on_a_full_day_is_one_too_many(case: Case) -> None:
    full = case.with_state(day=DayTotals(100, 500, D(0), 0))
    found = judge_basket(full.state, (case.order(),), 3, case.limits)
    assert said(found, R.orders_day) == [("max_orders_day", "100", "101", "")]
    assert said(found, R.slices_day) == [("max_slices_day", "500", "501", "")]
    room = case.with_state(day=DayTotals(99, 499, D(0), 0))
    assert judge_basket(room.state, (case.order(),), 3, case.limits).allowed


def test_buying_what_is_sold_in_the_same_basket_is_told_once(case: Case) -> None:
    orders = (case.order(**SELL, quantity=D(10)), case.order("AAA", quantity=D(10)))
    found = judge_basket(case.state, orders, 3, case.limits)
    assert said(found, R.wash_trade) == [("", "one side", "buy and sell", "AAA")]


@pytest.mark.parametrize("field", ["ledger_positions", "day", "name_day"])
def test_arming_asks_for_everything_that_is_counted(case: Case, field: str) -> None:
    found = judge_arming(case.with_state(**{field: None}).state, "PA1", case.limits)
    assert said(found, R.state_missing) == [(field, "known", "missing", "")]


def test_arming_an_account_that_is_not_known_is_refused_and_says_so(case: Case) -> None:
    state = case.with_state(account=None).state
    for typed in ("PA1", "", None):
        found = judge_arming(state, typed, case.limits)
        assert said(found, R.account_mismatch)[0][1] == "missing"


def test_arming_tells_how_many_orders_are_open(case: Case) -> None:
    one = OpenOrder("x", "CCC", Side.buy, D(1), D(1))
    for orders, seen in (((one, one), "2"), (None, "missing")):
        found = judge_arming(case.with_state(open_orders=orders).state, "PA1", case.limits)
        assert said(found, R.kill_unverified) == [("", "0", seen, "")]


def test_a_decision_is_told_whose_weight_is_none(case: Case) -> None:
    short = {"AAA": D("-0.1")}
    agents = {"one": (D("0.5"), short)}
    wanted = replace(case.decision, weights=short, agents=agents)
    found = judge_decision(case.state, wanted, case.limits)
    assert said(found, R.weight_invalid) == [
        ("max_short_weight", "in range", "-0.1", "AAA"),
        ("max_short_weight", "in range", "-0.1", "one/AAA"),
    ]
    assert said(found, R.agent_sum) == [("max_weight_error", "0.000001", "0.5", "")]


def test_without_a_calendar_a_decision_is_of_no_session(case: Case) -> None:
    state = case.with_state(hours=None, previous_session=None).state
    for as_of in (case.decision.as_of, None):
        found = judge_decision(state, replace(case.decision, as_of=as_of), case.limits)
        assert len(said(found, R.decision_stale)) == len(said(found, R.session_ended)) == 1


@pytest.mark.parametrize("sigma", [D(0), D(-1), NAN, None])
def test_without_a_volatility_not_even_the_reference_is_a_price(case: Case, sigma: Any) -> None:
    found = ordered(case.with_name("facts", "CCC", sigma=sigma))
    assert said(found, R.sigma_collar) == [("max_collar_sigmas", "NaN", "0", "CCC")]


def test_a_close_of_no_session_is_not_that_of_an_unknown_one(case: Case) -> None:
    nowhere = case.with_name("facts", "CCC", close_session=None).with_state(previous_session=None)
    assert said(ordered(nowhere), R.close_stale) == [("", "missing", "missing", "CCC")]


@pytest.mark.parametrize("field", ["drifted", "foreign"])
def test_books_that_were_never_compared_are_waited_for(case: Case, field: str) -> None:
    state = case.with_state(**{field: None}).state
    found = judge_order(state, case.order(), case.limits)
    assert said(found, R.reconcile_stale) == [(field, "known", "missing", "")]
    assert codes(found) == {R.reconcile_stale}
    assert trips(state, case.limits) == ()


def test_readings_of_the_future_are_not_of_the_past(case: Case) -> None:
    minute = timedelta(minutes=1)
    early = ordered(case.with_state(reconciled_at=case.state.now + minute))
    ((_, wanted, _, _),) = said(early, R.reconcile_stale)
    assert wanted == "the past"


def test_a_clock_that_is_not_told_hides_nothing_else_that_trips(case: Case) -> None:
    state = case.with_state(skew_s=None, audit_intact=False).state
    assert {item.code for item in trips(state, case.limits)} == {R.audit}


def slices_of_aaa(case: Case, *shares: int) -> list[ProposedOrder]:
    return [
        case.order(**SELL, quantity=D(each), slice=row, slices=len(shares))
        for row, each in enumerate(shares)
    ]


def test_each_slice_comes_after_all_slices_before_it_and_all_that_is_open(case: Case) -> None:
    """100 are held."""
    found = judge_basket(case.state, slices_of_aaa(case, 40, 40, 20), 3, case.limits)
    assert R.short_sale not in codes(found)
    found = judge_basket(case.state, slices_of_aaa(case, 40, 40, 40), 3, case.limits)
    assert R.short_sale in codes(found)
    still_open = (OpenOrder("x", "AAA", Side.sell, D(50), D(100)),)
    state = case.with_state(open_orders=still_open).state
    assert R.short_sale not in codes(
        judge_basket(state, slices_of_aaa(case, 25, 25), 3, case.limits)
    )
    assert R.short_sale in codes(judge_basket(state, slices_of_aaa(case, 30, 30), 3, case.limits))


def test_slices_without_open_orders_that_are_known_are_refused(case: Case) -> None:
    state = case.with_state(open_orders=None).state
    found = codes(judge_basket(state, slices_of_aaa(case, 30, 30), 3, case.limits))
    assert {R.state_missing, R.short_sale, R.wash_trade} <= found


def test_shares_of_an_account_that_is_not_known_are_no_numbers(case: Case) -> None:
    found = ordered(case.with_state(account=None))
    for code in (R.position_cap, R.sector_cap, R.gross_exposure, R.turnover_day):
        assert [allowed for _, allowed, _, _ in said(found, code)] == ["NaN"], code


def test_an_account_without_equity_is_not_plausible_by_any_fraction(case: Case) -> None:
    for equity in (D(0), D(-1)):
        found = ordered(case.with_account(equity=equity))
        assert said(found, R.snapshot_implausible) == [("max_equity_error", "0.01", "NaN", "")]
