"""Ledger and broker compared: positions, executions, and orders that nobody of us has put."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from risk.gateway.broker import Broker, BrokerError
from risk.gateway.courier import Courier
from risk.gateway.ledger import Ledger
from risk.gateway.observer import Memory
from risk.gateway.records import Fill

logger = logging.getLogger(__name__)

FILLS_BACK = timedelta(days=5)  # executions are asked for again, and counted once


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """How ledger and broker compare.

    Args:
        at: UTC.
        drifted: symbol -> (shares by our fills, shares at the broker), where they differ.
        foreign: client order ids of the broker's open orders that no intent explains.
        strange: executions that were new, and of no order of ours.
        known: the broker could be read; if not, nothing above means anything.
    """

    at: datetime
    drifted: Mapping[str, tuple[Decimal, Decimal]]
    foreign: frozenset[str]
    strange: tuple[Fill, ...] = ()
    known: bool = True

    @property
    def clean(self) -> bool:
        """Return whether they were compared, and nothing differs."""
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

    def compare(self) -> Reconciliation:
        """Compare now; on the very first look, before any order, the account is taken as it is.

        Raises:
            LedgerFailed, StaleEpoch: if what was found could not be made durable.
        """
        try:
            first = self._ledger.last_account() is None
            new = self._courier.book_fills(self._clock() - FILLS_BACK)
            strange = tuple(fill for fill in new if not first and not self._explained(fill))
            account = self._broker.account()
            held = {name: one.quantity for name, one in self._broker.positions().items()}
            foreign = self._foreign()
        except BrokerError as error:
            logger.warning("not reconciled: %s", error)
            return Reconciliation(self._clock(), {}, frozenset(), known=False)
        with self._ledger.writing(self._epoch) as writer:
            if first and not writer.orders():
                writer.set_positions(held)
            ours = writer.positions()
            writer.add_account(account, self._clock())
        drifted = _differing(ours, held)
        self._memory.reconciled_at = at = self._clock()
        self._memory.drifted, self._memory.foreign = frozenset(drifted), foreign
        return Reconciliation(at, drifted, foreign, strange)

    def _explained(self, fill: Fill) -> bool:
        """Return whether an execution is one of an order of ours."""
        known = fill.client_order_id
        return known is not None and self._ledger.order(known) is not None

    def _foreign(self) -> frozenset[str]:
        known = {one.client_order_id for one in self._ledger.recent_orders(self._clock())}
        return frozenset(
            found.client_order_id
            for found in self._broker.open_orders()
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
