"""Mistakes are made where they can matter, and a test that does not find one is told of."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.mutation.mutants import mutants
from benchmarks.mutation.operators import limit_named, move_added
from benchmarks.mutation.targets import TARGETS, operators
from risk.gateway.stored import LEGAL

ROOT = Path(__file__).parents[2]
SAMPLE = '''
LIMIT: int = 3
TABLE = (LIMIT, LIMIT + 1)

def breaks(value: float, limit: int = 5) -> bool:
    """Return whether a value is too large."""
    return not value <= limit

class Book:
    @property
    def full(self) -> bool:
        return breaks(TABLE[1], TABLE[0])
'''
WEAK = """
import sample

def test_a_large_value_breaks_and_a_small_one_does_not():
    assert sample.breaks(6, 5) and not sample.breaks(4, 5)
"""
STRONG = """
import sample
from sample import breaks

def test_edges_and_what_is_no_number():
    assert breaks(6, 5) and not breaks(5, 5) and breaks(float("nan"), 5)

def test_the_limit():
    assert sample.LIMIT == 3 and sample.TABLE == (3, 4)

def test_the_book():
    assert sample.Book().full
"""
TRIAL = """
import json, sys
from pathlib import Path
sys.path.insert(0, ".")
import sample
from benchmarks.mutation.mutants import mutants
from benchmarks.mutation.operators import OPERATORS
from benchmarks.mutation.session import tried
made = list(mutants("sample", Path("sample.py").read_text(), OPERATORS))
found = tried(made, ["test_sample.py"], Path.cwd(), 1).outcomes
print(json.dumps([[one.mutant.kind, one.mutant.within, one.killer] for one in found]))
"""


def trial(folder: Path, test: str) -> list[tuple[str, str, str]]:
    """Return (kind, place, killer) of every mutant of the sample."""
    (folder / "sample.py").write_text(SAMPLE)
    (folder / "test_sample.py").write_text(test)
    done = subprocess.run(
        [sys.executable, "-c", TRIAL], cwd=folder, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return [tuple(one) for one in json.loads(done.stdout.splitlines()[-1])]


def test_a_weak_test_lets_mistakes_survive_and_says_which(tmp_path: Path) -> None:
    found = trial(tmp_path, WEAK)
    survived = {(kind, within) for kind, within, killer in found if not killer}
    assert {("boundary", "breaks"), ("blind", "breaks"), ("number", "LIMIT")} <= survived
    killed = {kind: killer for kind, within, killer in found if killer and within == "breaks"}
    assert "test_a_large_value" in killed["not"]


def test_a_strong_test_finds_every_mistake_wherever_it_was_imported_to(tmp_path: Path) -> None:
    found = trial(tmp_path, STRONG)
    assert len(found) >= 9
    assert [one for one in found if not one[2]] == []
    assert {within for _, within, _ in found} == {"LIMIT", "TABLE", "breaks", "Book.full"}


def test_tests_that_fail_without_a_mistake_prove_nothing(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="without any mistake a test fails"):
        trial(tmp_path, "def test_it():\n    assert False\n")


def test_a_mutant_is_one_changed_place_of_its_module() -> None:
    made = list(mutants("sample", SAMPLE, operators()))
    texts = [ast.unparse(one.statement) for one in made]
    assert len(set(texts)) == len(texts)
    originals = {ast.unparse(part) for part in ast.parse(SAMPLE).body}
    assert not originals & set(texts)
    assert not [one for one in made if "5" in one.before]  # a default value is left alone


def test_a_limit_that_is_not_named_and_a_move_too_many_are_mistakes() -> None:
    source = 'def check() -> str:\n    return "max_weight"\n'
    (unnamed,) = mutants("m", source, [limit_named(frozenset({"max_weight"}))])
    assert unnamed.after == "''"
    states = Path(ROOT / "risk" / "gateway" / "stored.py").read_text()
    legal = {one.name: frozenset(other.name for other in LEGAL[one]) for one in LEGAL}
    added = [one.kind for one in mutants("m", states, [move_added(legal)])]
    assert len(added) == len(legal) ** 2 - sum(map(len, legal.values()))
    assert "move filled->in_flight" in added and "move unknown->intent" in added


def test_what_is_tried_is_every_check_and_every_move_of_an_order() -> None:
    names = {name for target in TARGETS for name in target.modules}
    checks = {f"risk.checks.{path.stem}" for path in (ROOT / "risk" / "checks").glob("*.py")}
    assert checks - {"risk.checks.__init__"} <= names
    assert {"risk.gateway.records", "risk.gateway.stored", "risk.gateway.writer"} <= names
