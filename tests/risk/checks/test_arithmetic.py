"""The numbers under every verdict: what is missing or no number is never small enough."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from risk.checks.arithmetic import above, below, exactly, gap, largest, number, seconds, unless
from risk.checks.prices import Worst, buy_price, held, mark, reference_price, worst_case
from risk.gateway.records import Quote, Side
from risk.gateway.state import OpenOrder
from risk.gateway.verdict import ReasonCode

D = Decimal
NAN, INFINITY = D("NaN"), D("Infinity")
CODE = ReasonCode.position_cap
Case = Any  # GatewayCase of conftest.py


@pytest.fixture(autouse=True)
def _exact() -> Any:
    with exactly():
        yield


def test_forty_digits_are_kept_and_six_million_places_are_too_many() -> None:
    """A verdict is replayed bit for bit, so its precision and its range are part of it."""
    assert D(1) / D(3) == D("0." + "3" * 40)
    assert D("1E+999999") * 1 == D("1E+999999")
    assert D("1E+999999") * 10 == INFINITY
    assert (D("1E-999999") * 1).is_normal()
    assert (D("1E-999999") / 10).is_subnormal()


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [("1", "2", "2"), ("2", "1", "2"), ("1", "NaN", "NaN"), ("NaN", "1", "NaN"),
     ("NaN", "NaN", "NaN"), ("-1", "-2", "-1"), ("1.0", "1.00", "1.0")],
)  # fmt: skip
def test_the_largest_is_no_number_where_either_is_none(one: str, other: str, expected: str) -> None:
    assert str(largest(D(one), D(other))) == expected


@pytest.mark.parametrize(
    ("price", "reference", "expected"),
    [("0.5", "0.4", "0.25"), ("101", "100", "0.01"), ("99", "100", "0.01"), ("0", "100", "NaN"),
     ("100", "0", "NaN"), ("-1", "100", "NaN"), ("100", "-1", "NaN"), ("-1", "-1", "NaN"),
     ("NaN", "100", "NaN"), ("100", "NaN", "NaN")],
)  # fmt: skip
def test_a_gap_takes_two_prices(price: str, reference: str, expected: str) -> None:
    assert str(gap(D(price), D(reference))) == expected


@pytest.mark.parametrize("value", [None, NAN, D("1.000001"), INFINITY])
def test_more_than_allowed_or_unknown_is_a_violation(value: Decimal | None) -> None:
    (found,) = above(CODE, "max_weight", D(1), value, "AAA")
    assert (found.code, found.limit, found.allowed, found.symbol) == (
        CODE,
        "max_weight",
        "1",
        "AAA",
    )
    assert above(CODE, "max_weight", D(1), D(1)) == ()
    assert above(CODE, "max_weight", D(1), -INFINITY) == ()


@pytest.mark.parametrize("value", [None, NAN, D("0.999999"), -INFINITY])
def test_less_than_wanted_or_unknown_is_a_violation(value: Decimal | None) -> None:
    (found,) = below(CODE, "min_cash", D(1), value, "AAA")
    assert (found.code, found.limit, found.allowed, found.symbol) == (CODE, "min_cash", "1", "AAA")
    assert below(CODE, "min_cash", D(1), D(1)) == ()
    assert below(CODE, "min_cash", D(1), INFINITY) == ()


def test_only_what_is_known_and_true_is_no_violation() -> None:
    assert unless(True, CODE, "", "") == ()
    for holds in (False, None, 1, "yes"):
        assert len(unless(holds, CODE, "", "")) == 1  # type: ignore[arg-type]


def test_seconds_are_exact_to_the_microsecond() -> None:
    assert seconds(timedelta(days=-1, microseconds=1)) == D("-86399.999999")
    assert number(None).is_nan() and number(D(2)) == 2


@pytest.mark.parametrize(
    ("bid", "ask", "last", "expected"),
    [(None, None, "0.5", "0.5"), ("99", "101", "100", "100"), ("99", "101", "98", "99"),
     ("99", "101", "102", "101"), (None, "101", "102", "101"), ("99", None, "98", "99"),
     ("99", None, "102", "102"), (None, "101", "98", "98"), (None, "0.5", "1", "0.5"),
     (None, "0", "1", "NaN"), (None, "-1", "1", "NaN"), (None, "NaN", "1", "NaN"),
     ("NaN", None, "1", "NaN"), ("99", "101", "0", "NaN"), ("99", "101", "-1", "NaN"),
     ("99", "101", "NaN", "NaN"), ("99", "101", "Infinity", "NaN")],
)  # fmt: skip
def test_a_reference_lies_in_the_quote_and_near_the_last_price(
    case: Case, bid: str | None, ask: str | None, last: str, expected: str
) -> None:
    at = case.state.now
    quote = Quote("AAA", bid and D(bid), ask and D(ask), D(last), at)  # type: ignore[arg-type]
    assert str(reference_price(quote)) == expected
    assert reference_price(None).is_nan()


def test_a_holding_is_valued_by_its_quote_or_else_by_the_broker(case: Case) -> None:
    quotes = {name: one for name, one in case.state.quotes.items() if name != "AAA"}
    without = case.with_state(quotes=quotes)
    for price, expected in (("0.5", "0.5"), ("0", "NaN"), ("-1", "NaN"), ("NaN", "NaN")):
        priced = without.with_name("positions", "AAA", price=D(price)).state
        assert str(mark(priced, "AAA")) == expected
    assert mark(without.state, "CCC") == 100
    assert mark(replace(without.state, positions=None), "AAA").is_nan()
    assert mark(replace(without.state, quotes={}), "CCC").is_nan()
    assert held(without.state, "AAA") == 100 and held(without.state, "CCC") == 0
    assert held(replace(without.state, positions=None), "AAA").is_nan()


def test_a_buy_may_cost_the_dearer_of_limit_and_market(case: Case) -> None:
    assert buy_price(D(99), D(100), case.limits) == 100
    assert buy_price(D(101), D(100), case.limits) == 101
    assert buy_price(None, D(100), case.limits) == D("101.5")
    assert buy_price(D(99), NAN, case.limits).is_nan()
    assert buy_price(NAN, D(100), case.limits).is_nan()


@pytest.mark.parametrize(
    ("high", "low", "gross"),
    [
        ("3", "1", "3"),
        ("1", "-3", "3"),
        ("-1", "-3", "3"),
        ("NaN", "1", "NaN"),
        ("1", "NaN", "NaN"),
    ],
)
def test_the_worst_of_a_name_is_the_larger_side(high: str, low: str, gross: str) -> None:
    assert str(Worst(D(high), D(low)).gross) == gross


def test_every_buy_may_fill_and_no_sell_and_the_other_way_around(case: Case) -> None:
    orders = [
        OpenOrder("a", "AAA", Side.buy, D(10), D(99)),
        OpenOrder("b", "AAA", Side.buy, D(10), None),
        OpenOrder("c", "AAA", Side.sell, D(30), D(90)),
        OpenOrder("d", "AAA", Side.sell, D(90), None),
    ]
    found = worst_case(case.state, "AAA", orders, case.limits)
    assert found == Worst(high=D(10_000) + 1_000 + D(1_015), low=D(10_000) - 3_000 - 9_000)
