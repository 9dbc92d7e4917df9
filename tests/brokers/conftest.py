"""A paper exchange that really runs, on the prices of an invented market, driven by the tests."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import requests
from alpaca.data.historical import StockHistoricalDataClient
from alpaca.trading.client import TradingClient

from brokers.exchange.exchange import Exchange
from brokers.exchange.serve import application, running
from brokers.exchange.settings import ClockMode, ExchangeSettings
from market.bars import Bars
from market.sources.synthetic import SyntheticMarket, World

KEY, SECRET = "key-of-the-tests", "secret-of-the-tests"
THURSDAY_10 = "2023-06-01T14:00:00+00:00"  # half an hour after the open


@dataclass(frozen=True)
class Venue:
    """A running exchange and what drives it.

    Args:
        url: for `url_override`.
        exchange: the object behind it.
    """

    url: str
    exchange: Exchange

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        """Call the administration; return its answer."""
        headers = {"APCA-API-KEY-ID": KEY, "APCA-API-SECRET-KEY": SECRET}
        answer = requests.request(
            method, f"{self.url}/admin{path}", json=body, headers=headers, timeout=30
        )
        assert answer.ok, answer.text
        return answer.json() if answer.content else None

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.admin("PUT", "/clock", {"advance_s": seconds})

    def set_time(self, now: datetime) -> None:
        """Let time pass up to one."""
        self.admin("PUT", "/clock", {"now": now.isoformat()})

    def go_to(self, moment: str) -> None:
        """Let time pass up to the `next_open` or `next_close`."""
        self.admin("PUT", "/clock", {"to": moment})

    def fault(self, kind: str, **details: Any) -> None:
        """Plan a fault; of the next order where nothing else is said."""
        where = {"method": "POST", "path": "/v2/orders"}
        self.admin("POST", "/faults", where | {"kind": kind} | details)

    def clear_faults(self) -> None:
        """Let everything go well again."""
        self.admin("DELETE", "/faults")

    def sent(self) -> list[dict[str, Any]]:
        """Return the requests that came in, oldest first."""
        found: list[dict[str, Any]] = self.admin("GET", "/sent")
        return found

    def trading_client(self) -> TradingClient:
        """Return the official client."""
        return TradingClient(KEY, SECRET, url_override=self.url)

    def data_client(self) -> StockHistoricalDataClient:
        """Return the official client for prices."""
        return StockHistoricalDataClient(KEY, SECRET, url_override=self.url)


def exchange_settings(**changes: Any) -> ExchangeSettings:
    """Return settings of a driven exchange without costs."""
    values: dict[str, Any] = {
        "key": KEY,
        "secret": SECRET,
        "cash": 100_000.0,
        "multiplier": 1,
        "clock": ClockMode.driven,
        "start": THURSDAY_10,
        "step_s": 60,
        "share_per_step": 1.0,
        "half_spread_bp": 1.0,
        "slippage_bp": 0.0,
        "commission_bp": 0.0,
        "commission_per_share": 0.0,
    }
    return ExchangeSettings(**(values | changes))


@pytest.fixture(scope="session")
def bars() -> Bars:
    """Return the prices of a year of five names, S000 to S004."""
    return SyntheticMarket(
        symbols=None,
        train=None,
        test=None,
        embargo=21,
        assumed_adv=None,
        cash_rate=0.0,
        exchange="XNYS",
        cache=None,
        seed=0,
        world=World.regimes,
        assets=5,
        first="2023-01-03",
        sessions=250,
        market_volatility=0.008,
        idiosyncratic_volatility=0.01,
        market_drift=0.06,
        drift_dispersion=0.45,
        drift_half_life=250.0,
        splits=0,
        delistings=0,
        gaps=0,
    ).load()


@pytest.fixture
def open_venue(bars: Bars, tmp_path: Path) -> Iterator[Callable[..., Venue]]:
    """Return a function that starts an exchange with changed settings."""
    with ExitStack() as stack:

        def start(**changes: Any) -> Venue:
            path = tmp_path / "exchange.sqlite"
            exchange = Exchange(path, bars, "XNYS", exchange_settings(**changes))
            stack.callback(exchange.close)
            url = stack.enter_context(running(application(exchange, KEY, SECRET)))
            return Venue(url, exchange)

        yield start


@pytest.fixture
def venue(open_venue: Callable[..., Venue]) -> Venue:
    """Return a running exchange on Thursday, 2023-06-01, half an hour after the open."""
    return open_venue()
