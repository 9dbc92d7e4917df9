"""A paper exchange that really runs, on the prices of an invented market, driven by the tests."""

import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
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


@pytest.fixture
def settings_with() -> Callable[..., ExchangeSettings]:
    """Return the function that gives settings of an exchange with some of them changed."""
    return exchange_settings


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


Script = Callable[[socket.socket, str], None]


class Wire:
    """A server that reads one request of a connection, and does what a script says with it."""

    def __init__(self, script: Script, context: ssl.SSLContext | None = None) -> None:
        self.requests: list[str] = []
        self._script, self._context = script, context
        self._listener = socket.create_server(("127.0.0.1", 0))
        scheme = "http" if context is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError):  # the client hung up
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            with connection:
                while request := _request(connection):
                    self.requests.append(request)
                    self._script(connection, request)


def _request(connection: socket.socket) -> str:
    """Return one request, or what came of it before the end."""
    data = b""
    while b"\r\n\r\n" not in data and (more := connection.recv(65536)):
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: *(\d+)", head)
    while length and len(body) < int(length[1]) and (more := connection.recv(65536)):
        body += more
    return (head + b"\r\n\r\n" + body).decode() if head else ""


@pytest.fixture
def wire() -> Iterator[Callable[..., Wire]]:
    """Return a function that starts a server with a script."""
    with ExitStack() as stack:

        def start(script: Script, context: ssl.SSLContext | None = None) -> Wire:
            server = Wire(script, context)
            stack.callback(server.close)
            return server

        yield start
