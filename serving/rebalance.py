"""The day of an account: from the state of its gateway to orders that were followed to their end.

Orders are reached through the gateway's API alone. What it refuses is not tried in another way.
A decision is handed over under its own identity, so asking twice is safe: after a silence the
same decision is asked for again, and one decision results.
"""

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from envs.costs import CostModel
from market.calendar import last_completed, next_session, session_times
from market.errors import InputError, Refused
from risk.gateway.verdict import ReasonCode, Violation
from serving.asking import Silent
from serving.gateway_client import GatewayClient, Mode

ENDED = frozenset({"done", "refused", "failed"})  # states of a decision that are its last

# Of the account's id, cash and positions, and the time: the allocation and its explanation.
Allocate = Callable[[dict[str, Any], datetime], tuple[dict[str, Any], dict[str, Any]]]


class Outcome(Enum):
    """How a rebalance ended."""

    no_session = "no session is open"
    rehearsed = "planned; nothing was sent"
    done = "every order has ended"
    working = "the gateway is still at work"
    refused = "refused"
    failed = "something broke on the way; a person should look"
    unknown = "what became of the decision is not known"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the cycle waits.

    Args:
        poll_s: between two questions about a decision, > 0.
        wait_s: for the decision's end, in all, > 0.
    """

    poll_s: float
    wait_s: float


@dataclass(slots=True)
class Day:
    """What was found, asked and answered; the report is written from it alone.

    Args:
        mode: of the decision.
        before: state of the gateway at the start.
        history: the account's closes at the start, newest first; None where they were not told.
        costs: what the configuration expects of trading.
        outcome: how it ended.
        said: why, in words; one entry each.
        allocation: as it was handed over; None where there was no session.
        explanation: of the allocation: what each agent wanted, what changed it.
        decision: the gateway's last answer about it.
        reconciled: ledger against broker at the end; None where it could not be asked.
        after: state of the gateway at the end; None where it could not be asked.
    """

    mode: Mode
    before: dict[str, Any]
    history: list[dict[str, Any]] | None
    costs: CostModel
    outcome: Outcome
    said: list[str]
    allocation: dict[str, Any] | None = None
    explanation: dict[str, Any] | None = None
    decision: dict[str, Any] | None = None
    reconciled: dict[str, Any] | None = None
    after: dict[str, Any] | None = None

    @property
    def orders(self) -> list[dict[str, Any]]:
        """Return the orders of the decision as the gateway answered them last."""
        return [] if self.decision is None else list(self.decision["orders"])

    @property
    def carried(self) -> list[dict[str, Any]] | None:
        """Return what today's limits leave for the next session; None without a decision."""
        return None if self.decision is None else list(self.decision["carried"])

    @property
    def differences(self) -> list[str] | None:
        """Return in words where ledger and broker differ at the end; None if that is not known."""
        if self.reconciled is None or self.after is None:
            return None
        return _differences(self.reconciled, self.after)


Keep = Callable[[Day], None]


def rebalance(
    client: GatewayClient,
    mode: Mode,
    account: str | None,
    exchange: str,
    allocate: Allocate,
    costs: CostModel,
    patience: Patience,
    keep: Keep,
) -> Day:
    """Bring the gateway's account to today's allocation, as far as its gateway lets it.

    Args:
        client: of the gateway.
        mode: what for.
        account: whose gateway it must be; None takes the one that is there.
        exchange: whose calendar holds.
        allocate: answers what the account should hold.
        costs: what the configuration expects of trading.
        patience: how long to wait.
        keep: writes down how far it has come; before anything is handed over, and after.

    Returns:
        the day, refused ones too.

    Raises:
        InputError: if the gateway does not answer before anything was handed over, or it is
            another account's.
    """
    compared = client.reconcile()  # the broker is read anew: what the gateway knows may be old
    state = client.state()
    _require_account(state, mode, account)
    now = datetime.fromisoformat(compared["at"])
    history = _history(client)
    if (closed := _closed(exchange, now)) is not None:
        return Day(mode, state, history, costs, Outcome.no_session, [closed])
    if problems := [*_differences(compared, state), *_obstacles(state)]:
        # Asked all the same, it would refuse the decision for good.
        return Day(mode, state, history, costs, Outcome.refused, problems)
    asking = {"id": state["account"], "cash": state["cash"], "positions": state["positions"]}
    allocation, explanation = allocate(asking, now)
    if mode is Mode.dry_run:
        allocation = _rehearsal(allocation)
    day = Day(mode, state, history, costs, Outcome.unknown, [], allocation, explanation)
    _hand_over(day, client, patience, keep)
    return day


def _hand_over(day: Day, client: GatewayClient, patience: Patience, keep: Keep) -> None:
    """Submit, follow to the end, and look at what came of it."""
    end = time.monotonic() + patience.wait_s
    keep(day)  # whatever happens to this process, it stays known what was handed over
    _submit(day, client, end, patience)
    if day.decision is not None:
        keep(day)
        _follow(day, client, end, patience)
    _look_again(day, client)


def _submit(day: Day, client: GatewayClient, end: float, patience: Patience) -> None:
    """Ask for the decision until there is an answer, or time is up."""
    assert day.allocation is not None, "made by the caller"
    silent = False
    while True:
        try:
            first = client.decide(day.before["account"], day.mode, day.allocation)
        except Silent as error:
            silent, day.said = True, [str(error)]
            if time.monotonic() + patience.poll_s >= end:
                return
            time.sleep(patience.poll_s)
        except InputError as error:
            # After a silence an earlier try may have been taken on.
            day.outcome = Outcome.unknown if silent else Outcome.refused
            day.said = [str(error)]
            return
        else:
            day.decision, day.said = first, []
            _conclude(day)
            return


def _follow(day: Day, client: GatewayClient, end: float, patience: Patience) -> None:
    """Ask until the decision has ended, or time is up."""
    assert day.decision is not None, "it was answered once"
    judged = day.decision["violations"]
    while day.decision["state"] not in ENDED and time.monotonic() < end:
        time.sleep(patience.poll_s)
        try:
            found = client.decision(day.decision["decision_id"])
        except InputError as error:  # it goes on all the same
            day.outcome, day.said = Outcome.unknown, [str(error)]
        else:
            day.decision, day.said = {**found, "violations": judged}, []
            _conclude(day)


def _conclude(day: Day) -> None:
    """Say how far it has come, from the gateway's last answer."""
    assert day.decision is not None, "it was answered"
    match day.decision["state"]:
        case "done":
            day.outcome = Outcome.rehearsed if day.mode is Mode.dry_run else Outcome.done
            day.said = [] if day.mode is Mode.dry_run else _unfilled(day.decision["orders"])
        case "refused":
            day.outcome, day.said = Outcome.refused, in_words(day.decision)
        case "failed":
            day.outcome, day.said = Outcome.failed, in_words(day.decision)
        case _:
            day.outcome = Outcome.working


def _unfilled(orders: list[dict[str, Any]]) -> list[str]:
    """Return in words which orders ended without all of their shares."""
    found = []
    for one in orders:
        if one["state"] != "filled":
            detail = f" ({detail_in_words(one['detail'])})" if one["detail"] else ""
            what = f"{one['side']} {one['symbol']}: {one['filled']} of {one['quantity']} shares"
            found.append(f"{what}, {one['state']}{detail}")
    return found


def _history(client: GatewayClient) -> list[dict[str, Any]] | None:
    """Return the account's closes; None where they are not told: they only adorn the report."""
    try:
        return list(client.history()["days"])
    except InputError:
        return None


def _look_again(day: Day, client: GatewayClient) -> None:
    """Compare ledger and broker, and take the account as it is now."""
    try:
        day.reconciled = client.reconcile()
        day.after = client.state()
    except InputError as error:
        day.said.append(f"not looked at again: {error}")


def _require_account(state: dict[str, Any], mode: Mode, account: str | None) -> None:
    """Refuse to go on with another account than the one that is meant."""
    found = state["account"]
    if found is None:
        raise Refused("the gateway has not seen its account yet: is its broker there?")
    if account is not None and account != found:
        raise InputError(f"account={account} is not the gateway's, which is {found}")
    if mode is Mode.paper and state["paper"] is not True:
        raise Refused(f"mode=paper, but account {found} is not a paper account")


def _closed(exchange: str, now: datetime) -> str | None:
    """Return why there is no session now; None inside of one."""
    session = next_session(exchange, last_completed(exchange, now))
    opens, closes = session_times(exchange, session)
    if opens <= now < closes:
        return None
    return f"no session of {exchange} at {now:%Y-%m-%d %H:%M} UTC; {session} opens at {opens:%H:%M}"


def _differences(compared: dict[str, Any], state: dict[str, Any]) -> list[str]:
    """Return in words what a comparison has found; the state was asked after it."""
    at = state["reconciled_at"]
    if at is None or datetime.fromisoformat(at) < datetime.fromisoformat(compared["at"]):
        return ["the broker could not be read: ledger and broker were not compared"]
    found = [
        f"{name}: {ours} shares by the ledger, {theirs} at the broker"
        for name, (ours, theirs) in compared["drifted"].items()
    ]
    return found + [f"an order at the broker is not ours: {name}" for name in compared["foreign"]]


def _obstacles(state: dict[str, Any]) -> list[str]:
    """Return why nothing may be handed over now, whatever it is."""
    latch = state["latch"]
    found = [] if state["problem"] is None else [str(state["problem"])]
    if not latch["armed"]:
        word = "tripped" if latch["tripped"] else "not armed"
        found.append(f"the latch is {word}: {latch['reason']}; see tercet gateway arm")
    if state["halted"]:
        found.append("the HALT file is there")
    if state["permit_left_s"] <= 0:
        found.append("no permit is alive: is the supervisor running?")
    if state["open_orders"]:
        # Half of them filled, the account asks for another decision, which would compete with them.
        count = state["open_orders"]
        found.append(f"{count} orders of an earlier decision are at work: wait for their end")
    return found


def _rehearsal(allocation: dict[str, Any]) -> dict[str, Any]:
    """Return an allocation under an id of its own: a rehearsal must not use the decision's up."""
    text = f"rehearsal {secrets.token_hex(16)} of {allocation['decision_id']}"
    return {**allocation, "decision_id": hashlib.sha256(text.encode()).hexdigest()}


def in_words(decision: dict[str, Any]) -> list[str]:
    """Return the reasons of a refusal as sentences; of one that was told before, less is known."""
    violations = decision["violations"]
    if violations:
        return list(dict.fromkeys(_sentence(one) for one in violations))
    before = "it was judged before, and the same decision gets the same answer"
    return [*(meaning(code) for code in decision["reasons"]), before]


def detail_in_words(detail: str) -> str:
    """Return an order's last words; reason codes among them in words."""
    return "; ".join(meaning(part) for part in detail.split("; "))


def meaning(code: str) -> str:
    """Return what a reason's code stands for; a limit's or setting's name stays as it is.

    >>> meaning("cash_floor"), meaning("max_order_weight")
    ('too little cash after all fills', 'max order weight')
    """
    known = ReasonCode.__members__.get(code)
    return code.replace("_", " ") if known is None else known.text


def _sentence(violation: dict[str, str]) -> str:
    code = ReasonCode.__members__.get(violation["code"])
    if code is None:  # of a newer gateway
        return str(violation)
    rest = (violation[key] for key in ("limit", "proposed", "allowed", "symbol"))
    return str(Violation(code, *rest))
