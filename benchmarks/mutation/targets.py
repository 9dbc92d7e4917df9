"""Which modules are given mistakes, and which tests have to find them."""

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
        modules: names of the modules.
        tests: arguments of pytest: files, and what of them is left out.
    """

    name: str
    modules: tuple[str, ...]
    tests: tuple[str, ...]


# Left out: what reads the source on the disk or starts another interpreter, and so cannot see a
# mistake that is in the process alone; and the one test that looks at the clock on the wall.
_BLIND = "way_around or neither_torch or fraction_of"

TARGETS = (
    Target(
        "checks",
        tuple(
            f"risk.checks.{name}"
            for name in ("arithmetic", "prices", "order", "gate", "portfolio", "decision", "judge")
        ),
        ("tests/risk/checks", "-k", f"not ({_BLIND})"),
    ),
    Target(
        "orders",
        ("risk.gateway.records", "risk.gateway.stored", "risk.gateway.writer"),
        ("tests/risk/gateway/test_ledger.py", "-k", "not postgresql"),
    ),
)


def operators() -> tuple[Operator, ...]:
    """Return every mistake that is made."""
    limits = frozenset(item.name for item in fields(GatewayLimits))
    states = tuple(state.name for state in OrderState)
    decisions = tuple(state.name for state in DecisionState)
    return (*OPERATORS, limit_named(limits), move_added(states), move_added(decisions))
