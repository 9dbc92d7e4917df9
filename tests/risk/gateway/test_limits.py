"""Limits refuse what means nothing, survive JSON exactly, and know what is looser."""

import dataclasses
import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.errors import InputError
from risk.gateway.limits import RULES, GatewayLimits, limits_from_record, loosened, tightest

D = Decimal
NAMES = list(RULES)
Case = Any  # GatewayCase of conftest.py


def outside(name: str) -> list[Decimal | int]:
    """Return the nearest values that a limit must not have."""
    rule = RULES[name]
    step = 1 if isinstance(rule.least, int) and _is_count(name) else D("0.0000001")
    return [rule.least - step if rule.includes_least else rule.least, rule.most + step]


def _is_count(name: str) -> bool:
    return {item.name: item.type for item in dataclasses.fields(GatewayLimits)}[name] is int


@pytest.mark.parametrize("name", NAMES)
def test_a_value_outside_its_range_is_refused_by_name(case: Case, name: str) -> None:
    for value in outside(name):
        with pytest.raises(ValueError, match=f"{name} must be"):
            replace(case.limits, **{name: value})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", ["NaN", "Infinity", "-1", "", "ten", None, True, [1]])
def test_what_is_no_number_is_refused_by_name(case: Case, name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        replace(case.limits, **{name: value})


@pytest.mark.parametrize("name", [name for name in NAMES if _is_count(name)])
def test_a_count_is_a_whole_number(case: Case, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a whole number"):
        replace(case.limits, **{name: 2.0})


def test_an_alarm_comes_before_the_halt(case: Case) -> None:
    with pytest.raises(ValueError, match="clock_alert_s must be at most"):
        replace(case.limits, clock_alert_s="2")


def test_no_limit_can_be_switched_off(case: Case) -> None:
    """The loosest limits that there can be still refuse an order of a billion shares."""
    for name, rule in RULES.items():
        assert rule.most < D("Infinity"), name


def test_a_float_is_the_number_that_was_written(case: Case) -> None:
    assert replace(case.limits, max_weight=0.1).max_weight == D("0.1")


def test_limits_survive_json_exactly(case: Case) -> None:
    text = json.dumps(case.limits.record())
    assert limits_from_record(json.loads(text)) == case.limits
    assert limits_from_record(json.loads(text)).version == case.limits.version


def test_the_version_is_of_the_values_not_of_how_they_are_written(case: Case) -> None:
    assert replace(case.limits, max_weight="0.250").version == case.limits.version
    assert replace(case.limits, max_weight="0.2500001").version != case.limits.version


def test_every_field_is_part_of_the_version(case: Case) -> None:
    wide = replace(case.limits, max_clock_skew_s="60")
    for name, rule in RULES.items():
        old = getattr(wide, name)
        new = rule.most if old != rule.most else (rule.least + old) / 2
        changed = replace(wide, **{name: int(new) if _is_count(name) else new})
        assert changed.version != wide.version, name


@pytest.mark.parametrize("change", ["missing", "unknown"])
def test_a_record_has_all_limits_and_no_other(case: Case, change: str) -> None:
    record = dict(case.limits.record())
    if change == "missing":
        del record["max_weight"]
    else:
        record["max_wieght"] = "1"
    with pytest.raises(InputError, match=r"limits: max_w"):
        limits_from_record(record)


fields = st.sampled_from([name for name in NAMES if not name.endswith("skew_s")])


@given(st.lists(st.tuples(fields, st.integers(0, 100)), max_size=6))
def test_the_tightest_of_two_loosens_neither(case: Case, drawn: list[tuple[str, int]]) -> None:
    values = {}
    for name, percent in drawn:
        rule = RULES[name]
        value = rule.least + (rule.most - rule.least) * D(max(percent, 1)) / 100
        values[name] = max(int(value), 1) if _is_count(name) else value
    values.pop("clock_alert_s", None)
    values.pop("loosening_persons", None)
    values.pop("quantity_decimals", None)
    new = replace(case.limits, **values)
    both = tightest(case.limits, new)
    assert loosened(case.limits, both) == ()
    assert loosened(new, both) == ()
    assert set(loosened(case.limits, new)) <= set(values)
