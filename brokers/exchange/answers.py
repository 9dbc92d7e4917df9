"""The exchange's records as Alpaca writes them: shares and money as strings, times by RFC 3339.

Source: docs.alpaca.markets/reference, as alpaca-py 0.44 parses it.
"""

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import NAMESPACE_DNS, uuid5
from zoneinfo import ZoneInfo

from brokers.exchange.account import AccountView
from brokers.exchange.matching import Execution
from brokers.exchange.prices import Hours
from brokers.exchange.records import ExchangeOrder, Market, OrderClass, Status
from brokers.exchange.rules import AssetFlags, Permissions

NEW_YORK = ZoneInfo("America/New_York")  # of Alpaca's clock and calendar
Json = dict[str, Any]


def number(value: Decimal | None) -> str | None:
    """Return a number as text, without an exponent.

    >>> number(Decimal("1E+2")), number(Decimal("0.50"))
    ('100', '0.50')
    """
    return None if value is None else f"{value:f}"


def shares(value: Decimal) -> str:
    """Return a number of shares as text, without zeros at its end.

    >>> shares(Decimal("5.00")), shares(Decimal("100"))
    ('5', '100')
    """
    return f"{value.normalize():f}"


def utc(time: datetime | None) -> str | None:
    """Return a time in UTC."""
    return None if time is None else f"{time:%Y-%m-%dT%H:%M:%S.%f}Z"


def asset_id(symbol: str) -> str:
    """Return the same UUID for the same name, everywhere."""
    return str(uuid5(NAMESPACE_DNS, symbol))


def account(
    identity: str,
    account_number: str,
    created_at: str,
    view: AccountView,
    last_equity: Decimal,
    permissions: Permissions,
) -> Json:
    """Return the account; without the fields of pattern day trading, which are gone."""
    equity, power = number(view.equity), number(view.buying_power)
    return {
        "id": identity,
        "account_number": account_number,
        "status": "ACTIVE",
        "crypto_status": "INACTIVE",
        "currency": "USD",
        "cash": number(view.cash),
        "buying_power": power,
        "regt_buying_power": power,
        "non_marginable_buying_power": number(max(view.cash - view.reserved, Decimal(0))),
        "accrued_fees": "0",
        "portfolio_value": equity,
        "equity": equity,
        "last_equity": number(last_equity),
        "multiplier": number(view.multiplier),
        "long_market_value": number(view.long_value),
        "short_market_value": number(view.short_value),
        "initial_margin": number((view.long_value - view.short_value) / view.multiplier),
        "maintenance_margin": "0",
        "last_maintenance_margin": "0",
        "sma": "0",
        "trading_blocked": permissions.blocked,
        "transfers_blocked": False,
        "account_blocked": permissions.blocked,
        "trade_suspended_by_user": permissions.suspended,
        "shorting_enabled": not permissions.no_shorting and view.multiplier > 1,
        "created_at": created_at,
    }


def clock(now: datetime, hours: Hours) -> Json:
    """Return the time, whether the market is open, and when it next opens and closes."""
    return {
        "timestamp": now.astimezone(NEW_YORK).isoformat(),
        "is_open": hours.current(now) is not None,
        "next_open": hours.times(hours.next_to_open(now))[0].astimezone(NEW_YORK).isoformat(),
        "next_close": hours.times(hours.coming(now))[1].astimezone(NEW_YORK).isoformat(),
    }


def calendar_day(session: date, hours: Hours) -> Json:
    """Return a session with its hours in New York."""
    opening, close = (time.astimezone(NEW_YORK) for time in hours.times(session))
    return {
        "date": session.isoformat(),
        "open": f"{opening:%H:%M}",
        "close": f"{close:%H:%M}",
        "session_open": "0400",
        "session_close": "2000",
        "settlement_date": hours.after(session).isoformat(),
    }


def asset(symbol: str, flags: AssetFlags) -> Json:
    """Return a name and what may be done with it."""
    return {
        "id": asset_id(symbol),
        "class": "us_equity",
        "exchange": "NYSE",
        "symbol": symbol,
        "name": symbol,
        "status": "active",
        "tradable": flags.tradable,
        "marginable": True,
        "maintenance_margin_requirement": 30,
        "shortable": flags.shortable,
        "easy_to_borrow": flags.easy_to_borrow,
        "fractionable": flags.fractionable,
        "attributes": [],
    }


def order(found: ExchangeOrder, legs: Sequence[ExchangeOrder] = ()) -> Json:
    """Return an order, with its legs where they are wanted."""
    ended = {status: utc(found.ended_at) if found.status is status else None for status in Status}
    return {
        "id": found.id,
        "client_order_id": found.client_order_id,
        "created_at": utc(found.submitted_at),
        "updated_at": utc(found.updated_at),
        "submitted_at": utc(found.submitted_at),
        "filled_at": ended[Status.filled],
        "expired_at": ended[Status.expired],
        "expires_at": utc(found.expires_at),
        "canceled_at": ended[Status.canceled],
        "failed_at": ended[Status.rejected],
        "replaced_at": ended[Status.replaced],
        "replaced_by": found.replaced_by,
        "replaces": found.replaces,
        "asset_id": asset_id(found.symbol),
        "symbol": found.symbol,
        "asset_class": "us_equity",
        "notional": None,
        "qty": shares(found.quantity),
        "filled_qty": shares(found.filled),
        "filled_avg_price": number(found.average_price),
        "order_class": found.order_class.value if found.order_class is OrderClass.bracket else "",
        "order_type": found.type.value,
        "type": found.type.value,
        "side": found.side.value,
        "time_in_force": "day",
        "limit_price": number(found.limit_price),
        "stop_price": number(found.stop_price),
        "status": found.status.value,
        "extended_hours": False,
        "legs": [order(leg) for leg in legs] or None,
        "trail_percent": None,
        "trail_price": None,
        "hwm": None,
    }


def fill_details(found: ExchangeOrder, fill: Execution, at: datetime) -> dict[str, str]:
    """Return what an activity says of a fill; `commission` is not among Alpaca's own words.

    Args:
        found: the order, after it.
        fill: what was executed.
        at: when.
    """
    return {
        "type": "partial_fill" if found.remaining else "fill",
        "transaction_time": f"{at:%Y-%m-%dT%H:%M:%S.%f}Z",
        "order_id": found.id,
        "symbol": found.symbol,
        "side": found.side.value,
        "qty": shares(fill.quantity),
        "price": f"{fill.price:f}",
        "commission": f"{fill.commission:f}",
        "cum_qty": shares(found.filled),
        "leaves_qty": shares(found.remaining),
        "order_status": found.status.value,
    }


def position(symbol: str, view: AccountView, last_close: Decimal) -> Json:
    """Return a position at the last price."""
    holding, price, value = view.holdings[symbol], view.markets[symbol].last, view.value(symbol)
    profit = value - holding.cost
    today = holding.quantity * (price - last_close)
    return {
        "asset_id": asset_id(symbol),
        "symbol": symbol,
        "exchange": "NYSE",
        "asset_class": "us_equity",
        "asset_marginable": True,
        "qty": shares(holding.quantity),
        "qty_available": shares(view.available(symbol).copy_sign(holding.quantity)),
        "side": "long" if holding.quantity > 0 else "short",
        "avg_entry_price": number(holding.average_price),
        "market_value": number(value),
        "cost_basis": number(holding.cost),
        "unrealized_pl": number(profit),
        "unrealized_plpc": _fraction(profit, abs(holding.cost)),
        "unrealized_intraday_pl": number(today),
        "unrealized_intraday_plpc": _fraction(today, abs(holding.quantity * last_close)),
        "current_price": number(price),
        "lastday_price": number(last_close),
        "change_today": _fraction(price - last_close, last_close),
    }


def quote(market: Market) -> Json:
    """Return a quote as the data API does, with numbers instead of text."""
    return {
        "t": utc(market.at),
        "ax": "V",
        "ap": float(market.ask),
        "as": 100,
        "bx": "V",
        "bp": float(market.bid),
        "bs": 100,
        "c": ["R"],
        "z": "A",
    }


def trade(market: Market) -> Json:
    """Return the last price as a trade, as the data API does."""
    return {
        "t": utc(market.at),
        "x": "V",
        "p": float(market.last),
        "s": 100,
        "c": ["@"],
        "i": 1,
        "z": "A",
    }


def portfolio_history(closes: Sequence[tuple[datetime, Decimal]], base: Decimal) -> Json:
    """Return the equity at each close, against what the account began with."""
    equity = [value for _, value in closes]
    return {
        "timestamp": [int(at.timestamp()) for at, _ in closes],
        "equity": [float(value) for value in equity],
        "profit_loss": [float(value - base) for value in equity],
        "profit_loss_pct": [float((value - base) / base) for value in equity],
        "base_value": float(base),
        "timeframe": "1D",
    }


def _fraction(part: Decimal, whole: Decimal) -> str:
    return number((part / whole).quantize(Decimal("0.000001"))) or "0" if whole else "0"
