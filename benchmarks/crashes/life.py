"""One life of the gateway: from its start to the end of the decision, or to its own."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from benchmarks.crashes.points import Trap, TrappedLedger
from benchmarks.crashes.venue import MODEL, STEP_S, Venue, decision, facts
from brokers.alpaca import AlpacaBroker
from risk.gateway.audit import Anchor
from risk.gateway.engine import Gateway
from risk.gateway.latch import arm_paper
from risk.gateway.observer import Memory, Observer, Permissions
from risk.gateway.permit import HaltFile, LedgerPermit
from risk.gateway.stored import DecisionState
from risk.gateway.submission import Mode

STEPS = 40
PATIENT_STEPS = 12  # after which the exchange's faults end: what was hidden can be found
PERMIT_MS = 30_000


@dataclass(frozen=True, slots=True)
class Birth:
    """What a life begins with.

    Args:
        venue: its exchange.
        broker: of the account, with its points.
        anchor: of the ledger.
        trap: where it ends.
    """

    venue: Venue
    broker: AlpacaBroker
    anchor: Anchor
    trap: Trap


class Unfinished(Exception):
    """The decision did not come to its end."""


def live(birth: Birth) -> None:
    """Start, recover, arm, have the decision asked for again, and go on until it is done.

    Raises:
        Unfinished: if it is not done in time.
    """
    ledger = TrappedLedger(url_of(birth.venue.folder), birth.anchor, birth.trap)
    try:
        _lived(birth, ledger)
    finally:
        ledger.close()


def url_of(folder: Path) -> str:
    """Return the ledger's address."""
    return f"sqlite:///{folder / 'ledger.sqlite'}"


def _lived(birth: Birth, ledger: TrappedLedger) -> None:
    broker = birth.broker
    time = _Time(birth.venue, broker.clock().now)
    ledger.migrate()
    epoch = ledger.acquire("a life")
    permit = LedgerPermit(ledger)
    permit.renew(epoch, PERMIT_MS)
    gateway = _gateway(birth, ledger, epoch, permit, time)
    gateway.recover()
    account = broker.account()
    arm_paper(ledger, epoch, account, time())
    wanted = decision(account.id)
    gateway.submit(wanted, Mode.paper)
    for step in range(STEPS):
        permit.renew(epoch, PERMIT_MS)
        gateway.step()
        stored = ledger.decision(wanted.id)
        if stored is not None and stored.state is not DecisionState.accepted:
            return
        time.advance()
        if step == PATIENT_STEPS:
            birth.venue.admin("DELETE", "/admin/faults")
    raise Unfinished(f"after {STEPS} steps: {ledger.latch()}")


class _Time:
    """The exchange's time, which moves only when this life moves it."""

    def __init__(self, venue: Venue, now: datetime) -> None:
        self._venue, self._now = venue, now

    def __call__(self) -> datetime:
        return self._now

    def advance(self) -> None:
        self._venue.admin("PUT", "/admin/clock", {"advance_s": STEP_S})
        self._now += timedelta(seconds=STEP_S)


def _gateway(
    birth: Birth,
    ledger: TrappedLedger,
    epoch: int,
    permit: LedgerPermit,
    clock: Callable[[], datetime],
) -> Gateway:
    same = facts()
    names = Permissions(frozenset(same.bars.symbols), frozenset(), frozenset({MODEL}))
    halt_file = HaltFile(birth.venue.folder / "HALT")
    observer = Observer(
        birth.broker, ledger, epoch, same.source, permit, halt_file, names, Memory(), clock, clock
    )
    return Gateway(birth.broker, ledger, epoch, observer, same.limits, same.execution, clock)
