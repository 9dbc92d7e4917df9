"""Limits refuse values that mean nothing."""

import dataclasses
import math

import pytest

from risk.limits import Limits

VALID = Limits(0.2, 0.4, 0.4, 0.0, 1.0, 1.0, 0.15)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_weight", 0.0),
        ("max_weight", 1.01),
        ("max_sector", -0.1),
        ("max_top3", 2.0),
        ("max_gross", 1.5),
        ("min_cash", 1.0),
        ("min_cash", -0.01),
        ("max_turnover", 0.0),
        ("max_turnover", 2.1),
        ("max_volatility", 0.0),
        ("max_volatility", math.inf),
        *((field.name, math.nan) for field in dataclasses.fields(Limits)),
    ],
)
def test_a_value_outside_its_range_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be .*was {value}"):
        dataclasses.replace(VALID, **{name: value})


def test_the_tighter_of_gross_and_cash_floor_decides_what_may_be_invested() -> None:
    assert dataclasses.replace(VALID, min_cash=0.1).max_invested == 0.9
    assert dataclasses.replace(VALID, min_cash=0.1, max_gross=0.5).max_invested == 0.5
