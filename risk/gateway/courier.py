"""Brings durable intents to the broker, each at most once, and learns what became of them.

An order is in flight on the disk before its first byte is sent. From then on only the broker's own
words end the doubt: a proven refusal, or the order itself, found by the id that we gave it. An
exception, a timeout or a look-up that finds nothing proves nothing; the same id is sent again, and
the broker's refusal of a repeated id is the fence.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum

from risk.gateway.alarms import Alarm, alarm
from risk.gateway.bookkeeping import book_fill
from risk.gateway.broker import (
    Broker,
    BrokerError,
    DuplicateId,
    Refused,
    Unauthorised,
    Unavailable,
)
from risk.gateway.ledger import Ledger
from risk.gateway.reads import Reads
from risk.gateway.records import (
    TERMINAL,
    BrokerOrder,
    BrokerStatus,
    Fill,
    OrderRequest,
    OrderState,
)
from risk.gateway.stored import Arrival, StoredOrder
from risk.gateway.writer import Writer

logger = logging.getLogger(__name__)

LISTED_BACK = timedelta(hours=1)  # clocks differ
ONE_DAY = timedelta(days=1)
NEVER_SENT = frozenset({OrderState.intent, OrderState.dropped, OrderState.refused})
NOT_FILLED = frozenset({OrderState.cancelled, OrderState.expired, OrderState.partly_done})


class Sent(Enum):
    """How the attempt to send one order ended."""

    known = "known"  # the broker has it, or refused it for good
    unknown = "unknown"  # nobody can say yet
    wait = "wait"  # the broker asks to wait; nothing was done


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of an attempt.

    Args:
        outcome: see above.
        retry_after: seconds that the broker asks to wait; None where it does not.
        detail: one line for a person.
    """

    outcome: Sent
    retry_after: float | None
    detail: str


class Courier:
    """One account's orders, between ledger and broker.

    Args:
        broker: of the account.
        ledger: which this process has taken over.
        epoch: of that.
        clock: UTC.
    """

    def __init__(
        self, broker: Broker, ledger: Ledger, epoch: int, clock: Callable[[], datetime]
    ) -> None:
        self._broker, self._ledger, self._epoch, self._clock = broker, ledger, epoch, clock

    def send(self, order: StoredOrder, arrival: Arrival) -> Attempt:
        """Send an order that is an intent, or whose outcome is unknown, under its id.

        Whoever calls has made sure that it may be sent now; the latch is asked once more, in the
        transaction that puts the order in flight.

        Args:
            order: as the ledger has it.
            arrival: what the market is now.

        Raises:
            Halted: if the latch is not armed; nothing was sent.
            LedgerFailed, StaleEpoch: if that could not be made durable; nothing was sent.
        """
        self._depart(order, arrival)
        request = OrderRequest(
            order.client_order_id, order.symbol, order.side, order.quantity, order.limit_price
        )
        began = time.monotonic()
        try:
            found = self._broker.submit(request)
        except DuplicateId as error:
            return self._look_up(order, str(error))
        except Unauthorised as error:
            self._trip(Alarm.keys_refused, f"the broker does not know the keys any more: {error}")
            self._move(order, OrderState.unknown, detail=str(error))
            return Attempt(Sent.unknown, None, str(error))
        except Refused as error:
            if order.state is OrderState.unknown:
                # It proves that this attempt did nothing, and nothing about the one before: a live
                # order's id is looked at last, after halts, prices and permissions.
                return self._look_up(order, error.detail)
            return self._refused(order, error)
        except BrokerError as error:
            self._move(order, OrderState.unknown, detail=str(error))
            return Attempt(Sent.unknown, None, str(error))
        self._adopt(order, found, ack_ms=round((time.monotonic() - began) * 1000))
        return Attempt(Sent.known, None, found.status.value)

    def resolve(self, order: StoredOrder) -> Attempt:
        """Ask the broker what became of an order whose outcome is not known; nothing is sent."""
        return self._look_up(order, "asked for")

    def give_up(self, order: StoredOrder) -> Attempt:
        """End an order that the broker shows nowhere after its session, in which it had to end.

        Raises:
            Unavailable: if the broker cannot list the orders of the session.
        """
        attempt = self._look_up(order, "asked for after the session")
        if attempt.outcome is not Sent.unknown:
            return attempt
        listed = self._broker.orders(order.created_at - LISTED_BACK)
        found = [one for one in listed if one.client_order_id == order.client_order_id]
        if found:
            self._adopt(order, found[0])
            return Attempt(Sent.known, None, found[0].status.value)
        alarm(Alarm.order_lost, f"{order.client_order_id}: {order.side.value} {order.symbol}")
        why = "never found at the broker until after its session: a person should look"
        self._move(order, OrderState.expired, detail=why)
        return Attempt(Sent.known, None, why)

    def refresh(self, order: StoredOrder) -> None:
        """Bring an order that the broker has up to date."""
        found = self._find(order)
        if found is not None:
            self._adopt(order, found)

    def book_fills(self, after: datetime, *, opening: bool = False) -> tuple[Fill, ...]:
        """Book the executions after a time, and return those that were new.

        One of no order of ours trips the latch in the same transaction: whatever happens to this
        process then, nobody trades on before a person has looked.

        Args:
            after: UTC.
            opening: our books begin with this look, and what is found was there before.

        Raises:
            Unavailable: if the broker cannot say; or says what may be of an order that it has and
                does not show yet, which is nobody's until it does.
        """
        known = {fill.execution_id for fill in self._ledger.fills(after - ONE_DAY)}
        fills = [fill for fill in self._broker.fills(after) if fill.execution_id not in known]
        if not fills:
            return ()
        fills = self._named(fills, after)
        if early := [fill for fill in fills if self._may_be_ours(fill)]:
            raise Unavailable(f"fills: {seen_fills(early)} of an order that is not shown")
        with self._ledger.writing(self._epoch) as writer:
            new = tuple(fill for fill in fills if book_fill(writer, fill))
            for fill in new:
                self._wake(writer, fill)
            if strange := [fill for fill in new if not opening and not is_explained(writer, fill)]:
                reason = f"executions that no decision explains: {seen_fills(strange)}"
                writer.set_latch(False, reason, "gateway", self._clock())
        return new

    def _wake(self, writer: Writer, fill: Fill) -> None:
        """Let an order of ours go on that was filled, and that we never sent or had given up.

        A second gateway sends what we never did; a broker may show what it hid for days.
        """
        known = fill.client_order_id
        order = None if known is None else writer.order(known)
        if order is None:
            return
        filled = OrderState.filled if order.filled >= order.quantity else OrderState.partly_done
        if order.state in NEVER_SENT:
            alarm(Alarm.strange_order, f"{known} is filled, and {order.state.value} here")
            writer.set_order(
                order.client_order_id,
                OrderState.working,
                at=self._clock(),
                broker_id=fill.broker_id,
                detail="filled, though it was never sent from here",
            )
        elif order.state in NOT_FILLED and order.state is not filled:
            writer.set_order(
                order.client_order_id,
                filled,
                at=self._clock(),
                broker_id=fill.broker_id,
                detail="filled, though its end was written down before",
            )

    def _named(self, fills: Sequence[Fill], after: datetime) -> list[Fill]:
        """Add our ids to executions of which the broker says only its own order id."""
        recent = self._ledger.recent_orders(self._clock())
        ids = {one.broker_id: one.client_order_id for one in recent}
        if any(fill.client_order_id is None and fill.broker_id not in ids for fill in fills):
            ids |= {one.broker_id: one.client_order_id for one in self._broker.orders(after)}
        return [
            fill
            if fill.client_order_id is not None
            else replace(fill, client_order_id=ids.get(fill.broker_id))
            for fill in fills
        ]

    def _may_be_ours(self, fill: Fill) -> bool:
        """Return whether an execution of no shown order fits one of ours whose outcome is open."""
        return fill.client_order_id is None and any(
            (order.broker_id, order.symbol, order.side) == (None, fill.symbol, fill.side)
            and fill.quantity <= order.quantity
            for order in self._ledger.orders(states=(OrderState.in_flight, OrderState.unknown))
        )

    def cancel(self, order: StoredOrder) -> None:
        """Ask for the end of an order that the broker has; what becomes of it is seen later."""
        if order.broker_id is None:
            return
        try:
            self._broker.cancel(order.broker_id)
        except BrokerError as error:
            logger.warning("order %s: %s", order.client_order_id, error)

    def drop(self, order: StoredOrder, why: str) -> None:
        """End an intent that was never sent."""
        self._move(order, OrderState.dropped, detail=why)

    def _refused(self, order: StoredOrder, error: Refused) -> Attempt:
        """Take a proven refusal; one that asks to wait leaves the intent as it was."""
        if error.retry_after is None:
            self._move(order, OrderState.refused, detail=error.detail)
            return Attempt(Sent.known, None, error.detail)
        try:
            self._move(order, OrderState.intent, detail=error.detail)
        except ValueError:  # an earlier attempt may have got through: this refusal is not its
            self._move(order, OrderState.unknown, detail=error.detail)
            return Attempt(Sent.unknown, error.retry_after, error.detail)
        return Attempt(Sent.wait, error.retry_after, error.detail)

    def _look_up(self, order: StoredOrder, why: str) -> Attempt:
        try:
            found = self._find(order)
        except (Unavailable, Unauthorised) as error:
            self._move(order, OrderState.unknown, detail=f"{why}; {error}")
            return Attempt(Sent.unknown, None, str(error))
        if found is None:  # read lag, or it never arrived: one look proves nothing
            self._move(order, OrderState.unknown, detail=f"{why}; the broker does not find it")
            return Attempt(Sent.unknown, None, "the broker does not find it")
        self._adopt(order, found)
        return Attempt(Sent.known, None, found.status.value)

    def _find(self, order: StoredOrder) -> BrokerOrder | None:
        return self._broker.order(order.client_order_id)

    def _depart(self, order: StoredOrder, arrival: Arrival) -> None:
        """Put an order in flight, and keep what the market is: that of the attempt that counts.

        The first attempt whose outcome is unknown may have been the one; what comes after it is
        the same order again.
        """
        with self._ledger.writing(self._epoch) as writer:
            writer.set_order(order.client_order_id, OrderState.in_flight, at=arrival.at)
            if order.state is OrderState.intent:
                writer.set_arrival(arrival)

    def _adopt(self, order: StoredOrder, found: BrokerOrder, ack_ms: int | None = None) -> None:
        """Take the broker's truth, also where it is not what we asked for."""
        if not _is_ours(order, found):
            what = f"order {order.client_order_id} is another one at the broker: {found}"
            self._trip(Alarm.strange_order, what)
        state = state_of(found)
        with self._ledger.writing(self._epoch) as writer:
            now = writer.order(order.client_order_id)
            if now is not None and now.state in TERMINAL and now.state is state:
                return
            writer.set_accepted(order.client_order_id, found.submitted_at, ack_ms)
            writer.set_order(
                order.client_order_id,
                state,
                at=self._clock(),
                broker_id=found.broker_id,
                detail=f"the broker: {found.status.value}, filled {found.filled}",
            )

    def _move(self, order: StoredOrder, state: OrderState, detail: str | None = None) -> None:
        with self._ledger.writing(self._epoch) as writer:
            writer.set_order(order.client_order_id, state, at=self._clock(), detail=detail)

    def _trip(self, kind: Alarm, reason: str) -> None:
        alarm(kind, reason)
        self._ledger.trip(reason, "gateway", self._clock())


def state_of(found: BrokerOrder) -> OrderState:
    """Return what a broker's order is to us."""
    if found.status is BrokerStatus.working:
        return OrderState.working
    if found.status is BrokerStatus.filled:
        return OrderState.filled
    if found.filled > 0:
        return OrderState.partly_done
    if found.status is BrokerStatus.rejected:
        return OrderState.refused
    return OrderState.expired if found.status is BrokerStatus.expired else OrderState.cancelled


def _is_ours(order: StoredOrder, found: BrokerOrder) -> bool:
    asked = (order.client_order_id, order.symbol, order.side, order.quantity, order.limit_price)
    has = (found.client_order_id, found.symbol, found.side, found.quantity, found.limit_price)
    return asked == has


def is_explained(reads: Reads, fill: Fill) -> bool:
    """Return whether an execution is one of an order of ours."""
    return fill.client_order_id is not None and reads.order(fill.client_order_id) is not None


def seen_fills(fills: Sequence[Fill]) -> str:
    """Return executions in words."""
    return ", ".join(f"{one.side.value} {one.quantity} {one.symbol}" for one in fills)
