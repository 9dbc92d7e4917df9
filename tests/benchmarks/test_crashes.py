"""The crash harness itself: it sees what it is for, and two states are one only where they are."""

import json
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from benchmarks.crashes.books import compare
from benchmarks.crashes.explore import Explorer, closure, sequences
from benchmarks.crashes.faults import FAULTS, name_of
from benchmarks.crashes.in_process import Room
from benchmarks.crashes.killing import workplace
from benchmarks.crashes.life import Birth, live, url_of
from benchmarks.crashes.points import Trap, go_on
from benchmarks.crashes.venue import ORDERS, START, bodies
from brokers.exchange.faults import FaultKind
from risk.gateway.audit import FileAnchor
from risk.gateway.courier import Courier
from risk.gateway.ledger import Ledger


@pytest.fixture
def folder() -> Iterator[Path]:
    with workplace() as found:
        yield found


def test_a_whole_life_ends_with_equal_books_and_each_trace_of_a_stranger_is_seen(
    folder: Path,
) -> None:
    room, trap = Room.new(folder), Trap(go_on)
    broker, anchor = room.broker(trap), FileAnchor(folder / "anchor")
    live(Birth(room, broker, anchor, trap))
    ledger = Ledger(url_of(folder), anchor)
    assert compare(room, ledger, broker).lines() == ()
    assert len(bodies(room)) == ORDERS == len(broker.orders(START - timedelta(days=1)))
    sent = bodies(room)[-1]  # a buy
    again: dict[str, Any] = sent | {"client_order_id": "a stranger's", "qty": "1"}
    room.admin("POST", "/admin/orders", again)
    room.admin("POST", "/admin/cash", {"amount": "0.01"})
    wrong = compare(room, ledger, broker)
    assert wrong.duplicated and wrong.unplanned and wrong.misbooked and not wrong.lost
    assert any(line.startswith("cash") for line in wrong.misbooked)
    ledger.close()
    room.close()


def test_a_courier_that_takes_an_error_for_a_rejection_is_found_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The harness must be able to fail."""
    explorer = Explorer(folder, FileAnchor(folder / "anchor"))
    fault = {"method": "POST", "path": "/v2/orders", "kind": "empty", "after": True, "nth": 1}
    honest = explorer.live(explorer.begin((fault,)), crashing=False)
    assert honest.wrong == ()
    monkeypatch.setattr(Courier, "resolve", Courier.give_up)
    fooled = explorer.live(explorer.begin((fault | {"after": False},)), crashing=False)
    assert fooled.wrong and any(line.startswith("lost") for line in fooled.wrong)


def test_a_state_that_a_crash_before_a_commit_leaves_is_the_one_before(folder: Path) -> None:
    explorer = Explorer(folder, FileAnchor(folder / "anchor"))
    root = explorer.begin(())
    state = explorer.live(root, crashing=True)
    before = state.next["verdict #1 marking"]
    assert before == state.next["accounts #5 kept"]
    assert before != state.next["verdict #1 committed"]  # the anchor has not heard of it
    assert before == state.next["verdict #1 kept"]  # a record alone changes nothing that is done
    assert before != state.next["orders in_flight #1 committed"]
    assert state.next["order #1 sending"] != state.next["order #1 accepted"]
    assert sequences(explorer, root, 1) == len(state.next)
    copied = folder / "copied"
    shutil.copytree(explorer.states[before].folder, copied)
    assert closure(explorer, before, 0) == [explorer.states[before]]
    assert explorer.states[before].wrong == ()


def test_every_kind_of_fault_is_among_the_answers_before_and_after() -> None:
    kinds = {fault["kind"] for fault in FAULTS}
    assert kinds == {kind.value for kind in FaultKind}
    names = [name_of(fault) for fault in FAULTS]
    assert len(set(names)) == len(names)
    assert json.loads(json.dumps(FAULTS)) == list(FAULTS)
