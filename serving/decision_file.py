"""The SQLite file of the decisions: its tables, and how it is opened.

The write-ahead log lets readers go on while one process writes.
"""

import sqlite3
import time
from pathlib import Path

from market.errors import InputError

FORMAT_VERSION = 1
BUSY_TIMEOUT_S = 2.0  # another process may be committing; longer than that it hangs

_SCHEMA = """
CREATE TABLE IF NOT EXISTS explanations (key TEXT PRIMARY KEY, content TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS decisions (
    id TEXT PRIMARY KEY, account TEXT, as_of TEXT NOT NULL, model_sha256 TEXT NOT NULL,
    request TEXT NOT NULL, answer TEXT NOT NULL, recorded_at TEXT NOT NULL,
    explanation_key TEXT NOT NULL REFERENCES explanations (key),
    supersedes TEXT, superseded_by TEXT
);
CREATE UNIQUE INDEX IF NOT EXISTS one_submittable ON decisions (account, as_of)
    WHERE superseded_by IS NULL AND account IS NOT NULL;
CREATE TABLE IF NOT EXISTS shadows (
    decision_id TEXT NOT NULL REFERENCES decisions (id), model_sha256 TEXT NOT NULL,
    weights TEXT NOT NULL, distance REAL NOT NULL, recorded_at TEXT NOT NULL,
    PRIMARY KEY (decision_id, model_sha256)
);
"""


def open_file(path: Path) -> sqlite3.Connection:
    """Return a connection to a file that is a log of this format; a new one becomes it.

    Raises:
        InputError: if the file cannot be opened, or is another program's.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        db = connect(path)
        try:
            _require_ours(db, path)
            _journal(db)
            db.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
            db.execute("COMMIT")
        except (InputError, sqlite3.Error):
            db.close()
            raise
    except (OSError, sqlite3.Error) as error:
        raise InputError(f"{path} cannot be opened as a log of decisions: {error}") from error
    return db


def _require_ours(db: sqlite3.Connection, path: Path) -> None:
    """Refuse another program's database before anything in it is touched."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if version != FORMAT_VERSION and (version or tables):
        raise InputError(f"{path} has format {version}, this program writes {FORMAT_VERSION}")


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection on which what was committed is on the disk."""
    db = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA foreign_keys = ON")
    return db


def _journal(db: sqlite3.Connection) -> None:
    """Switch to the write-ahead log; SQLite does not wait by itself while another one does so."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return
