"""What happens to an account from outside: splits, dividends, transfers of cash and of shares.

Each one leaves an activity, so that what an account holds is always the sum of its activities.
"""

from decimal import ROUND_DOWN, Decimal
from uuid import uuid4

from brokers.exchange.account import NOTHING
from brokers.exchange.admission import malformed
from brokers.exchange.records import OPEN, SHARE, Holding, Rejection, to_cent
from brokers.exchange.rules import require_known
from brokers.exchange.trading import TradingFloor

LARGEST_RATIO = Decimal(1000)


def split(floor: TradingFloor, symbol: str, ratio: Decimal) -> None:
    """Turn each share into `ratio` of them, at a price divided by it; open orders are cancelled.

    Raises:
        Rejection: if the name is unknown or the ratio not in [1/1000, 1000].
    """
    require_known(symbol, floor.paths.symbols)
    if not 1 / LARGEST_RATIO <= ratio <= LARGEST_RATIO:
        raise malformed("ratio must be in [1/1000, 1000]")
    with floor.store.transaction():
        _cancel_orders(floor, symbol)
        held = floor.store.holdings().get(symbol, NOTHING)
        shares = (held.quantity * ratio).quantize(SHARE, ROUND_DOWN).normalize()
        floor.store.put_holding(symbol, Holding(shares, held.cost))
        floor.store.set_fact(f"factor:{symbol}", str(floor.factor(symbol) / ratio))
        change = shares - held.quantity
        _record(floor, "SPLIT", Decimal(0), symbol, qty=f"{change:f}", ratio=f"{ratio:f}")


def rename(floor: TradingFloor, symbol: str, to: str) -> None:
    """Give the shares of a name another one, as after a merger of one share for one.

    Raises:
        Rejection: if a name is unknown.
    """
    require_known(symbol, floor.paths.symbols)
    require_known(to, floor.paths.symbols)
    with floor.store.transaction():
        _cancel_orders(floor, symbol)
        old, new = (floor.store.holdings().get(name, NOTHING) for name in (symbol, to))
        floor.store.put_holding(symbol, NOTHING)
        floor.store.put_holding(to, Holding(new.quantity + old.quantity, new.cost + old.cost))
        _record(floor, "NC", Decimal(0), symbol, qty=f"{-old.quantity:f}")
        _record(floor, "NC", Decimal(0), to, qty=f"{old.quantity:f}")


def dividend(floor: TradingFloor, symbol: str, per_share: Decimal) -> None:
    """Pay an amount for each share that is held, and take it for each that is owed.

    Raises:
        Rejection: if the name is unknown or the amount not above 0.
    """
    require_known(symbol, floor.paths.symbols)
    if per_share <= 0:
        raise malformed("per_share must be > 0")
    with floor.store.transaction():
        shares = floor.store.holdings().get(symbol, NOTHING).quantity
        paid = to_cent(shares * per_share)
        _pay(floor, paid)
        amount = f"{per_share:f}"
        _record(floor, "DIV", paid, symbol, qty=f"{shares:f}", per_share_amount=amount)


def move_cash(floor: TradingFloor, amount: Decimal) -> None:
    """Pay cash in, or out where it is below 0."""
    with floor.store.transaction():
        paid = to_cent(amount)
        _pay(floor, paid)
        _record(floor, "CSD" if paid > 0 else "CSW", paid, None)


def move_shares(floor: TradingFloor, symbol: str, quantity: Decimal) -> None:
    """Transfer shares in, or out where it is below 0, at the last price.

    Raises:
        Rejection: if the name is unknown or has no price.
    """
    require_known(symbol, floor.paths.symbols)
    market = floor.market(symbol, floor.clock.kept())
    if market is None:
        raise Rejection(422, 42210000, f"asset {symbol} has no price")
    with floor.store.transaction():
        floor.book_shares(symbol, quantity, market.last)
        price, change = f"{market.last:f}", f"{quantity:f}"
        _record(floor, "ACATS", Decimal(0), symbol, qty=change, price=price)


def fee(floor: TradingFloor, amount: Decimal) -> None:
    """Take a fee, as a regulator's for the sales of a day.

    Raises:
        Rejection: if the amount is not above 0.
    """
    if amount <= 0:
        raise malformed("amount must be > 0")
    with floor.store.transaction():
        paid = -to_cent(amount)
        _pay(floor, paid)
        _record(floor, "FEE", paid, None)


def _cancel_orders(floor: TradingFloor, symbol: str) -> None:
    for order in floor.store.open_orders():
        current = floor.store.order("id", order.id)
        if order.symbol == symbol and current is not None and current.status in OPEN:
            floor.cancel(current)


def _pay(floor: TradingFloor, amount: Decimal) -> None:
    floor.store.set_fact("cash", str(floor.cash + amount))


def _record(
    floor: TradingFloor, kind: str, amount: Decimal, symbol: str | None, **details: str
) -> None:
    at = floor.clock.stamp()
    payload = {
        "date": f"{at:%Y-%m-%d}",
        "net_amount": f"{amount:f}",
        "description": "",
        "status": "executed",
    }
    if symbol is not None:
        payload["symbol"] = symbol
    identity = f"{at:%Y%m%d%H%M%S%f}::{uuid4()}"
    floor.store.add_activity(identity, kind, at, payload | details)
