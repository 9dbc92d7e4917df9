"""Consecutive days of a paper account on real prices, with what goes wrong in them.

Every day brings faults of the broker and a SIGKILL of the gateway's process at a random point; some
days bring splits, dividends, halted names, partial fills, or a stranger's orders and shares, after
which a person looks and arms again. In the evening ledger and exchange must hold the same shares
and cents, and every order exactly once.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
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
from risk.gateway.engine import Answer, Mode
from risk.gateway.process import open_ledger, supervisor_of
from risk.gateway.records import TERMINAL, Decision, OrderState
from risk.gateway.stored import DecisionState, Latch

KEY, SECRET = "paper-key-of-the-tests", "paper-secret-of-the-tests"
HEADERS = {"APCA-API-KEY-ID": KEY, "APCA-API-SECRET-KEY": SECRET}
MODEL = "a" * 64
SEED = 20_251
DAYS, SOAK_DAYS = 3, 250
NAMES = ("AAPL", "BBY", "CVX", "JNJ", "KO", "UNH", "WMT", "XOM")
FIRST_DAY = "2015-03-02T06:00:00-05:00"
POINTS = 220  # of a day, at one of which the gateway is killed; on a quiet day there are fewer
STARTS_WITHIN_S = 60.0
LONGEST_S = 2.5  # until a kill by the clock
STEPS, STEP_S = 20, 45.0  # of a day, and the exchange's time that passes with each
CENT = Decimal("0.01")

REQUESTS = (
    ("POST", "/v2/orders"), ("GET", "/v2/orders.*"), ("GET", "/v2/positions"),
    ("GET", "/v2/account"), ("GET", "/v2/account/activities.*"), ("GET", "/v2/clock"),
)  # fmt: skip
FAULTS: tuple[dict[str, Any], ...] = (
    *({"kind": "status", "status": status, "after": after}
      for status in (500, 502, 503, 504) for after in (False, True)),
    *({"kind": kind, "after": after} for kind in ("reset", "html", "empty")
      for after in (False, True)),
    {"kind": "status", "status": 429, "retry_after": 1},
    {"kind": "truncated"}, {"kind": "unknown_enum"},
    {"kind": "silence", "after": True},
)  # fmt: skip
HIDDEN = {"kind": "hide", "seconds": 0.3}  # of an order that was just taken


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


class Killed(Exception):
    """The gateway's process is dead."""


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
        """Let the gateway do something; start another one where it dies of it."""
        while self.life is None:
            self.start()
        try:
            self.life.send((name, arguments))
            word, found = self.life.recv()
        except (EOFError, ConnectionResetError, BrokenPipeError):
            self._died()
            raise Killed from None
        if word == "failed":
            raise AssertionError(found)
        return found

    def surely(self, name: str, *arguments: Any) -> Any:
        """Ask until it was not killed."""
        while True:
            try:
                return self.ask(name, *arguments)
            except Killed:
                continue

    def end(self) -> None:
        if self.life is not None:
            self.life.close()
            self.life = None

    def _died(self) -> None:
        self.end()
        self.seen["kills"] += 1


@dataclass
class Account:
    """The days of one account.

    Args:
        place: where it is kept.
        soak: all days instead of a sample.
    """

    place: Place
    exchange: Exchange
    weights: dict[str, Decimal] = field(default_factory=dict)
    strangers: set[str] = field(default_factory=set)
    halved: set[str] = field(default_factory=set)

    def day(self, number: int, rng: Random) -> None:
        """Live through a day, from the events of the night to the books of the evening."""
        place = self.place
        self._night(rng)
        place.admin("PUT", "/clock", {"to": "next_open"})
        place.pass_time(1200)
        assert self._arm()
        decision = self._decision(number, rng)
        self._trade(decision, rng)
        self._evening(decision)

    def _night(self, rng: Random) -> None:
        """Let happen to the account what happens between two sessions."""
        place, held = self.place, sorted(one["symbol"] for one in self.place.get("/positions"))
        for symbol in place.symbols:
            place.admin("PUT", f"/assets/{symbol}", {})
        if rng.random() < 0.15:
            self._told("halted names")
            place.admin("PUT", f"/assets/{rng.choice(place.symbols)}", {"tradable": False})
        share = rng.choice(("1", "1", "1", "1", "0.5", "0.13"))
        place.admin("PATCH", "/terms", {"share_per_step": share})
        if rng.random() < 0.1:
            self._told("fees")
            place.admin("POST", "/fees", {"amount": "0.07"})
        if rng.random() < 0.03:
            self._told("cash moved")
            place.admin("POST", "/cash", {"amount": rng.choice(("250.5", "-100.25"))})
        if held and rng.random() < 0.2:
            self._told("dividends")
            place.admin("POST", "/dividends", {"symbol": rng.choice(held), "per_share": "0.255"})
        if held and rng.random() < 0.06:
            self._split(rng.choice(held))
        if rng.random() < 0.04:
            self._told("shares moved by somebody")
            place.admin("POST", "/shares", {"symbol": rng.choice(place.symbols), "qty": "3"})

    def _split(self, symbol: str) -> None:
        """Split the shares of a name, or put them together again after a split."""
        self._told("splits")
        ratio = "0.5" if symbol in self.halved else "2"
        self.halved ^= {symbol}
        self.place.admin("POST", "/splits", {"symbol": symbol, "ratio": ratio})

    def _arm(self) -> bool:
        """Do what a person does after a start or a trip: look, accept what was seen, and arm.

        Orders that are open, from before a crash, get ten minutes; then they are cancelled. One
        whose outcome stays unknown keeps trading halted until after its session.
        """
        place = self.place
        for attempt in range(16):
            latch: Latch = place.surely("latch")
            if latch.armed:
                return True
            place.supervisor.step()
            if place.surely("reconcile").drifted and not place.get("/orders"):
                self._accept()
            verdict = place.surely("arm", place.account, place.surely("latch"), "a person")
            self._told("armed by a person" if verdict.allowed else "arming refused")
            if not verdict.allowed:
                place.pass_time(60.0)
                place.surely("step")
                if attempt == 9:
                    self._told("orders cancelled by a person")
                    place.surely("kill", "what is open is cancelled", "a person")
        codes = {one.code.name for one in verdict.violations}
        assert codes == {"kill_unverified"}, verdict
        self._told("sessions that stayed halted")
        return False

    def _accept(self) -> None:
        """Take the broker's books for ours, as a person does who knows the reason."""
        self._told("books accepted by a person")
        self.place.surely("accept", self.place.account, "a person", "looked into")

    def _decision(self, number: int, rng: Random) -> Decision:
        """Return a decision of the last close: a walk of the weights."""
        place = self.place
        drawn = {name: Decimal(rng.randint(4, 8)) for name in rng.sample(place.symbols, 4)}
        whole = sum(drawn.values()) / Decimal("0.8")
        names = {*drawn, *self.weights}
        zero = Decimal(0)
        mixed = {
            name: (
                self.weights.get(name, zero) * Decimal("0.6")
                + drawn.get(name, zero) / whole * Decimal("0.4")
            ).quantize(Decimal("0.0001"))
            for name in sorted(names)
        }
        self.weights = {name: weight for name, weight in mixed.items() if weight >= CENT / 2}
        hours = self.exchange.hours
        now = self.exchange.now()
        today = hours.coming(now)
        half = Decimal("0.5")
        return Decision(
            id=f"{number:064x}",
            account=place.account,
            as_of=hours.between(today - timedelta(days=10), today - timedelta(days=1))[-1],
            expires_at=hours.times(today)[1],
            model_sha256=MODEL,
            weights=self.weights,
            agents={"one": (half, self.weights), "two": (half, self.weights)},
            body_sha256=f"{number + 10_000:064x}",
        )

    def _trade(self, decision: Decision, rng: Random) -> None:
        """Hand the decision over and follow it, with faults, strangers and a kill on the way."""
        place = self.place
        self._plan_faults(rng)
        stranger = rng.randrange(STEPS) if rng.random() < 0.05 else None
        timer = None
        if rng.random() < 0.5:
            place.end()
            place.start(rng.randint(1, POINTS))
            assert self._arm()
        else:
            timer = threading.Timer(rng.uniform(0.0, LONGEST_S), self._kill, (place.pid,))
            timer.start()
        place.supervisor.step()
        for step in range(STEPS):
            if step == stranger:
                self._stranger(rng)
            if step % 10 == 9:
                place.supervisor.step()
            try:
                if self._ended(decision):
                    break
                place.ask("step")
            except Killed:
                if not self._arm():
                    break
                place.supervisor.step()
            place.pass_time(STEP_S)
        if timer is not None:
            timer.cancel()
            timer.join()

    def _ended(self, decision: Decision) -> bool:
        """Ask for the decision, again and again: it is the same one. Return whether it ended."""
        answer: Answer = self.place.ask("submit", decision, Mode.paper)
        return answer.state not in (DecisionState.accepted, DecisionState.received)

    def _plan_faults(self, rng: Random) -> None:
        for _ in range(rng.randint(1, 3)):
            method, path = rng.choice(REQUESTS)
            fault = HIDDEN if method == "POST" and rng.random() < 0.2 else rng.choice(FAULTS)
            nth = rng.randint(1, 12)
            where = {"method": method, "path": path, "nth": nth}
            self.place.admin("POST", "/faults", {**where, **fault})

    def _stranger(self, rng: Random) -> None:
        """Let somebody else trade on the account."""
        self._told("orders of a stranger")
        order = {"symbol": rng.choice(self.place.symbols), "qty": "2", "side": "buy",
                 "type": "market", "time_in_force": "day"}  # fmt: skip
        found = self.place.admin("POST", "/orders", order)
        self.strangers.add(found["client_order_id"])

    def _kill(self, pid: int) -> None:
        if self.place.pid == pid and self.place.life is not None:
            self._told("kills by the clock")
            os.kill(pid, signal.SIGKILL)

    def _evening(self, decision: Decision) -> None:
        """After the close everything has ended, and both books are the same."""
        place = self.place
        hits = place.admin("GET", "/faults")
        place.seen["faults that hit"] += sum(one["hit"] for one in hits)
        place.admin("DELETE", "/faults")
        place.admin("PUT", "/clock", {"to": "next_close"})
        for _ in range(4):
            place.pass_time(600.0)
            place.surely("step")
        found = place.surely("reconcile")
        if found.drifted:
            # Shares that somebody moved: a person looks, and accepts what the broker has.
            assert not place.surely("latch").armed
            self._accept()
        ledger = open_ledger(place.made.control)
        try:
            self._require_equal_books(ledger, decision)
        finally:
            ledger.close()

    def _require_equal_books(self, ledger: Any, decision: Decision) -> None:
        place = self.place
        held = {one["symbol"]: Decimal(one["qty"]) for one in place.get("/positions")}
        assert ledger.positions() == held
        assert ledger.cash() == Decimal(place.get("/account")["cash"])
        stored = ledger.decision(decision.id)
        word = "none" if stored is None else stored.state.value
        reasons = "" if stored is None else ", ".join(stored.reasons)
        self._told(f"decisions {word} {reasons}".strip())
        assert stored is None or stored.state in (DecisionState.done, DecisionState.refused)
        session = self.exchange.hours.last_opened(self.exchange.now())
        ours = {one.client_order_id: one for one in ledger.orders(decision_id=decision.id)}
        listed = place.get(f"/orders?status=all&limit=500&after={session}T00:00:00Z")
        theirs = {one["client_order_id"]: one for one in listed}
        assert len(theirs) == len(listed)
        assert set(theirs) - set(ours) <= self.strangers
        for name, order in ours.items():
            assert order.state in TERMINAL, order
            place.seen[f"orders {order.state.value}"] += 1
            if name not in theirs:
                assert order.filled == 0, order
                assert order.state in (
                    OrderState.dropped, OrderState.refused, OrderState.expired
                ), order  # fmt: skip
            else:
                assert Decimal(theirs[name]["filled_qty"]) == order.filled, order
                assert Decimal(theirs[name]["qty"]) == order.quantity, order

    def _told(self, what: str) -> None:
        self.place.seen[what] += 1


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
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
        found = Place(url, number, bars.symbols, door, control, made, supervisor_of(made))
        found.start()
        yield Account(found, exchange)
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
    command = [sys.executable, str(Path(__file__).with_name("paper_gateway.py"))]
    process = subprocess.Popen([*command, door.path, *words], cwd=Path(CONF).parent)
    try:
        control = door.accept()
        assert control.recv() == "warm"
        with control:
            yield control
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.timeout(3600)
def test_every_evening_ledger_and_exchange_hold_the_same(account: Account, soak: bool) -> None:
    days = SOAK_DAYS if soak else DAYS
    began = time.monotonic()
    for number in range(1, days + 1):
        account.day(number, Random(f"{SEED} {number}"))
    account.place.end()
    found = account.place.surely("verify")
    assert found.ok, found.problems
    seen = account.place.seen
    assert seen["kills"] >= days / 2
    assert seen["decisions done"] >= days / 2 and seen["orders filled"] >= days
    print(f"{days} days, seed {SEED}, {time.monotonic() - began:.0f} s: every evening equal")
    print(f"{found.records} audit records and {found.verdicts} verdicts hold")
    for what, count in sorted(seen.items()):
        print(f"  {count:6d}  {what}")
