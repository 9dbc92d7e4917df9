"""The gateway as a process of its own, over a real exchange: killed, stopped, asked wrongly."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests

from brokers.alpaca import AlpacaBroker
from brokers.exchange.exchange import Exchange
from brokers.exchange.serve import application, running
from brokers.exchange.settings import ClockMode, ExchangeSettings
from brokers.settings import AlpacaSettings, Keys
from market.bars import Bars
from risk.gateway.audit import FileAnchor
from risk.gateway.ledger import Ledger
from risk.gateway.replay import judged_again
from risk.gateway.verify import verify

REPOSITORY = Path(__file__).resolve().parents[2]
KEY, SECRET = "key-of-the-tests", "secret-of-the-tests"
HEADERS = {"APCA-API-KEY-ID": KEY, "APCA-API-SECRET-KEY": SECRET}
MODEL = "a" * 64
TOKENS = {role: f"{role}-token-of-the-tests" for role in ("read", "allocate", "admin")}
STARTS_WITHIN_S = 60.0

# Runs the command so that it dies when the broker has an order whose answer it never hears.
DYING = """
import os, signal, sys
from brokers.alpaca import AlpacaBroker

submitted = AlpacaBroker.submit

def submit(self, order):
    submitted(self, order)
    os.kill(os.getpid(), signal.SIGKILL)

AlpacaBroker.submit = submit
from cli.__main__ import main
sys.exit(main())
"""
READY_WITHIN_S = 10.0  # after a SIGKILL, on a machine that does nothing else


@dataclass
class Place:
    """An exchange, and what one gateway after another is started with."""

    url: str
    folder: Path
    bars: Bars
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)
    gateway: str = ""

    @property
    def account(self) -> str:
        account: str = self.broker.account().id
        return account

    @property
    def broker(self) -> AlpacaBroker:
        settings = AlpacaSettings(self.url, self.url, "K", "S", 2.0, 5.0)
        return AlpacaBroker(settings, Keys(KEY, SECRET))

    @property
    def control(self) -> list[str]:
        return [
            f"broker.trading_url={self.url}",
            f"broker.data_url={self.url}",
            f"control.ledger=sqlite:///{self.folder / 'ledger.sqlite'}",
            f"control.anchor={self.folder / 'anchor'}",
            f"control.halt_file={self.folder / 'HALT'}",
        ]

    @property
    def words(self) -> list[str]:
        return [
            *self.control,
            "market=synthetic",
            "market.assets=5",
            "market.first=2023-01-03",
            "market.sessions=250",
            "market.assumed_adv=1e9",
            "service.port=0",
            "service.clock=broker",
            "service.auto_arm=true",
            "service.interval_s=0.1",
            "service.renew_s=0.3",
            "strategy.ramp=['1']",
            f"service.models=[{MODEL}]",
            f"service.tokens={self.folder / 'tokens'}",
        ]

    def process(self, *command: str) -> subprocess.Popen[bytes]:
        environment = os.environ | {
            "PYTHONPATH": str(REPOSITORY),
            "OMP_NUM_THREADS": "1",
            "TERCET_PAPER_KEY_ID": KEY,
            "TERCET_PAPER_SECRET_KEY": SECRET,
        }
        log = (self.folder / f"log{len(self.started)}").open("wb")
        found = subprocess.Popen(
            [sys.executable, *command], cwd=self.folder, env=environment,
            stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        log.close()
        self.started.append(found)
        return found

    def output(self, process: subprocess.Popen[bytes]) -> str:
        return (self.folder / f"log{self.started.index(process)}").read_text()

    def start(self, *words: str, dying: bool = False) -> subprocess.Popen[bytes]:
        """Start a gateway and wait until it says where it listens."""
        launch = ("-c", DYING) if dying else ("-m", "cli")
        process = self.process(*launch, "gateway", *self.words, *words)
        found = None
        end = time.monotonic() + STARTS_WITHIN_S
        while found is None:
            assert process.poll() is None and time.monotonic() < end, self.output(process)
            found = re.search(r"gateway on (http://\S+)", self.output(process))
            time.sleep(0.05)
        self.gateway = found[1]
        return process

    def ask(
        self, method: str, path: str, body: Any = None, role: str | None = "admin", **more: Any
    ) -> requests.Response:
        headers = {} if role is None else {"Authorization": f"Bearer {TOKENS[role]}"}
        return requests.request(
            method, f"{self.gateway}{path}", json=body, headers=headers, timeout=30, **more
        )

    def advance(self, seconds: float) -> None:
        body = {"advance_s": seconds}
        answer = requests.put(f"{self.url}/admin/clock", json=body, headers=HEADERS, timeout=30)
        assert answer.ok, answer.text

    def bodies(self) -> list[dict[str, Any]]:
        """Return the orders that reached the exchange, oldest first."""
        sent = requests.get(f"{self.url}/admin/sent", headers=HEADERS, timeout=30).json()
        orders = [one for one in sent if (one["method"], one["path"]) == ("POST", "/v2/orders")]
        return [json.loads(one["body"]) for one in orders]

    def request(self, number: int = 1, mode: str = "paper", **weights: str) -> dict[str, Any]:
        """Return a decision of the last close, of two agents that agree."""
        book = weights | {"CASH": str(1 - sum(map(Decimal, weights.values())))}
        agent = {
            "weights": book,
            "share": "0.5",
            "confidence": None,
            "breaches_before_projection": [],
        }
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
        return {"account": self.account, "mode": mode, "allocation": allocation}

    def permitted(self) -> None:
        """Wait until the supervisor has given leave."""
        self.until(lambda: self.ask("GET", "/v1/state").json()["permit_left_s"] > 0)

    def until(self, true: Callable[[], bool], seconds: float = 30.0) -> None:
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, self.output(self.started[-1])
            time.sleep(0.05)

    def finished(self, number: int = 1) -> dict[str, Any]:
        """Let time pass until every order of a decision has ended."""
        for _ in range(200):
            answer: dict[str, Any] = self.ask("GET", f"/v1/decisions/{number:064x}").json()
            if answer.get("state") in ("done", "refused", "failed"):
                return answer
            self.advance(20.0)
            time.sleep(0.2)
        raise AssertionError(self.output(self.started[-1]))

    def ledger(self) -> Ledger:
        path = self.folder / "ledger.sqlite"
        return Ledger(f"sqlite:///{path}", FileAnchor(self.folder / "anchor"))

    def require_equal_books(self) -> None:
        held = {name: one.quantity for name, one in self.broker.positions().items()}
        assert held and self.ledger().positions() == held


@pytest.fixture
def place(bars: Bars, tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        settings = ExchangeSettings(
            key=KEY, secret=SECRET, cash=100_000.0, multiplier=1, clock=ClockMode.driven,
            start="2023-06-01T14:00:00+00:00", step_s=60, share_per_step=1.0, half_spread_bp=1.0,
            slippage_bp=0.0, commission_bp=0.0, commission_per_share=0.0,
        )  # fmt: skip
        exchange = Exchange(tmp_path / "exchange.sqlite", bars, "XNYS", settings)
        stack.callback(exchange.close)
        url = stack.enter_context(running(application(exchange, KEY, SECRET)))
        configured = requests.patch(
            f"{url}/v2/account/configurations",
            json={"no_shorting": True}, headers=HEADERS, timeout=30,
        )  # fmt: skip
        assert configured.ok, configured.text
        tokens = tmp_path / "tokens"
        tokens.write_text("".join(f"{role} {token}\n" for role, token in TOKENS.items()))
        tokens.chmod(0o600)
        found = Place(url, tmp_path, bars)
        yield found
        for process in found.started:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
                process.wait(20)


def test_a_decision_over_http_becomes_filled_orders_and_an_audit_that_holds(place: Place) -> None:
    process = place.start()
    place.permitted()
    body = place.request(S000="0.08", S001="0.05")
    answer = place.ask("POST", "/v1/decisions", body, "allocate")
    assert answer.status_code == 200 and answer.json()["state"] == "accepted", answer.text
    assert {one["symbol"] for one in answer.json()["orders"]} == {"S000", "S001"}
    again = place.ask("POST", "/v1/decisions", body, "allocate")
    assert again.status_code == 200
    changed = place.request(S000="0.07", S001="0.05")
    assert place.ask("POST", "/v1/decisions", changed, "allocate").status_code == 409
    done = place.finished()
    assert {one["state"] for one in done["orders"]} == {"filled"}
    assert len(place.bodies()) == len(done["orders"])
    place.require_equal_books()
    assert place.ask("POST", "/v1/reconcile").json()["clean"]
    assert place.ask("GET", "/v1/audit/verify").json()["ok"]
    process.terminate()
    assert process.wait(20) == 0
    walked = place.process("-m", "cli", "gateway", "verify", *place.words)
    assert walked.wait(60) == 0, place.output(walked)


def test_a_command_that_is_killed_is_soon_ready_again_and_loses_no_order(
    place: Place, soak: bool
) -> None:
    dying = place.start(dying=True)
    place.permitted()
    body = place.request(S000="0.08", S001="0.05")
    with suppress(requests.RequestException):
        place.ask("POST", "/v1/decisions", body, "allocate")
    assert dying.wait(30) == -signal.SIGKILL
    assert len(place.broker.orders(datetime(2023, 1, 1, tzinfo=UTC))) == 1
    killed = time.monotonic()
    place.start()
    place.until(lambda: place.ask("GET", "/readyz").status_code == 200)
    ready = time.monotonic() - killed
    print(f"SIGKILL to reconciled and ready: {ready:.1f} s")
    assert ready <= (READY_WITHIN_S if soak else STARTS_WITHIN_S)
    place.permitted()
    answer = place.ask("POST", "/v1/decisions", body, "allocate")
    assert answer.json()["state"] in ("accepted", "done"), answer.text
    done = place.finished()
    assert {one["state"] for one in done["orders"]} == {"filled"}, done
    assert len(done["orders"]) == 2
    assert len({one["client_order_id"] for one in place.bodies()}) == 2
    assert len(place.broker.orders(datetime(2023, 1, 1, tzinfo=UTC))) == 2
    place.require_equal_books()
    assert verify(place.ledger(), place.ledger().anchor, judged_again).ok


def test_a_kill_works_while_the_gateway_hangs(place: Place) -> None:
    gateway = place.start("service.interval_s=30")
    place.permitted()
    body = place.request(S000="0.08", S001="0.05")
    assert place.ask("POST", "/v1/decisions", body, "allocate").json()["state"] == "accepted"
    outside = {"symbol": "S002", "qty": "1", "side": "buy", "type": "limit",
               "time_in_force": "day", "limit_price": "1"}  # fmt: skip
    put = requests.post(f"{place.url}/v2/orders", json=outside, headers=HEADERS, timeout=30)
    assert put.ok and len(place.broker.open_orders()) == 1
    sent = len(place.bodies())
    gateway.send_signal(signal.SIGSTOP)
    killer = place.process("-m", "cli", "kill", *place.control, "reason=it hangs, says the test")
    assert killer.wait(60) == 0, place.output(killer)
    said = place.output(killer)
    assert said.count("done") == 6 and "FAILED" not in said
    cancelled = re.search(r"([0-9.]+) s  all orders cancelled", said)
    assert cancelled is not None and float(cancelled[1]) <= 1.0
    assert place.broker.open_orders() == [] and place.broker.account().suspended
    assert place.ledger().latch().tripped and (place.folder / "HALT").exists()
    gateway.send_signal(signal.SIGCONT)
    place.advance(60.0)
    time.sleep(1.0)
    assert len(place.bodies()) == sent
    latch = place.ask("GET", "/v1/state").json()["latch"]["id"]
    arming = {"account": place.account, "latch": latch}
    assert "HALT" in place.ask("POST", "/v1/arm", arming).text
    refused = place.ask("POST", "/v1/decisions", place.request(2, S001="0.05"), "allocate").json()
    assert {"latch", "halt_file", "suspended"} <= set(refused["reasons"])
    (place.folder / "HALT").unlink()
    assert place.ask("POST", "/v1/arm", arming).json()["latch"]["armed"]
    assert not place.broker.account().suspended


def test_a_kill_does_what_it_can_when_ledger_and_broker_cannot_be_reached(place: Place) -> None:
    words = [word for word in place.control if not word.startswith("control.ledger")]
    killer = place.process(
        "-m", "cli", "kill", *words, "control.ledger=postgresql://127.0.0.1:1/none",
        "control.permit=redis", "control.redis=redis://127.0.0.1:1",
    )  # fmt: skip
    assert killer.wait(90) == 2
    said = place.output(killer)
    assert re.search(r"FAILED.*latch", said) and re.search(r"FAILED.*permit", said)
    assert (place.folder / "HALT").exists() and place.broker.account().suspended
    nowhere = place.process(
        "-m", "cli", "kill", *place.control, "broker.trading_url=http://127.0.0.1:1",
        f"control.halt_file={place.folder / 'HALT2'}",
    )  # fmt: skip
    assert nowhere.wait(90) == 2
    assert (place.folder / "HALT2").exists()


def test_after_a_trip_only_a_person_who_types_the_account_arms_again(place: Place) -> None:
    first = place.start()
    place.permitted()
    killed = place.ask("POST", "/v1/kill", {"reason": "a person wants it"}, "allocate").json()
    assert killed["latch"]["tripped"]
    first.send_signal(signal.SIGKILL)
    first.wait(20)
    place.start()
    state = place.ask("GET", "/v1/state").json()
    assert state["latch"]["tripped"] and not state["latch"]["armed"]
    latch = state["latch"]["id"]
    wrong = place.ask("POST", "/v1/arm", {"account": "PA0", "latch": latch})
    assert wrong.status_code == 409 and "another account" in wrong.text
    stale = place.ask("POST", "/v1/arm", {"account": place.account, "latch": latch - 1})
    assert stale.status_code == 409
    port = place.gateway.rpartition(":")[2]
    words = [f"service.port={port}" if w.startswith("service.port") else w for w in place.words]
    armed = place.process("-m", "cli", "gateway", "arm", f"account={place.account}", *words)
    assert armed.wait(60) == 0, place.output(armed)
    assert place.ask("GET", "/v1/state").json()["latch"]["armed"]
    place.permitted()
    body = place.request(S000="0.05")
    assert place.ask("POST", "/v1/decisions", body, "allocate").json()["state"] == "accepted"


def test_strangers_and_bad_requests_change_nothing(place: Place) -> None:
    place.start()
    place.permitted()
    good = place.request(S000="0.05")
    for method, path in (
        ("POST", "/v1/decisions"), ("POST", "/v1/kill"), ("POST", "/v1/arm"),
        ("POST", "/v1/reconcile"), ("POST", "/v1/limits"), ("GET", "/v1/state"),
        ("GET", "/v1/limits"), ("GET", "/v1/audit/verify"), ("GET", "/openapi.json"),
    ):  # fmt: skip
        assert place.ask(method, path, good, None).status_code == 401
        if method == "POST":
            assert place.ask(method, path, good, "read").status_code == 403
    for path in ("/v1/arm", "/v1/limits"):
        assert place.ask("POST", path, good, "allocate").status_code == 403
    allocation = good["allocation"]
    for bad, status in (
        ({}, 422),
        ([], 422),
        (good | {"bypass": True}, 422),
        (good | {"mode": "yolo"}, 422),
        (good | {"account": "a b"}, 422),
        (good | {"allocation": allocation | {"extra": 1}}, 422),
        (good | {"allocation": allocation | {"weights": {"S000": "0.05"}}}, 422),
        (good | {"allocation": allocation | {"weights": {"S000": "NaN", "CASH": "1"}}}, 422),
        (good | {"allocation": allocation | {"weights": {"S000": "1e-2", "CASH": "0.99"}}}, 422),
        (good | {"allocation": allocation | {"weights": {"ЅOOO": "0", "CASH": "1"}}}, 422),
        (good | {"allocation": allocation | {"expires_at": "1685649600"}}, 422),
        (good | {"allocation": allocation | {"decision_id": "../etc"}}, 422),
    ):
        answer = place.ask("POST", "/v1/decisions", bad, "allocate")
        assert answer.status_code == status, (bad, answer.text)
    raw = {"Authorization": f"Bearer {TOKENS['allocate']}", "Content-Type": "application/json"}
    deep = b'{"a":' * 50 + b"1" + b"}" * 50
    for body in (b"{", b'{"account":1,"account":2}', b"\xff", deep, b'{"a":NaN}'):
        answer = requests.post(f"{place.gateway}/v1/decisions", data=body, headers=raw, timeout=30)
        assert answer.status_code == 400, answer.text
    assert place.ask("GET", "/v1/decisions/" + "0" * 64).status_code == 404
    limits = place.ask("GET", "/v1/limits").json()
    loose = limits["limits"] | {"max_order_weight": "0.5"}
    refused = place.ask("POST", "/v1/limits", {"limits": loose})
    assert refused.status_code == 409 and "two persons" in refused.text
    assert place.ask("GET", "/v1/limits").json() == limits
    tight = limits["limits"] | {"max_order_weight": "0.01"}
    assert place.ask("POST", "/v1/limits", {"limits": tight}).status_code == 200
    assert place.ask("GET", "/v1/limits").json()["limits"]["max_order_weight"] == "0.01"
    assert place.bodies() == [] and place.ledger().decisions(datetime(2023, 6, 1).date()) == []


def test_without_its_supervisor_the_gateway_soon_sends_nothing(place: Place) -> None:
    place.start("service.supervise=false")
    body = place.request(S000="0.05")
    answer = place.ask("POST", "/v1/decisions", body, "allocate").json()
    assert answer["state"] == "refused" and "permit" in answer["reasons"]
    assert place.bodies() == []


def test_a_supervisor_that_hangs_ends_the_permit_and_one_that_dies_is_replaced(
    place: Place,
) -> None:
    gateway = place.start("service.permit_s=2")
    place.permitted()
    (supervisor,) = children(gateway.pid)
    os.kill(supervisor, signal.SIGSTOP)
    time.sleep(2.5)
    assert place.ask("GET", "/v1/state").json()["permit_left_s"] == 0
    refused = place.ask("POST", "/v1/decisions", place.request(S000="0.05"), "allocate").json()
    assert "permit" in refused["reasons"] and place.bodies() == []
    os.kill(supervisor, signal.SIGKILL)
    place.permitted()
    assert children(gateway.pid) != [supervisor]


def test_neither_torch_nor_ray_is_in_the_process(place: Place) -> None:
    gateway = place.start()
    place.permitted()
    for process in (gateway.pid, *children(gateway.pid)):
        maps = Path(f"/proc/{process}/maps").read_text()
        assert "python" in maps
        assert not re.search(r"/(torch|ray)/", maps)
    loaded = place.process(
        "-c",
        "import sys, cli.gateway, cli.kill, cli.errors, brokers.alpaca;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'ray')))",
    )
    assert loaded.wait(60) == 0


def children(parent: int) -> list[int]:
    tasks = Path(f"/proc/{parent}/task").glob("*/children")
    return [int(word) for task in tasks for word in task.read_text().split()]
