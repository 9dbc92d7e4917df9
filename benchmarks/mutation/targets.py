"""Which modules are given mistakes, and which tests have to find them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum
from typing import TypeVar

from benchmarks.mutation.operators import OPERATORS, Operator, limit_named, move_added
from risk.gateway.limits import GatewayLimits
from risk.gateway.stored import LEGAL, LEGAL_DECISION

State = TypeVar("State", bound=Enum)


@dataclass(frozen=True, slots=True)
class Target:
    """Some modules and their tests.

    Args:
        name: of the target.
        modules: names of the modules, each with the functions that are meant; none are all.
        tests: arguments of pytest: files, and what of them is left out.
    """

    name: str
    modules: Mapping[str, frozenset[str]]
    tests: tuple[str, ...]


ALL: frozenset[str] = frozenset()
# What moves decisions, orders and the latch; the rest of the writer keeps rows as they are given.
_MOVES = (
    "insert_decision", "set_decision", "insert_orders", "set_order", "_check_move", "add_fill",
    "_book", "set_positions", "set_latch", "start_latch", "_latch", "_order_with_doubt",
)  # fmt: skip
# Left out: what reads the source on the disk or starts another interpreter, and so cannot see a
# mistake that is in the process alone; and the one test that looks at the clock on the wall.
_BLIND = "no_bypass or neither_torch or fraction_of_a_millisecond"

TARGETS = (
    Target(
        "checks",
        {
            f"risk.checks.{name}": ALL
            for name in ("arithmetic", "prices", "order", "gate", "portfolio", "decision", "judge")
        },
        ("tests/risk/checks", "risk/checks", "-k", f"not ({_BLIND})"),
    ),
    Target(
        "orders",
        {
            "risk.gateway.records": ALL,
            "risk.gateway.stored": ALL,
            "risk.gateway.writer": frozenset(f"Writer.{name}" for name in _MOVES),
        },
        (
            "tests/risk/gateway/test_order_states.py",
            "tests/risk/gateway/test_ledger.py",
            "-k",
            "not postgresql",
        ),
    ),
)


def operators() -> tuple[Operator, ...]:
    """Return every mistake that is made."""
    limits = frozenset(item.name for item in fields(GatewayLimits))
    moves = (move_added(_names(LEGAL)), move_added(_names(LEGAL_DECISION)))
    return (*OPERATORS, limit_named(limits), *moves)


def _names(legal: Mapping[State, frozenset[State]]) -> dict[str, frozenset[str]]:
    return {one.name: frozenset(other.name for other in legal[one]) for one in legal}
