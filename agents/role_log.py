"""Who had which role when, and why: one SQLite file to which rows are only ever added.

Every row holds all roles after its change, so the last one is the state. The file keeps SQLite's
rollback journal: changes are rare, and unlike a write-ahead log it can be read where the folder
cannot be written, as from a read-only mount.
"""

import getpass
import os
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agents.roles import NOBODY, Roles
from market.code_version import commit
from market.errors import InputError

FORMAT_VERSION = 1
APPLICATION_ID = 0x54524347  # tells this file from any other SQLite database
BUSY_S = 5.0  # how long another process's change is waited for

_SCHEMA = (
    "CREATE TABLE artefacts (sha256 TEXT PRIMARY KEY, added TEXT NOT NULL, agents TEXT NOT NULL,"
    " universe INTEGER NOT NULL, code_version TEXT NOT NULL) STRICT",
    "CREATE TABLE events (revision INTEGER PRIMARY KEY, time TEXT NOT NULL, action TEXT NOT NULL,"
    " reason TEXT NOT NULL, actor TEXT NOT NULL, code_version TEXT NOT NULL,"
    " champion TEXT REFERENCES artefacts, previous TEXT REFERENCES artefacts,"
    " challenger TEXT REFERENCES artefacts, share REAL NOT NULL) STRICT",
    *(
        f"CREATE TRIGGER {table}_{verb} BEFORE {verb} ON {table}"
        f" BEGIN SELECT RAISE(ABORT, 'rows are only ever added'); END"
        for table in ("artefacts", "events")
        for verb in ("UPDATE", "DELETE")
    ),
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {FORMAT_VERSION}",
)


@dataclass(frozen=True, slots=True)
class Event:
    """One change.

    Args:
        revision: 1, 2, ... in the order of the changes.
        time: ISO UTC time.
        action: promote, challenge, retire or rollback.
        reason: why, in the words of who did it.
        actor: user@host.
        code_version: of the program that did it.
        roles: after the change.
    """

    revision: int
    time: str
    action: str
    reason: str
    actor: str
    code_version: str
    roles: Roles


@dataclass(frozen=True, slots=True)
class Admission:
    """What is written down of an artefact that was let in.

    Args:
        sha256: its identity.
        added: ISO UTC time.
        agents: names of its mandates, between commas.
        universe: number of symbols that it was trained on.
        code_version: of the program that trained it.
    """

    sha256: str
    added: str
    agents: str
    universe: int
    code_version: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the log says at one moment.

    Args:
        revision: of the last change; 0 before the first.
        roles: after it.
        admitted: sha256 -> every artefact that ever had a role.
    """

    revision: int
    roles: Roles
    admitted: dict[str, Admission]


class RoleLog:
    """The log, for any number of processes at once.

    Every method raises `InputError` where the file is locked, damaged, of another format, or
    cannot be written.

    Args:
        path: of the database; made, with its folder, at the first change.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def snapshot(self) -> Snapshot:
        """Return roles and artefacts by one consistent read."""
        with self._open() as database:
            if database is None:
                return Snapshot(0, NOBODY, {})
            revision, roles = _last(database)
            rows = database.execute("SELECT * FROM artefacts ORDER BY rowid")
            return Snapshot(revision, roles, {row[0]: Admission(*row) for row in rows})

    def events(self) -> list[Event]:
        """Return every change, the first one first."""
        with self._open() as database:
            if database is None:
                return []
            rows = database.execute("SELECT * FROM events ORDER BY revision")
            return [_event(*row) for row in rows]

    def append(
        self,
        action: str,
        reason: str,
        change: Callable[[Roles], Roles],
        admission: Admission | None = None,
    ) -> None:
        """Write down a change of the roles, whole or not at all.

        Args:
            action: what is done.
            reason: why.
            change: from the roles before to those after; may raise, and nothing is written.
            admission: of an artefact that may be new.
        """
        said = (now(), action, reason, _actor(), commit())  # not while others wait for the lock
        self._make_folder()
        with self._open(write=True) as database:
            assert database is not None, "a database that is written to is made"
            revision, before = _last(database)
            after = change(before)
            if admission is not None:
                values = astuple(admission)
                database.execute("INSERT OR IGNORE INTO artefacts VALUES (?, ?, ?, ?, ?)", values)
            row = (revision + 1, *said, *astuple(after))
            database.execute(f"INSERT INTO events VALUES ({', '.join('?' * len(row))})", row)

    @contextmanager
    def _open(self, write: bool = False) -> Iterator[sqlite3.Connection | None]:
        """Run one transaction; None stands for a database that was not made yet."""
        if not write and not self.path.exists():
            yield None
            return
        mode = "rwc" if write else "rw"  # rw is read-only where the file cannot be written
        try:
            with closing(
                sqlite3.connect(
                    f"{self.path.absolute().as_uri()}?mode={mode}",
                    uri=True,
                    timeout=BUSY_S,
                    isolation_level=None,
                )
            ) as database:
                database.execute("PRAGMA synchronous = FULL")
                database.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                made = self._is_made(database)
                if write and not made:
                    for statement in _SCHEMA:
                        database.execute(statement)
                yield database if made or write else None
                database.execute("COMMIT")  # closing without it takes everything back
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.ProgrammingError | sqlite3.IntegrityError):
                raise
            raise InputError(f"{self.path}: {_explained(error)}") from error

    def _is_made(self, database: sqlite3.Connection) -> bool:
        """Return whether the tables are there; False where a first change was interrupted."""
        (application,) = database.execute("PRAGMA application_id").fetchone()
        (version,) = database.execute("PRAGMA user_version").fetchone()
        (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if (application, version, tables) == (0, 0, 0):
            return False
        if application != APPLICATION_ID:
            raise InputError(f"{self.path} is a database of another program")
        if version != FORMAT_VERSION:
            raise InputError(
                f"{self.path} has format version {version}, this program reads {FORMAT_VERSION}"
            )
        # SQLite reads zeros where a file was cut, and a champion that is none would be believed.
        (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise InputError(f"{self.path} is damaged: {' '.join(found.split())}")
        return True

    def _make_folder(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.path.parent} cannot be made: {error.strerror}") from error


def now() -> str:
    """Return the ISO UTC time, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _last(database: sqlite3.Connection) -> tuple[int, Roles]:
    row = database.execute(
        "SELECT revision, champion, previous, challenger, share FROM events"
        " ORDER BY revision DESC LIMIT 1"
    ).fetchone()
    return (0, NOBODY) if row is None else (row[0], Roles(*row[1:]))


def _event(
    revision: int, time: str, action: str, reason: str, actor: str, code: str, *roles: Any
) -> Event:
    return Event(revision, time, action, reason, actor, code, Roles(*roles))


def _actor() -> str:
    """Return user@host; in a container the user may have no name."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _explained(error: sqlite3.DatabaseError) -> str:
    """Return what a user can do about a database that cannot be used."""
    if "locked" in str(error):
        return f"another process has held it for {BUSY_S:g} s; try again"
    return str(error)
