"""`tercet gateway`: an account's only way to its broker, as a process of its own.

The keys of the broker are in this process and its supervisor alone; everybody else asks over HTTP.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import requests
from hydra.core.hydra_config import HydraConfig

from cli.account import parts
from cli.account_config import GatewayConfig
from cli.gateway_quality import quality
from cli.gateway_rules import history, propose, ramp, show_limits, sign
from cli.tokens import tokens_file
from cli.verbs import verb
from market.errors import InputError
from risk.access.tokens import Role, load_tokens, token_of
from risk.gateway.alarms import Alarm, alarm, connect
from risk.gateway.broker import BrokerError
from risk.gateway.listening import address, listening_socket, serve
from risk.gateway.process import Running, open_ledger, supervisor_of
from risk.gateway.replay import judged_again
from risk.gateway.service import make_app
from risk.gateway.storage import LedgerFailed
from risk.gateway.verify import verify

SUBVERBS = {
    "": "run the service, until Ctrl-C or SIGTERM; it starts halted",
    "arm": "let it trade: account=<id>, typed",
    "reconcile": "compare ledger and broker now",
    "accept": "take what the broker has for the beginning of our books: account=<id> reason=<why>",
    "limits": "show the limits in force, or tighten them: file=<JSON>",
    "propose": "propose looser limits, for two persons to sign: file=<JSON>",
    "sign": "sign proposed limits: proposal=<id> person=<name> key=<PEM file>",
    "ramp": "move a policy to a stage of the capital ramp: model=<sha256> stage=<number>",
    "history": "show the account's days, and what each model made of them",
    "quality": "show how well a session's orders were carried out: session=<date>, or the last",
    "verify": "walk the whole audit chain, without the service",
    "supervise": "renew the permit while all is in order; the service starts this by itself",
}
TEXTS = ("account", "reason", "proposal", "person", "model", "session")
TOKENS = Path("runs/gateway.tokens")  # where a random token is kept when no file is named
TIMEOUT_S = 60.0


@verb(GatewayConfig)
def main(config: GatewayConfig) -> None:
    """Run the service, or one of its subverbs."""
    acts: dict[str, Callable[[GatewayConfig], None]] = {
        "": _serve,
        "arm": _arm,
        "reconcile": _reconcile,
        "accept": _accept,
        "limits": partial(show_limits, ask=_ask),
        "propose": partial(propose, ask=_ask),
        "sign": partial(sign, ask=_ask),
        "ramp": partial(ramp, ask=_ask),
        "history": partial(history, ask=_ask),
        "quality": quality,
        "verify": _verify,
        "supervise": _supervise,
    }
    try:
        acts[config.subverb](config)
    except (BrokerError, LedgerFailed) as error:
        raise InputError(str(error)) from error


def _serve(config: GatewayConfig) -> None:
    service = config.service
    tokens = tokens_file("service.tokens", service.tokens, TOKENS, service.host)
    running = Running(parts(config))
    # The server stops by itself and then passes the signal on: nothing is left to do.
    signal.signal(signal.SIGTERM, lambda *_: None)
    with listening_socket(service.host, service.port) as listener:
        running.start()
        try:
            with _supervisor(service.supervise, service.renew_s):
                latch = running.ledger.latch()
                state = "armed" if latch.armed else f"HALTED: {latch.reason}"
                print(f"gateway on {address(listener)}  ({state}; tokens: {tokens})", flush=True)
                app = make_app(running, load_tokens(tokens), service.web)
                serve(app, listener, lambda: running.ended is not None)
        finally:
            running.stop()
    if running.ended is not None:
        raise InputError(running.ended)


@contextmanager
def _supervisor(wanted: bool, pause_s: float) -> Iterator[None]:
    """Let the supervisor run beside the block, with the same configuration.

    Args:
        wanted: false where somebody else starts it.
        pause_s: before another one is started in the place of one that died.
    """
    if not wanted:
        yield
        return
    overrides = [
        word for word in HydraConfig.get().overrides.task if not word.startswith("subverb=")
    ]
    command = [sys.executable, "-m", "cli", "gateway", "supervise", *overrides]
    ended = threading.Event()

    def keep() -> None:
        while not ended.is_set():
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
            while child.poll() is None and not ended.wait(0.2):
                pass
            if ended.is_set():
                child.kill()
                child.wait()
            else:
                alarm(Alarm.supervisor_failed, f"it ended with {child.wait()}; another one starts")
                ended.wait(pause_s)

    keeper = threading.Thread(target=keep, name="supervisor")
    keeper.start()
    try:
        yield
    finally:
        ended.set()
        keeper.join()


def _supervise(config: GatewayConfig) -> None:
    """Look every few seconds, for as long as the parent lives."""
    parent = os.getppid()
    connect(config.alerts, f"supervisor on {socket.gethostname()}")
    supervisor = supervisor_of(parts(config))
    while os.getppid() == parent:
        supervisor.step()
        time.sleep(config.service.renew_s)


def _arm(config: GatewayConfig) -> None:
    if config.account is None:
        raise InputError("arming needs the account's id, typed: account=<id>")
    latch = _ask(config, "GET", "/v1/state")["latch"]
    print(f"latch: {latch['reason']} ({latch['actor']})")
    body = {"account": config.account, "latch": latch["id"]}
    _ask(config, "POST", "/v1/arm", body)
    print(f"account {config.account} is armed")


def _reconcile(config: GatewayConfig) -> None:
    print(json.dumps(_ask(config, "POST", "/v1/reconcile"), indent=2))


def _accept(config: GatewayConfig) -> None:
    if config.account is None or config.reason is None:
        raise InputError("accepting needs the account's id, typed, and a reason: account= reason=")
    body = {"account": config.account, "reason": config.reason}
    found = _ask(config, "POST", "/v1/accept", body)
    word = "agree" if found["clean"] else "still differ: see tercet gateway reconcile"
    print(f"the books of account {config.account} begin anew with the broker's; they {word}")


def _verify(config: GatewayConfig) -> None:
    ledger = open_ledger(config.control)
    found = verify(ledger, ledger.anchor, judged_again)
    for problem in found.problems:
        print(problem)
    print(
        f"{found.records} records, {found.verdicts} verdicts judged again, {found.found} problems"
    )
    if not found.ok:
        raise InputError(f"the audit of {ledger.place} is broken")


def _ask(config: GatewayConfig, method: str, path: str, body: Any = None) -> Any:
    """Ask the running service, as the owner of its tokens.

    Raises:
        InputError: if it does not answer, or refuses.
    """
    service = config.service
    token = token_of(Path(service.tokens or TOKENS), Role.admin)
    url = f"http://{service.host}:{service.port}{path}"
    try:
        answer = requests.request(
            method,
            url,
            json=body,
            headers={"Authorization": f"Bearer {token}"},
            timeout=TIMEOUT_S,
        )
        found = answer.json()
    except (requests.RequestException, ValueError) as error:
        raise InputError(f"no gateway answers at {url}: {type(error).__name__}") from None
    if not answer.ok:
        raise InputError(str(found["error"]["reason"]))
    return found
