"""Two common ways to send orders, to be killed and lied to beside the gateway.

Both use the gateway's own careful client, which sends once and says what an answer proves; what
differs is only what they write down, when, and what they take an error for.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

from benchmarks.crashes.life import PATIENT_STEPS, STEPS, Unfinished
from benchmarks.crashes.venue import START, STEP_S, Venue
from risk.gateway.broker import Broker, BrokerError, Refused
from risk.gateway.records import BrokerStatus, OrderRequest

TABLE = "CREATE TABLE IF NOT EXISTS book (leg TEXT PRIMARY KEY, state TEXT, id TEXT, filled TEXT)"
REJECTED, SENT, SENDING = "rejected", "sent", "sending"


class Book:
    """What a path has written down of each leg: its state, and how much of it is filled."""

    def __init__(self, folder: Path) -> None:
        self._connection = sqlite3.connect(folder / "book.sqlite", isolation_level=None)
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute(TABLE)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def put(self, leg: str, state: str, identity: str) -> None:
        """Write down what is believed of a leg."""
        asked = "INSERT OR REPLACE INTO book VALUES (?, ?, ?, '0')"
        self._connection.execute(asked, (leg, state, identity))

    def fill(self, identity: str, filled: str) -> None:
        """Write down what is filled of an order that is known to be there."""
        asked = "UPDATE book SET filled = ? WHERE id = ? AND state = ?"
        self._connection.execute(asked, (filled, identity, SENT))

    def rows(self) -> dict[str, tuple[str, str, str]]:
        """Return state, order id and filled quantity by leg."""
        rows = self._connection.execute("SELECT leg, state, id, filled FROM book").fetchall()
        return {leg: (state, identity, filled) for leg, state, identity, filled in rows}


def leg_of(order: OrderRequest) -> str:
    """Return what an order is for."""
    return f"{order.side.value} {order.symbol}"


def submit_then_persist(book: Book, broker: Broker, order: OrderRequest) -> None:
    """Send an order, and write it down when the broker has confirmed it; else send it again."""
    fresh = replace(order, client_order_id=str(uuid4()))
    try:
        broker.submit(fresh)
    except Refused as error:
        if error.retry_after is None:
            book.put(leg_of(order), REJECTED, fresh.client_order_id)
    except BrokerError:
        return  # it is not in the book: the next round sends it
    else:
        book.put(leg_of(order), SENT, fresh.client_order_id)


def error_is_rejection(book: Book, broker: Broker, order: OrderRequest) -> None:
    """Write an order down, send it under an id that repeats, and take every error for a no."""
    book.put(leg_of(order), SENDING, order.client_order_id)
    try:
        broker.submit(order)
    except BrokerError:
        book.put(leg_of(order), REJECTED, order.client_order_id)
    else:
        book.put(leg_of(order), SENT, order.client_order_id)


PATHS = {"submit_then_persist": submit_then_persist, "error_is_rejection": error_is_rejection}


def live(path: str, venue: Venue, broker: Broker, plan: Sequence[OrderRequest]) -> None:
    """Send what is planned and not yet settled in the book, until nothing is open any more.

    Raises:
        Unfinished: if that takes too long.
    """
    with closing(Book(venue.folder)) as book:
        for step in range(STEPS):
            known = book.rows()
            waiting = [o for o in plan if known.get(leg_of(o), (SENDING,))[0] == SENDING]
            for order in waiting:
                PATHS[path](book, broker, order)
            if not waiting and _booked(book, broker):
                return
            venue.admin("PUT", "/admin/clock", {"advance_s": STEP_S})
            if step == PATIENT_STEPS:
                venue.admin("DELETE", "/admin/faults")
    raise Unfinished(f"{path}: after {STEPS} steps")


def _booked(book: Book, broker: Broker) -> bool:
    """Book what is filled of the known orders; return whether none of them is open."""
    try:
        there = broker.orders(START - timedelta(days=1))
    except BrokerError:
        return False
    for order in there:
        book.fill(order.client_order_id, str(order.filled))
    return all(order.status is not BrokerStatus.working for order in there)
