"""Gathers what the checks look at: broker, ledger, market source and the gateway's own memory.

A part that cannot be read is None in the state, which every check takes as a reason to refuse.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Protocol, TypeVar

from risk.gateway.broker import Broker, BrokerError
from risk.gateway.known_assets import KnownAssets
from risk.gateway.ledger import Ledger
from risk.gateway.limits import GatewayLimits
from risk.gateway.permit import HaltFile, Permit
from risk.gateway.reading import Reading
from risk.gateway.records import (
    TERMINAL,
    Account,
    BrokerClock,
    BrokerOrder,
    Decision,
    OrderState,
    Position,
    Quote,
    SessionHours,
    Side,
)
from risk.gateway.state import GatewayState, NameDay, NameFacts, OpenOrder
from risk.gateway.stored import StoredAccount, StoredOrder
from risk.gateway.totals import read_totals

logger = logging.getLogger(__name__)

UNSENT = (OrderState.intent, OrderState.dropped)
Value = TypeVar("Value")


class MarketSource(Protocol):
    """The second opinion on prices, and what is known of each name; it may know nothing."""

    def hours(self, now: datetime) -> SessionHours | None:
        """Return the session that the calendar has on the day of a time."""
        ...

    def previous(self, now: datetime) -> tuple[date, datetime] | None:
        """Return the last completed session and its close."""
        ...

    def facts(self, symbols: Iterable[str], now: datetime) -> Mapping[str, NameFacts]:
        """Return what is known of names at the last close."""
        ...

    def quotes(self, symbols: Iterable[str], now: datetime) -> Mapping[str, Quote]:
        """Return the source's prices by symbol."""
        ...


@dataclass(frozen=True, slots=True)
class Permissions:
    """Which names and models the account may follow.

    Args:
        allowed: names that may be traded.
        restricted: names that may not, whoever allows them.
        models: sha256 of the artefacts that may be followed.
    """

    allowed: frozenset[str]
    restricted: frozenset[str]
    models: frozenset[str]


@dataclass(slots=True)
class Memory:
    """What only the running gateway knows; after a start nothing of it is known.

    Args:
        reconciled_at: when ledger and broker were last compared.
        drifted: names that differed then.
        foreign: the broker's orders that no intent explains.
        quarantined: names that are left alone until a person has looked.
        messages: when messages were sent to the broker.
        ledger_writable: the last write went through.
    """

    reconciled_at: datetime | None = None
    drifted: frozenset[str] | None = None
    foreign: frozenset[str] | None = None
    quarantined: frozenset[str] = frozenset()
    messages: deque[datetime] = field(default_factory=lambda: deque(maxlen=10_000))
    ledger_writable: bool = True


class Observer:
    """Looks at everything at once.

    Args:
        broker: of the account.
        ledger: of it.
        epoch: of the gateway.
        market: the second source.
        permit: leave to trade.
        halt_file: the file that stops everything.
        permissions: names and models.
        memory: of the gateway.
        clock: UTC, the one that sessions follow.
        own_clock: UTC, of this machine; None where sessions follow the broker's clock, and there is
            nothing to compare.
    """

    def __init__(
        self,
        broker: Broker,
        ledger: Ledger,
        epoch: int,
        market: MarketSource,
        permit: Permit,
        halt_file: HaltFile,
        permissions: Permissions,
        memory: Memory,
        clock: Callable[[], datetime],
        own_clock: Callable[[], datetime] | None,
    ) -> None:
        self._broker, self._ledger, self._epoch, self._market = broker, ledger, epoch, market
        self._permit, self._halt_file, self._permissions = permit, halt_file, permissions
        self.memory = memory
        self._clock, self._own_clock = clock, own_clock
        self._assets = KnownAssets(broker)

    def look(
        self,
        limits: GatewayLimits,
        decision: Decision | None = None,
        received_at: datetime | None = None,
        sending: str | None = None,
        reading: Reading | None = None,
    ) -> GatewayState:
        """Return what is known now.

        Args:
            limits: in force.
            decision: whose names are looked at, beside those that are held or have open orders.
            received_at: when it came in.
            sending: the name of an order that is about to be sent, whose asset is asked for anew.
            reading: of the broker in this same turn; None asks it.

        Raises:
            LedgerFailed: if the ledger cannot be read: nothing can be judged without it.
        """
        account: Account | None
        positions: Mapping[str, Position] | None
        broker_open: Sequence[BrokerOrder] | None
        if reading is None:
            read_at = self._clock()
            # Orders first: what fills meanwhile is then counted twice, and never missed.
            broker_open = _known(self._broker.open_orders, "open orders")
            account = _known(self._broker.account, "account")
            positions = _known(self._broker.positions, "positions")
        else:
            broker_open, read_at = reading.open_orders, reading.at
            account, positions = reading.account, reading.positions
        clock = _known(self._broker.clock, "clock")
        now = self._clock()
        hours, previous = self._market.hours(now), self._market.previous(now)
        session = now.date() if hours is None else hours.session
        decision_id = None if decision is None else decision.id
        totals = read_totals(self._ledger, now, session, decision_id)
        sent = [order for order in totals.orders if order.state not in UNSENT]
        open_orders = None if broker_open is None else _open(broker_open, sent)
        named = set(positions or ()) | {order.symbol for order in open_orders or ()}
        symbols = sorted(named | set(decision.weights if decision is not None else ()))
        peak = [] if not totals.accounts else [totals.accounts[0].peak_equity]
        return GatewayState(
            now=now,
            account=account,
            account_at=None if account is None else read_at,
            positions=positions,
            ledger_positions=totals.positions,
            open_orders=open_orders,
            quotes=_known(lambda: self._broker.quotes(symbols), "quotes") or {},
            second=self._market.quotes(symbols, now),
            assets=self._assets.of(symbols, now, sending),
            facts=self._market.facts(symbols, now),
            allowed=self._permissions.allowed,
            restricted=self._permissions.restricted,
            quarantined=self.memory.quarantined,
            clock=clock,
            hours=hours,
            previous_session=None if previous is None else previous[0],
            previous_close=None if previous is None else previous[1],
            skew_s=self._skew(clock),
            armed=self._ledger.latch().armed,
            permit_left_s=Decimal(repr(self._permit.left_s(self._epoch))),
            halted=self._halt_file.halted(),
            reducing=False,
            ledger_writable=self.memory.ledger_writable,
            audit_intact=self.memory.ledger_writable,
            limits_version=limits.version,
            reconciled_at=self.memory.reconciled_at,
            drifted=self.memory.drifted,
            foreign=self.memory.foreign,
            failures=totals.failures,
            unknown_orders=sum(order.state is OrderState.unknown for order in totals.orders),
            used_ids=frozenset(
                order.client_order_id
                for order in totals.orders
                if order.state is not OrderState.intent
            ),
            counted=frozenset(
                order.client_order_id
                for order in totals.orders
                if order.state is not OrderState.dropped and _in(order, hours)
            ),
            day=totals.day,
            week_notional=totals.week_notional,
            name_day=_name_day(order for order in sent if _in(order, hours)),
            parents=_parents(totals.orders),
            messages_second=self._messages(now, 1.0),
            messages_minute=self._messages(now, 60.0),
            equity_reads=_reads(totals.accounts, account),
            peak_equity=max([*peak, account.equity]) if account is not None else None,
            models=self._permissions.models,
            last_weights=totals.last_weights,
            recorded_body=(
                None if totals.decision is None else totals.decision.decision.body_sha256
            ),
            received_at=received_at,
            ramp=Decimal(1),  # the strategist lowers it for a young policy
        )

    def hours(self, at: datetime) -> SessionHours | None:
        """Return the session that the calendar has on the day of a time."""
        return self._market.hours(at)

    def previous(self, at: datetime) -> date | None:
        """Return the last session that was completed at a time."""
        found = self._market.previous(at)
        return None if found is None else found[0]

    def _skew(self, clock: BrokerClock | None) -> Decimal | None:
        if clock is None:
            return None
        if self._own_clock is None:
            return Decimal(0)
        return Decimal(repr((self._own_clock() - clock.now).total_seconds()))

    def _messages(self, now: datetime, seconds: float) -> int:
        since = now - timedelta(seconds=seconds)
        return sum(at > since for at in self.memory.messages)


def _known(read: Callable[[], Value], what: str) -> Value | None:
    """Return what a broker says, or None where it does not say it."""
    try:
        return read()
    except BrokerError as error:
        logger.warning("%s not known: %s", what, error)
        return None


def _open(found: Sequence[BrokerOrder], sent: Iterable[StoredOrder]) -> tuple[OpenOrder, ...]:
    """Return what may still fill: at the broker, or sent and not shown there."""
    seen = {order.client_order_id for order in found}
    hidden = (
        _worst(order)
        for order in sent
        if order.state not in TERMINAL and order.client_order_id not in seen
    )
    return (*map(OpenOrder.of, found), *hidden)


def _worst(order: StoredOrder) -> OpenOrder:
    """Return an order that was sent and that the broker does not show: it may still fill."""
    remaining = order.quantity - order.filled
    return OpenOrder(order.client_order_id, order.symbol, order.side, remaining, order.limit_price)


def _in(order: StoredOrder, hours: SessionHours | None) -> bool:
    """Return whether an order became durable on the day of a session; in doubt it did."""
    return hours is None or order.created_at >= hours.open - timedelta(hours=12)


def _name_day(orders: Iterable[StoredOrder]) -> dict[str, NameDay]:
    traded: dict[str, NameDay] = {}
    for order in orders:
        if order.filled > 0:
            day = traded.get(order.symbol, NameDay(Decimal(0), Decimal(0)))
            buys = order.filled if order.side is Side.buy else Decimal(0)
            traded[order.symbol] = NameDay(day.bought + buys, day.sold + order.filled - buys)
    return traded


def _parents(orders: Iterable[StoredOrder]) -> dict[tuple[str, str, Side], Decimal]:
    sent: dict[tuple[str, str, Side], Decimal] = {}
    for order in orders:
        if order.state is OrderState.dropped:
            continue
        key = (order.decision_id, order.symbol, order.side)
        sent[key] = sent.get(key, Decimal(0)) + order.quantity
    return sent


def _reads(snapshots: Sequence[StoredAccount], account: Account | None) -> tuple[Decimal, ...]:
    """Return the last readings of equity, the present one last."""
    before = tuple(one.account.equity for one in reversed(snapshots))
    return before if account is None else (*before, account.equity)
