"""A ledger that is locked, full or without its anchor: nothing is sent that it does not hold."""

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from risk.gateway import storage
from risk.gateway.records import TERMINAL, OrderState
from risk.gateway.replay import judged_again
from risk.gateway.storage import LedgerFailed
from risk.gateway.stored import DecisionState
from risk.gateway.submission import Mode
from risk.gateway.verify import verify

FAR = {"type": "limit", "time_in_force": "day", "qty": "1", "side": "buy", "limit_price": "1"}


@contextmanager
def locked(venue: Any) -> Iterator[None]:
    """Hold the write lock of the ledger, as another process that hangs would."""
    connection = sqlite3.connect(venue.folder / "ledger.sqlite", isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


@contextmanager
def full(venue: Any) -> Iterator[None]:
    """Let the database grow no further, as on a disk that is full."""
    engine = venue.ledger._storage.writer

    def limit(connection: sqlite3.Connection, _record: Any) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count={pages}")

    engine.dispose()
    event.listen(engine, "connect", limit)
    try:
        yield
    finally:
        event.remove(engine, "connect", limit)
        engine.dispose()


@contextmanager
def without_anchor(venue: Any) -> Iterator[None]:
    """Hold the anchor's file, so that whoever wants to write to it waits for ever."""
    descriptor = os.open(venue.folder / "anchor", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def without_the_folder_of_the_anchor(venue: Any) -> Iterator[None]:
    """Take the anchor's disk away."""
    path = venue.ledger.anchor.path
    venue.ledger.anchor.path = venue.folder / "not mounted" / "anchor"
    try:
        yield
    finally:
        venue.ledger.anchor.path = path


FAILURES = (locked, full, without_anchor, without_the_folder_of_the_anchor)
OFTEN = (locked, full, without_anchor)  # the fourth is tried with decisions


@pytest.fixture(autouse=True)
def impatient(venue: Any, monkeypatch: pytest.MonkeyPatch, soak: bool) -> float:
    """Give up after a moment instead of five seconds, but in the soak."""
    patience = 5.0 if soak else 0.3
    monkeypatch.setattr(storage, "PATIENCE_S", patience)
    monkeypatch.setattr(venue.ledger.anchor, "_patience_s", patience)
    return patience


@pytest.mark.parametrize("failing", FAILURES, ids=lambda failing: failing.__name__)
def test_a_decision_that_cannot_be_kept_is_refused_and_not_sent(
    venue: Any, failing: Any, impatient: float
) -> None:
    decision = venue.decision(S000="0.05")
    with failing(venue):
        start = time.monotonic()
        with pytest.raises(LedgerFailed):
            venue.gateway.submit(decision, Mode.paper)
        assert time.monotonic() - start < 3 * impatient + 2.0
        for _ in range(2):
            with pytest.raises(LedgerFailed):
                venue.gateway.step()
        assert venue.gateway.answer(decision.id) is None
        assert venue.ledger.positions() == {} and venue.ledger.latch().armed
    assert venue.posted() == []
    assert venue.gateway.submit(decision, Mode.paper).state is DecisionState.accepted
    venue.run(steps=5)
    venue.require_equal_books()
    assert verify(venue.ledger, venue.ledger.anchor, judged_again).problems == ()


@pytest.mark.parametrize("failing", OFTEN, ids=lambda failing: failing.__name__)
def test_intents_are_not_sent_while_nothing_can_be_kept_and_are_sent_once_afterwards(
    venue: Any, failing: Any
) -> None:
    answer = venue.gateway.submit(venue.decision(S000="0.08", S001="0.05"), Mode.paper)
    with failing(venue):
        for _ in range(2):
            with pytest.raises(LedgerFailed):
                venue.gateway.step()
        assert venue.posted() == []
        states = {one.state for one in venue.gateway.answer(answer.decision_id).orders}
        assert states <= {OrderState.intent, OrderState.in_flight}
    venue.run(steps=5)
    done = venue.gateway.answer(answer.decision_id)
    assert {one.state for one in done.orders} == {OrderState.filled}
    assert len(venue.posted()) == len(done.orders) == 2
    venue.require_equal_books()
    assert verify(venue.ledger, venue.ledger.anchor, judged_again).problems == ()


@pytest.mark.parametrize("failing", OFTEN, ids=lambda failing: failing.__name__)
def test_a_kill_cancels_at_the_broker_also_when_the_latch_cannot_be_kept(
    venue: Any, failing: Any, impatient: float
) -> None:
    venue.foreign_order(FAR | {"symbol": "S001"})
    with failing(venue):
        start = time.monotonic()
        with pytest.raises(LedgerFailed):
            venue.gateway.kill("a person wants it", "operator")
        assert time.monotonic() - start < impatient + 2.0
    assert list(venue.broker.open_orders()) == []


def test_a_ledger_that_is_locked_for_a_moment_is_waited_for(
    venue: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "PATIENCE_S", 5.0)
    decision = venue.decision(S000="0.05")
    held = threading.Event()

    def hold() -> None:
        with locked(venue):
            held.set()
            time.sleep(0.5)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    start = time.monotonic()
    assert venue.gateway.submit(decision, Mode.paper).state is DecisionState.accepted
    assert time.monotonic() - start >= 0.2
    holder.join()
    venue.run(steps=5)
    orders = venue.gateway.answer(decision.id).orders
    assert {one.state for one in orders} <= TERMINAL
    venue.require_equal_books()
