"""What is left when all is quiet: the ledger's books beside the exchange's, order by order."""

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

from benchmarks.crashes.naive import Book, leg_of
from benchmarks.crashes.venue import CASH, ORDERS, START, Venue, bodies, decision
from brokers.exchange.records import to_cent
from risk.gateway.broker import Broker
from risk.gateway.courier import state_of
from risk.gateway.ledger import Ledger
from risk.gateway.records import BrokerOrder, Fill, OrderRequest, OrderState, Side
from risk.gateway.stored import DecisionState, StoredOrder


@dataclass(frozen=True, slots=True)
class Wrong:
    """What differs, one line for each difference.

    Args:
        lost: legs that were planned, are not at the exchange, and that it never refused.
        duplicated: legs that are at the exchange more than once.
        misbooked: orders, positions or cash of which the ledger says something else.
        unplanned: what was sent and the decision did not plan.
    """

    lost: tuple[str, ...]
    duplicated: tuple[str, ...]
    misbooked: tuple[str, ...]
    unplanned: tuple[str, ...]

    def lines(self) -> tuple[str, ...]:
        """Return all of it, each line with what it is."""
        return tuple(f"{kind}: {line}" for kind, lines in asdict(self).items() for line in lines)


def compare(venue: Venue, ledger: Ledger, broker: Broker) -> Wrong:
    """Return what differs between the ledger and the exchange, to the share and the cent."""
    account = broker.account()
    wanted = decision(account.id)
    planned = ledger.orders(decision_id=wanted.id)
    there = broker.orders(START - timedelta(days=1))
    by_id = {one.client_order_id: one for one in there}
    stored = ledger.decision(wanted.id)
    misbooked = [line for order in planned for line in _differences(order, by_id)]
    if stored is None or stored.state is not DecisionState.done or len(planned) != ORDERS:
        misbooked.append(f"the decision: {stored and stored.state}, {len(planned)} orders")
    held = {name: one.quantity for name, one in broker.positions().items()}
    if ledger.positions() != held:
        misbooked.append(f"positions: {ledger.positions()}, there {held}")
    cash = cash_after(ledger.fills(START - timedelta(days=1)))
    if cash != account.cash:
        misbooked.append(f"cash: {cash}, there {account.cash}")
    return Wrong(
        lost=tuple(
            f"{order.side.value} {order.symbol}: {order.state.value}, {order.detail}"
            for order in planned
            if order.client_order_id not in by_id and order.state is not OrderState.refused
        ),
        duplicated=repeated(there),
        misbooked=tuple(misbooked),
        unplanned=_unplanned(venue, planned, there),
    )


def compare_book(folder: Path, broker: Broker, plan: Sequence[OrderRequest]) -> Wrong:
    """Return what differs between a naive path's book and the exchange.

    Args:
        folder: of the book.
        broker: of the account.
        plan: what was to be sent.
    """
    with closing(Book(folder)) as book:
        rows = book.rows()
    there = broker.orders(START - timedelta(days=1))
    filled: dict[str, Decimal] = {}
    for one in there:
        leg = f"{one.side.value} {one.symbol}"
        filled[leg] = filled.get(leg, Decimal(0)) + one.filled
    legs = [leg_of(order) for order in plan]
    return Wrong(
        lost=tuple(leg for leg in legs if leg not in filled),
        duplicated=repeated(there),
        misbooked=tuple(
            f"{leg}: {rows[leg]}, there {filled[leg]}"
            for leg in legs
            if leg in filled and Decimal(rows[leg][2]) != filled[leg]
        ),
        unplanned=tuple(sorted(set(filled) - set(legs))),
    )


def repeated(there: Sequence[BrokerOrder]) -> tuple[str, ...]:
    """Return the legs of which there is more than one order."""
    legs = Counter((one.side.value, one.symbol) for one in there)
    return tuple(f"{side} {name}: {n} orders" for (side, name), n in legs.items() if n > 1)


def cash_after(fills: Iterable[Fill]) -> Decimal:
    """Return the cash that an account has after executions, to the cent."""
    cash = Decimal(CASH)
    for fill in fills:
        notional = to_cent(fill.quantity * fill.price)
        cash += (notional if fill.side is Side.sell else -notional) - fill.commission
    return cash


def _differences(order: StoredOrder, there: dict[str, BrokerOrder]) -> list[str]:
    """Return what the ledger says otherwise of an order that the exchange has."""
    found = there.get(order.client_order_id)
    if found is None:
        return [] if order.filled == 0 else [f"{order.symbol}: filled, and not there"]
    ours = (order.state, order.quantity, order.filled, order.broker_id, order.limit_price)
    theirs = (state_of(found), found.quantity, found.filled, found.broker_id, found.limit_price)
    return [] if ours == theirs else [f"{order.symbol}: {ours}, there {theirs}"]


def _unplanned(
    venue: Venue, planned: Sequence[StoredOrder], there: Sequence[BrokerOrder]
) -> tuple[str, ...]:
    """Return what was sent, or is there, and is none of the planned orders."""
    plan = {
        (one.client_order_id, one.symbol, one.side.value, one.quantity, one.limit_price)
        for one in planned
    }
    sent = {
        (body["client_order_id"], body["symbol"], body["side"], Decimal(body["qty"]),
         Decimal(body["limit_price"]))
        for body in bodies(venue)
    }  # fmt: skip
    ids = {one.client_order_id for one in planned}
    strange = {one.client_order_id for one in there} - ids
    return tuple(map(str, [*(sent - plan), *strange]))
