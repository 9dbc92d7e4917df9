"""Connections to the ledger's database, SQLite or PostgreSQL, that wait 5 s and then fail closed.

SQLite: write-ahead log, synchronous=FULL, so that a commit is on the disk before it returns; each
writing transaction takes the write lock as it begins, so that what it reads cannot change before
it writes. PostgreSQL: a writer locks the one row of `fence` first, which has the same effect.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, QueuePool, create_engine, event, make_url
from sqlalchemy.exc import (
    ArgumentError,
    IntegrityError,
    NoSuchModuleError,
    OperationalError,
    SQLAlchemyError,
)

from market.errors import InputError

PATIENCE_S = 5.0
_POLL_S = 0.0005
_POSTGRES = {
    "lock_timeout": "5000",
    "statement_timeout": "10000",
    # A writer that was stopped in mid-transaction must not hold the others up for ever.
    "idle_in_transaction_session_timeout": "15000",
    "synchronous_commit": "on",
}


class LedgerFailed(Exception):
    """The ledger cannot be relied on now, so nothing may be sent; the message is one line."""


class StaleEpoch(Exception):
    """Another gateway has taken the ledger over; this one must stop."""


class Storage:
    """A database.

    Args:
        url: `sqlite:///<path>` or `postgresql://...`.

    Raises:
        InputError: if the address is of another kind.
    """

    def __init__(self, url: str) -> None:
        try:
            self._url = make_url(url)
        except ArgumentError:
            raise InputError(f"the ledger's address cannot be read: {url}") from None
        self.place = self._url.render_as_string(hide_password=True)
        kind = self._url.get_backend_name()
        if kind not in {"sqlite", "postgresql"}:
            raise InputError(f"the ledger is kept in sqlite or postgresql, not in {self.place}")
        self.path = self._sqlite_path() if kind == "sqlite" else None
        self.writer = self._engine(writing=True)
        self.reader = self._engine(writing=False)

    def close(self) -> None:
        """Close every connection."""
        self.writer.dispose()
        self.reader.dispose()

    def create(self) -> None:
        """Create the file of an SQLite database that is not there, and turn its log on."""
        if self.path is None:
            return
        with self.failing_closed(), self.reaching_file():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self.path, timeout=PATIENCE_S)
            try:
                connection.execute("PRAGMA journal_mode=WAL")
            finally:
                connection.close()

    @contextmanager
    def failing_closed(self) -> Iterator[None]:
        """Turn every failure of the database into `LedgerFailed`.

        Raises:
            LedgerFailed: see above.
            ValueError: where a row contradicts the schema: something is there twice, or refers to
                what is not there.
        """
        try:
            yield
        except IntegrityError as error:
            raise ValueError(_first_line(error.orig)) from error
        except SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            raise LedgerFailed(f"{self.place}: {_first_line(cause)}") from error
        except (sqlite3.Error, UnicodeDecodeError) as error:  # damaged pages give any bytes
            raise LedgerFailed(f"{self.place}: {_first_line(error)}") from error

    @contextmanager
    def reaching_file(self) -> Iterator[None]:
        """Turn the failure of a file that is not the database itself into `LedgerFailed`."""
        try:
            yield
        except OSError as error:
            raise LedgerFailed(f"{self.place}: {error}") from error

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection that sees one state and cannot write."""
        with self.failing_closed(), self.reader.connect() as connection:
            yield connection

    def _sqlite_path(self) -> Path:
        name = self._url.database
        if not name or name == ":memory:" or name.startswith("file:"):
            raise InputError(f"the ledger needs a file that outlives the process: {self.place}")
        return Path(name).absolute()

    def _engine(self, *, writing: bool) -> Engine:
        if self.path is not None:
            return _sqlite_engine(self.path, writing=writing)
        settings = dict(_POSTGRES, default_transaction_read_only="off" if writing else "on")
        try:
            return create_engine(
                self._url.set(drivername="postgresql+psycopg"),
                isolation_level="READ COMMITTED" if writing else "REPEATABLE READ",
                pool_pre_ping=True,
                pool_timeout=PATIENCE_S,
                connect_args={
                    "connect_timeout": int(PATIENCE_S),
                    "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
                },
            )
        except (ModuleNotFoundError, NoSuchModuleError):
            raise InputError(f"{self.place} needs the package psycopg[binary]") from None


def _sqlite_engine(path: Path, *, writing: bool) -> Engine:
    """Return an engine that begins transactions itself: the driver's own are too late."""

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"file:{quote(str(path))}?mode=rw",
            uri=True,
            timeout=PATIENCE_S,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            _prepare(connection, path, writing=writing)
        except BaseException:
            connection.close()
            raise
        return connection

    engine = create_engine(
        "sqlite://", creator=connect, poolclass=QueuePool, pool_timeout=PATIENCE_S
    )
    begin = _begin_writing if writing else _begin_reading
    event.listen(engine, "begin", begin)
    return engine


def _begin_reading(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _begin_writing(connection: Connection) -> None:
    """Take the write lock.

    SQLite itself asks for it ever more rarely, until a busy writer keeps a waiting one out for
    seconds: a trip must not wait like that.
    """
    patience = time.monotonic() + PATIENCE_S
    connection.exec_driver_sql("PRAGMA busy_timeout=0")
    while True:
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            break
        except OperationalError as error:
            busy = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > patience:
                raise
        time.sleep(_POLL_S)
    connection.exec_driver_sql(f"PRAGMA busy_timeout={int(PATIENCE_S * 1000)}")


def _prepare(connection: sqlite3.Connection, path: Path, *, writing: bool) -> None:
    """Set what holds for a connection, and check what holds for the file."""
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    if mode != "wal":
        raise sqlite3.OperationalError(f"{path} has no write-ahead log, its mode is {mode}")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    if not writing:
        connection.execute("PRAGMA query_only=ON")


def _first_line(error: BaseException | None) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
