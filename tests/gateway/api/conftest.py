"""The gateway's service as an application of this process, over a real exchange and ledger."""

import asyncio
import json
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import hydra
import pytest
import requests

from brokers.exchange.exchange import Exchange
from brokers.exchange.serve import application, running
from brokers.exchange.settings import ClockMode, ExchangeSettings
from cli.account import parts
from cli.account_config import register
from market.bars import Bars
from market.compose import CONF
from risk.access.refusals import App
from risk.access.settings import GuardSettings
from risk.access.tokens import Role, Tokens
from risk.gateway.listening import address, listening_socket, serve
from risk.gateway.process import Parts, Running
from risk.gateway.service import make_app
from risk.gateway.stored import StoredDecision

KEY, SECRET = "key-of-the-tests", "secret-of-the-tests"
HEADERS = {"APCA-API-KEY-ID": KEY, "APCA-API-SECRET-KEY": SECRET}
MODEL = "a" * 64
TOKENS = {role: f"{role.name}-token-of-the-tests" for role in Role}
EVER = date(2000, 1, 1), date(2100, 1, 1)
# The counters of the guard have tests of their own; here they would only end the others early.
UNCOUNTED = GuardSettings(1_000_000, 12, 1_000, 1_000_000_000, 1_000_000_000, 5.0)


@dataclass
class Reply:
    """What an ASGI application sent."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        code: str = self.json()["error"]["code"]
        return code


@dataclass
class House:
    """The service of a gateway, the gateway itself, and the exchange behind it."""

    url: str
    parts: Parts
    running: Running
    app: App
    account: str
    folder: Path
    names: tuple[str, ...]
    open_app: Callable[..., App] = field(repr=False)

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        role: Role | None = Role.admin,
        headers: dict[str, str] | None = None,
        receive: Any = None,
        **scope: Any,
    ) -> Reply:
        """Send one request by ASGI alone; `body` is bytes, or a record that is sent as JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"host": "gateway:1", "content-type": "application/json"}
        sent["content-length"] = str(len(content))
        if role is not None:
            sent["authorization"] = f"Bearer {TOKENS[role]}"
        sent |= headers or {}
        waiting = [{"type": "http.request", "body": content, "more_body": False}]

        async def at_once() -> dict[str, Any]:
            return waiting.pop() if waiting else await asyncio.Future()

        messages: list[Any] = []

        async def send(message: Any) -> None:
            messages.append(message)

        target, _, query = path.partition("?")
        await self.app(
            {
                "type": "http",
                "http_version": "1.1",
                "scheme": "http",
                "method": method,
                "path": target,
                "raw_path": target.encode(),
                "root_path": "",
                "query_string": query.encode(),
                "headers": [(key.encode(), value.encode()) for key, value in sent.items()],
                "server": ("127.0.0.1", 80),
                "client": ("127.0.0.1", 1),
            }
            | scope,
            receive or at_once,
            send,
        )
        if not messages:
            return Reply(0, {}, b"")
        shown = {key.decode(): value.decode() for key, value in messages[0]["headers"]}
        content = b"".join(message.get("body", b"") for message in messages[1:])
        return Reply(messages[0]["status"], shown, content)

    def ask_once(self, *arguments: Any, **options: Any) -> Reply:
        """Send one request and wait for its answer."""
        return asyncio.run(self.ask(*arguments, **options))

    def request(
        self, decision_id: str | None = None, mode: str = "paper", **weights: str
    ) -> dict[str, Any]:
        """Return a decision of the last close, of two agents that agree."""
        now, market = self.parts.broker.clock().now, self.parts.market
        previous, hours = market.previous(now), market.hours(now)
        assert previous is not None and hours is not None
        book = weights | {"CASH": str(1 - sum(map(Decimal, weights.values())))}
        agent = {
            "weights": book,
            "share": "0.5",
            "confidence": None,
            "breaches_before_projection": [],
        }
        allocation = {
            "decision_id": decision_id or secrets.token_hex(32),
            "as_of": str(previous[0]),
            "expires_at": hours.close.isoformat(),
            "supersedes": None,
            "model": {"id": "model", "sha256": MODEL},
            "weights": book,
            "agents": {"one": agent, "two": agent},
            "market": {"regime": "calm"},
            "diagnostics": {"data_age": 0},
        }
        return {"account": self.account, "mode": mode, "allocation": allocation}

    def permit(self) -> None:
        self.running.permit.renew(self.running.epoch, 30_000)

    def arm(self) -> None:
        """Do what a person does after a trip."""
        seen = self.running.ledger.latch()
        verdict = self.running.gateway.arm(self.account, seen, "a person of the tests")
        assert verdict.allowed, verdict

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        """Drive the exchange."""
        answer = requests.request(
            method, f"{self.url}/admin{path}", json=body, headers=HEADERS, timeout=30
        )
        assert answer.ok, answer.text
        return answer.json() if answer.content else None

    def posted(self) -> list[dict[str, Any]]:
        """Return the orders that reached the exchange, oldest first."""
        sent = self.admin("GET", "/sent")
        orders = [one for one in sent if (one["method"], one["path"]) == ("POST", "/v2/orders")]
        return [json.loads(one["body"]) for one in orders]

    @property
    def head(self) -> int:
        """Return the number of the audit's last record: no state changes without another one."""
        with self.running.ledger.reading() as connection:
            found: int = connection.exec_driver_sql("SELECT max(seq) FROM audit").scalar_one()
        return found

    def decisions(self) -> list[StoredDecision]:
        """Return every decision that was recorded, oldest first."""
        return self.running.ledger.decisions_between(*EVER)


@pytest.fixture
def open_house(
    bars: Bars, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., House]]:
    """Open an exchange and an armed gateway over it, whose thread rests without an interval."""
    monkeypatch.setenv("TERCET_PAPER_KEY_ID", KEY)
    monkeypatch.setenv("TERCET_PAPER_SECRET_KEY", SECRET)
    with ExitStack() as stack:

        def opened(interval_s: float | None = None, **changed: Any) -> House:
            folder = tmp_path / secrets.token_hex(4)
            folder.mkdir()
            return _house(stack, folder, bars, changed, interval_s)

        yield opened


@pytest.fixture
def house(open_house: Callable[..., House]) -> House:
    return open_house()


def _house(
    stack: ExitStack, folder: Path, bars: Bars, limits: dict[str, Any], interval_s: float | None
) -> House:
    settings = ExchangeSettings(
        key=KEY, secret=SECRET, cash=100_000.0, multiplier=1, clock=ClockMode.driven,
        start="2023-06-01T14:00:00+00:00", step_s=60, share_per_step=1.0, half_spread_bp=1.0,
        slippage_bp=0.0, commission_bp=0.0, commission_per_share=0.0,
    )  # fmt: skip
    exchange = Exchange(folder / "exchange.sqlite", bars, "XNYS", settings)
    stack.callback(exchange.close)
    url = stack.enter_context(running(application(exchange, KEY, SECRET)))
    configured = requests.patch(
        f"{url}/v2/account/configurations", json={"no_shorting": True}, headers=HEADERS, timeout=30
    )
    assert configured.ok, configured.text
    own = parts(_config(url, folder, interval_s))
    found = Running(replace(own, limits=replace(own.limits, **limits)))
    found.start()
    stack.callback(found.stop)
    if interval_s is None:  # nothing happens but what a test does
        found._stopping.set()
        found._thread.join()
    found.permit.renew(found.epoch, 30_000)
    tokens = {token: role for role, token in TOKENS.items()}

    def open_app(extra: dict[str, Role] | None = None, **settings: Any) -> App:
        return make_app(found, Tokens(tokens | (extra or {})), replace(UNCOUNTED, **settings))

    account = own.broker.account().id
    return House(url, own, found, open_app(), account, folder, bars.symbols, open_app)


def _config(url: str, folder: Path, interval_s: float | None) -> Any:
    """Return the configuration of the command, over a market of its own."""
    register()
    words = [
        "subverb=''",
        f"broker.trading_url={url}",
        f"broker.data_url={url}",
        f"control.ledger=sqlite:///{folder / 'ledger.sqlite'}",
        f"control.anchor={folder / 'anchor'}",
        f"control.halt_file={folder / 'HALT'}",
        "market=synthetic",
        "market.assets=5",
        "market.first=2023-01-03",
        "market.sessions=250",
        "market.assumed_adv=1e9",
        "strategy.ramp=['1']",
        "service.clock=broker",
        "service.auto_arm=true",
        f"service.interval_s={interval_s or 30.0}",
        f"service.models=[{MODEL}]",
    ]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        composed = hydra.compose("gateway", words)
    return hydra.utils.instantiate(composed, _convert_="object")


@pytest.fixture
def listening() -> Iterator[Callable[[App], str]]:
    """Let an application answer on a free port of this machine, as the command does."""
    with ExitStack() as stack:

        def opened(app: App) -> str:
            listener = stack.enter_context(listening_socket("127.0.0.1", 0))
            over = threading.Event()
            thread = threading.Thread(target=serve, args=(app, listener, over.is_set))
            thread.start()
            stack.callback(thread.join, 20.0)
            stack.callback(over.set)
            return address(listener)

        yield opened
