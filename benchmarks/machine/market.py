"""The world outside of the gateway: an exchange that begins anew in a moment, and its people."""

import json
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from benchmarks.machine.inside import Happens, Inside, Routes, connect_inside
from brokers.alpaca import AlpacaBroker
from brokers.exchange import events, web
from brokers.exchange.exchange import Exchange
from brokers.exchange.faults import FaultPlan, parse_fault
from brokers.exchange.records import OPEN, ExchangeOrder, Rejection
from brokers.exchange.settings import ClockMode, ExchangeSettings
from brokers.exchange.store import time_text
from brokers.exchange.wire import Faulty
from brokers.settings import AlpacaSettings, Keys
from market.sources.synthetic import SyntheticMarket, World

KEYS = Keys("key of the machine", "secret of the machine")
URL = "http://127.0.0.1:1"  # nobody listens there: what is sent is answered inside
CALENDAR = "XNYS"
HALF_HOUR = timedelta(minutes=30)
BARS = SyntheticMarket(
    None, None, None, 21, None, 0.0, CALENDAR, None, 0, World.regimes, 7, "2023-01-03", 250,
    0.008, 0.01, 0.06, 0.45, 250.0, 0, 0, 0,
).load()  # fmt: skip
"""Seven names in five sectors; 2023 has two changes of daylight saving time and two half days."""

_SETTINGS = ExchangeSettings(
    key=KEYS.key, secret=KEYS.secret, cash=100_000.0, multiplier=1, clock=ClockMode.driven,
    start="2023-03-09T15:00:00+00:00", step_s=900, share_per_step=1.0, half_spread_bp=1.0,
    slippage_bp=0.0, commission_bp=0.0, commission_per_share=0.0,
)  # fmt: skip
_TABLES = ("orders", "activities", "positions", "closes", "facts")


class Market:
    """An exchange in this process.

    Args:
        folder: for its file.
    """

    def __init__(self, folder: Path) -> None:
        self.exchange = Exchange(folder / "exchange.sqlite", BARS, CALENDAR, _SETTINGS)
        self.exchange.configure({"no_shorting": True})
        self.plan = FaultPlan()
        self.exchange.hidden = self.plan.hidden
        keys = web.Keys(KEYS.key, KEYS.secret)
        routes = Routes(web.trading_routes(self.exchange, keys), keys)
        self._app = Faulty(routes, self.plan)
        self._facts = [tuple(row) for row in self._sql("SELECT name, value FROM facts")]
        self.strangers: set[str] = set()  # ids of orders that are not the gateway's
        self.moved: set[str] = set()  # names whose shares somebody moved in or out

    def _sql(self, statement: str, *values: object) -> list[tuple[str, ...]]:
        return [tuple(row) for row in self.exchange.store._connection.execute(statement, values)]

    def close(self) -> None:
        """Let go of the file."""
        self.exchange.close()

    def begin(self, session: date) -> None:
        """Forget everything, half an hour after the opening of a session."""
        at = self.exchange.hours.times(session)[0] + HALF_HOUR
        with self.exchange.store.transaction():
            for table in _TABLES:
                self._sql(f"DELETE FROM {table}")
            for name, value in self._facts:
                self.exchange.store.set_fact(name, value)
            self.exchange.store.set_fact("clock", time_text(at))
        self.exchange.floor.terms = _SETTINGS.terms()
        self.plan.clear()
        self.plan.sent.clear()
        self.strangers.clear()
        self.moved.clear()

    def broker(self, before: Happens, after: Happens) -> AlpacaBroker:
        """Return the official client's broker; see `inside.Inside`."""
        broker = AlpacaBroker(AlpacaSettings(URL, URL, "K", "S", 2.0, 5.0), KEYS)
        connect_inside(broker, Inside(self._app, before, after))
        return broker

    @property
    def now(self) -> datetime:
        """Return the exchange's time."""
        return self.exchange.clock.kept()

    @property
    def is_open(self) -> bool:
        """Return whether its market is open."""
        return self.exchange.hours.current(self.now) is not None

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.exchange.move_clock(self.now + timedelta(seconds=seconds))

    def to_close(self) -> None:
        """Let time pass to the close of the session that is open, or of the next one."""
        hours = self.exchange.hours
        self.exchange.move_clock(hours.times(hours.coming(self.now))[1])

    def to_next_session(self) -> None:
        """Let time pass to half an hour after the next opening."""
        hours = self.exchange.hours
        self.exchange.move_clock(hours.times(hours.next_to_open(self.now))[0] + HALF_HOUR)

    def fault(self, **asked: object) -> None:
        """Plan a fault."""
        self.plan.faults.append(parse_fault(asked))

    def stranger(self, body: dict[str, object], client_order_id: str) -> bool:
        """Put an order past the gateway; return whether the exchange took it."""
        try:
            self.exchange.submit(
                body | {"time_in_force": "day", "client_order_id": client_order_id}
            )
        except Rejection:
            return False
        self.strangers.add(client_order_id)
        return True

    def split(self, symbol: str, ratio: str) -> None:
        """Split the shares of a name."""
        events.split(self.exchange.floor, symbol, Decimal(ratio))

    def dividend(self, symbol: str, per_share: str) -> None:
        """Pay for each share of a name."""
        events.dividend(self.exchange.floor, symbol, Decimal(per_share))

    def move_cash(self, amount: str) -> None:
        """Pay cash in or out."""
        events.move_cash(self.exchange.floor, Decimal(amount))

    def move_shares(self, symbol: str, quantity: str) -> None:
        """Transfer shares in or out."""
        self.moved.add(symbol)
        events.move_shares(self.exchange.floor, symbol, Decimal(quantity))

    def flag(self, symbol: str, **flags: bool) -> None:
        """Change what may be done with a name; without flags, back to what the market says."""
        self.exchange.remember(f"flags:{symbol}", json.dumps(flags))

    def tell(self, symbol: str, **told: object) -> None:
        """Change what is told of a name's prices; without anything, back to the true ones."""
        self.exchange.remember(f"told:{symbol}", json.dumps(told))

    def orders(self) -> list[ExchangeOrder]:
        """Return every order that was taken, oldest first."""
        return self.exchange.store.orders(None, None)

    def count(self) -> int:
        """Return how many orders were taken."""
        return int(self._sql("SELECT COUNT(*) FROM orders")[0][0])

    def open_orders(self) -> list[ExchangeOrder]:
        """Return the orders that have not ended."""
        return [order for order in self.exchange.store.open_orders() if order.status in OPEN]

    def held(self) -> dict[str, Decimal]:
        """Return the shares by symbol."""
        return {name: one.quantity for name, one in self.exchange.store.holdings().items()}
