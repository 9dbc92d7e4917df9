"""What the ledger keeps, as records; and which way an order or a decision may go."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum

from risk.gateway.records import Account, Decision, OrderState, Side

DRY_RUN = "dry_run"  # mode of a decision that moves nothing
EXITS = "exits"  # mode of the gateway's own decisions, which only reduce what is held

_S = OrderState
BROKER_SAYS = frozenset({_S.working, _S.filled, _S.partly_done, _S.cancelled, _S.expired})

# What the broker has is the truth, whatever we believed: an order that we never sent, or thought
# refused, may have been sent by a second gateway with another ledger.
LEGAL: Mapping[OrderState, frozenset[OrderState]] = {
    _S.intent: BROKER_SAYS | {_S.in_flight, _S.dropped, _S.refused},
    # Back to intent: a refusal that only asks to wait, see `Writer.set_order`.
    _S.in_flight: BROKER_SAYS | {_S.unknown, _S.refused, _S.intent},
    _S.unknown: BROKER_SAYS | {_S.in_flight, _S.refused, _S.unknown},
    _S.working: BROKER_SAYS | {_S.refused},
    _S.refused: BROKER_SAYS | {_S.refused},
    _S.dropped: BROKER_SAYS,
    _S.cancelled: frozenset({_S.cancelled, _S.partly_done, _S.filled}),
    _S.expired: frozenset({_S.expired, _S.partly_done, _S.filled}),
    _S.partly_done: frozenset({_S.partly_done, _S.filled}),
    _S.filled: frozenset({_S.filled}),
}


class DecisionState(Enum):
    """How far a decision has come."""

    received = "received"  # durable, not yet judged
    refused = "refused"  # by the checks; nothing was sent
    accepted = "accepted"  # its orders are durable intents
    done = "done"  # every order of it has ended
    failed = "failed"  # something broke on the way; a person should look


LEGAL_DECISION: Mapping[DecisionState, frozenset[DecisionState]] = {
    DecisionState.received: frozenset(
        {DecisionState.refused, DecisionState.accepted, DecisionState.failed}
    ),
    DecisionState.accepted: frozenset({DecisionState.done, DecisionState.failed}),
    DecisionState.refused: frozenset(),
    DecisionState.done: frozenset(),
    DecisionState.failed: frozenset({DecisionState.done}),
}


@dataclass(frozen=True, slots=True)
class StoredDecision:
    """A decision and what became of it.

    Args:
        decision: as it was asked.
        mode: dry_run, paper or live.
        session: New York's date when it was received.
        received_at: UTC.
        state: see `DecisionState`.
        reasons: of a refusal or failure, by their codes.
    """

    decision: Decision
    mode: str
    session: date
    received_at: datetime
    state: DecisionState
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StoredOrder:
    """One order from intent to end.

    Args:
        client_order_id: a pure function of account, decision, symbol, side and slice.
        decision_id: of the decision that wants it.
        account: the broker's id of the account.
        symbol: of the allow-list.
        side: buy or sell.
        slice: 0 for an order that is not cut, else its number.
        quantity: shares, > 0.
        limit_price: account currency per share; None is a market order.
        reference_price: what it was planned at, account currency per share.
        state: see `OrderState`.
        broker_id: once the broker has named it.
        filled: shares, the sum of the fills that are known.
        average_price: of those; None before the first.
        created_at: UTC, when it became durable.
        sent_at: UTC, when it was first in flight.
        ended_at: UTC, when it came to its end.
        detail: the last words about it.
    """

    client_order_id: str
    decision_id: str
    account: str
    symbol: str
    side: Side
    slice: int
    quantity: Decimal
    limit_price: Decimal | None
    reference_price: Decimal
    state: OrderState
    broker_id: str | None
    filled: Decimal
    average_price: Decimal | None
    created_at: datetime
    sent_at: datetime | None
    ended_at: datetime | None
    detail: str | None


@dataclass(frozen=True, slots=True)
class Arrival:
    """What the market was when an order was sent, and when the broker took it.

    Args:
        client_order_id: of the order.
        at: UTC, of the first attempt that may have reached the broker.
        price: reference price then, account currency per share.
        adv: average daily volume, shares; None where it was not known.
        sigma: standard deviation of the daily returns, fraction; None where it was not known.
        ack_ms: from sending to the broker's answer; None where the answer was lost.
        accepted_at: UTC, by the broker; None until it has said so.
    """

    client_order_id: str
    at: datetime
    price: Decimal
    adv: Decimal | None
    sigma: Decimal | None
    ack_ms: int | None = None
    accepted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class StoredAccount:
    """A snapshot of the account.

    Args:
        account: as the broker said.
        at: UTC.
        peak_equity: the highest equity of all snapshots up to this one.
    """

    account: Account
    at: datetime
    peak_equity: Decimal


@dataclass(frozen=True, slots=True)
class Latch:
    """Whether trading is allowed at all, and since when.

    Args:
        id: of this change; a person arms after having seen the last one.
        armed: by a person, or on paper by itself.
        tripped: by a breach or a person; it never ends by itself. Neither armed nor tripped is
            how a start leaves it.
        reason: in words.
        actor: who or what changed it.
        at: UTC; None before the first start.
    """

    id: int
    armed: bool
    tripped: bool
    reason: str
    actor: str
    at: datetime | None


@dataclass(frozen=True, slots=True)
class StoredLimits:
    """A version of the limits.

    Args:
        version: counts up from 1.
        body: JSON.
        actor: who set it.
        at: UTC.
    """

    version: int
    body: str
    actor: str
    at: datetime


@dataclass(frozen=True, slots=True)
class DayTotals:
    """What a session has seen.

    Args:
        orders: parents, that is legs without their slices; what was dropped unsent is not counted.
        slices: orders as they are sent.
        notional: account currency, bought and sold: what was filled of an order that has ended, and
            the whole of one that has not.
        refused_decisions: refused or failed.
    """

    orders: int
    slices: int
    notional: Decimal
    refused_decisions: int


@dataclass(frozen=True, slots=True)
class Rebalance:
    """An entry of the rebalancing log.

    Args:
        session: New York's date.
        decision_id: where there was one.
        body: JSON.
        at: UTC.
    """

    session: date
    decision_id: str | None
    body: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Performance:
    """What a strategy made of one day.

    Args:
        strategy: its name.
        day: session.
        regime: the market's on that day.
        returns: simple, fraction.
    """

    strategy: str
    day: date
    regime: str
    returns: Decimal


@dataclass(frozen=True, slots=True)
class PermitRow:
    """A permit of `permit.LedgerPermit`.

    Args:
        epoch: of the gateway that has leave.
        boot: id of the machine's boot.
        expires_ns: by its clock since then.
        ttl_ms: how long it was given for.
    """

    epoch: int
    boot: str
    expires_ns: int
    ttl_ms: int
