"""A gateway that can be started in a tenth of a second, to be killed: forked from a warm process.

Run with the address of a socket and words of `tercet gateway`. The warm process has read market
and configuration, holds no connection and no second thread. Each message on its own connection is
the point at which the next gateway dies, counted over its commits and its requests to the broker
(0: never), and whether it tests its client first, which takes a second of silence. The gateway
answers on a connection of its own.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from multiprocessing.connection import Client, Connection
from typing import Any

import hydra

from brokers.alpaca import AlpacaBroker
from cli.account import parts
from cli.account_config import GatewayConfig, register
from market.compose import CONF, typed
from market.errors import InputError
from risk.gateway.broker import BrokerError
from risk.gateway.ledger import Ledger
from risk.gateway.process import Parts, Running
from risk.gateway.replay import judged_again
from risk.gateway.storage import LedgerFailed
from risk.gateway.verify import verify


def main() -> None:
    """Fork a gateway for every message that comes in, until the other end is closed."""
    address, words = sys.argv[1], sys.argv[2:]
    register()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = typed(hydra.compose("gateway", ["subverb=''", *words]), GatewayConfig)
    made = parts(config)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the killed
    with Client(address) as control:
        control.send("warm")
        while True:
            try:
                dies_at, tests_itself = control.recv()
            except EOFError:
                return
            if os.fork() == 0:
                control.close()
                _live(address, made, dies_at, tests_itself)
                os._exit(0)


def _live(address: str, made: Parts, dies_at: int, tests_itself: bool) -> None:
    """Be a gateway: start, then do what is asked until the other end is closed."""
    with Client(address) as orders:
        orders.send(os.getpid())
        points = count(1)
        _die_at(Ledger, "_commit", points, dies_at)
        for name in ("submit", "order", "positions", "fills", "activities"):
            _die_at(AlpacaBroker, name, points, dies_at)
        if not tests_itself:
            AlpacaBroker.self_test = lambda _: None  # type: ignore[method-assign]
        running = Running(made)
        try:
            running.start()
        except (BrokerError, LedgerFailed) as error:
            orders.send(("failed", str(error)))
            return
        orders.send(("done", running.ledger.latch()))
        while True:
            try:
                name, arguments = orders.recv()
            except EOFError:
                return
            with _told(orders):
                orders.send(("done", _act(running, name)(*arguments)))


def _act(running: Running, name: str) -> Callable[..., Any]:
    """Return what a message asks for: something of the gateway, or one of the names here."""
    ledger = running.ledger
    own = {
        "verify": partial(verify, ledger, ledger.anchor, judged_again),
        "latch": ledger.latch,
    }
    found: Callable[..., Any] = own.get(name) or getattr(running.gateway, name)
    return found


@contextmanager
def _told(orders: Connection) -> Iterator[None]:
    """Tell what was refused or failed, instead of ending."""
    try:
        yield
    except (InputError, BrokerError, LedgerFailed, ValueError) as error:
        orders.send(("failed", f"{type(error).__name__}: {error}"))


def _die_at(owner: type, name: str, points: Iterator[int], dies_at: int) -> None:
    """Let this process be killed before or after a call, when as many points have passed."""
    true = getattr(owner, name)

    def pass_point() -> None:
        if next(points) == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(*arguments: Any, **named: Any) -> Any:
        pass_point()
        found = true(*arguments, **named)
        pass_point()
        return found

    setattr(owner, name, counted)


if __name__ == "__main__":
    main()
