"""Where the ledger of a machine is kept, and how it is empty again in a moment."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from sqlalchemy import create_engine, insert, text

from benchmarks.machine.fuse import KeptMarks
from risk.gateway import schema
from risk.gateway.ledger import Ledger
from risk.gateway.verify import _FIRST_FENCE


class Books(Protocol):
    """A database that can be emptied."""

    def fresh(self) -> str:
        """Empty it, and return its address."""
        ...


class SQLiteBooks:
    """A file, copied from one that was migrated.

    Args:
        folder: for it.
    """

    def __init__(self, folder: Path) -> None:
        self._template, self._file = folder / "template.sqlite", folder / "ledger.sqlite"
        ledger = Ledger(f"sqlite:///{self._template}", KeptMarks())
        ledger.migrate()
        ledger.close()

    def fresh(self) -> str:
        """Copy the template."""
        for suffix in ("-wal", "-shm"):
            self._file.with_name(self._file.name + suffix).unlink(missing_ok=True)
        self._file.unlink(missing_ok=True)
        shutil.copyfile(self._template, self._file)
        return f"sqlite:///{self._file}"


class PostgresBooks:
    """A database of a running server, emptied table by table.

    Args:
        url: of it; it is empty.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        ledger = Ledger(url, KeptMarks())
        ledger.migrate()
        ledger.close()
        self._engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))

    def fresh(self) -> str:
        """Empty every table, and put back the row that fences writers."""
        names = ", ".join(table.name for table in schema.metadata.sorted_tables)
        with self._engine.begin() as connection:
            connection.execute(text(f"TRUNCATE {names}"))
            connection.execute(insert(schema.fence), _FIRST_FENCE)
        return self._url

    def close(self) -> None:
        """Let go of the server."""
        self._engine.dispose()


@contextmanager
def in_memory(parent: Path) -> Iterator[Path]:
    """Give a folder in memory where there is one: what is proven here is no disk's patience."""
    import tempfile

    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else parent) as folder:
        yield Path(folder)
