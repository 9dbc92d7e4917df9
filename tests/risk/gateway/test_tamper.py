"""Files of the ledger and its anchor that somebody, or a disk, changed while nobody looked."""

import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from risk.gateway import schema
from risk.gateway.audit import FileAnchor
from risk.gateway.ledger import Ledger
from risk.gateway.records import Account
from risk.gateway.storage import LedgerFailed
from risk.gateway.verify import verify

NOW = datetime(2024, 3, 5, 15, 0, tzinfo=UTC)
SEED, EDITS, EDITS_IN_SOAK = 27, 300, 10_000
TRANSACTIONS = 12


@dataclass
class Files:
    """A ledger at rest, and what it was like after each of its transactions.

    Args:
        folder: where edited copies are put.
        ledgers: contents of the database, oldest first; the last one is today's.
        anchors: of the anchor, likewise.
        rows: of every table today.
    """

    folder: Path
    ledgers: list[bytes]
    anchors: list[bytes]
    rows: dict[str, list[Any]]

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger.db"

    @property
    def anchor(self) -> Path:
        return self.folder / "anchor"


def rows_of(ledger: Ledger) -> dict[str, list[Any]]:
    with ledger.reading() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(select(table))]
            for table in schema.metadata.sorted_tables
        }


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Give a ledger of some days, closed after each transaction."""
    folder = tmp_path_factory.mktemp("true")
    path, anchor = folder / "ledger.db", FileAnchor(folder / "anchor")
    ledgers, anchors = [], []
    first = Ledger(f"sqlite:///{path}", anchor)
    first.migrate()
    first.acquire("gateway")
    first.close()
    for number in range(TRANSACTIONS):
        ledger = Ledger(f"sqlite:///{path}", anchor)
        with ledger.writing(1) as writer:
            money = [Decimal(100 + number)] * 5
            writer.add_account(Account("PA1", True, "USD", *money, True, False, False), NOW)
            writer.audit("note", "test", {"number": number, "words": "x" * 300})
            writer.set_positions({"A": Decimal(number), "B": Decimal(-1)})
        ledger.close()
        assert not path.with_name("ledger.db-wal").exists()
        ledgers.append(path.read_bytes())
        anchors.append(anchor.path.read_bytes())
    ledger = Ledger(f"sqlite:///{path}", anchor)
    assert verify(ledger, anchor).ok
    found = rows_of(ledger)
    ledger.close()
    return Files(tmp_path_factory.mktemp("edited"), ledgers, anchors, found)


# Edits: each writes the two files, and returns whether it may be harmless: a byte that no row holds


def flip_bytes(draw: random.Random, files: Files) -> bool:
    content = bytearray(files.ledgers[-1])
    for _ in range(draw.choice((1, 1, 2, 8))):
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    files.ledger.write_bytes(content)
    return True


def overwrite_a_block(draw: random.Random, files: Files) -> bool:
    content = bytearray(files.ledgers[-1])
    at, size = draw.randrange(len(content)), draw.choice((16, 512, 4096))
    content[at : at + size] = bytes(draw.choice((0, 255)) for _ in content[at : at + size])
    files.ledger.write_bytes(content)
    return True


def cut_the_tail_of_the_file(draw: random.Random, files: Files) -> bool:
    content = files.ledgers[-1]
    cut = draw.choice((1, 100, 4096, 8192, draw.randrange(1, len(content))))
    files.ledger.write_bytes(content[:-cut])
    return True


def restore_an_older_copy(draw: random.Random, files: Files) -> bool:
    files.ledger.write_bytes(draw.choice(files.ledgers[:-1]))
    return False


def change_a_row(draw: random.Random, files: Files) -> bool:
    """Change the text of a record, or a value of a table, as a person with a client would."""
    statements = (
        "UPDATE audit SET body = replace(body, '\"note\"', '\"nota\"') WHERE seq = {seq}",
        "UPDATE audit SET hash = '{other}' WHERE seq = {seq}",
        "UPDATE audit SET body = '{{}}' WHERE seq = {seq}",
        "UPDATE accounts SET peak_equity = peak_equity || '1' WHERE id = {id}",
        "UPDATE positions SET quantity = '7{id}'",
        "UPDATE latch SET state = 'armed'",
        "UPDATE fence SET epoch = epoch + {id}",
    )
    return _by_sql(draw, files, draw.choice(statements))


def delete_rows(draw: random.Random, files: Files) -> bool:
    statements = (
        "DELETE FROM audit WHERE seq = {seq}",
        "DELETE FROM audit WHERE seq >= {seq}",
        "DELETE FROM audit WHERE seq <= {seq}",
        "DELETE FROM accounts WHERE id = {id}",
        "DELETE FROM positions WHERE symbol = 'B'",
        "DELETE FROM latch",
        "DELETE FROM fence",
        "DELETE FROM audit",
    )
    return _by_sql(draw, files, draw.choice(statements))


def exchange_rows(draw: random.Random, files: Files) -> bool:
    """Let two neighbouring records trade their places."""
    swap = (
        "UPDATE audit SET seq = -1 WHERE seq = {seq}; "
        "UPDATE audit SET seq = {seq} WHERE seq = {seq} + 1; "
        "UPDATE audit SET seq = {seq} + 1 WHERE seq = -1"
    )
    return _by_sql(draw, files, swap)


def _by_sql(draw: random.Random, files: Files, statement: str) -> bool:
    """Run statements on a copy; draw again where they change nothing."""
    while True:
        files.ledger.write_bytes(files.ledgers[-1])
        connection = sqlite3.connect(files.ledger, isolation_level=None)
        (last,) = connection.execute("SELECT max(seq) FROM audit").fetchone()
        before = list(connection.iterdump())
        words = {"seq": draw.randrange(1, last), "id": draw.randint(1, TRANSACTIONS)}
        connection.executescript(statement.format(**words, other=f"{draw.getrandbits(256):064x}"))
        changed = list(connection.iterdump()) != before
        connection.close()
        if changed:
            return False


def change_the_anchor(draw: random.Random, files: Files) -> bool:
    """Let a committed mark say something else."""
    files.ledger.write_bytes(files.ledgers[-1])
    lines = files.anchors[-1].splitlines(keepends=True)
    at = draw.choice([n for n, line in enumerate(lines) if line.startswith(b"committed")])
    word, number, found = lines[at].split()
    if draw.random() < 0.5:
        place = draw.randrange(len(found))
        other = draw.choice([c for c in b"0123456789abcdef" if c != found[place]])
        found = found[:place] + bytes([other]) + found[place + 1 :]
    else:
        number = str(int(number) + draw.choice((-1, 1, 100))).encode()
    lines[at] = b"%s %s %s\n" % (word, number, found)
    files.anchor.write_bytes(b"".join(lines))
    return False


def spoil_the_anchor(draw: random.Random, files: Files) -> bool:
    """Put a byte into it that no mark has."""
    files.ledger.write_bytes(files.ledgers[-1])
    content = bytearray(files.anchors[-1])
    content[draw.randrange(len(content) - 1)] = draw.choice(b"\0\n\xff?")
    files.anchor.write_bytes(content)
    return content == bytearray(files.anchors[-1])


def restore_an_older_anchor(draw: random.Random, files: Files) -> bool:
    files.ledger.write_bytes(files.ledgers[-1])
    files.anchor.write_bytes(draw.choice([b"", *files.anchors[:-1]]))
    return False


def lose_the_anchor(_draw: random.Random, files: Files) -> bool:
    files.ledger.write_bytes(files.ledgers[-1])
    files.anchor.unlink()
    return False


KINDS: tuple[Callable[[random.Random, Files], bool], ...] = (
    flip_bytes,
    overwrite_a_block,
    cut_the_tail_of_the_file,
    restore_an_older_copy,
    change_a_row,
    delete_rows,
    exchange_rows,
    change_the_anchor,
    spoil_the_anchor,
    restore_an_older_anchor,
    lose_the_anchor,
)


def is_found(files: Files) -> bool:
    """Return whether verification finds the edit; else the rows must be those of today."""
    anchor = FileAnchor(files.anchor)
    ledger = Ledger(f"sqlite:///{files.ledger}", anchor)
    try:
        if not verify(ledger, anchor).ok:
            return True
        assert rows_of(ledger) == files.rows, "an edit changed rows, and was not found"
        return False
    except LedgerFailed:
        return True
    finally:
        ledger.close()


def test_every_edit_of_the_files_is_found_unless_no_row_has_changed(
    files: Files, soak: bool
) -> None:
    count, draw = EDITS_IN_SOAK if soak else EDITS, random.Random(SEED)
    made: Counter[str] = Counter()
    found: Counter[str] = Counter()
    missed = []
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        files.anchor.write_bytes(files.anchors[-1])
        harmless = kind(draw, files)
        made[kind.__name__] += 1
        if is_found(files):
            found[kind.__name__] += 1
        elif not harmless:
            missed.append((number, kind.__name__))
        for path in files.folder.glob("ledger.db*"):
            path.unlink()
    for name in made:
        print(f"{name}: {found[name]} of {made[name]} found, no row changed by the others")
    print(f"{count} edits, seed {SEED}: {len(missed)} missed")
    assert missed == []
    assert all(found[name] > 0 for name in made)


def test_an_untouched_copy_is_no_edit(files: Files) -> None:
    files.ledger.write_bytes(files.ledgers[-1])
    files.anchor.write_bytes(files.anchors[-1])
    assert not is_found(files)


@pytest.mark.parametrize(
    "kind", [restore_an_older_copy, restore_an_older_anchor, lose_the_anchor, delete_rows]
)
def test_a_gateway_does_not_start_from_what_lost_its_end(files: Files, kind: Any) -> None:
    draw = random.Random(SEED)
    shutil.rmtree(files.folder)
    files.folder.mkdir()
    files.anchor.write_bytes(files.anchors[-1])
    if kind is delete_rows:
        _by_sql(draw, files, "DELETE FROM audit WHERE seq >= {seq}")
    else:
        kind(draw, files)
    ledger = Ledger(f"sqlite:///{files.ledger}", FileAnchor(files.anchor))
    with pytest.raises(LedgerFailed, match=r"older copy was restored|never heard of"):
        ledger.acquire("gateway")
    ledger.close()


@pytest.mark.parametrize("content", [None, 7, b"\x00"])
def test_a_record_whose_text_has_become_something_else_is_found(
    files: Files, content: object
) -> None:
    """No statement can do that to a column of text, but a changed byte of the file can."""
    files.ledger.write_bytes(files.ledgers[-1])
    files.anchor.write_bytes(files.anchors[-1])
    plain = "replace(replace(sql, 'STRICT', ''), 'body TEXT NOT NULL', 'body')"
    for statement, values in (
        (f"UPDATE sqlite_master SET sql = {plain} WHERE name = 'audit'", ()),
        ("UPDATE audit SET body = ? WHERE seq = 3", (content,)),
    ):
        with closing(sqlite3.connect(files.ledger)) as connection, connection:
            connection.execute("PRAGMA writable_schema = ON")
            connection.execute(statement, values)
    ledger = Ledger(f"sqlite:///{files.ledger}", FileAnchor(files.anchor))
    problems = verify(ledger, FileAnchor(files.anchor)).problems
    ledger.close()
    assert "record 3: has no text" in problems, problems
