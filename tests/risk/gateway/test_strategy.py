"""The strategy's rules only ever make a target smaller, and afterwards each of them holds."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from risk.breakers import BreakerRules
from risk.exits import ExitRules
from risk.gateway.state import NameFacts
from risk.gateway.strategy import (
    Holding,
    Standing,
    StrategyRules,
    adjusted,
    exits_of,
    exposure_of,
    top3_cap,
)

D = Decimal
EXITS = ExitRules(stop_loss=0.08, take_profit=0.20, trailing_stop=0.10, time_stop=30, cooldown=5)
BREAKERS = BreakerRules(0.15, 0.80, 5, 0.30, 0.40, 21)
RAMP = ["0.01", "0.05", "0.25", "1"]
RULES = StrategyRules(EXITS, BREAKERS, "0.30", "0.40", "0.7", "0.40", RAMP, 5, 3600)  # type: ignore[arg-type]
CALM = Standing(drawdown=D(0), nav_over_initial=D(1), losing_days=0, volatility=D("0.15"))
NAMES = tuple("ABCDEF")


def facts(sectors: str = "xyzxyz", pairs: tuple[str, ...] = ()) -> dict[str, NameFacts]:
    """Return what is known of the names; a pair such as "AB" is one bet."""
    return {
        name: NameFacts(
            None,
            None,
            None,
            None,
            sector,
            frozenset(other for pair in pairs if name in pair for other in pair if other != name),
        )
        for name, sector in zip(NAMES, sectors, strict=True)
    }


books = st.dictionaries(st.sampled_from(NAMES), st.decimals(0, "0.5", places=4), min_size=1).filter(
    lambda book: sum(book.values()) <= 1
)
pairs = st.lists(st.sampled_from(("AB", "BC", "AF", "DE", "CD")), unique=True).map(tuple)


@given(weights=books, sectors=st.text("xyz", min_size=6, max_size=6), one_bet=pairs)
def test_after_the_rules_each_of_them_holds_and_no_target_grew(
    weights: dict[str, Decimal], sectors: str, one_bet: tuple[str, ...]
) -> None:
    known = facts(sectors, one_bet)
    found = adjusted(weights, {}, D(1), (), known, RULES)
    after = found.weights
    assert all(0 <= after[name] <= weights[name] for name in weights)
    assert sum(sorted(after.values())[-3:]) <= RULES.max_top3
    for sector in "xyz":
        total = sum(w for name, w in after.items() if known[name].sector == sector)
        assert total <= RULES.max_sector
    for name, correlated in ((name, known[name].correlated) for name in after):
        assert correlated is not None
        together = after[name] + sum(after.get(other, D(0)) for other in correlated)
        assert together <= RULES.max_correlated
    replayed = dict(weights)
    for change in found.changes:
        assert replayed[change.symbol] == change.before > change.after
        replayed[change.symbol] = change.after
    assert replayed == after


def test_a_book_within_the_rules_is_left_alone() -> None:
    weights = {"A": D("0.15"), "B": D("0.1"), "C": D("0.15"), "D": D("0.1")}
    found = adjusted(weights, {}, D(1), (), facts(), RULES)
    assert (found.weights, found.changes) == (weights, ())


def test_a_name_of_which_nothing_is_known_is_one_bet_with_all() -> None:
    weights = {"A": D("0.15"), "B": D("0.15"), "C": D("0.15"), "Q": D("0.05")}
    found = adjusted(weights, {}, D(1), (), facts(), RULES)
    assert sum(found.weights.values()) <= D("0.40")
    assert {change.rule for change in found.changes} >= {"max_correlated"}


@pytest.mark.parametrize(
    ("price", "peak", "age", "rule"),
    [
        ("92.01", "100", 0, None),
        ("92", "100", 0, "stop_loss"),
        ("119.99", "120", 0, None),
        ("120", "120", 0, "take_profit"),
        ("99.01", "110", 0, None),
        ("99", "110", 0, "trailing_stop"),
        ("100", "100", 29, None),
        ("100", "100", 30, "time_stop"),
        ("100.01", "101", 30, None),
        ("NaN", "100", 0, "stop_loss"),
    ],
)
def test_a_position_is_left_at_the_price_or_age_that_says_so(
    price: str, peak: str, age: int, rule: str | None
) -> None:
    held = {"A": Holding(D(100), D(price), D(peak), age)}
    assert exits_of(held, EXITS).get("A") == rule
    after = adjusted({"A": D("0.1")}, held, D(1), (), facts(), RULES).weights["A"]
    assert after == (D("0.1") if rule is None else 0)


@pytest.mark.parametrize(
    ("change", "factor"),
    [
        ({}, "1"),
        ({"drawdown": D("0.15")}, "1"),
        ({"drawdown": D("0.1501")}, "0"),
        ({"nav_over_initial": D("0.8")}, "1"),
        ({"nav_over_initial": D("0.7999")}, "0"),
        ({"losing_days": 4}, "1"),
        ({"losing_days": 5}, "0"),
        ({"volatility": D("0.30")}, "1"),
        ({"volatility": D("0.3001")}, "0.5"),
        ({"volatility": D("0.4001")}, "0"),
        ({"volatility": D("NaN")}, "0"),
        ({"drawdown": D("NaN")}, "0"),
    ],
)
def test_the_breakers_leave_all_half_or_nothing(change: dict[str, Any], factor: str) -> None:
    standing = replace(CALM, **change)
    assert exposure_of(standing, BREAKERS) == D(factor)
    after = adjusted({"A": D("0.2")}, {}, D(factor), (), facts(), RULES).weights["A"]
    assert after == D("0.2") * D(factor)


@given(st.lists(st.decimals(0, 1, places=3), max_size=6), st.decimals("0.01", 1, places=3))
def test_the_cap_of_the_three_largest_is_the_largest_that_holds(
    weights: list[Decimal], most: Decimal
) -> None:
    def three(cap: Decimal) -> Decimal:
        return sum(sorted((min(weight, cap) for weight in weights), reverse=True)[:3], D(0))

    cap = top3_cap(weights, most)
    assert three(cap) <= most + D("1e-20")
    if cap < max(weights, default=D(0)):
        assert three(cap + D("0.0001")) > most


def test_a_policy_grows_stage_by_stage_to_all_of_the_capital() -> None:
    shares = [RULES.share(stage) for stage in (-1, 0, 1, 2, 3, 4)]
    assert shares == [D(s) for s in ("0.01", "0.01", "0.05", "0.25", "1", "1")]


def test_a_name_that_was_left_a_short_while_ago_is_not_entered_again() -> None:
    found = adjusted({"A": D("0.1"), "B": D("0.1")}, {}, D(1), {"A", "F"}, facts(), RULES)
    assert found.weights == {"A": D(0), "B": D("0.1")}
    assert [(one.symbol, one.rule) for one in found.changes] == [("A", "cooldown")]


@pytest.mark.parametrize("ramp", [[], ["0.5"], ["0.5", "0.2", "1"], ["0", "1"], ["1", "1"], ["x"]])
def test_a_ramp_rises_from_something_to_everything(ramp: list[str]) -> None:
    with pytest.raises(ValueError, match="ramp"):
        StrategyRules(EXITS, BREAKERS, "0.3", "0.4", "0.7", "0.4", ramp, 5, 3600)  # type: ignore[arg-type]
