"""Stop everything, from a process that needs neither the gateway nor Redis nor Ray.

Each step has its own thread and its own connection: what hangs or fails keeps no other one waiting.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from market.errors import InputError
from risk.gateway.broker import Broker, BrokerError
from risk.gateway.ledger import Ledger
from risk.gateway.permit import HaltFile, Permit, PermitFailed
from risk.gateway.storage import LedgerFailed

VERIFIED_WITHIN_S = 10.0
PATIENCE_S = 30.0  # for all of it; the broker's and the ledger's own patience is shorter
EXPECTED = (BrokerError, LedgerFailed, PermitFailed, InputError, OSError)


@dataclass(frozen=True, slots=True)
class Step:
    """What became of one step.

    Args:
        name: what it does.
        problem: why it did not work; None where it did.
        seconds: until it was over.
    """

    name: str
    problem: str | None
    seconds: float


def stop_everything(
    reason: str,
    actor: str,
    halt_file: HaltFile,
    ledger: Callable[[], Ledger],
    permit: Callable[[], Permit],
    broker: Callable[[], Broker],
) -> tuple[Step, ...]:
    """Write the HALT file, latch, take the permit away, suspend the account, cancel all orders.

    Args:
        reason: in words.
        actor: who wants it.
        halt_file: of the account.
        ledger: opens it.
        permit: opens it.
        broker: makes a connection of its own.

    Returns:
        All steps, in this order; the last one is whether the broker has no open order any more.
    """
    started = time.monotonic()
    suspended, asked = threading.Event(), threading.Event()

    def latch() -> None:
        ledger().trip(reason, actor, datetime.now(UTC))

    def suspend() -> None:
        try:
            broker().suspend(True)
        finally:
            suspended.set()

    def cancel() -> None:
        try:
            broker().cancel_all()
        finally:
            asked.set()

    def empty() -> None:
        suspended.wait(VERIFIED_WITHIN_S)
        asked.wait(VERIFIED_WITHIN_S)
        _require_empty(broker())

    steps: tuple[tuple[str, Callable[[], None]], ...] = (
        ("HALT file", lambda: halt_file.halt(f"{reason} ({actor})")),
        ("latch in the ledger", latch),
        ("permit", lambda: permit().revoke()),
        ("account suspended at the broker", suspend),
        ("all orders cancelled at the broker", cancel),
        ("no open order left", empty),
    )
    ended: dict[str, Step] = {}

    def run(name: str, act: Callable[[], None]) -> None:
        problem: str | None = None
        try:
            act()
        except EXPECTED as error:
            problem = str(error) or type(error).__name__
        except Exception as error:  # noqa: BLE001 no step may fail in silence, nor stop another
            problem = f"{type(error).__name__}: {error}"
        ended[name] = Step(name, problem, time.monotonic() - started)

    threads = [threading.Thread(target=run, args=step, daemon=True) for step in steps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, started + PATIENCE_S - time.monotonic()))
    hung = f"not over after {PATIENCE_S:g} s"
    return tuple(ended.get(name, Step(name, hung, PATIENCE_S)) for name, _ in steps)


def _require_empty(broker: Broker) -> None:
    """Ask until no order is open; what came in meanwhile is cancelled too."""
    end = time.monotonic() + VERIFIED_WITHIN_S
    while left := len(broker.open_orders()):
        if time.monotonic() > end:
            raise InputError(f"{left} orders are still open")
        broker.cancel_all()
        time.sleep(0.2)
