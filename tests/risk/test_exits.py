"""Exit rules mean the same for floats, arrays and tensors, and NaN leaves."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from risk import exits
from risk.exits import ExitRules, exit_now

NONE = ExitRules(None, None, None, None, None)
ALL = ExitRules(0.08, 0.20, 0.10, 30, 5)

# entry, price, peak, age
CASES = [
    (100.0, 100.0, 100.0, 0.0),
    (100.0, 93.0, 100.0, 3.0),
    (100.0, 91.0, 100.0, 3.0),
    (100.0, 119.0, 119.0, 10.0),
    (100.0, 121.0, 121.0, 10.0),
    (100.0, 105.0, 118.0, 10.0),
    (100.0, 107.0, 118.0, 10.0),
    (100.0, 99.0, 104.0, 29.0),
    (100.0, 99.0, 104.0, 30.0),
    (100.0, 101.0, 104.0, 90.0),
    (math.nan, 101.0, 104.0, 1.0),
    (100.0, math.nan, 104.0, 1.0),
    (100.0, 101.0, math.nan, 1.0),
]
LEAVES = [False, False, True, False, True, True, False, False, True, False, True, True, True]


@pytest.mark.parametrize(("case", "leaves"), list(zip(CASES, LEAVES, strict=True)))
def test_a_position_is_left_exactly_where_a_rule_says_so(
    case: tuple[float, ...], leaves: bool
) -> None:
    assert exit_now(*case, ALL) is leaves


@pytest.mark.parametrize(
    "rules",
    [
        NONE,
        ALL,
        dataclasses.replace(NONE, stop_loss=0.08),
        dataclasses.replace(NONE, take_profit=0.2),
        dataclasses.replace(NONE, trailing_stop=0.1),
        dataclasses.replace(NONE, time_stop=30),
    ],
)
def test_floats_arrays_and_tensors_agree(rules: ExitRules) -> None:
    columns = np.array(CASES).T
    arrays = exit_now(*columns, rules)
    tensors = exit_now(*torch.from_numpy(columns), rules)
    assert arrays.dtype == np.bool_
    assert tensors.dtype == torch.bool
    assert arrays.tolist() == tensors.tolist() == [exit_now(*case, rules) for case in CASES]


def test_without_a_rule_nothing_leaves_not_even_an_unknown_price() -> None:
    assert not NONE.active
    assert not any(exit_now(*case, NONE) for case in CASES)


@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("stop_loss", (128.0, 96.0, 128.0, 1.0)),
        ("take_profit", (128.0, 160.0, 160.0, 1.0)),
        ("trailing_stop", (64.0, 96.0, 128.0, 1.0)),
        ("time_stop", (128.0, 128.0, 128.0, 4.0)),
    ],
)
def test_touching_a_level_triggers_it(name: str, case: tuple[float, ...]) -> None:
    value = 4 if name == "time_stop" else 0.25
    rules = dataclasses.replace(NONE, **{name: value})
    assert rules.active
    assert exit_now(*case, rules)


@pytest.mark.parametrize("position", range(3))
def test_every_rule_leaves_when_what_it_reads_is_unknown(position: int) -> None:
    reads = {"stop_loss": (0, 1), "take_profit": (0, 1), "trailing_stop": (1, 2)}
    case = [100.0, 100.0, 100.0, 1.0]
    case[position] = math.nan
    for name, inputs in reads.items():
        rules = dataclasses.replace(NONE, **{name: 0.25})
        assert exit_now(*case, rules) is (position in inputs)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stop_loss", 0.0),
        ("stop_loss", 1.0),
        ("take_profit", 0.0),
        ("trailing_stop", -0.1),
        ("time_stop", 0),
        ("cooldown", -1),
        ("stop_loss", math.nan),
        ("take_profit", math.nan),
    ],
)
def test_a_meaningless_rule_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must .*was {value}"):
        dataclasses.replace(NONE, **{name: value})


# entry, shares before, shares after, price; average cost after
TRADES = [
    (0.0, 0.0, 10.0, 50.0, 50.0),  # opened
    (50.0, 10.0, 30.0, 80.0, 70.0),  # (500 + 1600) / 30
    (70.0, 30.0, 5.0, 90.0, 70.0),  # a sale keeps the average cost
    (70.0, 5.0, 0.0, 90.0, 0.0),  # closed
    (0.0, 0.0, 0.0, 90.0, 0.0),  # never held
]


def test_the_average_cost_follows_hand_computed_trades_in_every_kind() -> None:
    entry, before, after, price, expected = np.array(TRADES).T
    inputs = (entry, before, after, price)
    arrays = exits.next_entry(*inputs)
    tensors = exits.next_entry(*map(torch.from_numpy, inputs))
    floats = [exits.next_entry(*trade[:4]) for trade in TRADES]
    assert arrays.tolist() == tensors.tolist() == floats == expected.tolist()


shares = st.just(0.0) | st.floats(1e-9, 1e6)  # a billionth is the finest fraction traded


@given(st.floats(0.01, 1e4), st.floats(0.01, 1e4), shares, shares)
def test_the_average_cost_lies_between_old_cost_and_price(
    entry: float, price: float, before: float, after: float
) -> None:
    result = exits.next_entry(entry * (before > 0.0), before, after, price)
    if after == 0.0:
        assert result == 0.0
    elif before == 0.0:
        assert result == pytest.approx(price)
    else:
        slack = 1.0 + 1e-12
        assert min(entry, price) / slack <= result <= max(entry, price) * slack


def test_the_peak_starts_with_the_position_and_only_rises() -> None:
    peak = np.array([500.0, 120.0, 120.0, 120.0])
    before = np.array([0.0, 1.0, 1.0, 1.0])
    after = np.array([1.0, 1.0, 2.0, 0.0])
    price = np.array([100.0, 110.0, 130.0, 130.0])
    expected = [100.0, 120.0, 130.0, 0.0]  # opened, below its peak, a new peak, closed
    tensors = [torch.from_numpy(array) for array in (peak, before, after, price)]
    assert exits.next_peak(peak, before, after, price).tolist() == expected
    assert exits.next_peak(*tensors).tolist() == expected


def test_age_counts_sessions_after_the_entry() -> None:
    age, held, opened = 0.0, (1.0, 1.0), (0.0, 1.0)
    age = exits.next_age(age, *opened)
    assert age == 0.0
    age = exits.next_age(exits.next_age(age, *held), *held)
    assert age == 2.0
    assert exits.next_age(age, 1.0, 0.0) == 0.0


def test_a_cooldown_bars_exactly_its_sessions() -> None:
    left = exits.next_cooldown(0, True, 3)
    barred = 0
    while left > 0:
        barred += 1
        left = exits.next_cooldown(left, False, 3)
    assert barred == 3
    assert exits.next_cooldown(0, False, 3) == 0
    arrays = exits.next_cooldown(np.array([0, 2, 0]), np.array([True, False, False]), 3)
    tensors = exits.next_cooldown(torch.tensor([0, 2, 0]), torch.tensor([True, False, False]), 3)
    assert arrays.tolist() == tensors.tolist() == [3, 1, 0]
