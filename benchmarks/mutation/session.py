"""One pytest session, collected once: every mutant is tried in a fork of it.

pytest has no way to run its items again and again, but a plugin may take the place of its loop.
In each fork the tests run in the order of their past kills, until the first that fails.
"""

import ast
import logging
import os
import resource
import signal
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol

from benchmarks.mutation.mutants import Mutant
from benchmarks.mutation.transplant import transplant

logger = logging.getLogger(__name__)

# A mutant without an end counts as found, and is told of. It is its processor time that counts: the
# machine may have other things to do, or be asleep.
PATIENCE_CPU_S = 60
PATIENCE_S = 1800
NO_END = "none: it died or had no end"
_SURVIVED, _BROKEN = 65_535, 65_534  # instead of the number of a test


@dataclass(slots=True)
class Outcome:
    """What became of a mutant.

    Args:
        mutant: that was tried.
        killer: id of the test that failed, or `NO_END`; empty where it survived.
    """

    mutant: Mutant
    killer: str

    @property
    def survived(self) -> bool:
        """Return whether no test failed."""
        return not self.killer


@dataclass
class Trial:
    """The plugin that tries mutants instead of running the tests once.

    Args:
        mutants: to be tried.
        root: of the repository.
        workers: forks at a time.
    """

    mutants: Sequence[Mutant]
    root: Path
    workers: int
    outcomes: list[Outcome] = field(default_factory=list)
    problem: str = ""

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Try every mutant; returning true tells pytest that its loop is done."""
        if session.testsfailed:
            self.problem = "the tests cannot be collected"
            return True
        items = session.items
        failed = self._wait(self._forked(None, items, range(len(items))))
        if failed != _SURVIVED:
            self.problem = f"without any mistake a test fails: {self._name(failed, items)}"
            return True
        self._try_all(items)
        return True

    def _try_all(self, items: Sequence[pytest.Item]) -> None:
        kills: Counter[tuple[str, int]] = Counter()  # by function, and by all of them under ""
        running: dict[int, tuple[Mutant, int]] = {}  # by process: and where it writes to
        waiting = iter(self.mutants)
        mutant = next(waiting, None)
        while running or mutant is not None:
            if mutant is not None and len(running) < self.workers:
                process, told = self._forked(mutant, items, _order(mutant, items, kills))
                running[process] = mutant, told
                mutant = next(waiting, None)
                continue
            ended, _ = os.waitpid(-1, 0)
            tried, told = running.pop(ended)
            found = _heard(told)
            if found < len(items):
                kills.update([(_place(tried), found), ("", found)])
            self.outcomes.append(Outcome(tried, self._name(found, items)))
            if found == _SURVIVED:
                logger.info("survived so far: %s", tried)

    def _wait(self, started: tuple[int, int]) -> int:
        os.waitpid(started[0], 0)
        return _heard(started[1])

    def _name(self, found: int, items: Sequence[pytest.Item]) -> str:
        if found == _SURVIVED:
            return ""
        return items[found].nodeid if found < len(items) else NO_END

    def _forked(
        self, mutant: Mutant | None, items: Sequence[pytest.Item], order: Sequence[int]
    ) -> tuple[int, int]:
        """Start a fork; return its process id, and where it writes which test failed."""
        reads, writes = os.pipe()
        process = os.fork()
        if process:
            os.close(writes)
            return process, reads
        found = _BROKEN
        try:
            _silence()
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(PATIENCE_S)
            resource.setrlimit(resource.RLIMIT_CPU, (PATIENCE_CPU_S, PATIENCE_CPU_S))
            if mutant is not None:
                transplant(mutant, self.root)
            found = _first_failing(items, order)
        finally:  # nothing of the session above may go on in a fork
            os.write(writes, found.to_bytes(2))
            os._exit(0)


def _order(
    mutant: Mutant, items: Sequence[pytest.Item], kills: Mapping[tuple[str, int], int]
) -> list[int]:
    """Return the tests, the likeliest to find a mistake first.

    Those are the ones that found others in the same function, then those that are named after a
    reason or a limit that stands in it; what draws its cases comes last.
    """
    words = set(_words(mutant))

    def late(row: int) -> tuple[int, bool, bool, int]:
        item = items[row]
        drawn = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
        named = any(word in item.nodeid for word in words)
        return -kills[_place(mutant), row], drawn, not named, -kills["", row]

    return sorted(range(len(items)), key=late)


def _words(mutant: Mutant) -> Iterator[str]:
    """Yield the longer words in what a mutant changes: attributes and texts."""
    for node in ast.walk(mutant.statement):
        word = getattr(node, "attr", None) or getattr(node, "value", None)
        if isinstance(word, str) and len(word) > len("state") and word.isidentifier():
            yield word


def _place(mutant: Mutant) -> str:
    return f"{mutant.module}.{mutant.within}"


def _first_failing(items: Sequence[pytest.Item], order: Sequence[int]) -> int:
    following = [*order[1:], None]
    for row, after in zip(order, following, strict=True):
        nextitem = None if after is None else items[after]
        reports = runtestprotocol(items[row], log=False, nextitem=nextitem)
        if any(report.failed for report in reports):
            return row
    return _SURVIVED


def _silence() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)


def _heard(told: int) -> int:
    answer = os.read(told, 2)
    os.close(told)
    return int.from_bytes(answer) if answer else _BROKEN


def tried(mutants: Sequence[Mutant], tests: Sequence[str], root: Path, workers: int) -> Trial:
    """Try mutants against tests.

    Args:
        mutants: of modules that the tests import.
        tests: arguments of pytest.
        root: of the repository.
        workers: forks at a time.

    Raises:
        SystemExit: if the tests cannot be collected, or fail without any mistake.
    """
    trial = Trial(mutants, root, workers)
    options = [
        "-q",
        "--capture=no",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:timeout",
        "-p",
        "no:logging",
    ]
    pytest.main([*options, f"--rootdir={root}", *tests], plugins=[trial])
    if trial.problem or len(trial.outcomes) != len(mutants):
        raise SystemExit(trial.problem or "the tests could not be collected")
    return trial
