"""Which modules are given mistakes, and which tests have to find them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from benchmarks.mutation.operators import OPERATORS, Operator, limit_named, move_added
from risk.gateway.limits import GatewayLimits
from risk.gateway.records import OrderState
from risk.gateway.stored import DecisionState


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
_BLIND = "way_around or neither_torch or fraction_of"

TARGETS = (
    Target(
        "checks",
        {
            f"risk.checks.{name}": ALL
            for name in ("arithmetic", "prices", "order", "gate", "portfolio", "decision", "judge")
        },
        ("tests/risk/checks", "-k", f"not ({_BLIND})"),
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
    states = tuple(state.name for state in OrderState)
    decisions = tuple(state.name for state in DecisionState)
    return (*OPERATORS, limit_named(limits), move_added(states), move_added(decisions))
