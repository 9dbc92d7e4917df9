"""What a share is worth to the checks, and what is left of a position when all goes wrong."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from risk.checks.arithmetic import NAN, ONE, ZERO, largest
from risk.gateway.limits import GatewayLimits
from risk.gateway.records import Quote, Side
from risk.gateway.state import GatewayState, OpenOrder


def reference_price(quote: Quote | None) -> Decimal:
    """Return the price to trade near: the last one, moved into the quote where it lies outside.

    A wide or one-sided quote of a thin feed so leaves the last price alone, and a stale last price
    follows the quote. NaN where there is no quote or it holds a price that is not positive.
    """
    if quote is None or not (quote.last > 0 and quote.last.is_finite()):
        return NAN
    price = quote.last
    if quote.bid is not None:
        price = largest(price, quote.bid)
    if quote.ask is not None:
        if not quote.ask > 0:
            return NAN
        price = -largest(-price, -quote.ask)
    return price


def mark(state: GatewayState, symbol: str) -> Decimal:
    """Return the price that a holding is valued with; NaN where there is none."""
    quote = state.quotes.get(symbol)
    if quote is not None:
        return reference_price(quote)
    position = state.positions.get(symbol) if state.positions is not None else None
    return position.price if position is not None and position.price > 0 else NAN


@dataclass(frozen=True, slots=True)
class Worst:
    """What a name may become, signed, account currency.

    Args:
        high: notional if every buy fills and no sell.
        low: notional if every sell fills and no buy.
    """

    high: Decimal
    low: Decimal

    @property
    def gross(self) -> Decimal:
        """Return the larger absolute notional."""
        return largest(abs(self.high), abs(self.low))


def held(state: GatewayState, symbol: str) -> Decimal:
    """Return the signed shares held; NaN where positions are not known."""
    if state.positions is None:
        return NAN
    position = state.positions.get(symbol)
    return ZERO if position is None else position.quantity


def buy_price(limit_price: Decimal | None, reference: Decimal, limits: GatewayLimits) -> Decimal:
    """Return the most that a share may cost: a market order is taken at the end of the collar."""
    if limit_price is None:
        return reference * (ONE + limits.max_collar)
    return largest(limit_price, reference)


def worst_case(
    state: GatewayState, symbol: str, orders: Iterable[OpenOrder], limits: GatewayLimits
) -> Worst:
    """Return the worst notionals of a name when any of these orders may fill.

    Args:
        state: with positions and quotes.
        symbol: of the name.
        orders: of this name.
        limits: with the collar.
    """
    price = mark(state, symbol)
    high = low = held(state, symbol) * price
    for order in orders:
        if order.side is Side.buy:
            high += order.remaining * buy_price(order.limit_price, price, limits)
        else:
            low -= order.remaining * price
    return Worst(high, low)
