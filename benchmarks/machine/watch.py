"""What must hold of a gateway at every moment, from the exchange's own books and the ledger's.

Nothing of the checks, the planner or the observer is used: what an order may add is computed here
once more, from the exchange's prices, positions and open orders, the ones that the gateway cannot
see included.
"""

import json
from decimal import Decimal
from typing import Any, NamedTuple

from benchmarks.machine.desk import Desk
from benchmarks.machine.inside import Asked
from benchmarks.machine.market import BARS
from brokers.exchange.records import ExchangeOrder, Status
from risk.gateway.identity import client_order_id
from risk.gateway.limits import GatewayLimits, loosened
from risk.gateway.records import TERMINAL, OrderState, Side
from risk.gateway.replay import judged_again
from risk.gateway.stored import DecisionState, StoredOrder
from risk.gateway.verify import verify

ZERO, CENT = Decimal(0), Decimal("0.01")
SECTOR = dict(zip(BARS.symbols, BARS.sectors, strict=True))
STATES = {
    Status.filled: OrderState.filled,
    Status.canceled: OrderState.cancelled,
    Status.expired: OrderState.expired,
    Status.rejected: OrderState.refused,
}


class Broken(AssertionError):
    """Something that must always hold does not; the words begin with its number."""


class Body(NamedTuple):
    """An order on its way out."""

    id: str
    symbol: str
    side: Side
    quantity: Decimal
    limit: Decimal


class Watch:
    """Holds a desk against what must be true; every method raises `Broken`.

    Args:
        desk: to watch.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        desk.watching = self._sending

    def begin(self) -> None:
        """Begin with a desk that just began."""
        self._known = 0
        self._bodies: dict[str, Body] = {}
        self._limits = self._desk.gateway.limits
        self._epoch = self._desk.epoch
        self.usurped: set[str] = set()  # our ids, under which a stranger put an order
        self.broken: list[Broken] = []

    def between(self) -> None:
        """Look at everything between two rules."""
        if self.broken:
            raise self.broken[0]
        market, desk = self._desk.market, self._desk
        if market.exchange.floor.cash < 0:
            raise Broken(f"I6: cash is {market.exchange.floor.cash}")
        count = market.count()
        if count != self._known:
            for order in market.orders()[self._known :]:
                self._explained(order)
            self._known = count
        for order in market.open_orders():
            self._followed(order)
        limits = desk.gateway.limits
        if limits is not self._limits:
            if looser := loosened(self._limits, limits):
                raise Broken(f"I10: looser without a signature: {', '.join(looser)}")
            self._limits = limits
        if desk.epoch < self._epoch:
            raise Broken(f"epoch {desk.epoch} after {self._epoch}")
        self._epoch = desk.epoch

    def ended(self) -> None:
        """Look at a desk whose faults have ended and whose session is over."""
        self.between()
        desk = self._desk
        ours = {order.client_order_id: order for order in desk.outside.orders()}
        theirs = {order.client_order_id: order for order in desk.market.orders()}
        for order in ours.values():
            self._same(order, theirs.get(order.client_order_id))
        for stored in {order.decision_id for order in ours.values()}:
            decision = desk.outside.decision(stored)
            assert decision is not None, "its orders are there"
            if decision.state is not DecisionState.done:
                raise Broken(f"I9: decision {stored} stays {decision.state.value}")
        held, booked = desk.market.held(), desk.outside.positions()
        if held != booked:
            raise Broken(f"I9: the ledger holds {booked}, the exchange {held}")
        cash, ours_cash = desk.market.exchange.floor.cash, desk.outside.cash()
        if cash != ours_cash:
            raise Broken(f"I9: the ledger has {ours_cash} cash, the exchange {cash}")
        desk.ledger.close()  # what it writes at last belongs to what is verified
        walked = verify(desk.outside, desk.anchor, judged_again)
        if not walked.ok:
            raise Broken(f"I7, I8: {walked.problems[:3]}")
        desk.counts["audit records"] += walked.records
        desk.counts["verdicts judged"] += walked.verdicts

    def _same(self, order: StoredOrder, found: ExchangeOrder | None) -> None:
        """Compare one order at its end with the exchange's."""
        self._desk.counts[f"ended {order.state.value}"] += 1
        name = f"order {order.client_order_id} ({order.state.value}, {order.detail})"
        if order.state not in TERMINAL:
            raise Broken(f"I9: {name} has no end")
        if found is None:
            if order.filled != 0 or order.state not in (
                OrderState.dropped, OrderState.refused, OrderState.expired
            ):  # fmt: skip
                raise Broken(f"I9: {name} is nowhere at the exchange")
            return
        if order.filled != found.filled:
            raise Broken(f"I9: {name} has {order.filled} filled, the exchange {found.filled}")
        if order.client_order_id in self.usurped and not found.filled:
            return  # another gateway's, which came and went; ours was never sent
        partly = found.filled and found.status is not Status.filled
        wanted = OrderState.partly_done if partly else STATES[found.status]
        if order.state is not wanted:
            raise Broken(f"I9: {name} is {found.status.value} at the exchange")

    def _explained(self, order: ExchangeOrder) -> None:
        """Find the intent of an order that the exchange took."""
        if order.client_order_id in self._desk.market.strangers:
            return
        stored = self._desk.outside.order(order.client_order_id)
        if stored is None:
            raise Broken(f"I2: no intent explains {order}")
        asked = (stored.symbol, stored.side, stored.quantity, stored.limit_price)
        if asked != (order.symbol, order.side, order.quantity, order.limit_price):
            raise Broken(f"I2: {stored} became {order}")

    def _followed(self, order: ExchangeOrder) -> None:
        """Find an order that is open at the exchange among those that are asked about."""
        strangers = self._desk.market.strangers
        stored = None
        if order.client_order_id not in strangers:
            stored = self._desk.outside.order(order.client_order_id)
        if stored is not None and stored.state in TERMINAL:
            raise Broken(f"I9: {stored} has ended, {order} is open")

    def _sending(self, asked: Asked) -> None:
        """Look at an order at the moment in which its first byte leaves."""
        try:
            order = _body(asked)
            self._may_trade()
            self._has_intent(order)
            self._is_bearable(order)
        except Broken as error:
            self.broken.append(error)
            raise

    def _may_trade(self) -> None:
        desk = self._desk
        if not desk.outside.latch().armed:
            raise Broken("I4: an order is sent while the latch is not armed")
        if desk.halt_file.halted():
            raise Broken("I4: an order is sent beside a HALT file")
        if not desk.permit.valid(desk.epoch):
            raise Broken("I4: an order is sent without a permit")
        if not desk.market.is_open:
            raise Broken(f"I4: an order is sent at {desk.market.now}, when the market is closed")

    def _has_intent(self, order: Body) -> None:
        """Find the durable intent, in flight, whose leg the id is."""
        desk = self._desk
        stored = desk.outside.order(order.id)
        if stored is None or stored.state is not OrderState.in_flight:
            raise Broken(f"I2: {order} is sent, durable is {stored}")
        leg = client_order_id(
            desk.account, stored.decision_id, order.symbol, order.side, stored.slice
        )
        if order.id != leg or self._bodies.setdefault(order.id, order) != order:
            raise Broken(f"I1: {order} after {self._bodies.get(order.id)}, its leg is {leg}")
        if (order.quantity, order.limit) != (stored.quantity, stored.limit_price):
            raise Broken(f"I2: {order} is not {stored}")
        decision = desk.outside.decision(stored.decision_id)
        if decision is None or decision.state is not DecisionState.accepted:
            raise Broken(f"I2: {order} is sent, its decision is {decision}")
        hours = desk.market.exchange.hours
        if hours.current(desk.market.now) != hours.current(decision.received_at):
            raise Broken(f"I4: {order} of {decision.received_at} is sent at {desk.market.now}")

    def _is_bearable(self, order: Body) -> None:
        """Add an order to the exchange's own books, everything filled at its worst."""
        market, limits = self._desk.market, self._desk.gateway.limits
        others = [one for one in market.open_orders() if one.client_order_id != order.id]
        book = _Book(self._desk, others, limits)
        sold = book.sells(order.symbol) + order.quantity
        if order.side is Side.sell:
            if not 0 < sold <= book.shares(order.symbol):
                raise Broken(f"I5: {order} of {book.shares(order.symbol)}, {sold} are for sale")
            return
        book.require_calm(order)
        book.add(order)
        book.require_bearable(order)


class _Book:
    """The account at worst, account currency, all marks the exchange's last prices."""

    def __init__(self, desk: Desk, orders: list[ExchangeOrder], limits: GatewayLimits) -> None:
        self._desk, self._limits = desk, limits
        self._floor = desk.market.exchange.floor
        self._view = self._floor.view(desk.market.now)
        self._held = desk.market.held()
        self._high: dict[str, Decimal] = {}
        self._low: dict[str, Decimal] = {}
        self._selling: dict[str, Decimal] = {}
        self.cash = self._view.cash
        for symbol, quantity in self._held.items():
            self._high[symbol] = self._low[symbol] = quantity * self._mark(symbol)
        for one in orders:
            if one.side is Side.buy:
                self._buy(one.symbol, one.remaining, one.limit_price)
            else:
                self._selling[one.symbol] = self.sells(one.symbol) + one.remaining
                low = self._low.get(one.symbol, ZERO)
                self._low[one.symbol] = low - one.remaining * self._mark(one.symbol)

    def shares(self, symbol: str) -> Decimal:
        """Return the shares held."""
        return self._held.get(symbol, ZERO)

    def sells(self, symbol: str) -> Decimal:
        """Return the shares for sale."""
        return self._selling.get(symbol, ZERO)

    def add(self, order: Body) -> None:
        """Add a buy."""
        self._buy(order.symbol, order.quantity, order.limit)

    def require_calm(self, order: Body) -> None:
        """Refuse what adds after a bad day or far below the peak."""
        account = self._desk.market.exchange.account()
        equity, last = Decimal(account["equity"]), Decimal(account["last_equity"])
        snapshot = self._desk.outside.last_account()
        assert snapshot is not None, "the gateway has looked"
        for words, fall, most in (
            ("day", 1 - equity / last, self._limits.max_day_loss),
            ("peak", 1 - equity / snapshot.peak_equity, self._limits.max_drawdown),
        ):
            if fall > most:
                raise Broken(f"I5: {order} adds, {words} has lost {fall:.4f}, allowed {most}")

    def require_bearable(self, order: Body) -> None:
        """Compare everything with the limits."""
        nav, limits, symbol = self._view.equity, self._limits, order.symbol
        names = {*self._high, *self._low}
        gross = {name: self._gross(name) for name in names}
        sector = sum((gross[name] for name in names if SECTOR[name] == SECTOR[symbol]), ZERO)
        cost = order.quantity * max(order.limit, self._mark(symbol))
        for what, value, most in (
            ("I3: order", cost, limits.max_order_weight * nav),
            ("I3: position", gross[symbol], limits.max_weight * nav),
            ("I3: sector", sector, limits.max_sector * nav),
            ("I3: gross", sum(gross.values(), ZERO), limits.max_gross * nav),
            ("I3: net", sum(self._high.values(), ZERO), limits.max_net * nav),
            ("I3: turnover", self._traded(order), limits.max_turnover_day * nav + CENT),
            ("I6: buys", self._view.cash - self.cash, self._view.cash - limits.min_cash * nav),
        ):
            if value > most:
                raise Broken(f"{what} {value:.2f}, allowed {most:.2f}, with {order}")

    def _traded(self, order: Body) -> Decimal:
        """Return what our orders of the session have traded or may trade, with one more."""
        desk = self._desk
        session = desk.market.exchange.hours.current(desk.market.now)
        total = order.quantity * order.limit
        for one in desk.market.orders():
            ours = one.client_order_id not in desk.market.strangers | {order.id}
            if ours and one.submitted_at.date() == session:
                rest = one.remaining if one.ended_at is None else ZERO
                total += one.filled_notional + rest * (one.limit_price or ZERO)
        return total

    def _buy(self, symbol: str, quantity: Decimal, limit: Decimal | None) -> None:
        mark = self._mark(symbol)
        price = mark * (1 + self._limits.max_collar) if limit is None else max(limit, mark)
        self._high[symbol] = self._high.get(symbol, ZERO) + quantity * price
        self.cash -= quantity * price

    def _gross(self, symbol: str) -> Decimal:
        return max(abs(self._high.get(symbol, ZERO)), abs(self._low.get(symbol, ZERO)))

    def _mark(self, symbol: str) -> Decimal:
        market = self._floor.market(symbol, self._desk.market.now)
        assert market is not None, "every name has a price"
        return market.last


def _body(asked: Asked) -> Body:
    sent: dict[str, Any] = json.loads(asked.body)
    if (sent["type"], sent["time_in_force"]) != ("limit", "day"):
        raise Broken(f"an order that is no day order with a limit: {sent}")
    return Body(
        sent["client_order_id"],
        sent["symbol"],
        Side(sent["side"]),
        Decimal(sent["qty"]),
        Decimal(sent["limit_price"]),
    )
