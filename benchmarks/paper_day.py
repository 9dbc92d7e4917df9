"""A whole paper day on this machine, without keys: from agents to filled orders and their report.

`make paper-day` runs it. Every part is the real one, started as a user would start it: agents at
their rules are exported and promoted, an exchange and a gateway run as processes of their own, and
`tercet rebalance` brings the account to its allocation while the exchange's clock is driven.
"""

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import requests

from agents.artefact import load
from evaluation.run_folder import open_run
from risk.access.tokens import Role, token_of
from serving.gateway_client import GatewayClient

KEY = {"APCA-API-KEY-ID": "paper", "APCA-API-SECRET-KEY": "paper"}
KEYS = {"TERCET_PAPER_KEY_ID": "paper", "TERCET_PAPER_SECRET_KEY": "paper"}
AFTER_OPENING_S = 1200.0
STEP_S, PAUSE_S = 30.0, 0.3  # the exchange's time that passes at once; ours between two steps
STARTS_WITHIN_S = 120.0
TOKENS = "runs/gateway.tokens"  # that the gateway makes where none are named


def main() -> None:
    """Run the day in a new folder."""
    folder = open_run(None, "paper-day").resolve()
    trained, words = folder / "trained", [*sys.argv[1:], "market.assumed_adv=1e9"]
    _run(folder, "train", *words, "algorithm=none", "pretrain=none", f"out={trained}")
    _run(folder, "promote", f"path={trained / 'artefact'}", "reason=a paper day")
    with ExitStack() as stack:
        launch = ("paper-exchange", *words, "port=0")
        exchange = stack.enter_context(_service(folder, "exchange", *launch))
        _put(exchange, "/admin/clock", {"to": "next_open"})
        _put(exchange, "/admin/clock", {"advance_s": AFTER_OPENING_S})
        requests.patch(
            f"{exchange}/v2/account/configurations",
            json={"no_shorting": True}, headers=KEY, timeout=30,
        ).raise_for_status()  # fmt: skip
        model = load(trained / "artefact").sha256
        gateway = stack.enter_context(
            _service(
                folder, "gateway", "gateway", *words, f"broker.trading_url={exchange}",
                f"broker.data_url={exchange}", f"service.models=[{model}]", "service.port=0",
                "service.clock=broker", "service.auto_arm=true", "strategy.ramp=['1']",
                "service.interval_s=0.3", "service.renew_s=0.5",
            )
        )  # fmt: skip
        _wait_for_leave(GatewayClient(gateway, token_of(folder / TOKENS, Role.allocate), 30.0))
        asking = ("rebalance", *words, f"gateway.url={gateway}", "poll_s=0.5")
        _run(folder, *asking, "mode=dry_run", "out=rehearsal")
        with _process(folder, *asking, "mode=paper", "out=day") as process:
            while process.poll() is None:
                _put(exchange, "/admin/clock", {"advance_s": STEP_S})
                time.sleep(PAUSE_S)
        if process.returncode != 0:
            sys.exit(process.returncode)
    print(f"\nwhat happened: {folder / 'day' / 'report.html'}")


def _run(folder: Path, *words: str) -> None:
    """Run a command to its end; the day ends with its exit code where it fails."""
    with _process(folder, *words) as process:
        if process.wait() != 0:
            sys.exit(process.returncode)


@contextmanager
def _process(folder: Path, *words: str, output: Any = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command beside the block, and end it there."""
    print(f"\n$ tercet {shlex.join(words)}", flush=True)
    root = str(Path(__file__).resolve().parents[1])
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", *words], cwd=folder, stdout=output,
        env=os.environ | KEYS | {"PYTHONPATH": root},
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


@contextmanager
def _service(folder: Path, name: str, *words: str) -> Iterator[str]:
    """Run a service beside the block; return where it listens."""
    log = folder / f"{name}.log"
    with log.open("wb") as output, _process(folder, *words, output=output) as process:
        end = time.monotonic() + STARTS_WITHIN_S
        while (found := re.search(r"on (http://\S+)", log.read_text())) is None:
            if process.poll() is not None or time.monotonic() > end:
                sys.exit(f"{name} did not start; see {log}")
            time.sleep(0.1)
        print(log.read_text().strip())
        yield found[1]


def _wait_for_leave(gateway: GatewayClient) -> None:
    """Wait until the supervisor, which looks for itself, lets the gateway trade."""
    end = time.monotonic() + STARTS_WITHIN_S
    while not gateway.state()["permit_left_s"] > 0:
        if time.monotonic() > end:
            sys.exit("the supervisor gives no leave; see gateway.log")
        time.sleep(0.1)


def _put(exchange: str, path: str, body: dict[str, Any]) -> None:
    requests.put(f"{exchange}{path}", json=body, headers=KEY, timeout=30).raise_for_status()


if __name__ == "__main__":
    main()
