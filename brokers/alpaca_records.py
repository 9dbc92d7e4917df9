"""Alpaca's JSON on the account and the market as records.

What is missing, odd or contradictory is refused with a ValueError of one line, never guessed.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from brokers.alpaca_orders import require_shares
from brokers.members import Members
from risk.gateway.records import Account, Asset, BrokerClock, Position, Quote, SessionHours

NEW_YORK = ZoneInfo("America/New_York")  # in which Alpaca's calendar speaks
PAPER_PREFIX = "PA"  # of the account numbers without real money


def account_of(raw: object, configuration: object, paper_url: bool) -> Account:
    """Return the account.

    Args:
        raw: of /v2/account.
        configuration: of /v2/account/configurations.
        paper_url: the address is one without real money.
    """
    members, terms = Members("account", raw), Members("account configuration", configuration)
    number = members.text("account_number")
    paper = paper_url and number.startswith(PAPER_PREFIX)
    active = members.text("status") in ({"ACTIVE", "PAPER_ONLY"} if paper else {"ACTIVE"})
    flags = {
        name: members.flag(name)
        for name in ("trading_blocked", "account_blocked", "trade_suspended_by_user")
    }
    return Account(
        id=number,
        paper=paper,
        currency=members.text("currency"),
        cash=members.number("cash"),
        equity=members.number("equity"),
        last_equity=members.number("last_equity"),
        buying_power=members.number("buying_power"),
        multiplier=members.positive("multiplier"),
        no_shorting=terms.flag("no_shorting"),
        suspended=terms.flag("suspend_trade") or flags["trade_suspended_by_user"],
        blocked=flags["trading_blocked"] or flags["account_blocked"] or not active,
    )


def holds_something(raw: object) -> bool:
    """Return whether an account has positions, by the values that it states of them."""
    members = Members("account", raw)
    return bool(members.number("long_market_value") or members.number("short_market_value"))


def position_of(raw: object) -> Position:
    """Return a position; what is short is below 0, however the broker writes it."""
    members = Members("position", raw).named_by("symbol")
    require_shares(members)
    quantity, side = members.number("qty"), members.text("side")
    if quantity == 0 or (side == "long" and quantity < 0):
        raise members.odd("qty")
    if side not in ("long", "short"):
        raise members.odd("side")
    return Position(
        symbol=members.text("symbol"),
        quantity=-abs(quantity) if side == "short" else quantity,
        average_price=members.number("avg_entry_price"),
        price=members.positive("current_price"),
    )


def clock_of(raw: object) -> BrokerClock:
    """Return the time of /v2/clock."""
    members = Members("clock", raw)
    return BrokerClock(
        now=members.time("timestamp"),
        is_open=members.flag("is_open"),
        next_open=members.time("next_open"),
        next_close=members.time("next_close"),
    )


def session_of(raw: object) -> SessionHours:
    """Return one session of /v2/calendar."""
    members = Members("calendar", raw)
    session = date.fromisoformat(members.text("date"))
    opens, closes = (_at(session, members.text(name)) for name in ("open", "close"))
    if not opens < closes:
        raise members.odd("close")
    return SessionHours(session, opens, closes)


def asset_of(raw: object, symbol: str) -> Asset:
    """Return what may be done with a name that was asked for."""
    members = Members("asset", raw).named_by("symbol")
    if members.text("symbol") != symbol:
        raise members.odd("symbol")
    active = members.text("status") == "active" and members.text("class") == "us_equity"
    return Asset(
        symbol=symbol,
        tradable=members.flag("tradable") and active,
        fractionable=members.flag("fractionable"),
        shortable=members.flag("shortable"),
        easy_to_borrow=members.flag("easy_to_borrow"),
    )


def quotes_of(symbols: frozenset[str], quotes: object, trades: object) -> dict[str, Quote]:
    """Return the quotes of the names that have both a quote and a trade.

    Args:
        symbols: that were asked for.
        quotes: of /v2/stocks/quotes/latest.
        trades: of /v2/stocks/trades/latest.
    """
    by_quote, by_trade = _by_symbol("quotes", quotes), _by_symbol("trades", trades)
    return {
        symbol: _quote(symbol, by_quote[symbol], by_trade[symbol])
        for symbol in sorted(symbols & by_quote.keys() & by_trade.keys())
    }


def _quote(symbol: str, raw_quote: object, raw_trade: object) -> Quote:
    quote, trade = Members(f"quote {symbol}", raw_quote), Members(f"trade {symbol}", raw_trade)
    return Quote(
        symbol=symbol,
        bid=_standing(quote, "bp"),
        ask=_standing(quote, "ap"),
        last=trade.positive("p"),
        # As old as the older of its prices: whoever asks for a fresh one means each of them.
        at=min(quote.time("t"), trade.time("t")),
    )


def _standing(quote: Members, name: str) -> Decimal | None:
    """Return a bid or an ask; Alpaca writes 0 where there is none."""
    price = quote.number(name)
    if price < 0:
        raise quote.odd(name)
    return price or None


def _by_symbol(name: str, raw: object) -> Mapping[str, object]:
    answers = raw.get(name) if isinstance(raw, dict) else None
    if not isinstance(answers, dict):
        raise ValueError(f"{name}: no object but {answers!r:.80}")
    return {symbol: value for symbol, value in answers.items() if value is not None}


def _at(session: date, clock: str) -> datetime:
    """Return the time of a session at HH:MM in New York."""
    local = datetime.fromisoformat(f"{session.isoformat()}T{clock}").replace(tzinfo=NEW_YORK)
    return local.astimezone(UTC)
