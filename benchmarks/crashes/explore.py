"""Every crash after every crash: lives are lived from every state that a crash can leave behind.

What a life does depends on what is durable, and on nothing else: so two crashes that leave the same
rows at the gateway and at the exchange are one state, and it is enough to live once from each. From
the first state on, every point of every life leaves a state; when no new one comes up, every
sequence of crashes has been lived through, however long.

Left out of the comparison of states is what cannot matter: how often the gateway was started, how
often it looked at its account, ids that are drawn, and times of the machine's own clock.
"""

import hashlib
import json
import re
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.crashes.books import compare
from benchmarks.crashes.in_process import Room
from benchmarks.crashes.life import Birth, live, url_of
from benchmarks.crashes.points import Trap, go_on
from risk.gateway.audit import FileAnchor
from risk.gateway.broker import Broker
from risk.gateway.ledger import Ledger
from risk.gateway.verify import verify

Json = dict[str, Any]

FILES = ("ledger.sqlite", "ledger.sqlite-wal", "exchange.sqlite", "exchange.sqlite-wal", "anchor")
UNCOUNTED = {"audit", "permits", "fence", "alembic_version", "sqlite_sequence"}
MEASURED = {"ack_ms"}  # columns of times that the machine's own clock measured
DRAWN = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|PA[0-9A-F]{10}"
    r"|20(?:2[4-9]|[3-9]\d)-\d\d-\d\dT[0-9:.+Z]*"  # the exchange's time is of 2023
)


@dataclass(slots=True)
class State:
    """What a crash leaves behind.

    Args:
        folder: with copies of the files.
        faults: of the exchange that are still to come.
        after: the points that led here, on the shortest way.
        next: point -> key of the state that it leaves.
        wrong: what differed once the decision was done, and the audit's problems; None before.
    """

    folder: Path
    faults: tuple[Json, ...]
    after: tuple[str, ...]
    next: dict[str, str] = field(default_factory=dict)
    wrong: tuple[str, ...] | None = None


class Explorer:
    """Lives from states.

    Args:
        folder: it grows by a few files for each state.
        anchor: whose path is moved from life to life.
    """

    def __init__(self, folder: Path, anchor: FileAnchor) -> None:
        self._folder, self._anchor = folder, anchor
        self._rows = _Rows()
        self.states: dict[str, State] = {}

    def begin(self, faults: Sequence[Json]) -> str:
        """Add the state of a new account, with faults to come; return its key."""
        folder = self._folder / "new"
        folder.mkdir(parents=True)
        Room.new(folder).close()
        key = self._add(folder, tuple(faults), ())
        shutil.rmtree(folder)
        return key

    def live(self, key: str, *, crashing: bool) -> State:
        """Live from a state to the end of the decision, and compare the books.

        Args:
            key: of the state.
            crashing: keep what a crash would leave at every point on the way.
        """
        state, folder = self.states[key], self._folder / "life"
        shutil.copytree(state.folder, folder)
        room = Room(folder)
        try:
            for fault in state.faults:
                room.admin("POST", "/admin/faults", fault)
            self._anchor.path = folder / "anchor"

            def left(point: str) -> None:
                state.next[point] = self._add(folder, _to_come(room), (*state.after, point))

            trap = Trap(left if crashing else go_on)
            broker = room.broker(trap)
            live(Birth(room, broker, self._anchor, trap))
            state.wrong = _wrong(room, broker, self._anchor)
        finally:
            room.close()
            shutil.rmtree(folder)
        return state

    def _add(self, folder: Path, faults: tuple[Json, ...], after: tuple[str, ...]) -> str:
        key = self._rows.key(folder, faults)
        if key not in self.states:
            kept = self._folder / f"{len(self.states):05}"
            kept.mkdir()
            for name in FILES:
                if (folder / name).exists():
                    shutil.copyfile(folder / name, kept / name)
            self.states[key] = State(kept, faults, after)
        return key


def closure(explorer: Explorer, root: str, depth: int | None) -> list[State]:
    """Live from a state and from all that crashes lead to; return all of them.

    Args:
        explorer: that lives.
        root: key of the first state.
        depth: crashes one after another; None goes on until no new state comes up.
    """
    found, waiting = {root: 0}, [root]
    for key in waiting:  # which grows meanwhile
        far = found[key]
        state = explorer.live(key, crashing=depth is None or far < depth)
        for after in state.next.values():
            if after not in found:
                found[after] = far + 1
                waiting.append(after)
    return [explorer.states[key] for key in found]


def sequences(explorer: Explorer, root: str, length: int) -> int:
    """Return how many sequences of so many crashes there are; all of them were lived through."""
    counts = {root: 1}
    for _ in range(length):
        following: dict[str, int] = {}
        for key, ways in counts.items():
            for after in explorer.states[key].next.values():
                following[after] = following.get(after, 0) + ways
        counts = following
    return sum(counts.values())


class _Rows:
    """Tells states apart by the rows of both databases; a file that is as before is not read."""

    def __init__(self) -> None:
        self._read: dict[Path, tuple[object, list[str]]] = {}

    def key(self, folder: Path, faults: Sequence[Json]) -> str:
        """Return what two states have in common that are the same."""
        parts = [json.dumps(faults, sort_keys=True), _marks(folder)]
        for name in ("ledger.sqlite", "exchange.sqlite"):
            parts += self._rows(folder / name)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def _rows(self, path: Path) -> list[str]:
        if not path.exists():
            return []
        stamp = tuple(
            (one.st_ino, one.st_size, one.st_mtime_ns)
            for one in (file.stat() for file in sorted(path.parent.glob(f"{path.name}*")))
        )
        before = self._read.get(path)
        if before is None or before[0] != stamp:
            self._read[path] = before = stamp, list(_rows(path))
        return before[1]


def _rows(path: Path) -> Iterator[str]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type='table' ORDER BY 1")
        for (table,) in names.fetchall():
            if table not in UNCOUNTED:
                yield table
                rows = _shown(table, connection.execute(f"SELECT * FROM {table}"))
                yield from sorted({DRAWN.sub("", json.dumps(row)) for row in rows})


def _shown(table: str, told: sqlite3.Cursor) -> list[list[object]]:
    """Return the rows of a table as far as they matter."""
    measured = [column[0] in MEASURED for column in told.description]
    rows = [
        [value is None if hidden else value for value, hidden in zip(row, measured, strict=True)]
        for row in told
    ]
    if table == "latch":  # armed or not, and not how often
        return [row[1:2] for row in rows[-1:]]
    return [[bool(rows)]] if table == "accounts" else rows


def _marks(folder: Path) -> str:
    """Return how far the anchor is ahead of the ledger: it heard of a commit that never came."""
    if not (folder / "anchor").exists():
        return ""
    *_, last = (folder / "anchor").read_text().splitlines()
    word, number, _ = last.split()
    with closing(sqlite3.connect(f"file:{folder / 'ledger.sqlite'}?mode=ro", uri=True)) as db:
        (head,) = db.execute("SELECT max(seq) FROM audit").fetchone()
    return f"{word} {int(number) - (head or 0)}"


def _to_come(room: Room) -> tuple[Json, ...]:
    """Return the faults that have not hit yet, as they would be asked for now."""
    return tuple(
        {name: value for name, value in fault.items() if name not in ("matched", "hit")}
        | {"nth": fault["nth"] - fault["matched"]}
        for fault in room.admin("GET", "/admin/faults")
        if not fault["hit"]
    )


def _wrong(room: Room, broker: Broker, anchor: FileAnchor) -> tuple[str, ...]:
    """Return what differs between the books, and what is wrong with the audit."""
    ledger = Ledger(url_of(room.folder), anchor)
    try:
        return (*compare(room, ledger, broker).lines(), *verify(ledger, anchor).problems)
    finally:
        ledger.close()
