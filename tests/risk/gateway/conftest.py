"""Ledgers on a real SQLite and a real PostgreSQL, and processes that may be killed."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from risk.gateway.audit import FileAnchor
from risk.gateway.ledger import Ledger

CHILD = Path(__file__).with_name("ledger_child.py")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the address of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    address: str = request.getfixturevalue("empty_postgres")
    return address


@pytest.fixture
def anchor(tmp_path: Path) -> FileAnchor:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return FileAnchor(folder / "anchor")


@pytest.fixture
def ledger(url: str, anchor: FileAnchor) -> Iterator[Ledger]:
    """Give a migrated ledger that nobody has acquired."""
    found = Ledger(url, anchor)
    found.migrate()
    yield found
    found.close()


@dataclass
class Child:
    """A process that keeps a ledger, and does one job for each line that it is told."""

    process: subprocess.Popen[str]

    def tell(self, **job: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()

    def hear(self) -> Any:
        """Return the answer to a job: what it returned, or the error's name and words."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the child is gone: {self.process.wait()}"
        return json.loads(line)

    def ask(self, **job: Any) -> Any:
        self.tell(**job)
        return self.hear()


@pytest.fixture
def child() -> Iterator[Callable[..., Child]]:
    """Start processes, under another command if wanted, and end them with the test."""
    started: list[Child] = []

    def start(*under: str) -> Child:
        process = subprocess.Popen(
            [*under, sys.executable, str(CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[3],
            env={"PYTHONPATH": str(Path(__file__).parents[3]), "PATH": "/usr/bin:/bin"},
        )
        started.append(Child(process))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()
