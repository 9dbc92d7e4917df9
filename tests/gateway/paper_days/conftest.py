"""An exchange on real prices, and gateways over it that can be killed and started again."""

import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import hydra
import pytest
import requests

from brokers.exchange.exchange import Exchange
from brokers.exchange.serve import application, running
from brokers.exchange.settings import ClockMode, ExchangeSettings
from cli.account import parts
from cli.account_config import GatewayConfig, register
from market.compose import CONF, typed
from market.load import load_bars
from risk.gateway.process import supervisor_of

KEY, SECRET = "paper-key-of-the-tests", "paper-secret-of-the-tests"
HEADERS = {"APCA-API-KEY-ID": KEY, "APCA-API-SECRET-KEY": SECRET}
MODEL = "a" * 64
NAMES = ("AAPL", "BBY", "CVX", "JNJ", "KO", "UNH", "WMT", "XOM")
FIRST_DAY = "2015-03-02T06:00:00-05:00"
STARTS_WITHIN_S = 60.0


class Door:
    """Where processes of this machine come in; one that never does is an error, not a wait.

    Args:
        path: of the socket.
    """

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(self.path)
        self._socket.listen()
        self._socket.settimeout(STARTS_WITHIN_S)

    def accept(self) -> Connection:
        """Return the connection of the next one."""
        found, _ = self._socket.accept()
        found.setblocking(True)
        return Connection(found.detach())

    def close(self) -> None:
        self._socket.close()


@dataclass
class Place:
    """An exchange, a process that forks gateways, and the one that lives."""

    url: str
    account: str
    symbols: tuple[str, ...]
    door: Door
    control: Connection
    made: Any
    supervisor: Any
    exchange: Exchange
    life: Connection | None = None
    pid: int = 0
    seen: Counter[str] = field(default_factory=Counter)

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        answer = requests.request(
            method, f"{self.url}/admin{path}", json=body, headers=HEADERS, timeout=30
        )
        assert answer.ok, answer.text
        return answer.json() if answer.content else None

    def get(self, path: str) -> Any:
        answer = requests.get(f"{self.url}/v2{path}", headers=HEADERS, timeout=30)
        assert answer.ok, answer.text
        return answer.json()

    def pass_time(self, seconds: float) -> None:
        self.admin("PUT", "/clock", {"advance_s": seconds})

    def start(self, dies_at: int = 0) -> None:
        """Fork a gateway; one that dies while it starts leaves the next one to be started."""
        self.control.send((dies_at, self.seen["starts"] == 0))
        self.life = self.door.accept()
        self.pid = self.life.recv()
        self.seen["starts"] += 1
        try:
            word, _ = self.life.recv()
        except (EOFError, ConnectionResetError):
            self._died()
        else:
            if word == "failed":  # as a service manager sees it: it ended, and is started again
                self.end()
                self.seen["starts that failed"] += 1

    def ask(self, name: str, *arguments: Any) -> Any:
        """Let the gateway do something; ProcessLookupError where it dies of it."""
        while self.life is None:
            self.start()
        try:
            self.life.send((name, arguments))
            word, found = self.life.recv()
        except (EOFError, ConnectionResetError, BrokenPipeError):
            self._died()
            raise ProcessLookupError("the gateway was killed") from None
        if word == "failed":
            raise AssertionError(found)
        return found

    def surely(self, name: str, *arguments: Any) -> Any:
        """Ask until it was not killed."""
        while True:
            try:
                return self.ask(name, *arguments)
            except ProcessLookupError:
                continue

    def kill(self) -> None:
        """Kill the gateway, where one lives."""
        if self.life is not None:
            os.kill(self.pid, signal.SIGKILL)
            self._died()

    def end(self) -> None:
        if self.life is not None:
            self.life.close()
            self.life = None

    def _died(self) -> None:
        self.end()
        self.seen["kills"] += 1


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Start an exchange with the embedded prices, a warm process and a supervisor."""
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("TERCET_PAPER_KEY_ID", KEY)
        patch.setenv("TERCET_PAPER_SECRET_KEY", SECRET)
        words = _words(tmp_path)
        config = _config(words)
        bars = load_bars(config.market, config.quality)
        exchange = Exchange(tmp_path / "exchange.sqlite", bars, "XNYS", _terms())
        stack.callback(exchange.close)
        url = stack.enter_context(running(application(exchange, KEY, SECRET)))
        words += [f"broker.trading_url={url}", f"broker.data_url={url}"]
        made = parts(_config(words))
        requests.patch(
            f"{url}/v2/account/configurations", json={"no_shorting": True},
            headers=HEADERS, timeout=30,
        ).raise_for_status()  # fmt: skip
        door = stack.enter_context(closing(Door(tmp_path / "door")))
        control = stack.enter_context(_warm(door, words))
        number = made.broker.account().id
        watch = supervisor_of(made)
        found = Place(url, number, bars.symbols, door, control, made, watch, exchange)
        found.start()
        yield found
        found.end()


def _config(words: list[str]) -> GatewayConfig:
    register()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return typed(hydra.compose("gateway", ["subverb=''", *words]), GatewayConfig)


def _words(folder: Path) -> list[str]:
    return [
        "market=embedded",
        f"market.symbols=[{','.join(NAMES)}]",
        "market.assumed_adv=2e6",
        "execution.drift_band='0.03'",
        f"control.ledger=sqlite:///{folder / 'ledger.sqlite'}",
        f"control.anchor={folder / 'anchor'}",
        f"control.halt_file={folder / 'HALT'}",
        "broker.read_timeout_s=2.0",
        "service.clock=broker",
        "service.interval_s=30.0",
        f"service.models=[{MODEL}]",
        "strategy.ramp=['1']",
    ]


def _terms() -> ExchangeSettings:
    return ExchangeSettings(
        key=KEY, secret=SECRET, cash=100_000.0, multiplier=1, clock=ClockMode.driven,
        start=FIRST_DAY, step_s=60, share_per_step=1.0, half_spread_bp=1.0, slippage_bp=0.5,
        commission_bp=0.3, commission_per_share=0.005,
    )  # fmt: skip


@contextmanager
def _warm(door: Door, words: list[str]) -> Iterator[Connection]:
    """Start the process that forks gateways; return the connection to it."""
    command = [sys.executable, str(Path(__file__).with_name("warm_gateway.py"))]
    process = subprocess.Popen([*command, door.path, *words], cwd=Path(CONF).parent)
    try:
        control = door.accept()
        assert control.recv() == "warm"
        with control:
            yield control
    finally:
        process.terminate()
        process.wait(20)
