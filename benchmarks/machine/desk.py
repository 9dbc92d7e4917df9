"""The gateway over such a market: started, killed in the middle of something, started again."""

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

from benchmarks.machine.books import Books
from benchmarks.machine.fuse import Fuse, FusedAnchor, KeptMarks, Killed
from benchmarks.machine.inside import Asked, Happens
from benchmarks.machine.market import BARS, CALENDAR, Market
from benchmarks.machine.permit import DrivenPermit
from risk.gateway.audit import Mark
from risk.gateway.engine import Gateway
from risk.gateway.execution import ExecutionSettings, Schedule
from risk.gateway.latch import arm_paper
from risk.gateway.ledger import Ledger
from risk.gateway.limits import GatewayLimits, limits_from_record, tightest
from risk.gateway.limits_in_force import keep_limits
from risk.gateway.market_facts import BarsSource
from risk.gateway.observer import Memory, Observer, Permissions
from risk.gateway.permit import HaltFile
from risk.gateway.records import Decision
from risk.gateway.supervisor import Supervisor

MODEL = "a" * 64
FIRST_SESSION = date(2023, 3, 1)
PERMIT_MS = 30_000
EXECUTION = ExecutionSettings(
    limit_offset=Decimal("0.002"),
    drift_band=Decimal("0.002"),
    headroom=Decimal("0.001"),
    min_notional=Decimal("10"),
    slice_adv=Decimal("0.0003"),  # so small that an ordinary order has several slices
    slice_interval_s=300,
    schedule=Schedule.twap,
    max_trades_day=20,
)
SOURCE = BarsSource(lambda: BARS, lambda: "1", CALENDAR, 1e9, 0.99)
NAMES = Permissions(frozenset(BARS.symbols), frozenset(), frozenset({MODEL}))

Result = TypeVar("Result")


class Desk:
    """One account: its market, its gateway, and the supervisor's own look at both.

    Args:
        market: of it.
        books: of it.
        limits: configured.
        folder: for the HALT file.
    """

    def __init__(self, market: Market, books: Books, limits: GatewayLimits, folder: Path) -> None:
        self.market, self._books, self._configured = market, books, limits
        self.fuse = Fuse()
        self.anchor = KeptMarks()
        # Kept from run to run and from start to start, for the statements that they have compiled;
        # of a process nothing else is in them.
        self.ledger = Ledger(books.url, FusedAnchor(self.anchor, self.fuse))
        self.outside = Ledger(books.url, self.anchor)  # as another process has it
        self.permit = DrivenPermit(market, PERMIT_MS)
        self.halt_file = HaltFile(folder / "HALT")
        self.counts: Counter[str] = Counter()
        self.skew = timedelta(0)
        self._marks: tuple[Mark, ...] | None = None
        self.watching: Happens = lambda asked: None
        self._broker = market.broker(self._before, self._after)
        self.person = market.broker(lambda asked: None, lambda asked: None)

    def begin(self, session: date) -> None:
        """Begin anew, armed, half an hour after the opening of a session."""
        if self._marks is None:
            self._marks = self._first_marks()
        self.market.begin(session)
        self.fuse.bury()
        self.fuse.put_out()
        self.halt_file.clear()
        self.skew = timedelta(0)
        self._books.put_back()
        self.anchor.begin(self._marks)
        self.supervisor = Supervisor(
            self.person, self.outside, SOURCE, self.permit, self.halt_file, NAMES,
            PERMIT_MS / 1000, self.clock, self.clock,
        )  # fmt: skip
        self._take()
        arm_paper(self.ledger, self.epoch, self.person.account(), self.clock())
        self.permit.kept = True

    def _first_marks(self) -> tuple[Mark, ...]:
        """Let a gateway begin its books on an early day, to go on from there in every run."""
        self.market.begin(FIRST_SESSION)
        self._start()
        self.ledger.close()
        self._books.keep()
        return tuple(self.anchor.marks())

    def end(self) -> None:
        """Let go of the ledger."""
        self.ledger.close()
        self.outside.close()

    def clock(self) -> datetime:
        """Return the time of the gateway's machine."""
        return self.market.now + self.skew

    def survive(self, act: Callable[[], Result]) -> Result | None:
        """Let the gateway do something; if it dies of it, start it again and return None."""
        try:
            return act()
        except Killed:
            self.counts["killed"] += 1
            self.restart()
            return None

    def restart(self) -> None:
        """Start the gateway anew, as often as it takes."""
        while True:
            self.fuse.bury()
            self.ledger.close()
            try:
                self._start()
                return
            except Killed:
                self.counts["killed in recovery"] += 1

    def decision(
        self, number: int, weights: dict[str, Decimal], agents: int = 2, **changes: object
    ) -> Decision:
        """Return a decision of the last close, of agents that agree.

        Args:
            number: that its id is made of.
            weights: fractions of NAV.
            agents: how many.
            changes: fields that are others.
        """
        previous, hours = SOURCE.previous(self.market.now), SOURCE.hours(self.market.now)
        assert previous is not None, "the calendar reaches back"
        fields: dict[str, object] = {
            "id": f"{number:064x}",
            "account": self.account,
            "as_of": previous[0],
            "expires_at": self.market.now if hours is None else hours.close,
            "model_sha256": MODEL,
            "weights": weights,
            "agents": {f"agent {n}": (Decimal(1) / agents, weights) for n in range(agents)},
            "body_sha256": f"{number + 1_000_000:064x}",
        }
        return Decision(**(fields | changes))  # type: ignore[arg-type]

    @property
    def account(self) -> str:
        """Return the account's id."""
        return str(self.market.exchange.store.fact("account_number"))

    def _start(self) -> None:
        """Do what `risk.gateway.process.Running.start` does."""
        self._take()
        self.gateway.recover()

    def _take(self) -> None:
        """Take the ledger over."""
        self.epoch = self.ledger.acquire("the machine")
        self.memory = Memory()
        observer = Observer(
            self._broker, self.ledger, self.epoch, SOURCE, self.permit, self.halt_file, NAMES,
            self.memory, self.clock, self.clock,
        )  # fmt: skip
        self.gateway = Gateway(
            self._broker, self.ledger, self.epoch, observer, self._limits(), EXECUTION, self.clock
        )

    def _limits(self) -> GatewayLimits:
        stored = self.ledger.limits()
        if stored is not None:
            before = limits_from_record(json.loads(stored.body))
            found = tightest(before, self._configured)
            if found == before:
                return found
        else:
            found = self._configured
        with self.ledger.writing(self.epoch) as writer:
            keep_limits(writer, found, "configuration", datetime.now(UTC))
        return found

    def _before(self, asked: Asked) -> None:
        self.counts["requests"] += 1
        self.fuse.burn()
        if asked.is_order:
            self.counts["orders sent"] += 1
            self.watching(asked)

    def _after(self, asked: Asked) -> None:
        self.fuse.burn()
