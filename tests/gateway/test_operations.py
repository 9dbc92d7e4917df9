"""docs/operations.md says what the program does: alarms, codes, commands and settings are real."""

import logging
import re
from pathlib import Path

from cli.__main__ import VERBS
from cli.gateway import SUBVERBS
from market.compose import CONF
from risk.gateway.alarms import Alarm
from risk.gateway.verdict import Effect, ReasonCode

ROOT = Path(CONF).parent
PAGE = (ROOT / "docs" / "operations.md").read_text()


def test_every_alarm_stands_there_in_the_programs_own_words() -> None:
    block = PAGE.partition("<!-- alarms: begin -->\n")[2].partition("<!-- alarms: end -->")[0]
    told = block.strip().splitlines()[2:]
    assert told == [
        f"| `{one.name}` | {logging.getLevelName(one.value.level)} "
        f"| {one.value.text} | {one.value.act} |"
        for one in Alarm
    ]


def test_every_effect_of_a_reason_is_explained() -> None:
    rows = re.findall(r"^\| ([a-z, ]+) \|", PAGE, re.MULTILINE)
    told = {word for row in rows for word in row.split(", ")}
    assert {effect.name for effect in Effect} <= told


def test_every_code_that_is_named_exists() -> None:
    table = PAGE.partition("| code | most often means |")[2].partition("\n\n")[0]
    codes = {
        code
        for row in table.splitlines()[2:]
        for code in re.findall(r"`([a-z_]+)`", row.split("|")[1])
    }
    assert codes and codes <= set(ReasonCode.__members__)


def test_every_command_exists() -> None:
    verbs = set(re.findall(r"\btercet ([a-z-]+)\b", PAGE))
    assert {"gateway", "rebalance", "kill", "doctor", "serve"} <= verbs <= set(VERBS)
    subverbs = set(re.findall(r"\btercet gateway ([a-z]+)\b(?!=)", PAGE))
    assert {"arm", "accept", "reconcile", "verify", "limits", "ramp"} <= subverbs <= set(SUBVERBS)


def test_every_setting_that_is_named_exists() -> None:
    text = "\n".join(path.read_text() for path in CONF.rglob("*.yaml"))
    known = set(re.findall(r"^\s*([a-z_0-9]+):", text, re.MULTILINE))
    named = set(re.findall(r"`(?:service|control|strategy|alerts|serving\.desk)\.([a-z_]+)", PAGE))
    limits = {"open_buffer_s", "max_drawdown"}
    assert named and named | limits <= known, (named | limits) - known
