"""Breakers mean the same for floats, arrays and tensors, and NaN stops."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from risk.breakers import BreakerRules, breaker_exposure

NONE = BreakerRules(None, None, None, None, None, None)
ALL = BreakerRules(0.20, 0.60, 8, 0.30, 0.50, 21)

# drawdown, NAV / initial, losing days, proxy volatility; factor under ALL
CASES = [
    ((0.0, 1.0, 0.0, 0.15), 1.0),
    ((0.20, 0.60, 7.0, 0.30), 1.0),  # exactly at every limit
    ((0.21, 1.0, 0.0, 0.15), 0.0),
    ((0.0, 0.59, 0.0, 0.15), 0.0),
    ((0.0, 1.0, 8.0, 0.15), 0.0),
    ((0.0, 1.0, 0.0, 0.31), 0.5),
    ((0.0, 1.0, 0.0, 0.50), 0.5),
    ((0.0, 1.0, 0.0, 0.51), 0.0),
    ((0.21, 1.0, 0.0, 0.31), 0.0),
    ((math.nan, 1.0, 0.0, 0.15), 0.0),
    ((0.0, math.nan, 0.0, 0.15), 0.0),
    ((0.0, 1.0, math.nan, 0.15), 0.0),
    ((0.0, 1.0, 0.0, math.nan), 0.0),
]


@pytest.mark.parametrize(("case", "factor"), CASES)
def test_the_factor_is_what_the_rules_say(case: tuple[float, ...], factor: float) -> None:
    assert breaker_exposure(*case, ALL) == factor


@pytest.mark.parametrize(
    "rules",
    [ALL, NONE, *(dataclasses.replace(ALL, **{f.name: None}) for f in dataclasses.fields(ALL))],
)
def test_floats_arrays_and_tensors_agree(rules: BreakerRules) -> None:
    columns = np.array([case for case, _ in CASES]).T
    arrays = breaker_exposure(*columns, rules)
    tensors = breaker_exposure(*torch.from_numpy(columns), rules)
    floats = [breaker_exposure(*case, rules) for case, _ in CASES]
    assert arrays.tolist() == tensors.tolist() == floats


def test_each_rule_alone_trips_on_its_own_measure_only() -> None:
    calm, wild = (0.0, 1.0, 0.0, 0.15), (0.5, 0.5, 10.0, 0.9)
    measured = ("max_drawdown", "capital_floor", "losing_days", "volatility_stop")
    for position, name in enumerate(measured):
        rules = dataclasses.replace(NONE, **{name: getattr(ALL, name)})
        others = [*wild]
        others[position] = calm[position]
        assert rules.active
        assert breaker_exposure(*wild, rules) == 0.0
        assert breaker_exposure(*others, rules) == 1.0


def test_caution_alone_halves_the_exposure_even_where_the_volatility_is_unknown() -> None:
    rules = dataclasses.replace(NONE, volatility_reduce=0.3)
    assert breaker_exposure(0.0, 1.0, 0, 0.9, rules) == 0.5
    assert breaker_exposure(0.0, 1.0, 0, math.nan, rules) == 0.5


def test_without_a_rule_the_exposure_stays() -> None:
    assert not NONE.active
    assert breaker_exposure(math.nan, math.nan, 99, math.nan, NONE) == 1.0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_drawdown", 0.0),
        ("max_drawdown", 1.0),
        ("capital_floor", 1.2),
        ("losing_days", 0),
        ("volatility_reduce", 0.0),
        ("volatility_reduce", 0.6),
        ("volatility_stop", math.nan),
        ("cooldown", -1),
    ],
)
def test_a_meaningless_rule_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must .*was {value}"):
        dataclasses.replace(ALL, **{name: value})
