"""The exchange as its routes see it: every call first lets happen what is due by now."""

import json
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

from brokers.exchange import answers
from brokers.exchange.admission import Draft, draft, malformed
from brokers.exchange.answers import Json
from brokers.exchange.drafting import closing, replacement
from brokers.exchange.order_filter import OrderFilter
from brokers.exchange.prices import Hours, PricePaths
from brokers.exchange.records import (
    OPEN,
    ExchangeOrder,
    Market,
    Rejection,
    to_cent,
)
from brokers.exchange.settings import ClockMode, ExchangeSettings
from brokers.exchange.store import Store, time_text
from brokers.exchange.time_keeping import ExchangeClock
from brokers.exchange.trading import TradingFloor
from market.bars import Bars

MISSING = 40410000  # Alpaca's code for what is not there
BEFORE_OPEN = timedelta(minutes=15)
CONFIGURATION = {
    "dtbp_check": "entry",
    "fractional_trading": True,
    "max_margin_multiplier": "4",
    "no_shorting": False,
    "pdt_check": "entry",
    "suspend_trade": False,
    "trade_confirm_email": "none",
    "ptp_no_exception_entry": False,
    "max_options_trading_level": None,
}
"""Alpaca's account configuration; of it `no_shorting` and `suspend_trade` have an effect here."""


class Exchange:
    """One account at a local exchange.

    Args:
        path: of the SQLite file; made where there is none.
        bars: prices.
        calendar: name of the exchange's calendar, such as XNYS.
        settings: terms.

    Raises:
        InputError: if the file is in use or cannot be read.
    """

    def __init__(self, path: Path, bars: Bars, calendar: str, settings: ExchangeSettings) -> None:
        self.store = Store(path)
        self.hours = Hours(calendar)
        self.hours.close(self._closures())
        self.paths = PricePaths(bars, self.hours)
        self.clock = ExchangeClock(self.store, settings.clock, self._start(settings))
        self.floor = TradingFloor(
            self.store,
            self.clock,
            self.paths,
            self.hours,
            settings.terms(),
            settings.multiplier,
            timedelta(seconds=settings.step_s),
        )
        self.hidden: Callable[[ExchangeOrder], bool] = lambda order: False
        if self.store.fact("account_id") is None:
            self._open_account(settings)

    def close(self) -> None:
        """Let go of the file."""
        self.store.close()

    def now(self) -> datetime:
        """Let everything happen that is due, and return the time."""
        now = self.clock.now()
        self.floor.settle(now)
        return now

    def move_clock(self, to: datetime) -> Json:
        """Set a driven clock; what lies between happens."""
        self.clock.check_move(to)
        self.floor.settle(to)
        return self.clock_answer()

    def remember(self, name: str, value: str) -> None:
        """Keep a fact that the administration changed."""
        self.now()
        with self.store.transaction():
            self.store.set_fact(name, value)

    def close_session(self, session: date) -> None:
        """Let a session that the calendar has not take place."""
        if session <= self.now().date():
            raise malformed("only a session to come can be called off")
        closures = sorted({*self._closures(), session})
        self.remember("closures", json.dumps([one.isoformat() for one in closures]))
        self.hours.close(closures)

    def _closures(self) -> list[date]:
        kept = json.loads(self.store.fact("closures") or "[]")
        return [date.fromisoformat(text) for text in kept]

    def clock_answer(self) -> Json:
        """Return the clock."""
        return answers.clock(self.now(), self.hours)

    def account(self) -> Json:
        """Return the account."""
        now = self.now()
        view = self.floor.view(now)
        today = now.astimezone(answers.NEW_YORK).date()
        last = self.store.last_close(today) or Decimal(self._fact("initial_cash"))
        return answers.account(
            self._fact("account_id"),
            self._fact("account_number"),
            self._fact("created_at"),
            view,
            last,
            self.floor.permissions(),
        )

    def configuration(self) -> Json:
        """Return the account's configuration."""
        kept: Json = json.loads(self._fact("configuration"))
        return CONFIGURATION | kept

    def configure(self, changes: Json) -> Json:
        """Change the account's configuration, and return it."""
        unknown = set(changes) - set(CONFIGURATION)
        for name in ("no_shorting", "suspend_trade"):
            if not isinstance(changes.get(name, False), bool):
                raise malformed(f"invalid {name}")
        known = {name: value for name, value in changes.items() if name not in unknown}
        known = {name: str(v) if isinstance(v, Decimal) else v for name, v in known.items()}
        with self.store.transaction():
            found = self.configuration() | known
            self.store.set_fact("configuration", json.dumps(found))
            for name in ("no_shorting", "suspend_trade"):
                self.store.set_fact(name, json.dumps(found[name]))
        return found

    def assets(self) -> list[Json]:
        """Return every name."""
        return [self.asset(symbol) for symbol in self.paths.symbols]

    def asset(self, name: str) -> Json:
        """Return a name by its symbol or id."""
        for symbol in self.paths.symbols:
            if name in (symbol, answers.asset_id(symbol)):
                session = self.hours.coming(self.now())
                return answers.asset(symbol, self.floor.flags(symbol, session))
        raise Rejection(404, MISSING, f"asset not found for {name}")

    def quoted(self, symbol: str) -> Market | None:
        """Return the prices of a name as they are told, which may differ from those that fill."""
        now = self.now()
        if symbol not in self.paths.symbols:
            return None
        told = json.loads(self.store.fact(f"told:{symbol}") or "{}")
        if told.get("absent"):
            return None
        if told.get("frozen_at"):
            now = datetime.fromisoformat(told["frozen_at"])
        market = self.floor.market(symbol, now)
        if market is None:
            return None
        factor = Decimal(told.get("factor", "1"))
        bid, ask, last = (value * factor for value in (market.bid, market.ask, market.last))
        return Market(bid, ask, last, market.at)

    def submit(self, body: dict[str, Any]) -> Json:
        """Take an order."""
        return self.submit_draft(draft(body))

    def submit_draft(self, asked: Draft) -> Json:
        """Take an order that was checked by itself."""
        self.now()
        return answers.order(*self.floor.submit(asked))

    def order(self, name: str, value: str, nested: bool = False) -> Json:
        """Return an order by its `id` or `client_order_id`."""
        return self._answer(self._visible(name, value), nested)

    def orders(self, wanted: OrderFilter) -> list[Json]:
        """Return a list of orders."""
        self.now()
        found = [
            order
            for order in self.store.orders(wanted.after, wanted.until)
            if wanted.admits(order) and not self.hidden(order)
        ]
        if wanted.descending:
            found.reverse()
        return [self._answer(order, wanted.nested) for order in found[: wanted.limit]]

    def cancel(self, identity: str) -> None:
        """End an order."""
        self.floor.cancel(self._visible("id", identity))

    def reject(self, identity: str) -> Json:
        """Turn an open order down after it was accepted, as a broker may."""
        self.floor.reject(self._visible("id", identity))
        return self.order("id", identity)

    def cancel_all(self) -> list[Json]:
        """End every open order, and say for each one what became of it."""
        self.now()
        results = []
        with self.store.transaction():
            for order in self.store.open_orders():
                current = self.store.order("id", order.id)
                if current is not None and current.status in OPEN:
                    self.floor.cancel(current)
                results.append({"id": order.id, "status": 200})
        return results

    def replace(self, identity: str, body: dict[str, Any]) -> Json:
        """Put an order with other numbers in the place of one."""
        old = self._visible("id", identity)
        asked = replacement(old, body)
        return self._answer(self.floor.replace(old, asked), nested=False)

    def positions(self) -> list[Json]:
        """Return every position."""
        now = self.now()
        view = self.floor.view(now)
        return [
            answers.position(symbol, view, self._last_close(symbol, now))
            for symbol in view.holdings
        ]

    def position(self, name: str) -> Json:
        """Return a position by symbol or asset id."""
        for found in self.positions():
            if name in (found["symbol"], found["asset_id"]):
                return found
        raise Rejection(404, MISSING, "position does not exist")

    def close_position(self, name: str, shares: str | None, percentage: str | None) -> Json:
        """Close a position, or a part of it, by a market order."""
        found = self.position(name)
        held = Decimal(found["qty"])
        return self.submit_draft(closing(found["symbol"], held, shares, percentage))

    def activities(self, after: datetime | None = None) -> list[Json]:
        """Return fills and other events of the account, oldest first."""
        self.now()
        return [dict(activity) for activity in self.store.activities(after)]

    def portfolio_history(self) -> Json:
        """Return the equity at every close."""
        self.now()
        return answers.portfolio_history(self.store.closes(), Decimal(self._fact("initial_cash")))

    def _answer(self, order: ExchangeOrder, nested: bool) -> Json:
        return answers.order(order, self.store.legs(order.id) if nested else ())

    def _visible(self, name: str, value: str) -> ExchangeOrder:
        self.now()
        order = self.store.order(name, value)
        if order is None or self.hidden(order):
            raise Rejection(404, MISSING, f"order not found for {value}")
        return order

    def _last_close(self, symbol: str, now: datetime) -> Decimal:
        """Return the price at the last close before today; the price now where there is none."""
        midnight = now.astimezone(answers.NEW_YORK).replace(hour=0, minute=0, second=0)
        market = self.floor.market(symbol, midnight) or self.floor.market(symbol, now)
        if market is None:
            raise KeyError(symbol)
        return market.last

    def _fact(self, name: str) -> str:
        found = self.store.fact(name)
        if found is None:
            raise KeyError(name)
        return found

    def _start(self, settings: ExchangeSettings) -> datetime | None:
        if settings.start is not None:
            return datetime.fromisoformat(settings.start)
        if settings.clock is ClockMode.wall:
            return None
        return self.hours.times(self.paths.last_session)[0] - BEFORE_OPEN

    def _open_account(self, settings: ExchangeSettings) -> None:
        cash = str(to_cent(Decimal(str(settings.cash))))
        facts = {
            "account_id": str(uuid4()),
            "account_number": f"PA{uuid4().hex[:10].upper()}",
            "created_at": time_text(self.clock.kept()),
            "cash": cash,
            "initial_cash": cash,
            "configuration": "{}",
        }
        with self.store.transaction():
            for name, value in facts.items():
                self.store.set_fact(name, value)
