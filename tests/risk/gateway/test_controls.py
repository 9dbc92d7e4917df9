"""docs/controls.md says what the code does."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import hydra
import pytest

from risk.config import register
from risk.gateway.controls import CONF, MANDATES, configured, page
from risk.gateway.limits import RULES, GatewayLimits
from risk.gateway.verdict import CONTROLS, ReasonCode

ROOT = Path(__file__).parents[3]


def test_the_page_is_what_the_code_says() -> None:
    written = (ROOT / "docs" / "controls.md").read_text()
    assert page(configured()) == written


def test_the_command_writes_the_page_and_every_file_of_limits_is_a_column() -> None:
    command = [sys.executable, "-m", "risk.gateway.controls"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout == page(configured())
    assert {path.stem for path in CONF.glob("*.yaml")} == set(MANDATES)


@pytest.mark.parametrize("name", MANDATES)
def test_the_limits_on_the_page_are_those_that_are_composed(name: str) -> None:
    register()
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        composed = hydra.compose(overrides=[f"+gateway={name}"])
    built = hydra.utils.instantiate(composed, _convert_="object")["gateway"]
    assert built == configured()[name]


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
