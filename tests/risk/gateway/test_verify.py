"""Every edit of the chain or of a table is found, also by one who can compute hashes."""

import json
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any

import pytest
from sqlalchemy import Connection, Integer, delete, insert, select

from risk.gateway import schema
from risk.gateway.audit import START, FileAnchor
from risk.gateway.canonical import canonical
from risk.gateway.ledger import Ledger
from risk.gateway.records import Account, Activity, Decision, Fill, OrderState, Side
from risk.gateway.stored import Arrival, DecisionState, StoredOrder
from risk.gateway.strategy_reads import DayEnd, Proposal, Ramp, Tracked
from risk.gateway.verify import verify
from risk.gateway.writer import Writer

NOW = datetime(2024, 3, 5, 15, 0, tzinfo=UTC)
TODAY = NOW.date()
Row = dict[str, Any]
Tables = dict[str, list[Row]]


def _strategy(writer: Writer) -> None:
    """Write what the strategy's rules remember, twice, so that there are changes too."""
    for number in (1, 2):
        hundred, model = Decimal(100 + number), "m" * 64
        day = DayEnd(
            TODAY, hundred, hundred, hundred, hundred, 0, 0, Decimal(1), Decimal("0.2"), model
        )
        writer.put_day(day)
        writer.put_tracked(Tracked("A", Decimal("1.5"), hundred, hundred, number, 0))
        writer.put_ramp(Ramp(model, 0, number, "gateway", NOW))
        signed = {"ada": "00" * 64} if number == 2 else {}
        writer.put_proposal(
            Proposal("p" * 64, "b" * 64, {"max": "2"}, "token 1", NOW, signed, None, "open"), "ada"
        )


@pytest.fixture
def lived_in(ledger: Ledger) -> Ledger:
    """Give a ledger with rows in every table and records of every kind."""
    epoch = ledger.acquire("gateway")
    with ledger.writing(epoch) as writer:
        writer.put_limits(1, '{"max":"1"}', "person", NOW)
        writer.set_latch(True, "first day", "person", NOW)
        writer.set_regime(TODAY, "calm")
        account = Account("PA1", True, "USD", *[Decimal(100)] * 5, True, False, False)
        writer.add_account(account, NOW)
    for number in range(4):
        with ledger.writing(epoch) as writer:
            basket(writer, f"d{number}")
    with ledger.writing(epoch) as writer:
        writer.set_positions({"A": Decimal("1.5"), "B": Decimal(-2)})
        writer.set_decision("d0", DecisionState.accepted)
        writer.add_performance("balanced", TODAY, "calm", Decimal("0.01"))
        writer.log_rebalance(TODAY, "d0", {"why": "daily"}, NOW)
        _strategy(writer)
        writer.set_cash(Decimal(100))
        writer.add_activity(Activity("DIV-1", "DIV", "A", Decimal(0), Decimal(3), False, TODAY))
        first = writer.orders(decision_id="d0")[0]
        writer.set_arrival(Arrival(first.client_order_id, NOW, Decimal(10), None, None))
        writer.put_limits(2, '{"max":"0.5"}', "person", NOW)
    ledger.trip("enough", "person", NOW)
    assert verify(ledger, ledger.anchor).problems == ()
    return ledger


def basket(writer: Any, name: str) -> None:
    decision = Decision(
        name, "PA1", TODAY, NOW, "m", {"A": Decimal("0.5")}, {"one": (Decimal(1), {})}, name
    )
    writer.insert_decision(decision, "paper", NOW)
    writer.audit("verdict", "gateway", {"inputs": {"x": name}, "verdict": {"allowed": True}})
    for number in range(3):
        cid = f"{name}-{number}"
        order = StoredOrder(
            cid, name, "PA1", f"S{number}", Side.buy, 0, Decimal(10), Decimal("9.9"), Decimal(10),
            OrderState.intent, None, Decimal(0), None, NOW, None, None, None,
        )  # fmt: skip
        writer.insert_orders([order])
        writer.set_order(cid, OrderState.in_flight, at=NOW)
        writer.set_order(cid, OrderState.working, at=NOW, broker_id=f"b{cid}")
        fill = Fill(
            f"e{cid}", f"b{cid}", cid, order.symbol, Side.buy, Decimal(4), Decimal("9.8"),
            Decimal(0), NOW + timedelta(seconds=number),
        )  # fmt: skip
        writer.add_fill(fill)


# Edits: each changes the tables as they were read, and says what it did


def text_changed(draw: random.Random, text: str) -> str:
    at = draw.randrange(len(text))
    other = draw.choice([c for c in '0123456789abcdefXYZ{}:," é' if c != text[at]])
    return draw.choice([text[:at] + other + text[at + 1 :], text[:at] + text[at + 1 :]])


def forge(rows: list[Row], first: int = 1) -> None:
    """Renumber records and compute every hash anew, as one would who knows how."""
    previous = START
    for number, row in enumerate(rows, start=1):
        if number >= first:
            fields = json.loads(row["body"]) | {"seq": number, "prev": previous}
            row["seq"], row["body"] = number, canonical(fields)
            row["hash"] = sha256(row["body"].encode()).hexdigest()
        previous = row["hash"]


def edit_body(draw: random.Random, tables: Tables) -> None:
    row = draw.choice(tables["audit"])
    row["body"] = text_changed(draw, row["body"])


def edit_hash(draw: random.Random, tables: Tables) -> None:
    row = draw.choice(tables["audit"])
    row["hash"] = text_changed(draw, row["hash"])


def edit_body_and_hash(draw: random.Random, tables: Tables) -> None:
    row = draw.choice(tables["audit"])
    row["body"] = text_changed(draw, row["body"])
    row["hash"] = sha256(row["body"].encode()).hexdigest()


def edit_and_forge_all(draw: random.Random, tables: Tables) -> None:
    row = draw.choice(tables["audit"])
    fields = json.loads(row["body"])
    fields["actor"] += "!"
    row["body"] = canonical(fields)
    forge(tables["audit"])


def remove_records(draw: random.Random, tables: Tables) -> None:
    records = tables["audit"]
    first = draw.randrange(len(records))
    del records[first : first + draw.randint(1, 4)]


def remove_and_forge(draw: random.Random, tables: Tables) -> None:
    remove_records(draw, tables)
    forge(tables["audit"])


def cut_off_the_end(draw: random.Random, tables: Tables) -> None:
    del tables["audit"][-draw.randint(1, len(tables["audit"])) :]


def insert_record(draw: random.Random, tables: Tables) -> None:
    """Put a faultless record at the end, or anywhere with all that follow forged."""
    records = tables["audit"]
    at = draw.choice([len(records), draw.randrange(len(records))])
    fields = json.loads(records[at - 1]["body"]) | {"kind": "note", "payload": {}}
    records.insert(at, {"seq": 0, "hash": "", "body": canonical(fields)})
    forge(records, first=at + 1)


def insert_far_away(draw: random.Random, tables: Tables) -> None:
    copy = dict(draw.choice(tables["audit"]))
    copy["seq"] = draw.choice([-1, 0, 10**15, len(tables["audit"]) + 2])
    tables["audit"].append(copy)


def exchange(draw: random.Random, tables: Tables) -> None:
    one, other = draw.sample(tables["audit"], 2)
    columns = draw.choice([("body", "hash"), ("body",), ("hash",)])
    for column in columns:
        one[column], other[column] = other[column], one[column]


def exchange_and_forge(draw: random.Random, tables: Tables) -> None:
    one, other = draw.sample(tables["audit"], 2)
    one["body"], other["body"] = other["body"], one["body"]
    forge(tables["audit"])


def edit_table(draw: random.Random, tables: Tables) -> None:
    """Change one value of one row of any table that has records."""
    name = draw.choice([table.name for table in schema.AUDITED])
    row = draw.choice(tables[name])
    free = {"id", "client_order_id", "decision_id", "execution_id", "symbol", "day", "strategy"}
    column = draw.choice([column for column in row if column not in free | {"slice", "version"}])
    value = row[column]
    if isinstance(value, int):
        row[column] = value + draw.choice([-1, 1, 7])
    else:
        numeric = isinstance(schema.metadata.tables[name].c[column].type, Integer)
        missing = 1 if numeric else "x"
        row[column] = missing if value is None else text_changed(draw, value)


def remove_row(draw: random.Random, tables: Tables) -> None:
    name = draw.choice([t.name for t in schema.AUDITED if t.name not in {"decisions"}])
    gone = draw.choice(tables[name])
    tables[name].remove(gone)
    if name == "orders":
        kept = [r for r in tables["arrivals"] if r["client_order_id"] != gone["client_order_id"]]
        tables["arrivals"] = kept


def add_row(draw: random.Random, tables: Tables) -> None:
    keys = {
        "fills": ("execution_id", "forged"),
        "positions": ("symbol", "FORGED"),
        "accounts": ("id", 99),
        "latch": ("id", 99),
        "limits": ("version", 99),
        "decisions": ("id", "forged"),
        "rebalances": ("id", 99),
    }
    name = draw.choice(sorted(keys))
    column, value = keys[name]
    tables[name].append(dict(draw.choice(tables[name])) | {column: value})


EDITS: list[Callable[[random.Random, Tables], None]] = [
    edit_body,
    edit_hash,
    edit_body_and_hash,
    edit_and_forge_all,
    remove_records,
    remove_and_forge,
    cut_off_the_end,
    insert_record,
    insert_far_away,
    exchange,
    exchange_and_forge,
    edit_table,
    remove_row,
    add_row,
]


def read(connection: Connection) -> Tables:
    return {
        table.name: [
            dict(row)
            for row in connection.execute(select(table).order_by(*table.primary_key)).mappings()
        ]
        for table in (*schema.AUDITED, schema.audit)
    }


def copied(tables: Tables) -> Tables:
    return {name: [dict(row) for row in rows] for name, rows in tables.items()}


def put(ledger: Ledger, now: Tables, wanted: Tables) -> None:
    """Bring the tables to what is wanted, past all guards."""
    changed = [t for t in schema.metadata.sorted_tables if now.get(t.name) != wanted.get(t.name)]
    for parent, child in ((schema.decisions, schema.orders), (schema.orders, schema.arrivals)):
        if parent in changed:  # what refers to it has to go first and come back after it
            changed = [t for t in schema.metadata.sorted_tables if t in changed or t is child]
    with ledger._storage.writer.begin() as connection:
        for table in reversed(changed):
            connection.execute(delete(table))
        for table in changed:
            if wanted[table.name]:
                connection.execute(insert(table), wanted[table.name])


def test_every_edit_is_found(lived_in: Ledger, soak: bool, url: str) -> None:
    with lived_in.reading() as connection:
        healthy = read(connection)
    count = (5_000 if soak else 60) if url.startswith("postgresql") else (10_000 if soak else 240)
    missed = []
    for number in range(count):
        draw = random.Random(number)
        edit = EDITS[number % len(EDITS)]
        tables = copied(healthy)
        edit(draw, tables)
        assert tables != healthy, (edit, number)
        put(lived_in, healthy, tables)
        if verify(lived_in, lived_in.anchor).ok:
            missed.append((edit.__name__, number))
        put(lived_in, tables, healthy)
    print(f"{count} edits of rows, seeds 0 to {count - 1}: {len(missed)} missed")
    assert missed == []
    assert verify(lived_in, lived_in.anchor).ok


def test_each_kind_of_record_and_table_is_among_what_is_edited(lived_in: Ledger) -> None:
    with lived_in.reading() as connection:
        tables = read(connection)
    assert all(tables.values())
    kinds = {json.loads(row["body"])["kind"].partition(".")[0] for row in tables["audit"]}
    assert {table.name for table in schema.AUDITED} <= kinds


def test_a_verdict_that_would_be_another_today_is_found(lived_in: Ledger) -> None:
    def same(inputs: Any) -> object:
        return {"allowed": inputs["x"].startswith("d")}

    found = verify(lived_in, lived_in.anchor, same)
    assert (found.verdicts, found.problems) == (4, ())
    for judge in (lambda _: {"allowed": 1}, lambda _: {"allowed": False}, lambda _: None):
        assert verify(lived_in, lived_in.anchor, judge).found == 4
    broken = verify(lived_in, lived_in.anchor, lambda inputs: inputs["y"])
    assert broken.found == 4 and "cannot be judged again" in broken.problems[0]


def test_a_ledger_that_is_written_to_meanwhile_is_no_problem(lived_in: Ledger) -> None:
    class Meanwhile(FileAnchor):
        """Writes a transaction after the marks were read, and once more after the ledger was."""

        def marks(self) -> Any:
            found = list(super().marks())
            lived_in.trip("meanwhile", "test", NOW)
            return found if first.pop() else super().marks()

    first = [False, True]
    assert isinstance(lived_in.anchor, FileAnchor)
    assert verify(lived_in, Meanwhile(lived_in.anchor.path)).problems == ()


def test_a_transaction_that_was_prepared_and_never_committed_is_no_problem(
    lived_in: Ledger,
) -> None:
    anchor = lived_in.anchor
    assert isinstance(anchor, FileAnchor)
    before = len(list(anchor.marks()))
    with lived_in._storage.writer.connect() as other:  # a commit that cannot succeed
        writer = lived_in._begin(other, None)
        writer.set_latch(False, "never", "test", NOW)
        with anchor.path.open("a") as file:
            file.write(f"prepared {writer.head.seq} {writer.head.hash}\n")
    assert len(list(anchor.marks())) == before + 1
    assert verify(lived_in, anchor).ok
    lived_in.trip("later", "test", NOW)
    assert verify(lived_in, anchor).ok


def test_ten_thousand_records_are_verified_in_a_second(ledger: Ledger) -> None:
    epoch = ledger.acquire("gateway")
    for _ in range(4):
        with ledger.writing(epoch) as writer:
            for number in range(5_000):
                writer.audit("note", "test", {"number": number, "words": "x" * 200})
    rates = []
    for _ in range(3):
        start = time.perf_counter()
        found = verify(ledger, ledger.anchor)
        rates.append(found.records / (time.perf_counter() - start))
        assert found.ok and found.records > 20_000
    assert max(rates) >= 10_000


def test_canonical_text_has_one_spelling_and_what_has_none_is_refused() -> None:
    one = {"b": Decimal("1.10"), "a": [NOW, TODAY, Side.buy]}
    assert canonical(one) == (
        '{"a":["2024-03-05T15:00:00.000000+00:00","2024-03-05","buy"],"b":"1.10"}'
    )
    for bad in (float("nan"), float("inf"), object(), {1: {2}, "1": 3}, b"bytes"):
        with pytest.raises((TypeError, ValueError)):
            canonical({"x": bad})
