"""What the exchange remembers, in one SQLite file that survives a SIGKILL.

Money and shares are text, so that they stay exact; times are text that sorts as they do.
"""

import fcntl
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

from brokers.exchange.records import OPEN, ExchangeOrder, Holding, OrderClass, OrderType, Status
from market.errors import InputError
from risk.gateway.records import Side

SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS orders (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL,
    client_order_id TEXT UNIQUE NOT NULL, symbol TEXT NOT NULL, side TEXT NOT NULL,
    type TEXT NOT NULL, order_class TEXT NOT NULL, quantity TEXT NOT NULL, limit_price TEXT,
    stop_price TEXT, status TEXT NOT NULL, filled TEXT NOT NULL, filled_notional TEXT NOT NULL,
    parent_id TEXT, triggered TEXT NOT NULL, submitted_at TEXT NOT NULL, updated_at TEXT NOT NULL,
    expires_at TEXT NOT NULL, ended_at TEXT, replaces TEXT, replaced_by TEXT
);
CREATE INDEX IF NOT EXISTS orders_by_status ON orders (status);
CREATE INDEX IF NOT EXISTS orders_by_time ON orders (submitted_at);
CREATE INDEX IF NOT EXISTS orders_by_parent ON orders (parent_id);
CREATE TABLE IF NOT EXISTS activities (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, type TEXT NOT NULL,
    at TEXT NOT NULL, payload TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS positions (
    symbol TEXT PRIMARY KEY, quantity TEXT NOT NULL, cost TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS closes (
    session TEXT PRIMARY KEY, at TEXT NOT NULL, equity TEXT NOT NULL
);
"""
_COLUMNS = tuple(item.name for item in fields(ExchangeOrder))
_TYPES: dict[str, type[Enum]] = {
    "side": Side,
    "type": OrderType,
    "order_class": OrderClass,
    "status": Status,
}
_DECIMALS = {"quantity", "limit_price", "stop_price", "filled", "filled_notional"}
_TIMES = {"submitted_at", "updated_at", "expires_at", "ended_at"}


class Store:
    """The file, used by one process and one thread at a time.

    Args:
        path: of the SQLite file; made where there is none.

    Raises:
        InputError: if another exchange has it, or it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = path.with_name(f"{path.name}.lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise InputError(f"{path} is used by another paper exchange") from None
        try:
            self._connection = self._open(path)
        except sqlite3.DatabaseError as error:
            self._lock.close()
            raise InputError(f"{path} cannot be used: {error}") from None

    @staticmethod
    def _open(path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.executescript(SCHEMA)
        return connection

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()
        self._lock.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make everything within durable together, or nothing of it; may be nested."""
        if self._connection.in_transaction:
            yield
            return
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def fact(self, name: str) -> str | None:
        """Return a remembered text."""
        row = self._connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row["value"])

    def set_fact(self, name: str, value: str) -> None:
        """Remember a text under a name."""
        self._connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def put_order(self, order: ExchangeOrder) -> None:
        """Keep an order, new or changed."""
        names = ", ".join(_COLUMNS)
        changes = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS)
        self._connection.execute(
            f"INSERT INTO orders ({names}) VALUES ({', '.join('?' * len(_COLUMNS))}) "
            f"ON CONFLICT (id) DO UPDATE SET {changes}",
            [_text(getattr(order, name)) for name in _COLUMNS],
        )

    def order(self, name: str, value: str) -> ExchangeOrder | None:
        """Return the order with an `id` or a `client_order_id`."""
        found = self._orders(f"{name} = ?", [value])
        return found[0] if found else None

    def open_orders(self) -> list[ExchangeOrder]:
        """Return the orders that are not ended, oldest first."""
        words = sorted(status.value for status in OPEN)
        return self._orders(f"status IN ({', '.join('?' * len(words))})", words)

    def legs(self, parent_id: str) -> list[ExchangeOrder]:
        """Return the legs of a bracket."""
        return self._orders("parent_id = ?", [parent_id])

    def orders(self, after: datetime | None, until: datetime | None) -> list[ExchangeOrder]:
        """Return the orders submitted after one time and not after another, oldest first."""
        first = "" if after is None else time_text(after)
        last = "~" if until is None else time_text(until)
        return self._orders("submitted_at > ? AND submitted_at <= ?", [first, last])

    def _orders(self, condition: str, values: list[str]) -> list[ExchangeOrder]:
        rows = self._connection.execute(
            f"SELECT * FROM orders WHERE {condition} ORDER BY seq", values
        )
        return [
            ExchangeOrder(**{name: _value(name, row[name]) for name in _COLUMNS}) for row in rows
        ]

    def add_activity(self, identity: str, kind: str, at: datetime, payload: dict[str, str]) -> None:
        """Keep a fill or another event of the account."""
        self._connection.execute(
            "INSERT INTO activities (id, type, at, payload) VALUES (?, ?, ?, ?)",
            (identity, kind, time_text(at), json.dumps(payload)),
        )

    def activities(self, after: datetime | None = None) -> list[dict[str, str]]:
        """Return activities, oldest first, each with `id`, `activity_type` and `at`.

        Args:
            after: only later ones; None is all.
        """
        since = "" if after is None else time_text(after)
        rows = self._connection.execute(
            "SELECT id, type, at, payload FROM activities WHERE at > ? ORDER BY seq", (since,)
        )
        return [
            {"id": row["id"], "activity_type": row["type"], "at": row["at"]}
            | json.loads(row["payload"])
            for row in rows
        ]

    def holdings(self) -> dict[str, Holding]:
        """Return the positions by symbol."""
        rows = self._connection.execute("SELECT * FROM positions ORDER BY symbol")
        return {
            row["symbol"]: Holding(Decimal(row["quantity"]), Decimal(row["cost"])) for row in rows
        }

    def put_holding(self, symbol: str, holding: Holding) -> None:
        """Keep a position; one without shares is none."""
        self._connection.execute("DELETE FROM positions WHERE symbol = ?", (symbol,))
        if holding.quantity:
            self._connection.execute(
                "INSERT INTO positions VALUES (?, ?, ?)",
                (symbol, str(holding.quantity), str(holding.cost)),
            )

    def add_close(self, session: date, at: datetime, equity: Decimal) -> None:
        """Keep the equity at the close of a session."""
        self._connection.execute(
            "INSERT OR REPLACE INTO closes VALUES (?, ?, ?)",
            (session.isoformat(), time_text(at), str(equity)),
        )

    def last_close(self, before: date) -> Decimal | None:
        """Return the equity at the last close of a session before a day."""
        row = self._connection.execute(
            "SELECT equity FROM closes WHERE session < ? ORDER BY session DESC LIMIT 1",
            (before.isoformat(),),
        ).fetchone()
        return None if row is None else Decimal(row["equity"])

    def closes(self) -> list[tuple[datetime, Decimal]]:
        """Return time and equity of every close, oldest first."""
        rows = self._connection.execute("SELECT at, equity FROM closes ORDER BY session")
        return [(datetime.fromisoformat(row["at"]), Decimal(row["equity"])) for row in rows]


def time_text(time: datetime) -> str:
    """Return a time as text of one length.

    >>> time_text(datetime(2024, 1, 2, 14, 30, tzinfo=UTC))
    '2024-01-02T14:30:00.000000+00:00'
    """
    return time.astimezone(UTC).isoformat(timespec="microseconds")


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, datetime):
        return time_text(value)
    return str(value.value if isinstance(value, Enum) else value)


def _value(name: str, text: str | None) -> Any:
    if text is None:
        return None
    if name in _DECIMALS:
        return Decimal(text)
    if name in _TIMES:
        return datetime.fromisoformat(text)
    if name == "triggered":
        return text == "True"
    return _TYPES[name](text) if name in _TYPES else text
