"""Walk the audit chain again, and compare it with the tables, the anchor and the verdicts."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, select

from risk.gateway import schema
from risk.gateway.audit import START, Anchor, AnchorFailed, Head, digest
from risk.gateway.canonical import canonical
from risk.gateway.ledger import Ledger
from risk.gateway.storage import LedgerFailed

VERDICT = "verdict"  # kind of the records that hold `inputs` and `verdict`
MOST = 100  # problems that are named; the rest is only counted
_CHUNK = 2_000
_TABLES = {table.name: table for table in schema.AUDITED}
_FIRST_FENCE = {"id": 1, "epoch": 0, "owner": "nobody", "at": "1970-01-01T00:00:00.000000+00:00"}

Judge = Callable[[Any], object]
Image = dict[str, dict[tuple[Any, ...], dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What a verification has found.

    Args:
        records: that were walked.
        head: the last one.
        marks: of committed transactions that the anchor remembers.
        verdicts: that were judged again.
        found: how many problems.
        problems: the first of them, in words.
    """

    records: int
    head: Head
    marks: int
    verdicts: int
    found: int
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Return whether nothing is wrong."""
        return self.found == 0


def verify(ledger: Ledger, anchor: Anchor, judge: Judge | None = None) -> VerifyResult:
    """Look for every edit, removal, insertion, exchange or older copy.

    The chain says what the tables must hold, so a change of an order is found like one of a record.

    Args:
        ledger: to be read; others may write to it meanwhile.
        anchor: of it.
        judge: from the logged inputs of a verdict to the verdict; None leaves verdicts alone.
    """
    walk = _Walk(judge)
    try:
        # Others may write meanwhile: what the anchor knew before must be in the ledger, and what
        # the ledger ends with the anchor must know afterwards.
        committed = [mark.head for mark in anchor.marks() if mark.committed]
        with ledger.reading() as connection:
            for seq, found, body in _records(connection):
                walk.record(seq, found, body)
            _compare(connection, walk)
        _check_anchor(committed, walk)
        if walk.head.seq and all(mark.head != walk.head for mark in anchor.marks()):
            walk.problem(f"the anchor never heard of the last record, {walk.head.seq}")
    except (LedgerFailed, AnchorFailed) as error:
        walk.problem(f"it cannot be read to its end: {error}")
    return walk.result()


class _Walk:
    """Where a verification stands.

    Args:
        judge: see `verify`.
    """

    def __init__(self, judge: Judge | None) -> None:
        self._judge = judge
        self._problems: list[str] = []
        self._found = 0
        self._verdicts = 0
        self.records = 0
        self.marks = 0
        self.head = Head(0, START)
        self.hashes: dict[int, str] = {}
        self.image: Image = {name: {} for name in _TABLES}
        self.image["fence"][(1,)] = dict(_FIRST_FENCE)

    def problem(self, words: str) -> None:
        """Note what is wrong."""
        self._found += 1
        if len(self._problems) < MOST:
            self._problems.append(words)

    def result(self) -> VerifyResult:
        """Return what was found."""
        return VerifyResult(
            self.records,
            self.head,
            self.marks,
            self._verdicts,
            self._found,
            tuple(self._problems),
        )

    def record(self, seq: int, found: str, body: object) -> None:
        """Take the next record: its place, its text, then what it says.

        A column of text holds text alone, unless a byte of the file has changed.
        """
        self.records += 1
        if seq != self.head.seq + 1:
            self.problem(f"records {self.head.seq + 1} to {seq - 1} are missing")
        if not isinstance(body, str):
            self.problem(f"record {seq}: has no text")
            body = ""
        true = digest(body)
        if found != true:
            self.problem(f"record {seq}: its text does not have its hash")
        self._read(seq, body)
        self.head = Head(seq, true)
        self.hashes[seq] = true

    def _read(self, seq: int, body: str) -> None:
        try:
            fields = json.loads(body)
            if fields["seq"] != seq:
                self.problem(f"record {seq}: says that it is number {fields['seq']}")
            if fields["prev"] != self.head.hash:
                self.problem(f"record {seq}: does not follow the one before")
            self._apply(seq, fields["kind"], fields["payload"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            self.problem(f"record {seq}: cannot be understood: {type(error).__name__} {error}")

    def _apply(self, seq: int, kind: str, payload: Any) -> None:
        name, dot, change = kind.partition(".")
        if kind == VERDICT and self._judge is not None:
            self._replay(seq, payload, self._judge)
        if not dot:
            return
        rows, table = self.image[name], _TABLES[name]
        if change == "replace":
            rows.clear()
            rows.update({(key,): {"symbol": key, "quantity": payload[key]} for key in payload})
            return
        key = _key(table, payload)
        if (key in rows) == (change == "insert"):
            self.problem(f"record {seq}: {change} of {name} {_shown(key)}, which cannot be")
        rows.setdefault(key, {}).update(payload)

    def _replay(self, seq: int, payload: Mapping[str, Any], judge: Judge) -> None:
        self._verdicts += 1
        try:
            again = canonical(judge(payload["inputs"]))
        except Exception as error:  # noqa: BLE001 whatever the judge stumbles over is a finding
            self.problem(f"record {seq}: its verdict cannot be judged again: {error!r}")
            return
        if again != canonical(payload["verdict"]):
            self.problem(f"record {seq}: judged again, its verdict is another")


def _records(connection: Connection) -> Iterator[tuple[int, str, str]]:
    table = schema.audit
    asked = select(table.c.seq, table.c.hash, table.c.body).order_by(table.c.seq)
    for row in connection.execution_options(yield_per=_CHUNK).execute(asked):
        yield row[0], row[1], row[2]


def _compare(connection: Connection, walk: _Walk) -> None:
    """Compare every table with what the chain says of it."""
    for name, table in _TABLES.items():
        rows = walk.image[name]
        for found in connection.execute(select(table)).mappings():
            key = _key(table, dict(found))
            said = rows.pop(key, None)
            if said is None:
                walk.problem(f"{name} {_shown(key)} is in no record")
                continue
            for column, value in found.items():
                if value != said.get(column):
                    walk.problem(
                        f"{name} {_shown(key)}: {column} is {value!r}, "
                        f"the records say {said.get(column)!r}"
                    )
        for key in rows:
            walk.problem(f"{name} {_shown(key)} is missing")


def _check_anchor(committed: Sequence[Head], walk: _Walk) -> None:
    """Look for every record that the anchor knows to be committed."""
    walk.marks = len(committed)
    for mark in committed:
        found = walk.hashes.get(mark.seq)
        if found is None:
            walk.problem(f"the anchor knows record {mark.seq}, which is not there")
        elif found != mark.hash:
            walk.problem(f"record {mark.seq} is not the one that the anchor knows")


def _key(table: Table, row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[column.name] for column in table.primary_key)


def _shown(key: tuple[Any, ...]) -> str:
    return " ".join(map(str, key))
