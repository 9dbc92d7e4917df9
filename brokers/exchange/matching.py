"""Whether an order is filled at some prices, at which price and how much of it: pure functions."""

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_UP, Decimal

from brokers.exchange.prices import BASIS, SUB_PENNY
from brokers.exchange.records import (
    CENT,
    SHARE,
    ExchangeOrder,
    Holding,
    Market,
    OrderType,
    to_cent,
)
from brokers.exchange.settings import Terms
from risk.gateway.records import Side


@dataclass(frozen=True, slots=True)
class Execution:
    """A fill: shares > 0, account currency per share, and account currency of commission."""

    quantity: Decimal
    price: Decimal
    commission: Decimal


def reached(order: ExchangeOrder, market: Market) -> bool:
    """Return whether the last price has reached a stop."""
    if order.stop_price is None:
        return False
    if order.side is Side.buy:
        return market.last >= order.stop_price
    return market.last <= order.stop_price


def execution(order: ExchangeOrder, market: Market, terms: Terms) -> Execution | None:
    """Return what one attempt fills of an order, None where nothing."""
    price = _price(order, market, terms)
    quantity = _quantity(order, terms)
    if price is None or not quantity:
        return None
    return Execution(quantity, price, commission(quantity, price, terms))


def commission(quantity: Decimal, price: Decimal, terms: Terms) -> Decimal:
    """Return what a fill costs, rounded up to the cent."""
    asked = quantity * price * terms.commission_bp / BASIS + quantity * terms.commission_per_share
    return asked.quantize(CENT, ROUND_UP)


def market_price(side: Side, market: Market, terms: Terms) -> Decimal:
    """Return the price of a market order: beyond the quote by the slippage."""
    slip = terms.slippage_bp / BASIS
    if side is Side.buy:
        return (market.ask * (1 + slip)).quantize(SUB_PENNY, ROUND_CEILING)
    return max((market.bid * (1 - slip)).quantize(SUB_PENNY, ROUND_FLOOR), SUB_PENNY)


def signed(side: Side, quantity: Decimal) -> Decimal:
    """Return the change of a position."""
    return quantity if side is Side.buy else -quantity


def cash_flow(side: Side, execution: Execution) -> Decimal:
    """Return the change of the cash: the notional rounded to the cent, and the commission."""
    notional = to_cent(execution.quantity * execution.price)
    return -signed(side, notional) - execution.commission


def held_after(holding: Holding, change: Decimal, price: Decimal) -> Holding:
    """Return a position after a trade; what is closed leaves at its average cost.

    >>> held_after(Holding(Decimal(10), Decimal(1000)), Decimal(-4), Decimal(120))
    Holding(quantity=Decimal('6'), cost=Decimal('600.000000000'))
    """
    after = holding.quantity + change
    if holding.quantity * change >= 0:  # opened or grown
        return Holding(after, holding.cost + change * price)
    if holding.quantity * after < 0:  # turned over: what is left was opened now
        return Holding(after, after * price)
    return Holding(after, (holding.cost * after / holding.quantity).quantize(SHARE))


def _price(order: ExchangeOrder, market: Market, terms: Terms) -> Decimal | None:
    """Return the price of a fill, never beyond the limit; None where there is none."""
    price = market_price(order.side, market, terms)
    if order.type is OrderType.stop and not (order.triggered or reached(order, market)):
        return None
    limit = order.limit_price
    if limit is None:
        return price
    if order.side is Side.buy:
        return min(price, limit) if market.ask <= limit else None
    return max(price, limit) if market.bid >= limit else None


def _quantity(order: ExchangeOrder, terms: Terms) -> Decimal:
    """Return the shares of one attempt: whole ones of a whole order, at least one of them."""
    whole = order.quantity == order.quantity.to_integral_value()
    smallest = Decimal(1) if whole else SHARE
    share = order.quantity * terms.share_per_step
    if not share:
        return Decimal(0)
    return min(
        order.remaining,
        max((share / smallest).to_integral_value(ROUND_DOWN), Decimal(1)) * smallest,
    )
