"""What the market was as an order was sent is kept once it counts, on both kinds of database."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from risk.gateway import schema
from risk.gateway.audit import FileAnchor
from risk.gateway.ledger import Ledger, _alembic
from risk.gateway.quality import CHUNK, qualities
from risk.gateway.records import Decision, Fill, OrderState, Side
from risk.gateway.stored import Arrival, StoredOrder
from risk.gateway.verify import verify

NOW = datetime(2024, 3, 5, 15, 0, tzinfo=UTC)
LATER = NOW + timedelta(seconds=2)
ARRIVAL = Arrival("d-0", NOW, Decimal("10.0001"), Decimal("1000.5"), Decimal("0.0123"))


def with_orders(ledger: Ledger, count: int) -> int:
    """Give a ledger's epoch, with orders in it that can be sent."""
    epoch = ledger.acquire("gateway")
    with ledger.writing(epoch) as writer:
        writer.set_latch(True, "first day", "person", NOW)
        writer.insert_decision(
            Decision("d", "PA1", NOW.date(), LATER, "m", {"A": Decimal("0.5")}, {}, "b"),
            "paper",
            NOW,
        )
        writer.insert_orders(
            [
                StoredOrder(
                    f"d-{n}", "d", "PA1", "A", Side.buy, n, Decimal(10), Decimal(11), Decimal(10),
                    OrderState.intent, None, Decimal(0), None, NOW, None, None, None,
                )
                for n in range(count)
            ]
        )  # fmt: skip
    return epoch


def test_an_arrival_comes_back_exactly_and_the_audit_knows_it(ledger: Ledger) -> None:
    epoch = with_orders(ledger, 2)
    bare = replace(ARRIVAL, client_order_id="d-1", adv=None, sigma=None)
    with ledger.writing(epoch) as writer:
        writer.set_arrival(ARRIVAL)
        writer.set_arrival(bare)
    assert ledger.arrivals(["d-0", "d-1", "d-9"]) == {"d-0": ARRIVAL, "d-1": bare}
    assert ledger.arrivals([]) == {}
    with ledger.writing(epoch) as writer:
        writer.set_arrival(replace(ARRIVAL, at=LATER, price=Decimal("10.2")))
        writer.set_accepted("d-0", LATER, 17)
    kept = ledger.arrivals(["d-0"])["d-0"]
    assert kept == replace(ARRIVAL, at=LATER, price=Decimal("10.2"), ack_ms=17, accepted_at=LATER)
    assert verify(ledger, ledger.anchor).problems == ()


def test_the_brokers_first_word_of_an_order_stands(ledger: Ledger) -> None:
    epoch = with_orders(ledger, 2)
    with ledger.writing(epoch) as writer:
        writer.set_arrival(ARRIVAL)
        writer.set_accepted("d-0", NOW, None)  # found by a look-up: its answer was lost
        writer.set_accepted("d-0", LATER, 5)
        writer.set_accepted("d-1", LATER, 5)  # sent by another gateway: nothing is known of it
    assert ledger.arrivals(["d-0", "d-1"]) == {"d-0": replace(ARRIVAL, accepted_at=NOW)}


@pytest.mark.parametrize("price", ["0", "-1"])
def test_an_impossible_price_is_refused_and_nothing_is_kept(ledger: Ledger, price: str) -> None:
    epoch = with_orders(ledger, 1)
    with pytest.raises(ValueError, match="cannot arrive"), ledger.writing(epoch) as writer:
        writer.set_arrival(replace(ARRIVAL, price=Decimal(price)))
    assert ledger.arrivals(["d-0"]) == {}


def test_an_arrival_of_no_order_is_refused_by_the_database(ledger: Ledger) -> None:
    epoch = with_orders(ledger, 1)
    with pytest.raises(ValueError, match=r"(?i)foreign key"), ledger.writing(epoch) as writer:
        writer.set_arrival(replace(ARRIVAL, client_order_id="nobody"))
    assert ledger.arrivals(["nobody"]) == {}


def test_as_many_orders_as_one_likes_are_measured(ledger: Ledger) -> None:
    count = CHUNK + 3
    epoch = with_orders(ledger, count)
    with ledger.writing(epoch) as writer:
        for n in range(count):
            writer.set_order(f"d-{n}", OrderState.in_flight, at=NOW)
            writer.set_arrival(replace(ARRIVAL, client_order_id=f"d-{n}"))
        for n in range(0, count, 100):
            writer.set_accepted(f"d-{n}", NOW, 3)
            fill = Fill(
                f"e{n}", "b", f"d-{n}", "A", Side.buy, Decimal(4), Decimal("10.0101"),
                Decimal("0.01"), LATER,
            )  # fmt: skip
            writer.add_fill(fill)
    found = qualities(ledger, ledger.orders())
    assert [one.order.client_order_id for one in found] == [
        order.client_order_id for order in ledger.orders()
    ]
    done = [one for one in found if one.order.filled > 0]
    assert len(done) == len(range(0, count, 100)) and len(found) == count
    for one in done:
        assert one.arrival_bp == pytest.approx(Decimal("9.9999"), abs=Decimal("0.0001"))
        assert one.filling_s == 2.0 and one.commission == Decimal("0.01")
        assert one.participation == 4 / Decimal("1000.5")
    assert all(one.arrival_bp is None for one in found if one.order.filled == 0)


def test_a_ledger_of_the_first_version_gets_the_table(url: str, anchor: FileAnchor) -> None:
    ledger = Ledger(url, anchor)
    ledger._storage.create()
    with ledger._storage.writer.begin() as connection:
        command.upgrade(_alembic(connection), "0001")
    with ledger._storage.reading() as connection:
        missing = compare_metadata(MigrationContext.configure(connection), schema.metadata)
    assert "arrivals" in {one[1].name for one in missing if one[0] == "add_table"}
    ledger.migrate()
    with ledger._storage.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []
    with_orders(ledger, 1)
    assert verify(ledger, anchor).problems == ()
    ledger.close()
