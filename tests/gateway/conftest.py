"""The whole path, nothing of it pretended: engine, ledger, official client over HTTP, exchange."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import hydra
import pytest
import requests

from brokers.alpaca import AlpacaBroker
from brokers.exchange.exchange import Exchange
from brokers.exchange.serve import application, running
from brokers.exchange.settings import ClockMode, ExchangeSettings
from brokers.settings import AlpacaSettings, Keys
from market.bars import Bars
from market.sources.synthetic import SyntheticMarket, World
from risk.gateway.audit import FileAnchor
from risk.gateway.engine import Gateway
from risk.gateway.execution import ExecutionSettings, Schedule
from risk.gateway.latch import arm_paper
from risk.gateway.ledger import Ledger
from risk.gateway.limits import GatewayLimits
from risk.gateway.market_facts import BarsSource
from risk.gateway.observer import Memory, Observer, Permissions
from risk.gateway.permit import HaltFile, LedgerPermit
from risk.gateway.records import Decision

KEY, SECRET = "key-of-the-tests", "secret-of-the-tests"
THURSDAY_10 = "2023-06-01T14:00:00+00:00"
MODEL = "a" * 64


@pytest.fixture(scope="session")
def bars() -> Bars:
    return SyntheticMarket(
        None, None, None, 21, None, 0.0, "XNYS", None, 0, World.regimes, 5, "2023-01-03", 250,
        0.008, 0.01, 0.06, 0.45, 250.0, 0, 0, 0,
    ).load()  # fmt: skip


@pytest.fixture(scope="session")
def limits() -> GatewayLimits:
    """Return the product's own limits."""
    from risk.config import register

    register()
    with hydra.initialize_config_dir(
        str(Path(__file__).resolve().parents[2] / "conf"), version_base="1.3"
    ):
        composed = hydra.compose(overrides=["+gateway=balanced"])
    found: GatewayLimits = hydra.utils.instantiate(composed, _convert_="object")["gateway"]
    return found


@dataclass
class Venue:
    """A running exchange, the gateway over it, and what drives both."""

    url: str
    exchange: Exchange
    broker: AlpacaBroker
    ledger: Ledger
    gateway: Gateway
    permit: LedgerPermit
    memory: Memory
    epoch: int
    halt_file: HaltFile
    folder: Path
    bars: Bars
    rebuild: Callable[[], "Venue"] = field(repr=False)

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"APCA-API-KEY-ID": KEY, "APCA-API-SECRET-KEY": SECRET}
        answer = requests.request(
            method, f"{self.url}/admin{path}", json=body, headers=headers, timeout=30
        )
        assert answer.ok, answer.text
        return answer.json() if answer.content else None

    def advance(self, seconds: float) -> None:
        self.admin("PUT", "/clock", {"advance_s": seconds})

    def fault(self, kind: str, **details: Any) -> None:
        where = {"method": "POST", "path": "/v2/orders"}
        self.admin("POST", "/faults", where | {"kind": kind} | details)

    def posted(self) -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = self.admin("GET", "/sent")
        return [one for one in sent if (one["method"], one["path"]) == ("POST", "/v2/orders")]

    def bodies(self) -> list[dict[str, Any]]:
        """Return the orders that were sent, oldest first, refused ones too."""
        return [json.loads(one["body"]) for one in self.posted()]

    def foreign_order(self, body: dict[str, str]) -> None:
        """Put an order as a person would, past the gateway."""
        headers = {"APCA-API-KEY-ID": KEY, "APCA-API-SECRET-KEY": SECRET}
        answer = requests.post(f"{self.url}/v2/orders", json=body, headers=headers, timeout=30)
        assert answer.ok, answer.text

    def next_session(self) -> None:
        """Let time pass to half an hour after the next opening, and look at everything anew."""
        self.admin("PUT", "/clock", {"to": "next_open"})
        self.advance(1800)
        self.permit.renew(self.epoch, 30_000)
        self.gateway.recover()

    @property
    def now(self) -> datetime:
        return self.broker.clock().now

    def decision(self, number: int = 1, **weights: str) -> Decision:
        """Return a decision of the last close, of two agents that agree."""
        book = {symbol: Decimal(weight) for symbol, weight in weights.items()}
        half = Decimal("0.5")
        source = BarsSource(lambda: self.bars, lambda: "1", "XNYS", 1e9, 0.99)
        previous = source.previous(self.now)
        hours = source.hours(self.now)
        assert previous is not None and hours is not None
        return Decision(
            id=f"{number:064x}",
            account=self.broker.account().id,
            as_of=previous[0],
            expires_at=hours.close,
            model_sha256=MODEL,
            weights=book,
            agents={"one": (half, book), "two": (half, book)},
            body_sha256=f"{number + 1000:064x}",
        )

    def run(self, steps: int = 30, seconds: float = 20.0) -> None:
        """Let the gateway work while time passes."""
        for _ in range(steps):
            self.permit.renew(self.epoch, 30_000)
            self.gateway.step()
            self.advance(seconds)

    def require_equal_books(self) -> None:
        """Ledger and exchange hold the same shares."""
        held = {name: one.quantity for name, one in self.broker.positions().items()}
        assert self.ledger.positions() == held
        assert self.gateway.reconcile().clean


@pytest.fixture
def venue(bars: Bars, limits: GatewayLimits, tmp_path: Path) -> Iterator[Venue]:
    """Start an exchange and an armed gateway over it, half an hour after the open."""
    with ExitStack() as stack:
        settings = ExchangeSettings(
            key=KEY, secret=SECRET, cash=100_000.0, multiplier=1, clock=ClockMode.driven,
            start=THURSDAY_10, step_s=60, share_per_step=1.0, half_spread_bp=1.0, slippage_bp=0.0,
            commission_bp=0.0, commission_per_share=0.0,
        )  # fmt: skip
        exchange = Exchange(tmp_path / "exchange.sqlite", bars, "XNYS", settings)
        stack.callback(exchange.close)
        url = stack.enter_context(running(application(exchange, KEY, SECRET)))

        def built() -> Venue:
            return _gateway(url, exchange, bars, limits, tmp_path, built)

        headers = {"APCA-API-KEY-ID": KEY, "APCA-API-SECRET-KEY": SECRET}
        wanted = {"no_shorting": True}
        configured = requests.patch(
            f"{url}/v2/account/configurations", json=wanted, headers=headers, timeout=30
        )
        assert configured.ok, configured.text
        found = built()
        found.gateway.recover()
        arm_paper(found.ledger, found.epoch, found.broker.account(), datetime.now(UTC))
        yield found


def _gateway(
    url: str,
    exchange: Exchange,
    bars: Bars,
    limits: GatewayLimits,
    folder: Path,
    rebuild: Callable[[], Venue],
) -> Venue:
    broker = AlpacaBroker(AlpacaSettings(url, url, "K", "S", 2.0, 5.0), Keys(KEY, SECRET))
    ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}", FileAnchor(folder / "anchor"))
    ledger.migrate()
    epoch = ledger.acquire("test")
    permit, halt_file = LedgerPermit(ledger), HaltFile(folder / "HALT")
    permit.renew(epoch, 30_000)

    def now() -> datetime:
        return broker.clock().now

    names = Permissions(frozenset(bars.symbols), frozenset(), frozenset({MODEL}))
    memory = Memory()
    source = BarsSource(lambda: bars, lambda: "1", "XNYS", 1e9, 0.99)
    observer = Observer(broker, ledger, epoch, source, permit, halt_file, names, memory, now, now)
    execution = ExecutionSettings(
        limit_offset="0.002", drift_band="0.002", min_notional="10", slice_adv="0.005",
        slice_interval_s=300, schedule=Schedule.twap, max_trades_day=20, headroom="0.001",
    )  # fmt: skip
    gateway = Gateway(broker, ledger, epoch, observer, limits, execution, now)
    return Venue(
        url, exchange, broker, ledger, gateway, permit, memory, epoch, halt_file, folder, bars,
        rebuild,
    )  # fmt: skip
