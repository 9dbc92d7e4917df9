"""From records to what tables and audit records hold, and back: text and whole numbers only."""

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from operator import itemgetter
from typing import Any
from zoneinfo import ZoneInfo

from risk.gateway.canonical import canonical, moment, number
from risk.gateway.records import Account, Activity, Decision, Fill, OrderState, Side
from risk.gateway.stored import (
    Arrival,
    DecisionState,
    Latch,
    Performance,
    Rebalance,
    StoredAccount,
    StoredDecision,
    StoredLimits,
    StoredOrder,
)

Row = dict[str, str | int | None]
NEW_YORK = ZoneInfo("America/New_York")
LONGEST = 500  # characters of a broker's words that are kept

_ORDER: tuple[str, ...] = tuple(StoredOrder.__slots__)
_values_of = itemgetter(*_ORDER)

ARMED, TRIPPED, STARTED = "armed", "tripped", "started"
NEVER = Latch(0, False, False, "never started", "nobody", None)


@lru_cache(maxsize=4096)
def session_of(at: datetime) -> date:
    """Return New York's date of an aware time: the session that it belongs to."""
    if at.tzinfo is None:
        raise ValueError(f"a time needs a time zone, was {at}")
    return at.astimezone(NEW_YORK).date()


def words(text: str) -> str:
    """Return text that every database takes: no NUL, no half of a character, not too long."""
    whole = text.encode("utf-8", "replace").decode("utf-8").replace("\0", "�")
    return whole if len(whole) <= LONGEST else whole[: LONGEST - 1] + "…"


def _maybe_number(value: Decimal | None) -> str | None:
    return None if value is None else number(value)


def _maybe_moment(value: datetime | None) -> str | None:
    return None if value is None else moment(value)


def _maybe_decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _maybe_time(text: str | None) -> datetime | None:
    return None if text is None else parse_moment(text)


def parse_moment(text: str) -> datetime:
    """Return the time that `canonical.moment` wrote."""
    return datetime.fromisoformat(text).astimezone(UTC)


def decision_row(decision: Decision, mode: str, received_at: datetime) -> Row:
    """Return the row of a decision that has just been received."""
    body = {
        "weights": dict(decision.weights),
        "agents": {
            name: {"share": share, "weights": dict(weights)}
            for name, (share, weights) in decision.agents.items()
        },
    }
    return {
        "id": decision.id,
        "account": decision.account,
        "session": session_of(received_at).isoformat(),
        "as_of": decision.as_of.isoformat(),
        "expires_at": moment(decision.expires_at),
        "received_at": moment(received_at),
        "mode": mode,
        "model_sha256": decision.model_sha256,
        "body_sha256": decision.body_sha256,
        "body": canonical(body),
        "state": DecisionState.received.value,
        "reasons": canonical([]),
    }


def to_decision(row: Mapping[str, Any]) -> StoredDecision:
    """Return the decision of a row."""
    body = json.loads(row["body"])
    decision = Decision(
        id=row["id"],
        account=row["account"],
        as_of=date.fromisoformat(row["as_of"]),
        expires_at=parse_moment(row["expires_at"]),
        model_sha256=row["model_sha256"],
        weights=_decimals(body["weights"]),
        agents={
            name: (Decimal(agent["share"]), _decimals(agent["weights"]))
            for name, agent in body["agents"].items()
        },
        body_sha256=row["body_sha256"],
    )
    return StoredDecision(
        decision=decision,
        mode=row["mode"],
        session=date.fromisoformat(row["session"]),
        received_at=parse_moment(row["received_at"]),
        state=DecisionState(row["state"]),
        reasons=tuple(json.loads(row["reasons"])),
    )


def _decimals(texts: Mapping[str, str]) -> dict[str, Decimal]:
    return {name: Decimal(text) for name, text in texts.items()}


def order_row(order: StoredOrder) -> Row:
    """Return the row of an order."""
    return {
        "client_order_id": order.client_order_id,
        "decision_id": order.decision_id,
        "account": order.account,
        "session": session_of(order.created_at).isoformat(),
        "symbol": order.symbol,
        "side": order.side.value,
        "slice": order.slice,
        "quantity": number(order.quantity),
        "limit_price": _maybe_number(order.limit_price),
        "reference_price": number(order.reference_price),
        "state": order.state.value,
        "broker_id": order.broker_id,
        "filled": number(order.filled),
        "average_price": _maybe_number(order.average_price),
        "created_at": moment(order.created_at),
        "sent_at": _maybe_moment(order.sent_at),
        "ended_at": _maybe_moment(order.ended_at),
        "detail": None if order.detail is None else words(order.detail),
        "unsure": 0,
    }


def to_order(row: Mapping[str, Any]) -> StoredOrder:
    """Return the order of a row; one that has not changed since is not read again."""
    return _order(*_values_of(row))


@lru_cache(maxsize=4096)  # several times those of eight days, which each look goes through
def _order(*values: Any) -> StoredOrder:
    row = dict(zip(_ORDER, values, strict=True))
    return StoredOrder(
        client_order_id=row["client_order_id"],
        decision_id=row["decision_id"],
        account=row["account"],
        symbol=row["symbol"],
        side=Side(row["side"]),
        slice=row["slice"],
        quantity=Decimal(row["quantity"]),
        limit_price=_maybe_decimal(row["limit_price"]),
        reference_price=Decimal(row["reference_price"]),
        state=OrderState(row["state"]),
        broker_id=row["broker_id"],
        filled=Decimal(row["filled"]),
        average_price=_maybe_decimal(row["average_price"]),
        created_at=parse_moment(row["created_at"]),
        sent_at=_maybe_time(row["sent_at"]),
        ended_at=_maybe_time(row["ended_at"]),
        detail=row["detail"],
    )


def arrival_row(arrival: Arrival) -> Row:
    """Return the row of what the market was when an order was sent."""
    return {
        "client_order_id": arrival.client_order_id,
        "at": moment(arrival.at),
        "price": number(arrival.price),
        "adv": _maybe_number(arrival.adv),
        "sigma": _maybe_number(arrival.sigma),
        "ack_ms": arrival.ack_ms,
        "accepted_at": _maybe_moment(arrival.accepted_at),
    }


def to_arrival(row: Mapping[str, Any]) -> Arrival:
    """Return what the market was when an order was sent, of a row."""
    return Arrival(
        client_order_id=row["client_order_id"],
        at=parse_moment(row["at"]),
        price=Decimal(row["price"]),
        adv=_maybe_decimal(row["adv"]),
        sigma=_maybe_decimal(row["sigma"]),
        ack_ms=row["ack_ms"],
        accepted_at=_maybe_time(row["accepted_at"]),
    )


def fill_row(fill: Fill) -> Row:
    """Return the row of a fill."""
    return {
        "execution_id": fill.execution_id,
        "broker_id": fill.broker_id,
        "client_order_id": fill.client_order_id,
        "symbol": fill.symbol,
        "side": fill.side.value,
        "quantity": number(fill.quantity),
        "price": number(fill.price),
        "commission": number(fill.commission),
        "at": moment(fill.at),
    }


def to_fill(row: Mapping[str, Any]) -> Fill:
    """Return the fill of a row."""
    return Fill(
        execution_id=row["execution_id"],
        broker_id=row["broker_id"],
        client_order_id=row["client_order_id"],
        symbol=row["symbol"],
        side=Side(row["side"]),
        quantity=Decimal(row["quantity"]),
        price=Decimal(row["price"]),
        commission=Decimal(row["commission"]),
        at=parse_moment(row["at"]),
    )


def activity_row(activity: Activity) -> Row:
    """Return the row of an activity."""
    return {
        "id": activity.id,
        "kind": words(activity.kind),
        "symbol": activity.symbol,
        "shares": number(activity.shares),
        "cash": number(activity.cash),
        "corporate": int(activity.corporate),
        "day": activity.day.isoformat(),
    }


def to_activity(row: Mapping[str, Any]) -> Activity:
    """Return the activity of a row."""
    return Activity(
        id=row["id"],
        kind=row["kind"],
        symbol=row["symbol"],
        shares=Decimal(row["shares"]),
        cash=Decimal(row["cash"]),
        corporate=bool(row["corporate"]),
        day=date.fromisoformat(row["day"]),
    )


def to_position(row: Mapping[str, Any]) -> tuple[str, Decimal]:
    """Return symbol and signed shares of a row."""
    return row["symbol"], Decimal(row["quantity"])


_MONEY = ("cash", "equity", "last_equity", "buying_power", "multiplier")


def account_body(account: Account) -> str:
    """Return an account as JSON."""
    return canonical({name: getattr(account, name) for name in Account.__slots__})


def to_account(row: Mapping[str, Any]) -> StoredAccount:
    """Return the snapshot of a row."""
    fields = json.loads(row["body"])
    fields |= {name: Decimal(fields[name]) for name in _MONEY}
    return StoredAccount(
        account=Account(**fields),
        at=parse_moment(row["at"]),
        peak_equity=Decimal(row["peak_equity"]),
    )


def to_latch(row: Mapping[str, Any]) -> Latch:
    """Return the change of the latch of a row; a state nobody knows counts as tripped."""
    return Latch(
        id=row["id"],
        armed=row["state"] == ARMED,
        tripped=row["state"] not in {ARMED, STARTED},
        reason=row["reason"],
        actor=row["actor"],
        at=parse_moment(row["at"]),
    )


def to_limits(row: Mapping[str, Any]) -> StoredLimits:
    """Return the version of the limits of a row."""
    return StoredLimits(row["version"], row["body"], row["actor"], parse_moment(row["at"]))


def to_rebalance(row: Mapping[str, Any]) -> Rebalance:
    """Return the entry of a row."""
    return Rebalance(
        session=date.fromisoformat(row["session"]),
        decision_id=row["decision_id"],
        body=row["body"],
        at=parse_moment(row["at"]),
    )


def to_performance(row: Mapping[str, Any]) -> Performance:
    """Return the day of a strategy of a row."""
    return Performance(
        strategy=row["strategy"],
        day=date.fromisoformat(row["day"]),
        regime=row["regime"],
        returns=Decimal(row["returns"]),
    )
