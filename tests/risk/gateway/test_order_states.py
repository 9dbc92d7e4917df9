"""The ways of orders, decisions and the latch, written down a second time.

The tables here are not taken from the code: a move that one of the two allows and the other does
not is a mistake in one of them.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import product
from typing import Any

import pytest

from risk.gateway.ledger import Ledger
from risk.gateway.records import TERMINAL, Decision, Fill, OrderState, Side
from risk.gateway.stored import BROKER_SAYS, LEGAL, LEGAL_DECISION, DecisionState, StoredOrder
from risk.gateway.writer import Conflict, Halted, Writer

NOW = datetime(2024, 3, 5, 15, 0, tzinfo=UTC)
LATER = NOW + timedelta(seconds=9)
D = Decimal

# What a broker can show of an order that it has, whatever we thought of it.
SHOWN = "working filled partly_done cancelled expired"
MOVES = {
    "intent": f"in_flight dropped refused {SHOWN}",
    "in_flight": f"unknown refused intent {SHOWN}",
    "unknown": f"in_flight unknown refused {SHOWN}",
    "working": f"refused {SHOWN}",
    "refused": f"refused {SHOWN}",
    "dropped": SHOWN,
    "cancelled": "cancelled partly_done filled",
    "expired": "expired partly_done filled",
    "partly_done": "partly_done filled",
    "filled": "filled",
}
ENDS = {"refused", "filled", "partly_done", "cancelled", "expired", "dropped"}
DECISIONS = {
    "received": "refused accepted failed",
    "accepted": "done failed",
    "refused": "",
    "done": "",
    "failed": "done",
}
REACHED = {
    "intent": "",
    "in_flight": "in_flight",
    "unknown": "in_flight unknown",
    "working": "in_flight working",
    "refused": "in_flight refused",
    "dropped": "dropped",
    "cancelled": "in_flight cancelled",
    "expired": "in_flight expired",
    "partly_done": "in_flight partly_done",
    "filled": "in_flight filled",
}


class Undone(Exception):
    """Ends a transaction that a test does not want to keep."""


def decision(**changes: Any) -> Decision:
    plain = Decision(
        id="d",
        account="PA1",
        as_of=date(2024, 3, 4),
        expires_at=NOW + timedelta(hours=5),
        model_sha256="m" * 64,
        weights={"A": D("0.5")},
        agents={"one": (D(1), {"A": D("0.5")})},
        body_sha256="body",
    )
    return replace(plain, **changes)


def order(name: str = "o", **changes: Any) -> StoredOrder:
    plain = StoredOrder(
        client_order_id=name,
        decision_id="d",
        account="PA1",
        symbol="A",
        side=Side.buy,
        slice=0,
        quantity=D(10),
        limit_price=D("9.99"),
        reference_price=D(10),
        state=OrderState.intent,
        broker_id=None,
        filled=D(0),
        average_price=None,
        created_at=NOW,
        sent_at=None,
        ended_at=None,
        detail=None,
    )
    return replace(plain, **changes)


def fill(name: str = "e", **changes: Any) -> Fill:
    plain = Fill(name, "b", "o", "A", Side.buy, D(4), D("9.98"), D(0), NOW)
    return replace(plain, **changes)


@pytest.fixture
def epoch(ledger: Ledger) -> int:
    """Return the epoch of an armed ledger with a decision and an intent."""
    found = ledger.acquire("gateway")
    with ledger.writing(found) as writer:
        writer.set_latch(True, "for tests", "person", NOW)
        writer.insert_decision(decision(), "paper", NOW)
        writer.insert_orders([order()])
    return found


@contextmanager
def undone(ledger: Ledger, epoch: int) -> Iterator[Writer]:
    """Give a transaction that is rolled back, so that one database serves many cases."""
    with pytest.raises(Undone), ledger.writing(epoch) as writer:
        yield writer
        raise Undone


def last_record(ledger: Ledger) -> dict[str, Any]:
    with ledger.reading() as connection:
        found = connection.exec_driver_sql("SELECT body FROM audit ORDER BY seq DESC LIMIT 1")
        record: dict[str, Any] = json.loads(found.scalar_one())
        return record


def test_the_tables_of_the_code_are_those_that_were_written_down_here() -> None:
    assert {state.name: {to.name for to in LEGAL[state]} for state in OrderState} == {
        state: set(to.split()) for state, to in MOVES.items()
    }
    assert {state.name for state in TERMINAL} == ENDS
    assert {state.name for state in BROKER_SAYS} == set(SHOWN.split())
    assert {state.name: {to.name for to in LEGAL_DECISION[state]} for state in DecisionState} == {
        state: set(to.split()) for state, to in DECISIONS.items()
    }


def test_no_way_leads_from_an_end_to_a_second_sending() -> None:
    """I1, by a walk over the graph: from any end only ends, and what the broker shows."""
    for end in ENDS:
        reached, new = set(), {end}
        while new:
            reached |= new
            new = {to for state in new for to in MOVES[state].split()} - reached
        assert not reached & {"intent", "in_flight", "unknown"}


def test_exactly_the_moves_that_are_written_down_here_are_made(ledger: Ledger, epoch: int) -> None:
    for before, after in product(MOVES, MOVES):
        with undone(ledger, epoch) as writer:
            for state in REACHED[before].split():
                writer.set_order("o", OrderState(state), at=NOW)
            if after in MOVES[before].split():
                writer.set_order("o", OrderState(after), at=LATER)
                moved = writer.order("o")
                assert moved is not None and moved.state.name == after
                first_end = NOW if before in ENDS else LATER
                assert moved.ended_at == (first_end if after in ENDS else None), (before, after)
            else:
                with pytest.raises(ValueError, match=f"cannot go {before}->{after}"):
                    writer.set_order("o", OrderState(after), at=LATER)


def test_exactly_the_moves_of_decisions_are_made(ledger: Ledger, epoch: int) -> None:
    ways = {"received": "", "accepted": "accepted", "refused": "refused",
            "done": "accepted done", "failed": "failed"}  # fmt: skip
    for before, after in product(DECISIONS, DECISIONS):
        with undone(ledger, epoch) as writer:
            for state in ways[before].split():
                writer.set_decision("d", DecisionState(state))
            if after in DECISIONS[before].split():
                writer.set_decision("d", DecisionState(after), ["why", "and why"])
                moved = writer.decision("d")
                assert moved is not None
                assert (moved.state.name, moved.reasons) == (after, ("why", "and why"))
            else:
                with pytest.raises(ValueError, match=f"cannot go {before}->{after}"):
                    writer.set_decision("d", DecisionState(after))


def test_a_decision_is_known_by_body_and_mode(ledger: Ledger, epoch: int) -> None:
    with ledger.writing(epoch) as writer:
        assert writer.insert_decision(decision(), "paper", LATER) is False
        assert writer.insert_decision(decision(id="e"), "paper", LATER) is True
    with pytest.raises(Conflict), ledger.writing(epoch) as writer:
        writer.insert_decision(decision(body_sha256="another"), "paper", LATER)
    with pytest.raises(Conflict), ledger.writing(epoch) as writer:
        writer.insert_decision(decision(), "dry_run", LATER)
    found = ledger.decision("d")
    assert found is not None and found.received_at == NOW


def test_records_say_what_was_done_by_whom_and_for_which_model(ledger: Ledger, epoch: int) -> None:
    with ledger.writing(epoch) as writer:
        writer.insert_decision(decision(id="e", model_sha256="n" * 64), "paper", NOW)
    inserted = last_record(ledger)
    assert (inserted["kind"], inserted["model"]) == ("decisions.insert", "n" * 64)
    with ledger.writing(epoch) as writer:
        writer.set_decision("e", DecisionState.accepted)
    moved = last_record(ledger)
    assert (moved["kind"], moved["model"]) == ("decisions.update", "n" * 64)
    assert moved["payload"]["id"] == "e"
    with ledger.writing(epoch) as writer:
        writer.set_latch(False, "loss", "a person", NOW)
    assert (last_record(ledger)["kind"], last_record(ledger)["actor"]) == (
        "latch.insert",
        "a person",
    )
    with ledger.writing(epoch) as writer:
        writer.set_positions({"B": D(-3), "A": D("1.5"), "C": D(0)})
    replaced = last_record(ledger)
    assert replaced["kind"] == "positions.replace"
    assert replaced["payload"] == {"A": "1.5", "B": "-3"}
    assert ledger.positions() == {"A": D("1.5"), "B": D(-3)}
    with ledger.writing(epoch) as writer:
        writer.set_positions({})
    assert ledger.positions() == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"state": OrderState.in_flight},
        {"state": OrderState.filled},
        {"filled": D("0.1")},
        {"quantity": D(0)},
        {"quantity": D(-1)},
    ],
)
def test_only_fresh_intents_of_some_shares_get_in(
    ledger: Ledger, epoch: int, changes: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="no fresh intent"), ledger.writing(epoch) as writer:
        writer.insert_orders([order("p", symbol="B", **changes)])
    with ledger.writing(epoch) as writer:
        writer.insert_orders([order("p", symbol="B", quantity=D("0.5"))])
    assert {one.client_order_id for one in ledger.orders()} == {"o", "p"}


def test_an_order_that_nobody_knows_cannot_move(ledger: Ledger, epoch: int) -> None:
    with pytest.raises(ValueError, match="order x is unknown"), ledger.writing(epoch) as writer:
        writer.set_order("x", OrderState.dropped, at=NOW)
    with pytest.raises(ValueError, match="decision x is unknown"), ledger.writing(epoch) as writer:
        writer.set_decision("x", DecisionState.refused)


def test_the_first_sending_and_the_last_words_are_kept(ledger: Ledger, epoch: int) -> None:
    with ledger.writing(epoch) as writer:
        writer.set_order("o", OrderState.in_flight, at=NOW, detail="first")
        writer.set_order("o", OrderState.intent, at=LATER, detail="wait")
        writer.set_order("o", OrderState.in_flight, at=LATER)
    found = ledger.order("o")
    assert found is not None
    assert (found.sent_at, found.detail, found.broker_id, found.ended_at) == (
        NOW,
        "wait",
        None,
        None,
    )
    with ledger.writing(epoch) as writer:
        writer.set_order("o", OrderState.working, at=LATER, broker_id="b1")
        writer.set_order("o", OrderState.working, at=LATER)
        writer.set_order("o", OrderState.working, at=LATER, broker_id="b1")
    found = ledger.order("o")
    assert found is not None and found.broker_id == "b1" and found.ended_at is None
    with pytest.raises(ValueError, match="is b1, not b2"), ledger.writing(epoch) as writer:
        writer.set_order("o", OrderState.filled, at=LATER, broker_id="b2")


def test_a_working_order_of_an_unsent_intent_was_never_sent_by_us(
    ledger: Ledger, epoch: int
) -> None:
    with ledger.writing(epoch) as writer:
        writer.set_order("o", OrderState.working, at=NOW, broker_id="b1")
    found = ledger.order("o")
    assert found is not None and found.sent_at is None


def test_only_what_was_unknown_is_doubted(ledger: Ledger, epoch: int) -> None:
    with undone(ledger, epoch) as writer:
        writer.set_order("o", OrderState.in_flight, at=NOW)
        writer.set_order("o", OrderState.intent, at=NOW)
        writer.set_order("o", OrderState.in_flight, at=NOW)
        writer.set_order("o", OrderState.unknown, at=NOW)
        writer.set_order("o", OrderState.in_flight, at=NOW)
        with pytest.raises(ValueError, match="cannot go in_flight->intent"):
            writer.set_order("o", OrderState.intent, at=NOW)
        writer.set_order("o", OrderState.working, at=NOW)


def test_without_the_latch_only_the_sending_stops(ledger: Ledger, epoch: int) -> None:
    with ledger.writing(epoch) as writer:
        writer.set_latch(False, "loss", "gateway", NOW)
    with pytest.raises(Halted), ledger.writing(epoch) as writer:
        writer.set_order("o", OrderState.in_flight, at=NOW)
    with ledger.writing(epoch) as writer:
        writer.set_order("o", OrderState.dropped, at=NOW)
    assert ledger.order("o") == order(state=OrderState.dropped, ended_at=NOW)


def test_a_start_disarms_and_leaves_a_trip_as_it_was(ledger: Ledger, epoch: int) -> None:
    with ledger.writing(epoch) as writer:
        writer.start_latch(NOW)
    started = ledger.latch()
    assert (started.armed, started.tripped, started.actor) == (False, False, "gateway")
    with ledger.writing(epoch) as writer:
        writer.set_latch(False, "loss", "person", NOW)
    tripped = ledger.latch()
    assert (tripped.armed, tripped.tripped, tripped.id) == (False, True, started.id + 1)
    with ledger.writing(epoch) as writer:
        writer.start_latch(LATER)
    assert ledger.latch() == tripped
    with ledger.writing(epoch) as writer:
        writer.set_latch(True, "seen to", "person", LATER)
    armed = ledger.latch()
    assert (armed.armed, armed.tripped, armed.reason, armed.at) == (True, False, "seen to", LATER)


@pytest.mark.parametrize(
    "changes",
    [{"quantity": D(0)}, {"quantity": D(-1)}, {"price": D(0)}, {"price": D(-1)},
     {"commission": D("-0.01")}],
)  # fmt: skip
def test_an_impossible_fill_is_not_booked(
    ledger: Ledger, epoch: int, changes: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="impossible"), ledger.writing(epoch) as writer:
        writer.add_fill(fill(**changes))
    assert ledger.fills() == []


def test_fills_are_booked_once_on_their_own_order(ledger: Ledger, epoch: int) -> None:
    with ledger.writing(epoch) as writer:
        writer.insert_orders([order("p", side=Side.sell)])
        assert writer.add_fill(fill("e1", quantity=D("0.5"), price=D("0.5"))) is True
        assert writer.add_fill(fill("e1", quantity=D("0.5"), price=D("0.5"))) is False
        assert writer.add_fill(fill("e2", quantity=D("1.5"), price=D("0.7"), commission=D("0.3")))
        assert writer.add_fill(fill("e3", client_order_id="p", side=Side.sell))
        assert writer.add_fill(fill("e4", client_order_id="a stranger's", symbol="Z"))
        assert writer.add_fill(fill("e5", client_order_id=None))
    mine, other = ledger.order("o"), ledger.order("p")
    assert mine is not None and other is not None
    assert (mine.filled, mine.average_price) == (D(2), D("0.65"))
    assert (other.filled, other.average_price) == (D(4), D("9.98"))
    with ledger.writing(epoch) as writer:
        writer.add_fill(fill("e6", quantity=D(1), price=D("0.7")))
    mine = ledger.order("o")
    assert mine is not None and mine.average_price == D("0.66666667")  # eight places
    for wrong in ({"symbol": "B"}, {"side": Side.sell}, {"symbol": "B", "side": Side.sell}):
        with pytest.raises(Conflict), ledger.writing(epoch) as writer:
            writer.add_fill(fill("e7", **wrong))
    for wrong in ({"quantity": D(5)}, {"price": D(5)}, {"at": LATER}, {"commission": D(1)}):
        with pytest.raises(Conflict), ledger.writing(epoch) as writer:
            writer.add_fill(fill("e3", client_order_id="p", **({"side": Side.sell} | wrong)))
    assert len(ledger.fills()) == 6
