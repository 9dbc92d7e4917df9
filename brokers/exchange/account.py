"""What an account is worth and what it can still buy: pure arithmetic."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from brokers.exchange.matching import commission, market_price
from brokers.exchange.records import (
    ExchangeOrder,
    Holding,
    Market,
    OrderType,
    Status,
    to_cent,
)
from brokers.exchange.settings import Terms
from risk.gateway.records import Side

NOTHING = Holding(Decimal(0), Decimal(0))


@dataclass(frozen=True, slots=True)
class AccountView:
    """The account at one time.

    Args:
        cash: account currency, may be < 0.
        holdings: positions by symbol.
        markets: prices of every held name and of every name with an open order.
        open_orders: not ended.
        multiplier: of the buying power.
        terms: of execution.
    """

    cash: Decimal
    holdings: Mapping[str, Holding]
    markets: Mapping[str, Market]
    open_orders: Sequence[ExchangeOrder]
    multiplier: Decimal
    terms: Terms

    def value(self, symbol: str) -> Decimal:
        """Return what a position is worth at the last price, to the cent, with its sign."""
        return to_cent(self.holdings[symbol].quantity * self.markets[symbol].last)

    @property
    def long_value(self) -> Decimal:
        """Return the worth of the positions that are held, >= 0."""
        return sum((max(self.value(symbol), Decimal(0)) for symbol in self.holdings), Decimal(0))

    @property
    def short_value(self) -> Decimal:
        """Return the worth of the positions that are owed, <= 0."""
        return sum((min(self.value(symbol), Decimal(0)) for symbol in self.holdings), Decimal(0))

    @property
    def equity(self) -> Decimal:
        """Return cash and positions."""
        return self.cash + self.long_value + self.short_value

    @property
    def reserved(self) -> Decimal:
        """Return what the open orders that build positions need, if they fill at their prices."""
        return sum((self.need(order) for order in self.open_orders), Decimal(0))

    @property
    def buying_power(self) -> Decimal:
        """Return the notional that can still be bought: never below 0."""
        used = self.long_value - self.short_value + self.reserved
        return max(self.multiplier * self.equity - used, Decimal(0))

    def quantity(self, symbol: str) -> Decimal:
        """Return the signed shares of a name."""
        return self.holdings.get(symbol, NOTHING).quantity

    def closes(self, symbol: str, side: Side) -> bool:
        """Return whether an order of a side would make a position smaller."""
        held = self.quantity(symbol)
        return held > 0 if side is Side.sell else held < 0

    def available(self, symbol: str) -> Decimal:
        """Return the shares of a position, without sign, that no open order is about to close.

        The two exits of a bracket cancel each other: they hold the same shares once.
        """
        held = self.quantity(symbol)
        bound: dict[str, Decimal] = {}
        for order in self.open_orders:
            if order.symbol == symbol and self.closes(symbol, order.side) and self._works(order):
                group = order.parent_id or order.id
                bound[group] = max(bound.get(group, Decimal(0)), order.remaining)
        return abs(held) - sum(bound.values(), Decimal(0))

    def need(self, order: ExchangeOrder) -> Decimal:
        """Return what an order adds to the positions at its price, with its commission."""
        if not self._works(order) or order.parent_id or self.closes(order.symbol, order.side):
            return Decimal(0)
        price = self._price(order)
        cost = commission(order.remaining, price, self.terms)
        return to_cent(order.remaining * price) + cost

    def _price(self, order: ExchangeOrder) -> Decimal:
        """Return the price that an order is expected to fill at."""
        now = market_price(order.side, self.markets[order.symbol], self.terms)
        if order.type is OrderType.limit and order.limit_price is not None:
            return order.limit_price if order.side is Side.buy else max(order.limit_price, now)
        return now if order.stop_price is None else max(order.stop_price, now)

    @staticmethod
    def _works(order: ExchangeOrder) -> bool:
        return order.status is not Status.held
