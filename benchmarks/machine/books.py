"""Where the ledger of a machine is kept, and how it is empty again in a moment."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import create_engine, insert, select, text

from benchmarks.machine.fuse import KeptMarks
from risk.gateway import schema
from risk.gateway.ledger import Ledger


class Books(Protocol):
    """A database that can be put back."""

    url: str

    def keep(self) -> None:
        """Remember what is in it; nobody writes to it meanwhile."""
        ...

    def put_back(self) -> None:
        """Make it what was remembered; nobody has it open."""
        ...


class SQLiteBooks:
    """A file and its copy.

    Args:
        folder: for both.
    """

    def __init__(self, folder: Path) -> None:
        self._copy, self._file = folder / "kept.sqlite", folder / "ledger.sqlite"
        self.url = f"sqlite:///{self._file}"
        _migrate(self.url)

    def keep(self) -> None:
        """Copy what is in the file."""
        _copy(self._file, self._copy)

    def put_back(self) -> None:
        """Copy it back, into the same file: a ledger takes no other one for its own."""
        _copy(self._copy, self._file)


class PostgresBooks:
    """A database of a running server, and the rows of its tables.

    Args:
        url: of it; it is empty.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        _migrate(url)
        self._engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
        self._rows: dict[str, list[dict[str, Any]]] = {}

    def keep(self) -> None:
        """Read every table."""
        with self._engine.begin() as connection:
            for table in schema.metadata.sorted_tables:
                found = connection.execute(select(table)).mappings()
                self._rows[table.name] = [dict(row) for row in found]

    def put_back(self) -> None:
        """Empty every table, and write what it had."""
        tables = schema.metadata.sorted_tables
        with self._engine.begin() as connection:
            connection.execute(text(f"TRUNCATE {', '.join(table.name for table in tables)}"))
            for table in tables:
                if rows := self._rows[table.name]:
                    connection.execute(insert(table), rows)

    def close(self) -> None:
        """Let go of the server."""
        self._engine.dispose()


def _copy(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as taken, closing(sqlite3.connect(target)) as given:
        taken.backup(given)


def _migrate(url: str) -> None:
    ledger = Ledger(url, KeptMarks())
    ledger.migrate()
    ledger.close()


@contextmanager
def in_memory(parent: Path) -> Iterator[Path]:
    """Give a folder in memory where there is one: what is proven here is no disk's patience."""
    import tempfile

    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else parent) as folder:
        yield Path(folder)
