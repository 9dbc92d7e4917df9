"""What the gateway's HTTP service reads and answers: exact decimals, and nothing unknown.

Amounts are read as decimal strings or JSON numbers, and always written as strings.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, WithJsonSchema
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from risk.access.errors import NotAnswered, Reason
from risk.access.strict import SYMBOL, WHOLE, AccountId, Money, Session, Strict, Symbol, plain
from risk.gateway.canonical import canonical
from risk.gateway.limits import GatewayLimits
from risk.gateway.records import Decision
from risk.gateway.submission import Mode

CASH = "CASH"  # what the weights of an allocation call the part that is not invested
MAX_NAMES = 2_000
MAX_AGENTS = 100
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})"
)


def _time(value: Any) -> datetime:
    """Return an ISO time with its zone; pydantic's own reading takes bare numbers for one."""
    if isinstance(value, str) and _TIME.fullmatch(value):
        try:
            return datetime.fromisoformat(value).astimezone(UTC)
        except (ValueError, OverflowError):
            pass
    raise PydanticCustomError("time", "must be a time with zone such as 2022-12-29T15:30:00+00:00")


def _without_blanks(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise PydanticCustomError("words", "must be one line of words")
    return value


Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Time = Annotated[
    datetime, BeforeValidator(_time), WithJsonSchema({"type": "string", "format": "date-time"})
]
Words = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_without_blanks)]
NAME = r"^[A-Za-z0-9._-]{1,64}$"
Name = Annotated[str, StringConstraints(pattern=NAME)]
Weights = Annotated[
    dict[Symbol, Money],
    Field(max_length=MAX_NAMES, json_schema_extra={"propertyNames": {"pattern": SYMBOL}}),
]
Pair = Annotated[tuple[str, ...], Field(min_length=2, max_length=2)]
_NAMED: JsonDict = {"propertyNames": {"pattern": NAME}}
Json = dict[str, Any]  # of bounded size and depth, by the guard; nothing reads it


class Model(Strict):
    """Which artefact answered."""

    id: Annotated[str, Field(max_length=200)]
    sha256: Sha256


class Agent(Strict):
    """What one agent's own book is to hold."""

    weights: Weights
    share: Money
    confidence: Money | None
    breaches_before_projection: list[str]


class Allocation(Strict):
    """An allocation as the serving side answers it."""

    decision_id: Sha256
    as_of: Session
    expires_at: Time
    supersedes: Sha256 | None
    model: Model
    weights: Weights
    agents: Annotated[dict[Name, Agent], Field(max_length=MAX_AGENTS, json_schema_extra=_NAMED)]
    market: Json
    diagnostics: Json


class DecisionRequest(Strict):
    """An allocation that an account is to reach."""

    account: AccountId
    mode: Mode
    allocation: Allocation


class KillRequest(Strict):
    """The wish that everything stops."""

    reason: Words


class ArmRequest(Strict):
    """The wish of a person that trading may go on.

    Args:
        account: the account's id, typed.
        latch: id of the latch that the person has seen: a later trip is not overruled.
    """

    account: AccountId
    latch: Annotated[int, Field(ge=0, lt=1 << 62), WHOLE]


class AcceptRequest(Strict):
    """The wish of a person that the broker's shares and cash are taken for ours.

    Args:
        account: the account's id, typed.
        reason: in words.
    """

    account: AccountId
    reason: Words


class LimitsRequest(Strict):
    """New limits, all of them, as `GET /v1/limits` shows them."""

    limits: Annotated[dict[Name, str | int], Field(json_schema_extra=_NAMED)]


class LatchAnswer(Strict):
    """Whether trading is allowed at all."""

    id: int
    armed: bool
    tripped: bool
    reason: str
    actor: str


class StateAnswer(Strict):
    """What the gateway knows of itself and its account."""

    account: str | None
    paper: bool | None
    equity: str | None
    cash: str | None
    positions: dict[str, str]
    open_orders: int
    latch: LatchAnswer
    halted: bool
    permit_left_s: float
    epoch: int
    limits_version: str
    reconciled_at: datetime | None
    drifted: list[str] | None
    foreign: list[str] | None
    problem: str | None


class ReconcileAnswer(Strict):
    """How ledger and broker compare."""

    at: datetime
    clean: bool
    drifted: dict[str, Pair]  # shares by our books, shares at the broker
    foreign: list[str]
    cash: Pair | None  # by our books, at the broker


class LimitsAnswer(Strict):
    """The limits in force."""

    version: str
    limits: dict[str, str | int]


class VerifyAnswer(Strict):
    """What a walk along the audit chain has found."""

    ok: bool
    records: int
    verdicts: int
    found: int
    problems: list[str]


class HealthAnswer(Strict):
    """The process is there."""

    status: str


def to_decision(request: DecisionRequest, limits: GatewayLimits) -> Decision:
    """Return the decision that a request asks for; what is not invested has no name any more.

    Raises:
        NotAnswered: invalid where the weights with cash do not sum to 1.
    """
    asked = request.allocation
    total = sum(asked.weights.values(), Decimal(0))
    if CASH not in asked.weights or not abs(total - 1) <= limits.max_weight_error:
        raise NotAnswered(
            Reason.invalid, f"allocation.weights sum to {plain(total)}, with {CASH} it must be 1"
        )
    agents = {name: (agent.share, _invested(agent.weights)) for name, agent in asked.agents.items()}
    return Decision(
        id=asked.decision_id,
        account=request.account,
        as_of=asked.as_of,
        expires_at=asked.expires_at,
        model_sha256=asked.model.sha256,
        weights=_invested(asked.weights),
        agents=agents,
        body_sha256=_body(request),
    )


def _invested(weights: Mapping[str, Decimal]) -> dict[str, Decimal]:
    """Return the weights of names; one of 0 says no more than one that is missing."""
    return {name: weight for name, weight in weights.items() if name != CASH and weight != 0}


def _body(request: DecisionRequest) -> str:
    """Return the hash of what a request asks for, however it was written.

    What the allocation tells beside that is not among it: the same decision, asked for again at the
    serving side, comes with other durations.
    """
    asked = request.allocation
    body = {
        "account": request.account,
        "as_of": asked.as_of.isoformat(),
        "expires_at": asked.expires_at.isoformat(),
        "model": asked.model.sha256,
        "weights": _plain(asked.weights.items()),
        "agents": {
            name: {"share": plain(agent.share), "weights": _plain(agent.weights.items())}
            for name, agent in asked.agents.items()
        },
    }
    return sha256(canonical(body).encode()).hexdigest()


def _plain(amounts: Iterable[tuple[str, Decimal]]) -> dict[str, str]:
    return {name: plain(amount) for name, amount in amounts if amount != 0}
