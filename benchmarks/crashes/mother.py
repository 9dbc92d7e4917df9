"""Real deaths, cheaply: a warmed process without threads that forks every life and every exchange.

Each line of its input is a case as JSON, each line of its output what came of it. The exchange is
a process of its own and outlives every life. A life that is to end when the exchange has taken an
order is killed by the exchange itself, before it answers.
"""

import gc
import json
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from decimal import Decimal
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import requests

from benchmarks.crashes import naive
from benchmarks.crashes.books import compare, compare_book
from benchmarks.crashes.in_process import Room
from benchmarks.crashes.life import Birth, live, url_of
from benchmarks.crashes.points import MILLISECONDS, Trap, TrappedBroker, go_on
from benchmarks.crashes.venue import (
    HEADERS,
    KEY,
    KEYS,
    SECRET,
    Watched,
    bodies,
    client,
    prepare,
)
from brokers.exchange.serve import application, server
from risk.gateway.audit import FileAnchor, Mark
from risk.gateway.ledger import Ledger, code_version
from risk.gateway.listening import address, listening_socket
from risk.gateway.records import OrderRequest, Side
from risk.gateway.replay import judged_again
from risk.gateway.verify import verify

READ_S = 1.0  # that a life waits for an answer
ANSWERS_WITHIN_S = 20.0
VICTIM, REPORT = "victim", "report.json"
GATEWAY = "gateway"


class Outside:
    """The exchange in its own process, as a life and its mother see it; see `venue.Venue`."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder, self.url = folder, url
        self._session = requests.Session()
        self._session.trust_env = False

    @property
    def folder(self) -> Path:
        """Return where everything lies."""
        return self._folder

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        """Drive the exchange."""
        answer = self._session.request(
            method, f"{self.url}{path}", json=body, headers=HEADERS, timeout=ANSWERS_WITHIN_S
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None


def forked(work: Callable[[], object]) -> int:
    """Run something in a copy of this process, and return its pid."""
    process = os.fork()
    if process == 0:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 a copy must never go on as its mother
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(1)
        os._exit(0)
    return process


def status_of(process: int, at: str | None = None) -> int:
    """Wait for the end of a process; return its exit status, < 0 of a signal.

    Args:
        process: a copy of this one.
        at: where it ends; after some milliseconds, wherever it is then, it is killed from here.
    """
    if at is not None and at.endswith(MILLISECONDS):
        time.sleep(float(at.removesuffix(MILLISECONDS)) / 1000.0)
        os.kill(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@contextmanager
def exchange(folder: Path) -> Iterator[Outside]:
    """Run an exchange in a process of its own."""
    with listening_socket("127.0.0.1", 0) as listener:
        url = address(listener)
        process = forked(lambda: _serve(folder, listener))
        try:
            yield Outside(folder, url)
        finally:
            os.kill(process, signal.SIGKILL)
            status_of(process)


def _serve(folder: Path, listener: socket.socket) -> None:
    market = Watched(folder / "exchange.sqlite", _Hunter(folder / VICTIM).taken)
    server(application(market, KEY, SECRET)).run(sockets=[listener])


class _Hunter:
    """Kills a life when the exchange has taken its n-th order.

    Args:
        file: that names the life and the number.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._asked, self._count = "", 0

    def taken(self) -> None:
        """Count an order; the one that kills is on the exchange's disk already."""
        if not self._file.exists():
            return
        asked = self._file.read_text()
        self._count = 1 if asked != self._asked else self._count + 1
        self._asked = asked
        victim, number = map(int, asked.split())
        if self._count == number:
            self._file.unlink()
            os.kill(victim, signal.SIGKILL)


def _live(place: Outside, path: str, at: str | None, plan: Sequence[OrderRequest]) -> None:
    """Live in this process; at the end of the last life, compare the books.

    Args:
        place: of the life.
        path: that orders take.
        at: where it is killed; None lets it go on to the end of the decision.
        plan: what a path other than the gateway's is to send.
    """

    def passing(point: str) -> None:
        if point == at:
            os.kill(os.getpid(), signal.SIGKILL)

    trap = Trap(passing)
    _tell_exchange(place.folder, at)
    broker = TrappedBroker(client(place.url, READ_S), KEYS, trap, lambda: False)
    if path == GATEWAY:
        report = _by_gateway(place, broker, trap)
    else:
        naive.live(path, place, broker, plan)
        report = {"wrong": asdict(compare_book(place.folder, broker, plan)), "audit": []}
    (place.folder / REPORT).write_text(json.dumps(report))


def _tell_exchange(folder: Path, at: str | None) -> None:
    """Let the exchange kill this process where it takes the order of a point."""
    (folder / VICTIM).unlink(missing_ok=True)
    if at is not None and at.endswith(" accepted"):
        number = at.partition("#")[2].partition(" ")[0]
        whole = folder / f"{VICTIM}.new"
        whole.write_text(f"{os.getpid()} {number}")
        whole.rename(folder / VICTIM)


def _by_gateway(place: Outside, broker: TrappedBroker, trap: Trap) -> dict[str, Any]:
    anchor = FileAnchor(place.folder / "anchor")
    live(Birth(place, broker, anchor, trap))
    ledger = Ledger(url_of(place.folder), anchor)
    wrong = compare(place, ledger, broker)
    walked = verify(ledger, anchor, judged_again)
    return {"wrong": asdict(wrong), "audit": list(walked.problems)}


class Case:
    """Lives at one exchange, one after another.

    Args:
        folder: for it; it is made, and removed.
        plan: see `_live`.
    """

    def __init__(self, folder: Path, plan: Sequence[OrderRequest]) -> None:
        self._folder, self._plan = folder, plan

    def run(
        self, path: str, ends: Sequence[str], faults: Sequence[dict[str, Any]]
    ) -> dict[str, Any]:
        """Live a life for each end, and one to the end of the decision; compare the books.

        Args:
            path: that orders take: the gateway's, or one of `naive.PATHS`.
            ends: points of the lives before the last one; one that is not reached ends the case.
            faults: of the exchange's answers.

        Returns:
            How many lives were killed, what is wrong, and the seconds of it all.
        """
        begin = time.monotonic()
        self._folder.mkdir(parents=True)
        try:
            with exchange(self._folder) as place:
                prepare(place)
                for fault in faults:
                    place.admin("POST", "/admin/faults", fault)
                killed, status = self._lived(place, path, ends)
                if status != 0:
                    return {"killed": killed, "failed": f"a life ended with {status}"}
                report: dict[str, Any] = json.loads((self._folder / REPORT).read_text())
            return {"killed": killed, "seconds": time.monotonic() - begin, **report}
        finally:
            shutil.rmtree(self._folder)

    def _lived(self, place: Outside, path: str, ends: Sequence[str]) -> tuple[int, int]:
        """Return how many lives were killed, and how the last one ended."""
        for killed, at in enumerate((*ends, None)):
            status = status_of(forked(partial(_live, place, path, at, self._plan)), at)
            if status != -signal.SIGKILL:
                return killed, status
        return len(ends), -signal.SIGKILL


class _Unkept:
    """An anchor that keeps nothing and, unlike a file, needs no thread: none may be forked."""

    def append(self, mark: Mark) -> None:
        """Forget a mark."""

    def marks(self) -> list[Mark]:
        """Return none."""
        return []

    last = marks


def warm() -> list[OrderRequest]:
    """Live once in this process: what is loaded and computed once is inherited by every copy.

    Returns:
        What the gateway sends without a fault, for the paths that do not plan by themselves.
    """
    code_version()
    with TemporaryDirectory() as name:
        room = Room.new(Path(name))
        trap = Trap(go_on)
        live(Birth(room, room.broker(trap), _Unkept(), trap))
        plan = [
            OrderRequest(
                body["client_order_id"], body["symbol"], Side(body["side"]), Decimal(body["qty"]),
                Decimal(body["limit_price"]),
            )
            for body in bodies(room)
        ]  # fmt: skip
        room.close()
    gc.collect()
    gc.freeze()  # else the copies' collections write to all of the memory that they share
    if threading.active_count() > 1:
        raise RuntimeError(f"{threading.active_count()} threads cannot be forked")
    return plan


def main() -> None:
    """Run one case after another."""
    plan = warm()
    for line in sys.stdin:
        asked = json.loads(line)
        case = Case(Path(asked["folder"]), plan)
        found = case.run(asked.get("path", GATEWAY), asked["ends"], asked["faults"])
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
