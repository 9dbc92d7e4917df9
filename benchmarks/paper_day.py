"""A whole paper day on this machine, without keys: from agents to filled orders and their report.

`make paper-day` runs it with agents at their rules, `make demo` with those that it has just
trained (`artefact=<folder>`). Every part is the real one, started as a user would start it: an
exchange and a gateway run as processes of their own, and `tercet rebalance` brings the account to
its allocation while the exchange's clock is driven.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import requests

from agents.artefact import load
from evaluation.run_folder import open_run
from risk.access.callers import caller_of
from risk.access.tokens import Role
from serving.gateway_client import GatewayClient

KEY = {"APCA-API-KEY-ID": "paper", "APCA-API-SECRET-KEY": "paper"}
KEYS = {"TERCET_PAPER_KEY_ID": "paper", "TERCET_PAPER_SECRET_KEY": "paper"}
AFTER_OPENING_S = 1200.0
STEP_S, PAUSE_S = 30.0, 0.3  # the exchange's time that passes at once; ours between two steps
STARTS_WITHIN_S = 120.0
TOKENS = "runs/gateway.tokens"  # that the gateway makes where none are named
ARTEFACT = "artefact="
SHOWN = 8  # orders on the screen
LAST_LINES = 15  # of a log, where something went wrong


@dataclass(frozen=True, slots=True)
class Shop:
    """Where the day's commands run and what they say.

    Args:
        folder: new; every command runs in it and keeps its words there.
        words: that every command takes.
    """

    folder: Path
    words: tuple[str, ...]

    def run(self, name: str, *words: str) -> None:
        """Run a command to its end; the day ends where it fails."""
        with self.process(name, *words) as process:
            if process.wait() != 0:
                self.give_up(name)

    def give_up(self, name: str) -> None:
        """End the day with the last words of a command."""
        lines = self._log(name).read_text().strip().splitlines()[-LAST_LINES:]
        sys.exit("\n".join([f"{name} went wrong; {self._log(name)} ends with", *lines]))

    @contextmanager
    def process(self, name: str, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a command beside the block, and end it there."""
        with self._log(name).open("wb") as log:
            root = str(Path(__file__).resolve().parents[1])
            process = subprocess.Popen(
                [sys.executable, "-m", "cli", *words], cwd=self.folder, stdout=log,
                stderr=subprocess.STDOUT, env=os.environ | KEYS | {"PYTHONPATH": root},
            )  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()

    @contextmanager
    def service(self, name: str, *words: str) -> Iterator[str]:
        """Run a service beside the block; return where it listens."""
        with self.process(name, *words) as process:
            end = time.monotonic() + STARTS_WITHIN_S
            while (found := re.search(r"on (http://\S+)", self._log(name).read_text())) is None:
                if process.poll() is not None or time.monotonic() > end:
                    self.give_up(name)
                time.sleep(0.1)
            yield found[1]

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"


def main() -> None:
    """Run the day in a new folder."""
    given = [word for word in sys.argv[1:] if word.startswith(ARTEFACT)]
    words = (*(word for word in sys.argv[1:] if word not in given), "market.assumed_adv=1e9")
    shop = Shop(open_run(None, "paper-day").resolve(), words)
    print(f"A paper day; every command runs in {shop.folder} and keeps its words there.")
    artefact = _agents(shop, given[-1].removeprefix(ARTEFACT) if given else None)
    with ExitStack() as stack:
        exchange = stack.enter_context(shop.service("exchange", "paper-exchange", *words, "port=0"))
        _open(exchange)
        gateway = stack.enter_context(_gateway(shop, exchange, artefact))
        asking = ("rebalance", *words, f"gateway.url={gateway}", "poll_s=0.5")
        shop.run("rehearsal", *asking, "mode=dry_run", "out=rehearsed")
        planned = _report(shop, "rehearsed")["orders"]
        print(f"4/5 rehearsal  {len(planned)} orders planned, nothing sent")
        with shop.process("day", *asking, "mode=paper", "out=traded") as process:
            while process.poll() is None:
                _put(exchange, "/admin/clock", {"advance_s": STEP_S})
                time.sleep(PAUSE_S)
        if process.returncode != 0:
            shop.give_up("day")
    _tell(_report(shop, "traded"), shop.folder / "traded" / "report.html")


def _agents(shop: Shop, trained: str | None) -> Path:
    """Promote trained agents, or agents at their rules where none are named; return them."""
    if trained is None:
        folder = shop.folder / "trained"
        rules = ("algorithm=none", "pretrain=none", "tracking=none")
        shop.run("agents", "train", *shop.words, *rules, f"out={folder}")
        artefact, what = folder / "artefact", "at their rules"
    else:
        artefact, what = Path(trained).resolve(), f"trained: {trained}"
    shop.run("promotion", "promote", f"path={artefact}", "reason=a paper day")
    found = load(artefact)
    names = ", ".join(sorted(found.manifest.stages))
    print(f"1/5 agents     {names} ({what}) promoted: {found.sha256[:12]}")
    return artefact


def _open(exchange: str) -> None:
    """Go to a moment after the last session's opening, with an account that sells nothing short."""
    _put(exchange, "/admin/clock", {"to": "next_open"})
    now = _put(exchange, "/admin/clock", {"advance_s": AFTER_OPENING_S})["timestamp"]
    terms = f"{exchange}/v2/account/configurations"
    answer = requests.patch(terms, json={"no_shorting": True}, headers=KEY, timeout=30)
    answer.raise_for_status()
    account = requests.get(f"{exchange}/v2/account", headers=KEY, timeout=30).json()
    number, cash = account["account_number"], Decimal(account["cash"])
    print(f"2/5 exchange   account {number}, {cash:,} in cash, clock at {now[:16]}")


@contextmanager
def _gateway(shop: Shop, exchange: str, artefact: Path) -> Iterator[str]:
    """Run the gateway beside the block, once its supervisor lets it trade; return its address."""
    words = (
        "gateway", *shop.words, f"broker.trading_url={exchange}", f"broker.data_url={exchange}",
        f"service.models=[{load(artefact).sha256}]", "service.port=0", "service.clock=broker",
        "service.auto_arm=true", "service.interval_s=0.3", "service.renew_s=0.5",
        "strategy.ramp=['1']",
    )  # fmt: skip
    with shop.service("gateway", *words) as address:
        caller = caller_of(shop.folder / TOKENS, Role.allocate)
        client = GatewayClient(address, caller, 30.0)
        end = time.monotonic() + STARTS_WITHIN_S
        while not client.state()["permit_left_s"] > 0:
            if time.monotonic() > end:
                shop.give_up("gateway")
            time.sleep(0.1)
        reason = client.state()["latch"]["reason"]
        print(f"3/5 gateway    {address}, its supervisor gives leave; {reason}")
        yield address


def _tell(day: dict[str, Any], page: Path) -> None:
    """Print what came of the day, and whether the books agree."""
    states = Counter(one["state"] for one in day["orders"])
    said = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "none"
    print(f"5/5 day        {day['meaning']}; orders: {said}")
    for one in day["orders"][:SHOWN]:
        price = one["average_price"] or one["limit_price"]
        print(f"      {one['side']:<4} {Decimal(one['filled']):>9} {one['symbol']:<6} at {price}")
    if (more := len(day["orders"]) - SHOWN) > 0:
        print(f"      and {more} more, in the report")
    ours, theirs = day["reconciled"]["cash"] or ("unknown", "unknown")
    agree = day["reconciled"]["clean"] and ours == theirs
    held = len(day["after"]["positions"])
    print(f"books: {held} positions; cash {ours} in the ledger, {theirs} at the exchange")
    print(f"report: {page}")
    if not agree:
        sys.exit("the books do not agree")


def _report(shop: Shop, out: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((shop.folder / out / "rebalance.json").read_text())
    return found


def _put(exchange: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = requests.put(f"{exchange}{path}", json=body, headers=KEY, timeout=30)
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


if __name__ == "__main__":
    main()
