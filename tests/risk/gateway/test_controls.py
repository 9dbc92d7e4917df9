"""docs/controls.md says what the code does."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from risk.gateway.controls import page
from risk.gateway.limits import RULES, GatewayLimits, limits_from_record
from risk.gateway.verdict import CONTROLS, ReasonCode

ROOT = Path(__file__).parents[3]
MANDATES = ("conservative", "balanced", "aggressive")


def limits(name: str) -> GatewayLimits:
    """Return the limits of a file of conf/gateway/, on top of what it starts from."""
    values: dict[str, Any] = {}
    for part in ("balanced", name):
        read = yaml.safe_load((ROOT / "conf" / "gateway" / f"{part}.yaml").read_text())
        values |= {key: value for key, value in read.items() if key != "defaults"}
    return limits_from_record(values)


def test_the_page_is_what_the_code_says() -> None:
    written = (ROOT / "docs" / "controls.md").read_text()
    assert page({name: limits(name) for name in MANDATES}) == written


def test_every_control_has_a_reason_except_that_there_is_no_bypass() -> None:
    assert set(CONTROLS) - {code.control for code in ReasonCode} == {40}
    assert list(CONTROLS) == list(range(1, 42))


def test_every_limit_belongs_to_a_control_and_every_control_with_a_number_has_one() -> None:
    names = [item.name for item in dataclasses.fields(GatewayLimits)]
    assert list(RULES) == names
    assert {control for rule in RULES.values() for control in rule.controls} <= set(CONTROLS)


@pytest.mark.parametrize("code", ReasonCode)
def test_a_reason_is_told_in_words_that_no_other_reason_has(code: ReasonCode) -> None:
    assert [item for item in ReasonCode if item.text == code.text] == [code]
    assert "|" not in code.text
