"""What persons change over HTTP beside arming: looser limits, the capital ramp; and the history."""

from collections.abc import Awaitable, Callable
from datetime import date, datetime
from functools import partial
from typing import Annotated, Any, Protocol

from fastapi import FastAPI, Request
from pydantic import Field, StringConstraints
from starlette.responses import Response

from market.errors import InputError
from risk.access.errors import NotAnswered, Reason
from risk.access.guard import BEARER
from risk.access.refusals import json_response
from risk.access.routes import Route
from risk.access.strict import WHOLE, Strict, plain, strict
from risk.access.tokens import Role
from risk.gateway.engine import Gateway
from risk.gateway.history import History, history
from risk.gateway.limits import limits_from_record
from risk.gateway.limits_in_force import OPEN, SIGNED
from risk.gateway.messages import LimitsRequest, Name, Sha256
from risk.gateway.process import Running
from risk.gateway.strategy_reads import Proposal

ROUTES = (
    Route("GET", "/v1/limits/proposals", Role.read),
    Route("POST", "/v1/limits/proposals", Role.admin, body=True, conflicts=True),
    Route("POST", "/v1/limits/signatures", Role.admin, body=True, conflicts=True),
    Route("POST", "/v1/ramp", Role.admin, body=True, conflicts=True),
    Route("GET", "/v1/history", Role.read),
)
DAYS = 400  # that the history shows


class SignatureRequest(Strict):
    """A person's signature under proposed limits."""

    proposal: Sha256
    person: Name
    signature: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{128}$")]


class RampRequest(Strict):
    """The wish of a person that a policy trades another share of the capital."""

    model: Sha256
    stage: Annotated[int, Field(ge=0, lt=100), WHOLE]


BODIES: dict[str, type[Strict]] = {
    "/v1/limits/proposals": LimitsRequest,
    "/v1/limits/signatures": SignatureRequest,
    "/v1/ramp": RampRequest,
}


class ProposalAnswer(Strict):
    """Limits that somebody wants to loosen."""

    id: Sha256
    state: str
    text: str  # what is signed
    base: Sha256  # version that they replace
    limits: dict[str, str | int]
    actor: str
    at: datetime
    signed_by: list[str]
    signed_in: date | None  # session; the one after it has the new limits


class ProposalsAnswer(Strict):
    """What waits for signatures or for the next session."""

    proposals: list[ProposalAnswer]


class RampAnswer(Strict):
    """How far a policy has come."""

    model: str
    stage: int
    sessions: int
    actor: str


class DayAnswer(Strict):
    """The account at the close of a session."""

    session: date
    equity: str
    cash: str
    peak: str
    losing_days: int
    stopped: int
    exposure: str
    volatility: str
    regime: str | None
    model: str | None


class RegimeAnswer(Strict):
    """What a model made of the sessions of one regime."""

    model: str
    regime: str
    sessions: int
    mean_return: str
    total_return: str


class HistoryAnswer(Strict):
    """The account's days, newest first, what models made of them, and their ramps."""

    days: list[DayAnswer]
    performance: list[RegimeAnswer]
    ramps: list[RampAnswer]


class Done(Protocol):
    """Does what blocks in a thread."""

    def __call__(self, work: Callable[[], Any]) -> Awaitable[Any]:
        """Return what the work returns."""
        ...


class Governing:
    """What these routes do.

    Args:
        running: the gateway.
        done: does what blocks.
    """

    def __init__(self, running: Running, done: Done) -> None:
        self._running, self._done = running, done

    def add_to(self, api: FastAPI) -> None:
        """Add the routes."""
        api.get("/v1/limits/proposals", response_model=ProposalsAnswer)(self.proposals)
        api.post("/v1/limits/proposals", response_model=ProposalAnswer)(self.propose)
        api.post("/v1/limits/signatures", response_model=ProposalAnswer)(self.sign)
        api.post("/v1/ramp", response_model=RampAnswer)(self.ramp)
        api.get("/v1/history", response_model=HistoryAnswer)(self.history)

    async def proposals(self) -> Response:
        """Return the limits that wait for signatures or for the next session."""
        gateway, ledger = self._running.gateway, self._running.ledger
        found = await self._done(partial(ledger.proposals, OPEN, SIGNED))
        return _sent(ProposalsAnswer(proposals=[_shown(gateway, one) for one in found]))

    async def propose(self, request: Request) -> Response:
        """Keep limits that allow more, for persons to sign."""
        asked = strict(LimitsRequest, await request.body())
        gateway = self._running.gateway
        try:
            wanted = limits_from_record(asked.limits)
        except InputError as error:
            raise NotAnswered(Reason.invalid, str(error)) from None
        found = await self._changed(partial(gateway.propose, wanted, _actor(request)))
        return _sent(_shown(gateway, found))

    async def sign(self, request: Request) -> Response:
        """Add a person's signature to a proposal."""
        asked = strict(SignatureRequest, await request.body())
        gateway = self._running.gateway
        work = partial(gateway.sign, asked.proposal, asked.person, asked.signature)
        return _sent(_shown(gateway, await self._changed(work)))

    async def ramp(self, request: Request) -> Response:
        """Move a policy to a stage of the capital ramp."""
        asked = strict(RampRequest, await request.body())
        work = partial(self._running.gateway.set_stage, asked.model, asked.stage, _actor(request))
        found = await self._changed(work)
        return _sent(
            RampAnswer(
                model=found.model, stage=found.stage, sessions=found.sessions, actor=found.actor
            )
        )

    async def history(self) -> Response:
        """Return the account's days, their regimes, and what each model made of them."""
        found = await self._done(partial(history, self._running.ledger, DAYS))
        return _sent(_told(found))

    async def _changed(self, work: Callable[[], Any]) -> Any:
        try:
            return await self._done(work)
        except InputError as error:
            raise NotAnswered(Reason.conflict, str(error)) from None


def _shown(gateway: Gateway, proposal: Proposal) -> ProposalAnswer:
    return ProposalAnswer(
        id=proposal.id,
        state=proposal.state,
        text=gateway.text_of(proposal),
        base=proposal.base,
        limits=dict(proposal.limits),
        actor=proposal.actor,
        at=proposal.at,
        signed_by=sorted(proposal.signatures),
        signed_in=proposal.signed_in,
    )


def _told(found: History) -> HistoryAnswer:
    return HistoryAnswer(
        days=[
            DayAnswer(
                session=day.session,
                equity=plain(day.equity),
                cash=plain(day.cash),
                peak=plain(day.peak),
                losing_days=day.losing_days,
                stopped=day.stopped,
                exposure=plain(day.exposure),
                volatility=plain(day.volatility),
                regime=regime,
                model=day.model,
            )
            for day, regime in found.days
        ],
        performance=[
            RegimeAnswer(
                model=one.model,
                regime=one.regime,
                sessions=one.sessions,
                mean_return=plain(one.mean_return),
                total_return=plain(one.total_return),
            )
            for one in found.performance
        ],
        ramps=[
            RampAnswer(model=one.model, stage=one.stage, sessions=one.sessions, actor=one.actor)
            for one in found.ramps
        ],
    )


def _actor(request: Request) -> str:
    return f"token {request.scope[BEARER].name}"


def _sent(answer: Strict) -> Response:
    return json_response(answer.model_dump(mode="json"))
