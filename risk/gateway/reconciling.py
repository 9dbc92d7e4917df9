"""Ledger and broker compared: shares, cash, executions, and orders that nobody of us has put."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from risk.gateway.alarms import Alarm, alarm
from risk.gateway.bookkeeping import book_activities, open_cash, take_over
from risk.gateway.broker import Broker, BrokerError, Unavailable
from risk.gateway.courier import Courier, is_explained
from risk.gateway.ledger import Ledger
from risk.gateway.observer import Memory
from risk.gateway.reading import Reading, read
from risk.gateway.records import Activity, Fill

logger = logging.getLogger(__name__)

FILLS_BACK = timedelta(days=5)  # executions are asked for again, and counted once
ACTIVITIES_BACK = timedelta(days=10)  # a broker books some of them days later

LOOKS = 5  # at the broker's books, until nothing was executed during one
ASKED_EVERY = timedelta(minutes=5)  # about a difference that stays the same

Differences = Mapping[str, tuple[Decimal, Decimal]]


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """How ledger and broker compare.

    Args:
        at: UTC.
        drifted: symbol -> (shares by our books, shares at the broker), where they differ.
        foreign: client order ids of the broker's open orders that no intent explains.
        strange: executions that were new, and of no order of ours.
        cash: by our books and at the broker, account currency; None where it was not compared.
        reading: what was compared; None where the broker could not be read, and then nothing above
            means anything.
    """

    at: datetime
    drifted: Differences
    foreign: frozenset[str]
    strange: tuple[Fill, ...] = ()
    cash: tuple[Decimal, Decimal] | None = None
    reading: Reading | None = None

    @property
    def known(self) -> bool:
        """Return whether the broker could be read."""
        return self.reading is not None

    @property
    def clean(self) -> bool:
        """Return whether they were compared, and neither shares nor orders differ.

        Cash that differs is an alarm and stops nothing: a broker may round, or book a fee days
        later, and what an order needs is judged by the broker's own cash.
        """
        return self.known and not self.drifted and not self.foreign


class Reconciler:
    """Compares, and notes in the gateway's memory what it found.

    Args:
        broker: of the account.
        ledger: which this process has taken over.
        epoch: of that.
        courier: that books executions.
        memory: of the gateway.
        clock: UTC, the one that sessions follow.
    """

    def __init__(
        self,
        broker: Broker,
        ledger: Ledger,
        epoch: int,
        courier: Courier,
        memory: Memory,
        clock: Callable[[], datetime],
    ) -> None:
        self._broker, self._ledger, self._epoch = broker, ledger, epoch
        self._courier, self._memory, self._clock = courier, memory, clock
        self._told: tuple[Differences, Decimal] = {}, Decimal(0)
        self._asked_at: datetime | None = None

    def compare(self) -> Reconciliation:
        """Compare now; on the very first look, before any order, the account is taken as it is.

        Raises:
            LedgerFailed, StaleEpoch: if what was found could not be made durable.
        """
        new: tuple[Fill, ...] = ()
        first = self._ledger.last_account() is None
        try:
            new = self._book_fills(first)
            books = self._open(self._read(), first)
            if self._surprises(books):
                self._book(self._activities())
                books, later = self._settled()
                new += later
        except BrokerError as error:
            alarm(Alarm.not_reconciled, str(error))
            strange = self._strange(new, first)
            return Reconciliation(self._clock(), {}, frozenset(), strange)
        strange = self._strange(new, first)
        with self._ledger.writing(self._epoch) as writer:
            writer.add_account(books.account, self._clock())
        drifted, cash = self._told = self._differences(books)
        if cash:
            alarm(Alarm.cash_differs, f"by {cash}")
        self._memory.reconciled_at = at = self._clock()
        foreign = self._foreign(books)
        self._memory.drifted, self._memory.foreign = frozenset(drifted), foreign
        theirs = books.account.cash
        return Reconciliation(at, drifted, foreign, strange, (theirs - cash, theirs), books)

    def take_over(self, actor: str, reason: str) -> None:
        """Make what the broker has the new beginning of our books, because a person wants it.

        Raises:
            BrokerError: if the broker cannot be read.
            LedgerFailed, StaleEpoch: if it could not be made durable; the old books stand then.
        """
        self._book_fills()
        books, activities = self._read(), self._activities()
        drifted, cash = self._differences(books)
        with self._ledger.writing(self._epoch) as writer:
            changes = {name: [ours, theirs] for name, (ours, theirs) in drifted.items()}
            said = {"reason": reason, "shares": changes, "cash_difference": cash}
            writer.audit("taken_over", actor, said)
            take_over(writer, books, activities)

    def _read(self) -> Reading:
        return read(self._broker, self._clock())

    def _settled(self) -> tuple[Reading, tuple[Fill, ...]]:
        """Return the broker's books, read while nothing was executed, and what we booked meanwhile.

        Raises:
            Unavailable: if one execution followed the other.
        """
        new = self._book_fills()
        for _ in range(LOOKS):
            books = self._read()
            later = self._book_fills()
            if not later:
                return books, new
            new += later
        raise Unavailable("one execution follows the other: nothing can be compared")

    def _book_fills(self, opening: bool = False) -> tuple[Fill, ...]:
        return self._courier.book_fills(self._seen() - FILLS_BACK, opening=opening)

    def _strange(self, fills: Sequence[Fill], first: bool) -> tuple[Fill, ...]:
        return tuple(fill for fill in fills if not first and not is_explained(self._ledger, fill))

    def _activities(self) -> tuple[Activity, ...]:
        return tuple(self._broker.activities((self._seen() - ACTIVITIES_BACK).date()))

    def _seen(self) -> datetime:
        """Return up to when all is booked: a gateway may have been away for longer than days."""
        now, last = self._clock(), self._ledger.last_account()
        return now if last is None else min(now, last.at)

    def _open(self, books: Reading, first: bool) -> Reading:
        """Begin our books with the broker's where they have not begun."""
        if self._ledger.cash() is None:
            activities = self._activities()
            with self._ledger.writing(self._epoch) as writer:
                open_cash(writer, books, activities)
                if first and not writer.orders():
                    writer.set_positions(books.held)
        return books

    def _surprises(self, books: Reading) -> bool:
        """Return whether something differs that was not asked about a moment ago."""
        found, now = self._differences(books), self._clock()
        asked = self._asked_at is not None and now - self._asked_at < ASKED_EVERY
        if found == ({}, Decimal(0)) or (asked and found == self._told):
            return False
        self._asked_at = now
        return True

    def _book(self, activities: Sequence[Activity]) -> None:
        with self._ledger.writing(self._epoch) as writer:
            for one in book_activities(writer, activities):
                logger.warning(
                    "booked %s %s: %s shares, %s cash", one.kind, one.symbol, one.shares, one.cash
                )

    def _differences(self, books: Reading) -> tuple[Differences, Decimal]:
        """Return where shares differ, and the broker's cash minus ours."""
        cash = self._ledger.cash()
        assert cash is not None, "the books were begun"
        return _differing(self._ledger.positions(), books.held), books.account.cash - cash

    def _foreign(self, books: Reading) -> frozenset[str]:
        known = self._ledger.recent_ids(self._clock())
        return frozenset(
            found.client_order_id
            for found in books.open_orders
            if found.client_order_id not in known
        )


def _differing(
    ours: Mapping[str, Decimal], held: Mapping[str, Decimal]
) -> dict[str, tuple[Decimal, Decimal]]:
    zero = Decimal(0)
    return {
        name: (ours.get(name, zero), held.get(name, zero))
        for name in sorted({*ours, *held})
        if ours.get(name, zero) != held.get(name, zero)
    }
