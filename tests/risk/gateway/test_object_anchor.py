"""Marks as objects at an address: what was put is there, what cannot be put is an error."""

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from market.errors import InputError
from risk.gateway.audit import AnchorFailed, FileAnchor, Head, Mark
from risk.gateway.ledger import Ledger
from risk.gateway.object_anchor import ObjectAnchor, open_anchor
from risk.gateway.storage import LedgerFailed
from risk.gateway.verify import verify

NOW = datetime(2024, 3, 5, 15, 0, tzinfo=UTC)
MARKS = [Mark(Head(seq, f"{seq:064x}"), seq % 2 == 0) for seq in (1, 2, 9_999, 10_000, 25_000)]


@pytest.fixture(params=["memory", "file"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "file":
        return f"file://{tmp_path}/marks"
    return f"memory://{tmp_path}"  # one memory for all tests


def test_marks_come_back_in_their_order(address: str) -> None:
    anchor = ObjectAnchor(address)
    assert list(anchor.marks()) == anchor.last() == []
    for mark in reversed(MARKS):
        anchor.append(mark)
        anchor.append(mark)  # again, to no effect
    assert list(ObjectAnchor(address).marks()) == MARKS
    assert anchor.last() == MARKS[3:]


def test_a_ledger_is_anchored_there(address: str, tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db", ObjectAnchor(address))
    ledger.migrate()
    ledger.acquire("gateway")
    ledger.trip("loss", "test", NOW)
    ledger.acquire("again")
    found = verify(ledger, ledger.anchor)
    assert (found.problems, found.marks) == ((), 3)
    foreign = Ledger(f"sqlite:///{tmp_path}/ledger.db", ObjectAnchor(address + "/elsewhere"))
    ledger.close()
    with pytest.raises(LedgerFailed, match="never heard of"):
        foreign.acquire("gateway")
    foreign.close()


def test_what_is_no_mark_is_no_anchor(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "note").touch()
    with pytest.raises(AnchorFailed, match="no mark"):
        ObjectAnchor(f"file://{tmp_path}").last()


def test_an_address_that_fails_or_hangs_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "marks").touch()  # no folder
    anchor = ObjectAnchor(f"file://{tmp_path}/marks", patience_s=0.2)
    with pytest.raises(AnchorFailed):
        anchor.append(MARKS[0])
    monkeypatch.setattr(anchor._store, "pipe_file", lambda *_: time.sleep(1))
    monkeypatch.setattr(anchor._store, "makedirs", lambda *_, **__: None)
    with pytest.raises(AnchorFailed, match=r"hangs for 0\.2 s"):
        anchor.append(MARKS[0])


def test_a_place_is_a_path_or_an_address(tmp_path: Path) -> None:
    assert isinstance(open_anchor(str(tmp_path / "anchor")), FileAnchor)
    assert isinstance(open_anchor("memory://x"), ObjectAnchor)
    for wrong in ("", "nothing://x"):
        with pytest.raises(InputError):
            open_anchor(wrong)
