"""The same kills and the same bad answers against three ways to send orders.

Of each decision's five orders some are answered wrongly, and the process is killed around some: the
plan is drawn once and is the same for all ways. A caller that asks again after a crash is part of
each. Kills are real SIGKILLs, the exchange and its client real ones.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.crashes.cases import Case
from benchmarks.crashes.faults import LOST, on_order
from benchmarks.crashes.killing import Mother, workplace
from benchmarks.crashes.points import POST
from benchmarks.crashes.venue import ORDERS
from benchmarks.measure import Result

DECISIONS, SEED = 300, 1
PATHS = {
    "submit_then_persist": "submit, then persist",
    "error_is_rejection": "an error is a rejection",
    "gateway": "the gateway",
}
KINDS = ("lost", "duplicated", "misbooked", "unplanned")


def run(decisions: int = DECISIONS, seed: int = SEED) -> Result:
    """Carry out so many decisions by each way.

    Args:
        decisions: of five orders each.
        seed: of kills and bad answers.
    """
    cases = plan(decisions, seed)
    with workplace() as folder:
        totals = {path: _tried(path, cases, folder) for path in PATHS}
    figures: dict[str, object] = {
        "decisions": decisions,
        "orders": decisions * ORDERS,
        "seed": seed,
    }
    for path, total in totals.items():
        figures |= {f"{path}_{name}": total[name] for name in ("wrong", *KINDS, "kills", "failed")}
    rows = tuple(
        (
            name,
            f"{totals[path]['wrong']} ({totals[path]['wrong'] / decisions:.0%})",
            *(str(totals[path][kind]) for kind in KINDS[:3]),
            str(totals[path]["kills"]),
        )
        for path, name in PATHS.items()
    )
    heads = ("way", "decisions wrong", "orders lost", "duplicated", "mis-booked", "kills")
    return Result("orders", figures, heads, rows)


def plan(decisions: int, seed: int) -> list[Case]:
    """Return what happens to each decision: one or two kills, none to two bad answers."""
    random = Random(seed)
    cases = []
    for _ in range(decisions):
        ends = tuple(
            f"order #{random.randint(1, ORDERS)} {random.choice(POST)}"
            for _ in range(random.choice((1, 1, 2)))
        )
        hit = random.sample(range(1, ORDERS + 1), random.choice((0, 1, 2)))
        cases.append(Case(ends, tuple(on_order(random.choice(LOST), number) for number in hit)))
    return cases


def _tried(path: str, cases: Sequence[Case], folder: Path) -> Counter[str]:
    """Return how many orders and decisions ended wrongly by one way."""
    total: Counter[str] = Counter()
    mother = Mother(folder / path)
    for case in cases:
        found: dict[str, Any] = mother.run(path=path, ends=case.ends, faults=case.faults)
        wrong = {kind: len(lines) for kind, lines in found.get("wrong", {}).items()}
        total.update(wrong)
        total["failed"] += "failed" in found
        total["wrong"] += "failed" in found or any(wrong.values())
        total["kills"] += found["killed"]
    mother.close()
    return total
