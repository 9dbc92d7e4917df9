"""One account at an exchange, and the decision that is to be carried out there.

It is two sells and three buys, each filled in two parts. The exchange's clock is driven, and
nothing waits: a life takes as long as its work.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import yaml

from brokers.exchange.exchange import Exchange
from brokers.exchange.settings import ClockMode, ExchangeSettings
from brokers.settings import AlpacaSettings, Keys
from market.bars import Bars
from market.sources.synthetic import SyntheticMarket, World
from risk.gateway.execution import ExecutionSettings, Schedule
from risk.gateway.limits import GatewayLimits
from risk.gateway.market_facts import BarsSource
from risk.gateway.records import Decision

KEY, SECRET = "key-of-the-crashes", "secret-of-the-crashes"
KEYS = Keys(KEY, SECRET)
HEADERS = {"APCA-API-KEY-ID": KEY, "APCA-API-SECRET-KEY": SECRET}
START = datetime.fromisoformat("2023-06-01T14:00:00+00:00")  # a Thursday, 10:00 in New York
LAST_SESSION, CLOSE = date(2023, 5, 31), datetime.fromisoformat("2023-06-01T20:00:00+00:00")
MODEL = "a" * 64
CASH = 100_000
HELD = {"S000": 30, "S001": 30}  # shares before the first look
WEIGHTS = {"S000": "0.01", "S001": "0", "S002": "0.05", "S003": "0.04", "S004": "0.03"}
ORDERS = len(WEIGHTS)
STEP_S = 60  # of the driven clock
CONF = Path(__file__).resolve().parents[2] / "conf"


class Venue(Protocol):
    """Where lives are lived: an exchange that survives them, and a folder for what they keep."""

    @property
    def folder(self) -> Path:
        """Return where ledger, anchor and permit lie."""
        ...

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        """Drive the exchange."""
        ...


@dataclass(frozen=True, slots=True)
class Facts:
    """What is the same in every life."""

    bars: Bars
    source: BarsSource
    limits: GatewayLimits
    execution: ExecutionSettings


@cache
def facts() -> Facts:
    """Return what is read once a process."""
    bars = SyntheticMarket(
        None, None, None, 21, None, 0.0, "XNYS", None, 0, World.regimes, ORDERS, "2023-01-03", 250,
        0.008, 0.01, 0.06, 0.45, 250.0, 0, 0, 0,
    ).load()  # fmt: skip
    written = yaml.safe_load((CONF / "gateway" / "balanced.yaml").read_text())
    del written["defaults"]
    execution = ExecutionSettings(
        limit_offset=Decimal("0.005"),
        drift_band=Decimal("0.002"),
        headroom=Decimal("0.001"),
        min_notional=Decimal(10),
        slice_adv=Decimal("0.005"),
        slice_interval_s=300,
        schedule=Schedule.twap,
        max_trades_day=20,
    )
    source = BarsSource(lambda: bars, lambda: "1", "XNYS", 1e9, 0.99)
    return Facts(bars, source, GatewayLimits(**written), execution)


def settings() -> ExchangeSettings:
    """Return the terms of the exchange: half of an order at once, the rest a minute later."""
    return ExchangeSettings(
        key=KEY, secret=SECRET, cash=float(CASH), multiplier=1, clock=ClockMode.driven,
        start=START.isoformat(), step_s=STEP_S, share_per_step=0.6, half_spread_bp=1.0,
        slippage_bp=0.0, commission_bp=1.0, commission_per_share=0.0,
    )  # fmt: skip


class Watched(Exchange):
    """An exchange that tells when it has taken an order, before it answers."""

    def __init__(self, path: Path, taken: Callable[[], None]) -> None:
        super().__init__(path, facts().bars, "XNYS", settings())
        self._taken = taken

    def submit(self, body: dict[str, Any]) -> dict[str, Any]:
        """Take an order."""
        found = super().submit(body)
        self._taken()
        return found


def prepare(venue: Venue) -> None:
    """Bring a new account to where every case begins: some names are held, none can be short."""
    for symbol, quantity in HELD.items():
        venue.admin("POST", "/admin/shares", {"symbol": symbol, "qty": str(quantity)})
    venue.admin("PATCH", "/v2/account/configurations", {"no_shorting": True})


def decision(account: str) -> Decision:
    """Return what is to be reached, of two agents that agree."""
    book = {symbol: Decimal(weight) for symbol, weight in WEIGHTS.items()}
    half = Decimal("0.5")
    return Decision(
        id=f"{1:064x}",
        account=account,
        as_of=LAST_SESSION,
        expires_at=CLOSE,
        model_sha256=MODEL,
        weights=book,
        agents={"one": (half, book), "two": (half, book)},
        body_sha256=f"{1001:064x}",
    )


def client(url: str, read_s: float) -> AlpacaSettings:
    """Return how the account is reached."""
    return AlpacaSettings(url, url, "K", "S", 2.0, read_s)


def bodies(venue: Venue) -> list[dict[str, Any]]:
    """Return the orders that reached the exchange, oldest first, refused ones too."""
    sent = venue.admin("GET", "/admin/sent")
    found = [one for one in sent if (one["method"], one["path"]) == ("POST", "/v2/orders")]
    return [json.loads(one["body"]) for one in found]
