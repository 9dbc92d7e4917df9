"""The gateway over HTTP: who may ask what, and what is said to them.

Nothing is decided here. What blocks runs in threads, so a caller that hangs up changes nothing; a
kill has threads of its own and needs nobody's turn.
"""

import logging
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Request
from starlette.responses import Response

from market.errors import InputError
from risk.access import openapi
from risk.access.errors import NotAnswered, Reason
from risk.access.guard import BEARER, Guard
from risk.access.refusals import App, add_refusals, json_response
from risk.access.routes import PAGES, Route
from risk.access.settings import GuardSettings
from risk.access.strict import Strict, plain, strict
from risk.access.tokens import Role, Tokens
from risk.gateway import governing
from risk.gateway.broker import BrokerError
from risk.gateway.decision_answer import DecisionAnswer, to_answer
from risk.gateway.front import Front
from risk.gateway.limits import limits_from_record
from risk.gateway.messages import (
    AcceptRequest,
    ArmRequest,
    DecisionRequest,
    HealthAnswer,
    KillRequest,
    LatchAnswer,
    LimitsAnswer,
    LimitsRequest,
    ReconcileAnswer,
    StateAnswer,
    VerifyAnswer,
    to_decision,
)
from risk.gateway.permit import Permit
from risk.gateway.process import Running
from risk.gateway.reconciling import Reconciliation
from risk.gateway.records import TERMINAL, OrderState
from risk.gateway.replay import judged_again
from risk.gateway.storage import LedgerFailed, StaleEpoch
from risk.gateway.stored import Latch
from risk.gateway.verdict import Verdict
from risk.gateway.verify import verify
from risk.gateway.writer import Conflict

logger = logging.getLogger(__name__)

ROUTES = (
    Route("POST", "/v1/decisions", Role.allocate, body=True, conflicts=True),
    Route("GET", "/v1/decisions/{decision_id}", Role.read),
    Route("GET", "/v1/state", Role.read),
    Route("POST", "/v1/kill", Role.allocate, body=True, urgent=True),
    Route("POST", "/v1/arm", Role.admin, body=True, conflicts=True),
    Route("POST", "/v1/reconcile", Role.allocate),
    Route("POST", "/v1/accept", Role.admin, body=True, conflicts=True),
    Route("GET", "/v1/limits", Role.read),
    Route("POST", "/v1/limits", Role.admin, body=True, conflicts=True),
    *governing.ROUTES,
    Route("GET", "/v1/audit/verify", Role.admin),
    Route("GET", "/healthz", None),
    Route("GET", "/readyz", None),
    *PAGES,
)
BODIES: dict[str, type[Strict]] = {
    "/v1/decisions": DecisionRequest,
    "/v1/kill": KillRequest,
    "/v1/arm": ArmRequest,
    "/v1/accept": AcceptRequest,
    "/v1/limits": LimitsRequest,
    **governing.BODIES,
}
OPEN = [state for state in OrderState if state not in TERMINAL]
T = TypeVar("T")


class Service:
    """What the routes do.

    Args:
        running: the gateway.
    """

    def __init__(self, running: Running) -> None:
        self._running = running
        self._urgent = CapacityLimiter(4)  # threads that nothing else takes
        self._single = CapacityLimiter(1)

    async def decide(self, request: Request) -> Response:
        """Judge an allocation and, where it is allowed, bring the account there."""
        asked = strict(DecisionRequest, await request.body())
        gateway = self._running.gateway
        decision = to_decision(asked, gateway.limits)
        answer = await self.done(partial(gateway.submit, decision, asked.mode))
        return _sent(to_answer(answer))

    async def decision(self, decision_id: str) -> Response:
        """Return what came of a decision so far."""
        answer = await self.done(partial(self._running.gateway.answer, decision_id))
        if answer is None:
            raise NotAnswered(Reason.not_found, "there is no decision of this id")
        return _sent(to_answer(answer))

    async def state(self) -> Response:
        """Return what the gateway knows of itself and its account; the broker is not asked."""
        return _sent(await self.done(self._state))

    async def kill(self, request: Request) -> Response:
        """Latch, and ask for the end of every open order."""
        asked = strict(KillRequest, await request.body())
        actor = _actor(request)
        await self.done(partial(self._running.kill, asked.reason, actor), self._urgent)
        return _sent(await self.done(self._state, self._urgent))

    async def arm(self, request: Request) -> Response:
        """Arm, if nothing speaks against it and the latch is still the one that was seen."""
        asked = strict(ArmRequest, await request.body())
        actor = _actor(request)
        await self.done(partial(self._arm, asked, actor))
        return _sent(await self.done(self._state))

    async def reconcile(self) -> Response:
        """Compare ledger and broker now."""
        return _sent(_compared(await self.done(self._running.gateway.reconcile)))

    async def accept(self, request: Request) -> Response:
        """Take the broker's shares and cash for ours, as a person wants who has looked."""
        asked = strict(AcceptRequest, await request.body())
        accept = self._running.gateway.accept
        try:
            work = partial(accept, asked.account, _actor(request), asked.reason)
            return _sent(_compared(await self.done(work)))
        except InputError as error:
            raise NotAnswered(Reason.conflict, str(error)) from None

    async def limits(self) -> Response:
        """Return the limits in force."""
        limits = self._running.gateway.limits
        return _sent(LimitsAnswer(version=limits.version, limits=limits.record()))

    async def tighten(self, request: Request) -> Response:
        """Put tighter limits in force at once; looser ones are refused."""
        asked = strict(LimitsRequest, await request.body())
        actor = _actor(request)
        gateway = self._running.gateway
        try:
            wanted = limits_from_record(asked.limits)
        except InputError as error:
            raise NotAnswered(Reason.invalid, str(error)) from None
        verdict = await self.done(partial(gateway.tighten, wanted, actor))
        _require(verdict)
        return await self.limits()

    async def verify(self) -> Response:
        """Walk the whole audit chain and judge every verdict again."""
        ledger = self._running.ledger
        found = await self.done(partial(verify, ledger, ledger.anchor, judged_again), self._single)
        return _sent(
            VerifyAnswer(
                ok=found.ok,
                records=found.records,
                verdicts=found.verdicts,
                found=found.found,
                problems=list(found.problems),
            )
        )

    async def healthz(self) -> Response:
        """Return that this process answers."""
        return _sent(HealthAnswer(status="ok"))

    async def readyz(self) -> Response:
        """Return that the gateway is at work, armed or not, or why it is not."""
        if (problem := self._running.problem) is not None:
            raise NotAnswered(Reason.not_ready, problem)
        return _sent(HealthAnswer(status="ready"))

    def _arm(self, asked: ArmRequest, actor: str) -> None:
        running = self._running
        seen = running.ledger.latch()
        if seen.id != asked.latch:
            raise NotAnswered(Reason.conflict, f"the latch has changed: {seen.reason}; look again")
        try:
            _require(running.gateway.arm(asked.account, seen, actor))
        except InputError as error:
            raise NotAnswered(Reason.conflict, str(error)) from None

    def _state(self) -> StateAnswer:
        running = self._running
        ledger, memory = running.ledger, running.memory
        last = ledger.last_account()
        account = None if last is None else last.account
        return StateAnswer(
            account=None if account is None else account.id,
            paper=None if account is None else account.paper,
            equity=None if account is None else plain(account.equity),
            cash=None if account is None else plain(account.cash),
            positions={name: plain(shares) for name, shares in ledger.positions().items()},
            open_orders=len(ledger.orders(states=OPEN)),
            latch=_latch(ledger.latch()),
            halted=running.halt_file.halted(),
            permit_left_s=_left(running.permit, running.epoch),
            epoch=running.epoch,
            limits_version=running.gateway.limits.version,
            reconciled_at=memory.reconciled_at,
            drifted=None if memory.drifted is None else sorted(memory.drifted),
            foreign=None if memory.foreign is None else sorted(memory.foreign),
            problem=running.problem,
        )

    async def done(self, work: Callable[[], T], limiter: CapacityLimiter | None = None) -> T:
        """Do what blocks in a thread, and name what can go wrong there."""
        try:
            return await to_thread.run_sync(work, limiter=limiter)
        except Conflict as error:
            raise NotAnswered(Reason.conflict, str(error)) from None
        except (LedgerFailed, StaleEpoch) as error:
            raise NotAnswered(Reason.store_failed, str(error)) from None
        except BrokerError as error:
            raise NotAnswered(Reason.not_ready, f"the broker: {error}") from None


def make_app(running: Running, tokens: Tokens, settings: GuardSettings) -> App:
    """Return the ASGI application.

    Args:
        running: the gateway, started.
        tokens: who may ask.
        settings: what is taken on.
    """
    service = Service(running)
    api = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    add_refusals(api)
    api.post("/v1/decisions", response_model=DecisionAnswer)(service.decide)
    api.get("/v1/decisions/{decision_id}", response_model=DecisionAnswer)(service.decision)
    api.get("/v1/state", response_model=StateAnswer)(service.state)
    api.post("/v1/kill", response_model=StateAnswer)(service.kill)
    api.post("/v1/arm", response_model=StateAnswer)(service.arm)
    api.post("/v1/reconcile", response_model=ReconcileAnswer)(service.reconcile)
    api.post("/v1/accept", response_model=ReconcileAnswer)(service.accept)
    api.get("/v1/limits", response_model=LimitsAnswer)(service.limits)
    api.post("/v1/limits", response_model=LimitsAnswer)(service.tighten)
    governing.Governing(running, service.done).add_to(api)
    api.get("/v1/audit/verify", response_model=VerifyAnswer)(service.verify)
    api.get("/healthz", response_model=HealthAnswer)(service.healthz)
    api.get("/readyz", response_model=HealthAnswer)(service.readyz)
    what = "One account's only way to its broker."
    openapi.add_pages(api, openapi.description(api, version("tercet"), what, ROUTES, BODIES))
    guard = Guard(api, tokens, settings, ROUTES, in_clear=False)
    return Front(guard, ROUTES, running.refused)


def _require(verdict: Verdict) -> None:
    if not verdict.allowed:
        raise NotAnswered(Reason.conflict, "; ".join(map(str, verdict.violations[:5])))


def _actor(request: Request) -> str:
    """Return who asks, as the audit names them: a few digits of the token's digest."""
    return f"token {request.scope[BEARER].name}"


def _compared(found: Reconciliation) -> ReconcileAnswer:
    return ReconcileAnswer(
        at=found.at,
        clean=found.clean,
        drifted={
            name: (plain(ours), plain(theirs)) for name, (ours, theirs) in found.drifted.items()
        },
        foreign=sorted(found.foreign),
        cash=None if found.cash is None else (plain(found.cash[0]), plain(found.cash[1])),
    )


def _left(permit: Permit, epoch: int) -> float:
    return round(permit.left_s(epoch), 3)


def _latch(latch: Latch) -> LatchAnswer:
    return LatchAnswer(
        id=latch.id,
        armed=latch.armed,
        tripped=latch.tripped,
        reason=latch.reason,
        actor=latch.actor,
    )


def _sent(answer: Strict) -> Response:
    return json_response(answer.model_dump(mode="json"))
