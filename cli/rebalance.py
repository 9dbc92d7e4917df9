"""`tercet rebalance`: one account's day, through its gateway.

Ends with 0 when the cycle went through (also where no session is open), 2 for bad input, 3 for
what the gateway refused.
"""

import asyncio
import json
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from agents.policies import ChampionPolicy
from cli.config import RebalanceConfig
from cli.quiet import quiet
from cli.verbs import verb
from evaluation.run_folder import open_run, room_in
from market.errors import InputError, Refused
from risk.access.callers import caller_of
from risk.access.errors import NotAnswered
from risk.access.tokens import Role
from serving.blueprint import Blueprint
from serving.gateway_client import GatewayClient, Mode
from serving.local import recorded_answer
from serving.rebalance import Allocate, Day, Outcome, Patience, rebalance
from serving.rebalance_costs import executions
from serving.rebalance_report import REPORT, write
from serving.server_client import ServerClient

TEXTS = ("account", "confirm")
NOT_DONE = frozenset({Outcome.refused, Outcome.failed, Outcome.unknown})


@verb(RebalanceConfig)
def main(config: RebalanceConfig) -> None:
    """Allocate, hand over, follow, and write down what came of it."""
    if config.mode is Mode.live:
        _require_leave(config, input if sys.stdin.isatty() else None)
    plan = config.blueprint()
    gateway = config.gateway
    caller = caller_of(Path(gateway.tokens), Role.allocate)
    client = GatewayClient(gateway.url, caller, gateway.timeout_s)
    report = _Report(config.out)
    with quiet("serving"):
        day = rebalance(
            client,
            config.mode,
            config.account,
            plan.market.exchange,
            _allocation(config, plan),
            config.env.costs,
            Patience(config.poll_s, config.wait_s),
            report.write,
        )
    report.write(day)
    _say(day, report.place)


class _Report:
    """The run's folder, made when there is something to write.

    Args:
        out: the folder; None is one in `runs/`.
    """

    def __init__(self, out: str | None) -> None:
        self._out = out
        self._folder: Path | None = None

    def write(self, day: Day) -> None:
        """Write the day down as far as it has come.

        Raises:
            InputError: if the folder cannot be made, or has no room.
        """
        if self._folder is None:
            self._folder = open_run(self._out, "rebalance")
        with room_in(self._folder):
            write(self._folder, day)

    @property
    def place(self) -> Path:
        """Return the file for people."""
        assert self._folder is not None, "the day was written"
        return self._folder / REPORT


def _require_leave(config: RebalanceConfig, ask: Callable[[str], str] | None) -> None:
    """Refuse to touch real money unless a person names the account twice.

    Args:
        config: of the verb.
        ask: asks the person; None where there is none.

    Raises:
        InputError: what is missing.
    """
    if config.account is None:
        raise InputError("mode=live needs the account's id, typed: account=<id>")
    if not isinstance(config.policy, ChampionPolicy):
        raise InputError("mode=live follows what was promoted, and nothing else: policy=champion")
    typed = config.confirm
    if typed is None and ask is not None:
        typed = ask(f"This trades real money. Type the account's id ({config.account}): ").strip()
    if typed != config.account:
        raise InputError("mode=live needs the account's id a second time: confirm=<id>")


def _allocation(config: RebalanceConfig, plan: Blueprint) -> Allocate:
    """Return what answers with the account's allocation: the server, or this process.

    Raises:
        InputError: if the server's token cannot be read.
    """
    server = config.server
    if server.url is None:
        return lambda account, now: _allocate(plan, account, now)
    caller = caller_of(Path(server.tokens), Role.allocate)
    client = ServerClient(server.url, caller, server.timeout_s)
    return lambda account, _: client.allocation(account)


def _allocate(
    plan: Blueprint, account: dict[str, Any], now: datetime
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the allocation of the last completed session, and its explanation."""
    body = json.dumps({"account": account}).encode()
    try:
        recorded, opinion = asyncio.run(recorded_answer(plan, body, lambda: now))
    except NotAnswered as error:
        raise InputError(f"{error.reason.name}: {error.detail}") from error
    return recorded.answer, opinion.explanation


def _say(day: Day, report: Path) -> None:
    """Print what came of it.

    Raises:
        Refused: if it was not done; with the reasons.
    """
    reasons = "; ".join([*day.said, *(day.differences or [])])
    if day.outcome in NOT_DONE:
        raise Refused(f"{day.outcome.value}: {reasons}  (report: {report})")
    print(f"{day.mode.value}: {day.outcome.value}{f': {reasons}' if reasons else ''}")
    for one in executions((day.decision or {}).get("orders", [])):
        order = one.order
        at = order["average_price"] or order["limit_price"] or order["reference_price"]
        bp = "" if one.slippage_bp is None else f"  {one.slippage_bp:+} bp against expected"
        print(
            f"  {order['state']:<11} {order['side']:<4} {order['filled']}/{order['quantity']} "
            f"{order['symbol']} at {at}{bp}"
        )
    if day.carried:
        print(f"  {len(day.carried)} names are carried to the next session")
    print(f"report: {report}")
