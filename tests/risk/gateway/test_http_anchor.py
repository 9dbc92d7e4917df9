"""An anchor at an HTTP address: what the server does not confirm was not taken."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from risk.gateway.audit import AnchorFailed, Head, Mark
from risk.gateway.http_anchor import HttpAnchor
from risk.gateway.ledger import Ledger
from risk.gateway.object_anchor import open_anchor
from risk.gateway.storage import LedgerFailed


class Keeper:
    """What a server that keeps lines has heard, and how it misbehaves."""

    def __init__(self) -> None:
        self.lines = b""
        self.status = 200
        self.parts = True
        self.url = ""


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    state = Keeper()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if state.status < 300:
                state.lines += body
            self.send_response(state.status)
            self.end_headers()

        def do_GET(self) -> None:
            text, status = state.lines, state.status
            if status == 200 and state.parts and (asked := self.headers["range"]):
                text, status = text[-int(asked.partition("=-")[2]) :], 206
                status = status if text else 416
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    state.url = f"http://name:password@127.0.0.1:{server.server_port}/marks"
    yield state
    server.shutdown()
    server.server_close()


def mark(seq: int, *, committed: bool = True) -> Mark:
    return Mark(Head(seq, f"{seq:064x}"), committed)


def test_marks_come_back_as_they_were_sent(keeper: Keeper) -> None:
    anchor = HttpAnchor(keeper.url)
    assert (list(anchor.marks()), anchor.last()) == ([], [])
    sent = [mark(seq, committed=committed) for seq in (1, 2) for committed in (False, True)]
    for one in sent:
        anchor.append(one)
    assert list(anchor.marks()) == sent == anchor.last()
    keeper.parts = False
    assert anchor.last() == sent


def test_the_last_marks_of_a_long_anchor_begin_with_a_whole_one(keeper: Keeper) -> None:
    anchor = HttpAnchor(keeper.url)
    anchor.append(mark(1))
    line = keeper.lines
    keeper.lines = b"".join(line.replace(b" 1 ", b" %d " % seq) for seq in range(1, 3_001))
    found = anchor.last()
    assert found[-1].head.seq == 3_000 and 500 < len(found) < 3_000


def test_what_the_server_does_not_confirm_fails_and_names_no_password(keeper: Keeper) -> None:
    anchor = HttpAnchor(keeper.url, patience_s=1.0)
    for status in (301, 401, 404, 500):
        keeper.status = status
        for act in (lambda: anchor.append(mark(1)), anchor.last, lambda: list(anchor.marks())):
            with pytest.raises(AnchorFailed, match=str(status)) as raised:
                act()
            assert "password" not in str(raised.value)
    keeper.status = 200
    keeper.lines = b"committed 1 nonsense\n"
    with pytest.raises(AnchorFailed, match="no mark"):
        anchor.last()
    gone = HttpAnchor("http://name:password@127.0.0.1:1/x", patience_s=1.0)
    with pytest.raises(AnchorFailed, match="127") as raised:
        gone.append(mark(1))
    assert "password" not in str(raised.value)


def test_a_ledger_commits_nothing_that_its_anchor_did_not_hear(
    keeper: Keeper, tmp_path: Path
) -> None:
    anchor = open_anchor(keeper.url)
    assert isinstance(anchor, HttpAnchor)
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger'}", anchor)
    ledger.migrate()
    epoch = ledger.acquire("gateway")
    keeper.status = 503
    with pytest.raises(LedgerFailed, match="503"), ledger.writing(epoch) as writer:
        writer.audit("note", "test", {"what": "not heard"})
    keeper.status = 200
    with ledger.writing(epoch) as writer:
        writer.audit("note", "test", {"what": "heard"})
    ledger.close()
    keeper.lines = keeper.lines[: keeper.lines.rfind(b"prepared")]
    with pytest.raises(LedgerFailed, match="never heard"):
        Ledger(f"sqlite:///{tmp_path / 'ledger'}", HttpAnchor(keeper.url)).acquire("gateway")
