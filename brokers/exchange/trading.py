"""What happens to orders: they come in, are filled as time passes, are cancelled or expire.

Every change of orders, positions and cash that belongs together is one transaction.
"""

import json
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

from brokers.exchange import rules
from brokers.exchange.account import NOTHING, AccountView
from brokers.exchange.admission import Draft, malformed
from brokers.exchange.answers import fill_details
from brokers.exchange.drafting import exits, new_order
from brokers.exchange.matching import (
    Execution,
    cash_flow,
    execution,
    held_after,
    reached,
    signed,
)
from brokers.exchange.prices import Hours, PricePaths, quoted
from brokers.exchange.records import (
    OPEN,
    ExchangeOrder,
    Market,
    Rejection,
    Status,
)
from brokers.exchange.rules import AssetFlags, Permissions
from brokers.exchange.settings import Terms
from brokers.exchange.store import Store
from brokers.exchange.time_keeping import ExchangeClock


class TradingFloor:
    """Orders, positions and cash of the account.

    Args:
        store: where they are kept.
        clock: of the exchange.
        paths: prices.
        hours: of the exchange.
        terms: of execution; may be changed between two requests.
        multiplier: of the buying power.
        step: time from one attempt to fill to the next.
    """

    def __init__(
        self,
        store: Store,
        clock: ExchangeClock,
        paths: PricePaths,
        hours: Hours,
        terms: Terms,
        multiplier: int,
        step: timedelta,
    ) -> None:
        self.store, self.clock, self.paths, self.hours = store, clock, paths, hours
        self.terms = terms
        self._multiplier = Decimal(multiplier)
        self._step = step

    @property
    def cash(self) -> Decimal:
        """Return the cash of the account."""
        return Decimal(self.store.fact("cash") or "0")

    def market(self, symbol: str, at: datetime) -> Market | None:
        """Return the prices of a name; None before its first."""
        found = self.paths.price(symbol, at)
        if found is None:
            return None
        price, stamp = found
        return quoted(self._scaled(symbol, price), stamp, self.terms.half_spread_bp)

    def factor(self, symbol: str) -> Decimal:
        """Return what the prices of a name are multiplied by, after splits and by injection."""
        return Decimal(self.store.fact(f"factor:{symbol}") or "1")

    def flags(self, symbol: str, session: date) -> AssetFlags:
        """Return what may be done with a name in a session."""
        tradable = self.paths.tradable(symbol, session)
        flags = {"tradable": tradable, "fractionable": True} | dict.fromkeys(
            ("shortable", "easy_to_borrow"), tradable
        )
        flags |= json.loads(self.store.fact(f"flags:{symbol}") or "{}")
        return AssetFlags(**flags)

    def permissions(self) -> Permissions:
        """Return what the account may do."""
        names = ("suspend_trade", "blocked", "no_shorting")
        return Permissions(*(self.store.fact(name) == "true" for name in names))

    def view(self, at: datetime) -> AccountView:
        """Return the account at a time."""
        holdings = self.store.holdings()
        orders = self.store.open_orders()
        markets = {}
        for symbol in {*holdings, *(order.symbol for order in orders)}:
            if (market := self.market(symbol, at)) is not None:
                markets[symbol] = market
        return AccountView(self.cash, holdings, markets, orders, self._multiplier, self.terms)

    def submit(self, draft: Draft) -> tuple[ExchangeOrder, list[ExchangeOrder]]:
        """Accept an order and try to fill it.

        Returns:
            The order and its legs as they were accepted, before anything was filled.

        Raises:
            Rejection: if it is refused.
        """
        with self.store.transaction():
            now = self.clock.kept()
            order = self._accept(draft, now)
            accepted = replace(order), self.store.legs(order.id)
            session = self.hours.current(now)
            if session is not None:
                self._attempt(order, now, session)
        return accepted

    def cancel(self, order: ExchangeOrder) -> None:
        """End an open order, and the legs that wait for it.

        Raises:
            Rejection: if it has ended.
        """
        self._require_open(order)
        with self.store.transaction():
            self._end(order, Status.canceled)

    def reject(self, order: ExchangeOrder) -> None:
        """Turn an open order down after it was accepted.

        Raises:
            Rejection: if it has ended.
        """
        self._require_open(order)
        with self.store.transaction():
            self._end(order, Status.rejected)

    def replace(self, order: ExchangeOrder, draft: Draft) -> ExchangeOrder:
        """Put another order in the place of an open one that was not filled at all.

        Raises:
            Rejection: if the old one cannot be replaced, or the new one is refused.
        """
        if order.status not in (Status.accepted, Status.new) or order.filled:
            raise Rejection(422, 42210000, "unable to replace order in current state")
        with self.store.transaction():
            self._end(order, Status.replaced)
            successor, _ = self.submit(draft)
            kept = self._order(successor.id)
            kept.replaces = order.id
            order.replaced_by = kept.id
            self.store.put_order(order)
            self.store.put_order(kept)
        return replace(successor, replaces=order.id)

    def book_shares(self, symbol: str, change: Decimal, price: Decimal) -> None:
        """Change a position by signed shares that came, or went, at a price."""
        holding = self.store.holdings().get(symbol, NOTHING)
        self.store.put_holding(symbol, held_after(holding, change, price))

    def settle(self, to: datetime) -> None:
        """Let everything happen that happens up to a time."""
        now = self.clock.kept()
        if to <= now:
            return
        with self.store.transaction():
            for session in self.hours.between(now.date() - timedelta(days=1), to.date()):
                opening, close = self.hours.times(session)
                if close > now and opening <= to:
                    self._trade(session, now, to)
            self.clock.keep(to)

    def _trade(self, session: date, now: datetime, to: datetime) -> None:
        """Play the part of a session that lies in (now, to]; its open is part of it."""
        opening, close = self.hours.times(session)
        at = (
            opening if now < opening else opening + ((now - opening) // self._step + 1) * self._step
        )
        while at < close and at <= to and self._attempt_all(at, session):
            at += self._step
        if now < close <= to:
            self._attempt_all(close, session)
            self._close(session, close)

    def _attempt_all(self, at: datetime, session: date) -> bool:
        """Try to fill every open order; return whether there was one."""
        self.clock.keep(at)
        identities = [order.id for order in self.store.open_orders()]
        for identity in identities:
            order = self._order(identity)  # an exit of a bracket may have ended its twin
            if order.status in OPEN:
                self._attempt(order, at, session)
        return bool(identities)

    def _close(self, session: date, close: datetime) -> None:
        """Let the orders of a session expire and keep the equity."""
        for order in self.store.open_orders():
            if order.expires_at <= close:
                self._end(order, Status.expired)
        self.store.add_close(session, close, self.view(close).equity)

    def _accept(self, draft: Draft, now: datetime) -> ExchangeOrder:
        rules.require_known(draft.symbol, self.paths.symbols)
        market = self.market(draft.symbol, now)
        flags = self.flags(draft.symbol, self.hours.coming(now))
        permissions = self.permissions()
        rules.check_permissions(permissions)
        rules.check_asset(draft, flags)
        if market is None:
            raise Rejection(422, 42210000, f"asset {draft.symbol} has no price")
        rules.check_stop(draft, market)
        rules.check_bracket(draft, market)
        if self.store.order("client_order_id", draft.client_order_id) is not None:
            raise malformed("client_order_id must be unique")
        view = self.view(now)
        view = replace(view, markets={**view.markets, draft.symbol: market})
        rules.check_wash_trade(draft, view)
        order = new_order(
            draft,
            self.clock.stamp(),
            is_open=self.hours.current(now) is not None,
            expires_at=self.hours.times(self.hours.coming(now))[1],
        )
        rules.check_funds(draft, order, view, flags, permissions.no_shorting)
        self.store.put_order(order)
        for leg in exits(draft, order):
            self.store.put_order(replace(leg, submitted_at=self.clock.stamp()))
        return order

    def _attempt(self, order: ExchangeOrder, at: datetime, session: date) -> None:
        """Try once to fill an order."""
        if order.status is Status.held or not self.flags(order.symbol, session).tradable:
            return
        market = self.market(order.symbol, at)
        if market is None:
            return
        if order.status is Status.accepted:
            order.status = Status.new
        order.triggered = order.triggered or reached(order, market)
        self.store.put_order(order)
        found = execution(order, market, self.terms)
        if found is not None:
            self._book(order, found)

    def _book(self, order: ExchangeOrder, fill: Execution) -> None:
        """Book a fill: order, position, cash and activity."""
        at = self.clock.stamp()
        order.filled += fill.quantity
        order.filled_notional += fill.quantity * fill.price
        order.status = Status.partially_filled if order.remaining else Status.filled
        order.updated_at = at
        order.ended_at = None if order.remaining else at
        self.store.put_order(order)
        self.book_shares(order.symbol, signed(order.side, fill.quantity), fill.price)
        self.store.set_fact("cash", str(self.cash + cash_flow(order.side, fill)))
        identity = f"{at:%Y%m%d%H%M%S%f}::{uuid4()}"
        self.store.add_activity(identity, "FILL", at, fill_details(order, fill, at))
        self._after_fill(order, fill)

    def _after_fill(self, order: ExchangeOrder, fill: Execution) -> None:
        """Let a bracket's legs begin, or take from one exit what the other one closed."""
        if order.parent_id is None:
            for leg in self.store.legs(order.id) if not order.remaining else ():
                leg.status = Status.new
                self.store.put_order(leg)
            return
        for twin in self.store.legs(order.parent_id):
            if twin.id != order.id and twin.status in OPEN:
                if not order.remaining:
                    self._end(twin, Status.canceled)
                else:
                    twin.quantity -= fill.quantity
                    self.store.put_order(twin)

    def _end(self, order: ExchangeOrder, status: Status) -> None:
        order.status = status
        order.ended_at = order.updated_at = self.clock.stamp()
        self.store.put_order(order)
        for leg in self.store.legs(order.id):
            if leg.status in OPEN:
                self._end(leg, status)

    @staticmethod
    def _require_open(order: ExchangeOrder) -> None:
        if order.status not in OPEN:
            raise Rejection(422, 42210000, f'order is already in "{order.status.value}" state')

    def _order(self, identity: str) -> ExchangeOrder:
        order = self.store.order("id", identity)
        if order is None:
            raise KeyError(identity)
        return order

    def _scaled(self, symbol: str, price: float) -> Decimal:
        return Decimal(repr(price)) * self.factor(symbol)
