"""A process that tests stop, kill and starve: each line of its input is a job, done in order.

`fork` does a job in a copy of this process and answers with its exit status, so that a thousand
crashes cost one start.
"""

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import event

from risk.gateway.audit import FileAnchor, Mark
from risk.gateway.ledger import Ledger, code_version
from risk.gateway.permit import HaltFile
from risk.gateway.records import Decision, OrderState, Side
from risk.gateway.stored import StoredOrder
from risk.gateway.writer import Halted, Writer

NOW = datetime(2024, 3, 5, 15, 0, tzinfo=UTC)
kept: dict[str, Any] = {}


def open_ledger(url: str, anchor: str) -> None:
    kept["ledger"] = Ledger(url, FileAnchor(Path(anchor)))


def acquire(owner: str) -> int:
    kept["epoch"] = kept["ledger"].acquire(owner)
    return int(kept["epoch"])


def decision(name: str) -> Decision:
    return Decision(
        id=name,
        account="PA1",
        as_of=date(2024, 3, 4),
        expires_at=NOW + timedelta(minutes=15),
        model_sha256="m" * 64,
        weights={"A": Decimal("0.5")},
        agents={"one": (Decimal(1), {"A": Decimal("0.5")})},
        body_sha256=f"body of {name}",
    )


def intents(name: str, count: int = 5) -> list[StoredOrder]:
    return [
        StoredOrder(
            client_order_id=f"{name}-{number}",
            decision_id=name,
            account="PA1",
            symbol=f"S{number}",
            side=Side.buy,
            slice=0,
            quantity=Decimal("10"),
            limit_price=Decimal("9.99"),
            reference_price=Decimal("10"),
            state=OrderState.intent,
            broker_id=None,
            filled=Decimal(0),
            average_price=None,
            created_at=NOW,
            sent_at=None,
            ended_at=None,
            detail=None,
        )
        for number in range(count)
    ]


def write_basket(writer: Writer, name: str) -> None:
    writer.insert_decision(decision(name), "paper", NOW)
    writer.insert_orders(intents(name))
    writer.audit("note", "test", {"basket": name})


def basket(name: str) -> str:
    with kept["ledger"].writing(kept["epoch"]) as writer:
        write_basket(writer, name)
    return "kept"


def hold(name: str, seconds: float) -> str:
    """Write, then sit in the transaction."""
    with kept["ledger"].writing(kept["epoch"]) as writer:
        write_basket(writer, name)
        say("holding")
        time.sleep(seconds)
    return "kept"


def crash(url: str, anchor: str, at: int, name: str) -> str:
    """Kill this process at the n-th of all points where another order of events begins."""
    passed = 0

    def point(*_: object, **__: object) -> None:
        nonlocal passed
        passed += 1
        if passed == at:
            os.kill(os.getpid(), signal.SIGKILL)

    class Counting(FileAnchor):
        def append(self, mark: Mark) -> None:
            point()
            super().append(mark)
            point()

    ledger = Ledger(url, Counting(Path(anchor)))
    for moment in ("before_cursor_execute", "after_cursor_execute", "commit"):
        event.listen(ledger._storage.writer, moment, point)
    epoch = ledger.acquire(f"crash {at}")
    with ledger.writing(epoch) as writer:
        write_basket(writer, name)
    point()
    return "kept"


def migrate(url: str, anchor: str, at: int) -> str:
    """Migrate, and kill this process before or after the n-th statement."""
    passed = 0

    def point(*_: object) -> None:
        nonlocal passed
        passed += 1
        if passed == at:
            os.kill(os.getpid(), signal.SIGKILL)

    ledger = Ledger(url, FileAnchor(Path(anchor)))
    for moment in ("before_cursor_execute", "after_cursor_execute", "commit"):
        event.listen(ledger._storage.writer, moment, point)
    ledger.migrate()
    return "kept"


def starve(kilobytes: int, name: str) -> str:
    """Let no file of this process grow beyond a size, as a full disk would."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes << 10, resource.RLIM_INFINITY))
    try:
        return basket(name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def halt_on_a_full_disk(path: str) -> str:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    HaltFile(Path(path)).halt("full")
    return "halted"


def as_nobody() -> str:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    return "nobody"


def is_halted(path: str) -> bool:
    return HaltFile(Path(path)).halted()


def read() -> list[str]:
    return [order.client_order_id for order in kept["ledger"].orders()]


def trip(reason: str) -> str:
    kept["ledger"].trip(reason, "child", datetime.now(UTC))
    return "tripped"


def race(name: str) -> int:
    """Put one order in flight again and again, until the latch forbids it."""
    for number in range(100_000):
        try:
            with kept["ledger"].writing(kept["epoch"]) as writer:
                writer.set_order(name, OrderState.in_flight, at=NOW)
        except Halted:
            return number
        with kept["ledger"].writing(kept["epoch"]) as writer:
            writer.set_order(name, OrderState.unknown, at=NOW)
    raise AssertionError("nobody tripped")


def say(answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


JOBS: dict[str, Callable[..., object]] = {
    job.__name__: job
    for job in (
        open_ledger,
        acquire,
        basket,
        hold,
        crash,
        migrate,
        starve,
        halt_on_a_full_disk,
        as_nobody,
        is_halted,
        read,
        trip,
        race,
    )
}


def work(job: str, **arguments: Any) -> object:
    try:
        return JOBS[job](**arguments)
    except Exception as error:  # noqa: BLE001 the test judges it
        return [type(error).__name__, str(error)]


def fork(job: str, **arguments: Any) -> object:
    process = os.fork()
    if process == 0:
        answer = work(job, **arguments)
        sys.stderr.write("" if answer == "kept" else f"{answer}\n")
        os._exit(0 if answer == "kept" else 1)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


if __name__ == "__main__":
    code_version()  # once, not in every copy
    for line in sys.stdin:
        told = json.loads(line)
        say(fork(**told["fork"]) if "fork" in told else work(**told))
