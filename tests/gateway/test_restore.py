"""docs/operations.md, "Restore", followed line by line: a ledger that is damaged, old or lost."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from risk.gateway.permit import HaltFile
from risk.gateway.storage import LedgerFailed
from risk.gateway.stored import DecisionState
from risk.gateway.submission import Mode

PERSON = "a person"


def traded(venue: Any) -> Any:
    """Let the account have a history, with an order that is still open; then the gateway ends."""
    venue.gateway.submit(venue.decision(S000="0.08", S001="0.05"), Mode.paper)
    venue.run(steps=14)
    venue.next_session()
    venue.admin("PATCH", "/terms", {"share_per_step": "0"})
    answer = venue.gateway.submit(venue.decision(2, S000="0.08", S002="0.05"), Mode.paper)
    venue.run(steps=4)
    assert venue.broker.open_orders()
    venue.ledger.close()
    return answer


def damage(path: Path) -> None:
    """Overwrite the middle of every page but the first."""
    content = bytearray(path.read_bytes())
    for page in range(4096, len(content), 4096):
        content[page : page + 64] = b"\xff" * 64
    path.write_bytes(content)


def test_a_damaged_ledger_is_not_started_with(venue: Any) -> None:
    traded(venue)
    damage(venue.folder / "ledger.sqlite")
    with pytest.raises(LedgerFailed):
        venue.rebuild()


def test_an_older_copy_is_not_started_with(venue: Any) -> None:
    venue.ledger.close()
    for suffix in ("", "-wal", "-shm"):
        source = venue.folder / f"ledger.sqlite{suffix}"
        if source.exists():
            shutil.copy(source, venue.folder / f"copy.sqlite{suffix}")
    again = venue.rebuild()
    again.gateway.recover()
    again.ledger.close()
    for suffix in ("", "-wal", "-shm"):
        (venue.folder / f"ledger.sqlite{suffix}").unlink(missing_ok=True)
        if (venue.folder / f"copy.sqlite{suffix}").exists():
            shutil.copy(
                venue.folder / f"copy.sqlite{suffix}", venue.folder / f"ledger.sqlite{suffix}"
            )
    with pytest.raises(LedgerFailed, match="older copy"):
        venue.rebuild()


@pytest.mark.parametrize("loss", ["damaged", "lost"])
def test_the_runbook_leads_from_a_ledger_that_is_gone_to_trading(
    venue: Any, loss: str, soak: bool
) -> None:
    if loss == "lost" and not soak:
        pytest.skip("a file that is not there, with --soak")
    before = traded(venue)
    ledger, anchor = venue.folder / "ledger.sqlite", venue.folder / "anchor"
    if loss == "damaged":
        damage(ledger)
    else:
        ledger.unlink()

    # 1. Stop everything: nothing is open at the broker any more.
    HaltFile(venue.folder / "HALT").halt("restoring")
    venue.broker.suspend(True)
    venue.broker.cancel_all()
    assert venue.broker.open_orders() == []

    # 2. Put ledger and anchor aside, never away.
    kept = venue.folder / "kept"
    kept.mkdir()
    for path in (*venue.folder.glob("ledger.sqlite*"), anchor):
        shutil.move(path, kept / path.name)

    # 3. Start: the new ledger begins with what the broker has, halted.
    new = venue.rebuild()
    assert new.gateway.recover().clean
    assert not new.ledger.latch().armed
    held = {name: one.quantity for name, one in new.broker.positions().items()}
    assert held and new.ledger.positions() == held
    assert new.ledger.cash() == new.broker.account().cash

    # 4. Look, clear the HALT file, arm. Wait for the next session: today's totals are gone.
    HaltFile(venue.folder / "HALT").clear()
    venue.admin("PATCH", "/terms", {"share_per_step": "1"})
    new.next_session()
    assert new.gateway.arm(new.broker.account().id, new.ledger.latch(), PERSON).allowed
    sent = len(new.posted())

    # The decision of the lost ledger is not taken up again: it has expired.
    answer = new.gateway.submit(new.decision(3, S000="0.08", S002="0.05"), Mode.paper)
    assert answer.state is DecisionState.accepted, answer.verdict
    assert answer.decision_id != before.decision_id
    new.run(steps=14)
    assert len(new.posted()) > sent
    new.require_equal_books()
    assert new.ledger.cash() == new.broker.account().cash


def test_a_decision_that_the_lost_ledger_had_sent_is_not_sent_twice(venue: Any) -> None:
    decision = venue.decision(S000="0.08", S001="0.05")
    venue.gateway.submit(decision, Mode.paper)
    venue.run(steps=14)
    held = {name: one.quantity for name, one in venue.broker.positions().items()}
    venue.ledger.close()
    for path in (*venue.folder.glob("ledger.sqlite*"), venue.folder / "anchor"):
        path.unlink()
    new = venue.rebuild()
    new.gateway.recover()
    assert new.gateway.arm(new.broker.account().id, new.ledger.latch(), PERSON).allowed
    again = new.gateway.submit(decision, Mode.paper)  # the books are there already: no order
    new.run(steps=14)
    assert again.state in (DecisionState.accepted, DecisionState.done)
    assert {name: one.quantity for name, one in new.broker.positions().items()} == held
    new.require_equal_books()
