"""`python -m benchmarks.mutation`: how many mistakes in checks and order states the tests find."""

import argparse
import importlib
import json
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.mutation.mutants import Mutant, mutants
from benchmarks.mutation.session import NO_END, Outcome, tried
from benchmarks.mutation.targets import TARGETS, Target, operators

ROOT = Path(__file__).resolve().parents[2]
LEAST = 0.95  # of the mistakes that are none by another name


def main() -> None:
    """Try every mutant, print the survivors and one line of JSON; fail below the wanted score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", help="only these; all of them if none is named")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, help="a file for every mutant and what found it")
    asked = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("benchmarks").setLevel(logging.INFO)
    os.environ["CI"] = "true"  # drawn cases are the same each time
    started = time.monotonic()
    outcomes = [
        outcome for target in TARGETS for outcome in _of(target, asked.modules, asked.workers)
    ]
    summary = _summary(outcomes, whole=not asked.modules)
    summary["seconds"] = round(time.monotonic() - started, 1)
    if asked.out is not None:
        told = [{"mutant": str(one.mutant), "killer": one.killer} for one in outcomes]
        asked.out.write_text(json.dumps(summary | {"mutants": told}, indent=1) + "\n")
    print(json.dumps(summary))
    sys.exit(0 if summary["score"] >= LEAST and not summary["stale_equivalents"] else 1)


def _of(target: Target, modules: Sequence[str], workers: int) -> list[Outcome]:
    """Try the mutants of a target's modules that were asked for."""
    wanted = [name for name in target.modules if not modules or name in modules]
    made: list[Mutant] = []
    for name in wanted:
        file = importlib.import_module(name).__file__
        assert file is not None, f"{name} is a file"
        meant = target.modules[name]
        found = mutants(name, Path(file).read_text(), operators())
        made += [one for one in found if not meant or one.within in meant]
    if not made:
        return []
    started = time.monotonic()
    outcomes = tried(made, target.tests, ROOT, workers).outcomes
    print(f"{target.name}: {len(made)} mutants in {time.monotonic() - started:.0f} s", flush=True)
    return outcomes


def _summary(outcomes: Sequence[Outcome], *, whole: bool) -> dict[str, Any]:
    """Return the figures, and print the survivors.

    Args:
        outcomes: of the mutants.
        whole: of all modules: only then an equivalent that was not made is a stale one.
    """
    listed = yaml.safe_load(Path(__file__).with_name("equivalent.yaml").read_text()) or []
    equivalents = {_key(one) for one in listed}
    survivors = [one for one in outcomes if one.survived]
    excused = [one for one in survivors if _identity(one.mutant) in equivalents]
    for one in survivors:
        if one not in excused:
            print(f"SURVIVED {one.mutant}", flush=True)
    counted = len(outcomes) - len(excused)
    met = {_identity(one.mutant) for one in excused}
    return {
        "mutants": len(outcomes),
        "killed": len(outcomes) - len(survivors),
        "survived": len(survivors) - len(excused),
        "equivalent": len(excused),
        "without_end": sum(one.killer == NO_END for one in outcomes),
        "score": round((len(outcomes) - len(survivors)) / counted, 4) if counted else 0.0,
        "stale_equivalents": sorted(equivalents - met) if whole else [],
        "modules": _by_module(outcomes),
    }


def _by_module(outcomes: Sequence[Outcome]) -> dict[str, list[int]]:
    """Return [killed, mutants] by module."""
    counts: dict[str, list[int]] = {}
    for one in outcomes:
        count = counts.setdefault(one.mutant.module, [0, 0])
        count[0] += not one.survived
        count[1] += 1
    return counts


def _key(listed: dict[str, str]) -> str:
    return " | ".join(listed[name] for name in ("module", "within", "kind", "before", "after"))


def _identity(mutant: Mutant) -> str:
    """Return what a mutant is known by, whatever line it stands on."""
    return " | ".join((mutant.module, mutant.within, mutant.kind, mutant.before, mutant.after))


if __name__ == "__main__":
    main()
