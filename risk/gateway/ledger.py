"""The ledger: what was decided, sent and filled, on one database that one gateway may write."""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Executable, select, text

from market.code_version import commit
from market.errors import InputError
from risk.gateway import schema
from risk.gateway.audit import START, Anchor, AnchorFailed, Head, Mark
from risk.gateway.reads import Found, Reads, rows_of
from risk.gateway.storage import PATIENCE_S, LedgerFailed, StaleEpoch, Storage
from risk.gateway.strategy_reads import StrategyReads
from risk.gateway.writer import Writer

_MIGRATION_LOCK = 0x7E2C37  # an advisory lock of PostgreSQL: any number that nobody else uses

code_version = cache(commit)  # asked of git, which takes longer than a transaction


class Ledger(StrategyReads):
    """A ledger and its anchor.

    Args:
        url: `sqlite:///<path>` or `postgresql://...`.
        anchor: outside of it.

    Raises:
        InputError: if the address is of another kind.
    """

    def __init__(self, url: str, anchor: Anchor) -> None:
        self._storage = Storage(url)
        self._anchor = anchor
        self._turn = threading.Lock()
        self._file_lock: int | None = None
        self._file: tuple[int, int] | None = None

    @property
    def place(self) -> str:
        """Return the address without its password."""
        return self._storage.place

    @property
    def anchor(self) -> Anchor:
        """Return the anchor."""
        return self._anchor

    def close(self) -> None:
        """Let go of the database and of the file lock."""
        self._storage.close()
        if self._file_lock is not None:
            os.close(self._file_lock)
            self._file_lock = None

    def migrate(self) -> None:
        """Create the tables or bring them to this version, in one transaction.

        Raises:
            InputError: if a newer version has written the ledger.
            LedgerFailed: if the database fails.
        """
        self._storage.create()
        with self._storage.failing_closed(), self._storage.writer.begin() as connection:
            if self._storage.path is None:
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
            if self._revision(connection) != _revisions()[0]:
                command.upgrade(_alembic(connection), "head")

    def acquire(self, owner: str) -> int:
        """Take the ledger over, and return the new epoch; the latch is not armed afterwards.

        Raises:
            LedgerFailed: if another process of this machine has it (SQLite), if the database is
                damaged or not what the anchor remembers, or fails.
        """
        self._lock_file()
        self._check_pages()
        with self._transaction(None) as writer:
            self._check_anchor(writer.head)
            epoch = self._fence(writer) + 1
            now = datetime.now(UTC)
            writer.set_epoch(epoch, owner, now)
            writer.start_latch(now)
        return epoch

    def epoch(self) -> int:
        """Return the epoch of the last one that took the ledger over, 0 before the first."""
        return self._fence(self)

    @contextmanager
    def writing(self, epoch: int) -> Iterator[Writer]:
        """Give a writer for one transaction: all of it is kept, or nothing.

        Raises:
            StaleEpoch: if another gateway took the ledger over, before anything is written.
            LedgerFailed: if the database or the anchor fails. A failure at the very end leaves
                open whether the transaction is kept: who goes on must read first.
        """
        with self._transaction(epoch) as writer:
            yield writer

    def trip(self, reason: str, actor: str, at: datetime) -> None:
        """Latch, whoever has the ledger: stopping needs no epoch."""
        with self._transaction(None) as writer:
            writer.set_latch(False, reason, actor, at)

    def revoke_permit(self) -> None:
        """Take away the permit that is kept here, whoever has the ledger."""
        with self._transaction(None) as writer:
            writer.set_permit(None)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection that sees one state, for a long reading such as the verification."""
        with self._storage.reading() as connection:
            yield connection

    @contextmanager
    def at_once(self) -> Iterator[Reads]:
        """Give the questions as one state of the ledger answers them all.

        Raises:
            LedgerFailed: if the database fails.
        """
        with self._storage.reading() as connection:
            yield _Snapshot(connection)

    @contextmanager
    def _transaction(self, epoch: int | None) -> Iterator[Writer]:
        if not self._turn.acquire(timeout=PATIENCE_S):
            raise LedgerFailed(f"{self.place} is locked by another thread")
        try:
            self._check_file()
            with self._storage.failing_closed(), self._storage.writer.connect() as connection:
                writer = self._begin(connection, epoch)
                before = writer.head
                yield writer
                writer.flush()
                self._commit(connection, before, writer.head)
        finally:
            self._turn.release()

    def _begin(self, connection: Connection, epoch: int | None) -> Writer:
        """Take the write lock and look who has the ledger."""
        row = connection.execute(select(schema.fence).with_for_update()).mappings().one_or_none()
        if row is None:
            raise LedgerFailed(f"{self.place} has lost the row that fences its writers")
        if epoch is not None and row["epoch"] != epoch:
            raise StaleEpoch(
                f"{row['owner']} took {self.place} over, epoch {epoch} ended with {row['epoch']}"
            )
        return Writer(
            connection,
            _head(connection),
            epoch=0 if epoch is None else epoch,
            owner=row["owner"] if epoch is not None else "nobody",
            code=code_version(),
        )

    def _commit(self, connection: Connection, before: Head, after: Head) -> None:
        """Commit between the two marks; what the anchor does not take is not committed."""
        if after == before:
            connection.commit()
            return
        try:
            self._anchor.append(Mark(after, committed=False))
            connection.commit()
            self._anchor.append(Mark(after, committed=True))
        except AnchorFailed as error:
            raise LedgerFailed(str(error)) from error

    def _rows(self, statement: Executable) -> list[Found]:
        with self.at_once() as reads:
            return reads._rows(statement)

    def _fence(self, reads: Reads) -> int:
        row = reads._first(select(schema.fence.c.epoch))
        return 0 if row is None else int(row["epoch"])

    def _revision(self, connection: Connection) -> str | None:
        """Return the revision of the tables, None of none; one that is newer is refused."""
        found = MigrationContext.configure(connection).get_current_revision()
        if found is not None and found not in _revisions():
            raise InputError(
                f"{self.place} was written by a newer version (schema {found}); update this program"
            )
        return found

    def _lock_file(self) -> None:
        """Hold a lock beside an SQLite file for as long as this process lives."""
        path = self._storage.path
        if path is None or self._file_lock is not None:
            return
        with self._storage.reaching_file():
            descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                raise LedgerFailed(f"{path} is in use by another gateway") from None
            self._file_lock = descriptor

    def _check_file(self) -> None:
        """Refuse to write into a file that was moved, deleted or replaced under our feet."""
        if self._storage.path is None:
            return
        with self._storage.reaching_file():
            found = _identity(self._storage.path)
        self._file = self._file or found
        if found != self._file:
            raise LedgerFailed(f"{self._storage.path} was replaced while it was in use")

    def _check_pages(self) -> None:
        """Let SQLite look for damage in its own structure."""
        if self._storage.path is None:
            return
        with self._storage.reading() as connection:
            found = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar_one()
        if found != "ok":
            raise LedgerFailed(f"{self.place} is damaged: {found}")

    def _check_anchor(self, head: Head) -> None:
        """Compare the head with what the anchor heard last: an older copy is not taken up."""
        try:
            marks = self._anchor.last()
        except AnchorFailed as error:
            raise LedgerFailed(str(error)) from error
        ahead = max((mark.head.seq for mark in marks if mark.committed), default=0)
        if ahead > head.seq:
            raise LedgerFailed(
                f"{self.place} ends with record {head.seq}, its anchor knows {ahead}: "
                "records were removed, or an older copy was restored"
            )
        if head.seq > 0 and head not in {mark.head for mark in marks}:
            raise LedgerFailed(f"{self.place} ends with a record that its anchor never heard of")


class _Snapshot(Reads):
    """The questions within one transaction.

    Args:
        connection: of it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def _rows(self, statement: Executable) -> list[Found]:
        return rows_of(self._connection.execute(statement))


@cache
def _revisions() -> tuple[str, ...]:
    """Return the revisions that this version knows, the newest first."""
    script = ScriptDirectory.from_config(_alembic(None))
    return tuple(found.revision for found in script.walk_revisions())


def _alembic(connection: Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _head(connection: Connection) -> Head:
    table = schema.audit
    asked = select(table.c.seq, table.c.hash).order_by(table.c.seq.desc()).limit(1)
    row = connection.execute(asked).one_or_none()
    return Head(0, START) if row is None else Head(row.seq, row.hash)


def _identity(path: Path) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino
