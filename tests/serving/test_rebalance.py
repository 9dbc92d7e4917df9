"""An account's day from the command line: real exchange, real gateway over HTTP, real artefact."""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import hydra
import pytest
import requests

from agents.artefact import load
from agents.registry import Registry
from brokers.exchange.exchange import Exchange
from brokers.exchange.serve import application, running
from brokers.exchange.settings import ClockMode, ExchangeSettings
from cli.__main__ import main
from cli.account import parts
from cli.account_config import GatewayConfig, register
from market.calendar import next_session
from market.compose import CONF, typed
from risk.access.refusals import App, Message, Receive, Scope, Send
from risk.access.tokens import load_tokens
from risk.gateway.process import Running, supervisor_of
from risk.gateway.service import make_app

KEY, SECRET = "key-of-the-tests", "secret-of-the-tests"
HEADERS = {"APCA-API-KEY-ID": KEY, "APCA-API-SECRET-KEY": SECRET}
TOKEN = "allocate-token-of-the-tests"


class Result(NamedTuple):
    code: int
    out: str
    err: str


class Losing:
    """An application whose next answers about decisions are lost on their way."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.lost = 0  # still to be lost

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not (self.lost and scope.get("path", "").startswith("/v1/decisions")):
            await self._app(scope, receive, send)
            return
        self.lost -= 1

        async def nowhere(_: Message) -> None:
            pass

        await self._app(scope, receive, nowhere)
        await send({"type": "http.response.start", "status": 502, "headers": []})
        await send({"type": "http.response.body", "body": b"<html>"})


@dataclass
class Account:
    """An account at a running exchange, its gateway, and the command that rebalances it."""

    exchange: str
    gateway: Running
    wire: Losing
    tercet: Callable[..., Result]
    folder: Path
    artefact: Path

    @property
    def id(self) -> str:
        return str(
            requests.get(f"{self.exchange}/v2/account", headers=HEADERS, timeout=30).json()[
                "account_number"
            ]
        )

    def admin(self, body: dict[str, Any]) -> None:
        answer = requests.put(
            f"{self.exchange}/admin/clock", json=body, headers=HEADERS, timeout=30
        )
        assert answer.ok, answer.text

    def posted(self) -> int:
        sent = requests.get(f"{self.exchange}/admin/sent", headers=HEADERS, timeout=30).json()
        return sum((one["method"], one["path"]) == ("POST", "/v2/orders") for one in sent)

    def held(self) -> dict[str, Decimal]:
        found = requests.get(f"{self.exchange}/v2/positions", headers=HEADERS, timeout=30).json()
        return {one["symbol"]: Decimal(one["qty"]) for one in found}

    def report(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / name / "rebalance.json").read_text())
        assert "<h1>" in (self.folder / name / "report.html").read_text()
        return found

    @contextmanager
    def time_passes(self) -> Iterator[None]:
        """Let ten seconds pass ten times a second: looks that are slow must not grow too old."""
        ended = threading.Event()

        def tick() -> None:
            while not ended.wait(0.1):
                self.admin({"advance_s": 10.0})

        thread = threading.Thread(target=tick)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


@pytest.fixture
def account(
    world: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Account]:
    """Start exchange and armed gateway, half an hour after an opening."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERCET_PAPER_KEY_ID", KEY)
    monkeypatch.setenv("TERCET_PAPER_SECRET_KEY", SECRET)
    artefact = world.artefact(1)
    bars = world.data.bars
    day = next_session("XNYS", bars.dates[-6])
    tokens = tmp_path / "tokens"
    tokens.write_text(f"allocate {TOKEN}\n")
    tokens.chmod(0o600)
    with ExitStack() as stack:
        settings = ExchangeSettings(
            key=KEY, secret=SECRET, cash=100_000.0, multiplier=1, clock=ClockMode.driven,
            start=f"{day}T10:00:00-04:00", step_s=60, share_per_step=1.0, half_spread_bp=1.0,
            slippage_bp=0.0, commission_bp=0.0, commission_per_share=0.0,
        )  # fmt: skip
        exchange = Exchange(tmp_path / "exchange.sqlite", bars, "XNYS", settings)
        stack.callback(exchange.close)
        url = stack.enter_context(running(application(exchange, KEY, SECRET)))
        requests.patch(
            f"{url}/v2/account/configurations",
            json={"no_shorting": True},
            headers=HEADERS,
            timeout=30,
        ).raise_for_status()
        market = [*world.overrides, "market.assumed_adv=1e9"]
        words = [
            *market, f"broker.trading_url={url}", f"broker.data_url={url}", "subverb=''",
            f"control.ledger=sqlite:///{tmp_path / 'ledger.sqlite'}",
            f"control.anchor={tmp_path / 'anchor'}", f"control.halt_file={tmp_path / 'HALT'}",
            "service.clock=broker", "service.auto_arm=true", "service.interval_s=0.1",
            "service.renew_s=0.2", "strategy.ramp=['1']",
            f"service.models=[{load(artefact).sha256}]",
        ]  # fmt: skip
        register()
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            config = typed(hydra.compose("gateway", words), GatewayConfig)
        made = parts(config)
        gateway = Running(made)
        gateway.start()
        stack.callback(gateway.stop)
        stack.enter_context(_supervised(made))
        wire = Losing(make_app(gateway, load_tokens(tokens), config.service.web))
        asked = stack.enter_context(running(wire))

        def tercet(*arguments: str) -> Result:
            own = ["policy=artefact", f"policy.path={artefact}"]
            given = [
                "tercet", "rebalance", *market, *([] if "policy=champion" in arguments else own),
                f"gateway.url={asked}", f"gateway.tokens={tokens}", "poll_s=0.1", *arguments,
            ]  # fmt: skip
            monkeypatch.setattr(sys, "argv", given)
            code = main()
            captured = capsys.readouterr()
            return Result(code, captured.out, captured.err)

        yield Account(url, gateway, wire, tercet, tmp_path, artefact)


@contextmanager
def _supervised(made: Any) -> Iterator[None]:
    """Let a supervisor give leave beside the block."""
    supervisor, ended = supervisor_of(made), threading.Event()

    def renew() -> None:
        while not ended.wait(0.2):
            supervisor.step()

    supervisor.step()
    thread = threading.Thread(target=renew)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_a_paper_day_ends_with_orders_filled_and_a_report_that_says_the_truth(
    account: Account,
) -> None:
    rehearsed = account.tercet("mode=dry_run", "out=dry")
    assert rehearsed.code == 0, rehearsed.err
    told = account.report("dry")
    assert told["outcome"] == "rehearsed" and told["orders"] and told["slippage"] is None
    assert account.posted() == 0 and account.held() == {}

    with account.time_passes():
        done = account.tercet("mode=paper", "out=paper", f"account={account.id}")
    assert done.code == 0, done.err
    day = account.report("paper")
    assert day["outcome"] == "done", day
    assert {one["state"] for one in day["orders"]} == {"filled"}, day
    assert len(day["orders"]) == account.posted()
    held = account.held()
    assert held == account.gateway.ledger.positions() and held
    assert {name: Decimal(shares) for name, shares in day["after"]["positions"].items()} == held
    assert day["reconciled"]["clean"] and not day["said"]
    assert day["before"]["positions"] == {} and Decimal(day["before"]["cash"]) == 100_000
    paid = sum(
        (Decimal(one["average_price"]) * Decimal(one["filled"])).quantize(Decimal("0.01"))
        for one in day["orders"]
    )
    assert Decimal(day["after"]["cash"]) == 100_000 - paid == account.gateway.ledger.cash()
    for one in day["orders"]:
        expected, at = Decimal(one["reference_price"]), Decimal(one["average_price"])
        assert Decimal(one["slippage"]) == pytest.approx(
            (at - expected) * Decimal(one["filled"]), abs=Decimal("0.005")
        )
    assert set(day["explanation"]["agents"]) == set(day["agents"])
    page = (account.folder / "paper" / "report.html").read_text()
    assert all(one["symbol"] in page for one in day["orders"])
    assert "src=" not in page and "href=" not in page.replace('href="#', "")


def test_a_latched_gateway_is_refused_and_nothing_is_sent(account: Account) -> None:
    account.gateway.kill("the test wants it", "test")
    result = account.tercet("mode=paper", "out=latched")
    assert result.code == 3 and "the test wants it" in result.err
    assert result.err.count("\n") == 1
    assert account.report("latched")["outcome"] == "refused"
    assert account.posted() == 0


def test_outside_of_a_session_nothing_is_asked_for_and_it_says_so(account: Account) -> None:
    account.admin({"to": "next_close"})
    account.admin({"advance_s": 3600})
    result = account.tercet("mode=paper", "out=night")
    assert result.code == 0 and "no session" in result.out, result.err
    told = account.report("night")
    assert told["outcome"] == "no_session" and told["decision_id"] is None
    assert account.posted() == 0


def test_what_the_gateway_refuses_is_told_in_words_and_not_sent(account: Account) -> None:
    account.admin({"advance_s": 3600})  # the hour after the opening is over
    result = account.tercet("mode=paper", "out=late")
    assert result.code == 3 and "decision" in result.err, (result.out, result.err)
    late = account.report("late")
    assert late["reasons"] and late["violations"] and late["said"]
    assert account.posted() == 0
    again = account.tercet("mode=paper", "out=again")
    assert again.code == 3 and "judged before" in again.err


def test_live_needs_the_account_twice_and_the_champion(account: Account) -> None:
    named = f"account={account.id}"
    for words, missing in (
        (("policy=champion",), "account=<id>"),
        ((named,), "policy=champion"),
        ((named, f"confirm={account.id}"), "policy=champion"),
        (("policy=champion", named), "confirm=<id>"),
        (("policy=champion", named, "confirm=PA0"), "confirm=<id>"),
        (("policy=champion", named, f"confirm={account.id}"), "no champion"),  # all else is there
    ):
        result = account.tercet("mode=live", "out=live", *words)
        assert result.code == 2 and missing in result.err, (words, result.err)
    assert not (account.folder / "live").exists()
    assert account.posted() == 0


@pytest.mark.parametrize("typed", ["PA0", "the account"])
def test_live_trades_once_a_person_has_typed_the_account_and_not_before(
    account: Account, monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    Registry(account.folder / "runs" / "registry").promote(account.artefact, "a test")
    asked: list[str] = []
    answer = account.id if typed == "the account" else typed

    def ask(question: str) -> str:
        asked.append(question)
        return answer

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", ask)
    with account.time_passes():
        result = account.tercet("mode=live", "policy=champion", f"account={account.id}", "out=live")
    assert len(asked) == 1 and account.id in asked[0] and "real money" in asked[0]
    if answer == account.id:
        assert result.code == 0, result.err
        day = account.report("live")
        assert day["mode"] == "live" and day["outcome"] == "done" and day["orders"]
    else:
        assert result.code == 2 and "confirm=<id>" in result.err
        assert account.posted() == 0 and not (account.folder / "live").exists()


def test_another_account_and_a_silent_gateway_are_bad_input(account: Account) -> None:
    other = account.tercet("mode=paper", "account=PA0", "out=other")
    assert other.code == 2 and "is not the gateway's" in other.err
    nowhere = account.tercet("mode=paper", "gateway.url=http://127.0.0.1:1", "out=other")
    assert nowhere.code == 2 and "no gateway answers" in nowhere.err
    assert not (account.folder / "other").exists()


def test_answers_that_are_lost_double_no_order(account: Account) -> None:
    account.wire.lost = 2
    with account.time_passes():
        result = account.tercet("mode=paper", "out=lost")
    assert result.code == 0, result.err
    day = account.report("lost")
    assert account.wire.lost == 0 and day["outcome"] == "done"
    assert day["carried"]  # told again, though the first answer was lost
    ids = [one["client_order_id"] for one in day["orders"]]
    assert len(ids) == len(set(ids)) >= account.posted()  # what came too late is not sent
    assert account.held() == account.gateway.ledger.positions()


def test_whoever_hears_nothing_does_not_claim_to_know_the_end(account: Account) -> None:
    account.wire.lost = 10**6
    silent = account.tercet("mode=paper", "out=silent", "wait_s=0.5")
    assert silent.code == 3 and "not known" in silent.err, silent.err
    told = account.report("silent")
    assert told["outcome"] == "unknown" and told["orders"] == [] and told["wanted"]
    assert account.gateway.ledger.decision(told["decision_id"]) is not None


def test_a_second_decision_does_not_compete_with_orders_at_work(account: Account) -> None:
    early = account.tercet("mode=paper", "out=early", "wait_s=0.3")
    assert early.code == 0 and "still at work" in early.out, early.err
    day = account.report("early")
    assert day["outcome"] == "working"
    assert any(one["state"] != "filled" for one in day["orders"])
    second = account.tercet("mode=paper", "out=second")
    assert second.code == 3 and "earlier decision" in second.err
    assert account.report("second")["decision_id"] is None
    decided = account.gateway.gateway.answer(day["decision_id"])
    assert decided is not None and len(decided.orders) == len(day["orders"])
