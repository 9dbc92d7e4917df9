"""The page that says what the gateway refuses: docs/controls.md, written from the code.

`python -m risk.gateway.controls > docs/controls.md` writes it again.
"""

import sys
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

from risk.gateway.limits import RULES, GatewayLimits, limits_from_record
from risk.gateway.verdict import CONTROLS, Effect, ReasonCode, Scope

CONF = Path(__file__).resolve().parents[2] / "conf" / "gateway"
MANDATES = ("conservative", "balanced", "aggressive")
_BASE = "balanced"  # what the other files start from

_HEAD = """\
# Controls

Written from `risk/gateway/verdict.py`, `risk/gateway/limits.py` and `conf/gateway/`; a test
compares. Every control is always on. A value that is missing, stale or no number breaks the rule
that needs it. Fractions are of NAV where nothing else is said.

## What follows

| effect | the gateway will |
| --- | --- |
"""
_SCOPES = """
## Whom it stops

An order reduces if, with every open order of its side filled before it, it makes the position
smaller and does not turn its sign. Identity, price, session and permission stop every order.

| scope | stops |
| --- | --- |
"""
_REASONS = """
## Reasons

| control | reason code | meaning | scope | effect |
| --- | --- | --- | --- | --- |
"""
_LIMITS = """
## Limits

| control | limit | {mandates} |
| --- | --- | {rules} |
"""
_NO_CODE = {40: "no code: a test reads the source for a way around"}


def configured() -> dict[str, GatewayLimits]:
    """Return the limits of every mandate in conf/gateway/."""
    return {name: _limits_of(name) for name in MANDATES}


def page(limits: Mapping[str, GatewayLimits]) -> str:
    """Return docs/controls.md.

    Args:
        limits: by the name of their file in conf/gateway/.
    """
    mandates = " | ".join(f"`{name}`" for name in limits)
    rules = " | ".join("---:" for _ in limits)
    return "".join(
        (
            _HEAD,
            *(f"| {effect.name} | {effect.value} |\n" for effect in Effect),
            _SCOPES,
            *(f"| {scope.name} | {scope.value} |\n" for scope in Scope),
            _REASONS,
            *_reasons(),
            _LIMITS.format(mandates=mandates, rules=rules),
            *_limits(limits),
        )
    )


def _limits_of(mandate: str) -> GatewayLimits:
    values: dict[str, Any] = {}
    for part in (_BASE, mandate):
        read = yaml.safe_load((CONF / f"{part}.yaml").read_text(encoding="utf-8"))
        values |= {key: value for key, value in read.items() if key != "defaults"}
    return limits_from_record(values)


def _reasons() -> Iterator[str]:
    for control, title in CONTROLS.items():
        codes = [code for code in ReasonCode if code.control == control]
        for code in codes:
            yield (
                f"| {control} {title} | `{code.name}` | {code.text} "
                f"| {code.scope.name} | {code.effect.name} |\n"
            )
        if not codes:
            yield f"| {control} {title} | | {_NO_CODE[control]} | | |\n"


def _limits(limits: Mapping[str, GatewayLimits]) -> Iterator[str]:
    for name, rule in RULES.items():
        values = " | ".join(_shown(getattr(item, name)) for item in limits.values())
        numbers = ", ".join(str(control) for control in rule.controls)
        yield f"| {numbers} | `{name}` | {values} |\n"


def _shown(value: Decimal | int) -> str:
    return format(value, "f") if isinstance(value, Decimal) else str(value)


if __name__ == "__main__":
    sys.stdout.write(page(configured()))
