"""The HTTP service: routes, and what is done before and after a replica answers.

`make_app` gives an ASGI application of three layers: `Counted` counts every answer and catches
what nobody expected, `risk.access.guard.Guard` decides who comes in, FastAPI answers.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from risk.access import openapi
from risk.access.errors import NotAnswered, Reason
from risk.access.guard import Guard, path_of
from risk.access.refusals import (
    ALWAYS_SENT,
    REFUSED,
    App,
    Message,
    Receive,
    Scope,
    Send,
    add_refusals,
    failure,
    json_response,
)
from risk.access.routes import label
from risk.access.tokens import Tokens
from serving import messages
from serving.allocation import answer, distance
from serving.answers import Allocation, Health, Models, RecordedAllocation
from serving.decisions import DecisionLog, Recorded
from serving.metrics import Metrics
from serving.questions import Backend, Question
from serving.routes import ROUTES
from serving.settings import WebSettings

logger = logging.getLogger(__name__)

READINESS_KEPT_S = 0.5  # readiness is open to everybody: nobody can make it ask more often
STATUS_HEADER = "Decision-Status"
_CLIENT_GONE = 499
T = TypeVar("T")


class Service:
    """What the routes do.

    Args:
        backend: answers questions.
        log: of decisions.
        settings: limits and timeouts.
        metrics: of this process.
    """

    def __init__(
        self, backend: Backend, log: DecisionLog, settings: WebSettings, metrics: Metrics
    ) -> None:
        self._backend, self._log, self._settings, self._metrics = backend, log, settings, metrics
        self._shadows: set[asyncio.Task[None]] = set()
        self._unready: str | None = "starting"
        self._ask_again_at = 0.0

    async def allocate(self, request: Request) -> Response:
        """Answer what an account should hold, and record it."""
        asked = messages.parse(await request.body())
        question = messages.to_question(asked)
        opinion = await self._in_time(self._backend.opinion(question))
        recorded = await self._in_time(answer(self._log, asked, opinion))
        if asked.as_of is None:
            self._metrics.aged(opinion.data_age)
        if recorded.new:
            self._metrics.decided(opinion.model["sha256"])
            self._start_shadow(replace(question, as_of=opinion.as_of), recorded)
        return json_response(recorded.answer, {STATUS_HEADER: recorded.status(datetime.now(UTC))})

    async def decision(self, decision_id: str) -> Response:
        """Return a recorded decision with its explanation."""
        found = await self._in_time(self._log.get(decision_id))
        if found is None:
            raise NotAnswered(Reason.not_found, "there is no decision of this id")
        recorded, explanation = found
        return json_response(
            {
                **recorded.answer,
                "account": recorded.account,
                "status": recorded.status(datetime.now(UTC)),
                "superseded_by": recorded.superseded_by,
                "explanation": explanation,
                "shadows": await self._in_time(self._log.shadows(decision_id)),
            }
        )

    async def models(self) -> Response:
        """Return which models are loaded or wanted."""
        return json_response({"models": await self._in_time(self._backend.models())})

    async def refresh(self) -> Response:
        """Look at the registry and at the data now, then return the models."""
        await self._in_time(self._backend.refresh())
        return await self.models()

    async def healthz(self) -> Response:
        """Return that this process answers."""
        return json_response({"status": "ok"})

    async def readyz(self) -> Response:
        """Return that questions are answered now, or why not."""
        if time.monotonic() >= self._ask_again_at:
            self._ask_again_at = time.monotonic() + READINESS_KEPT_S
            try:
                self._unready = await self._in_time(self._backend.unready())
            except NotAnswered as error:
                self._unready = error.detail
        if self._unready is not None:
            raise NotAnswered(Reason.not_ready, self._unready)
        return json_response({"status": "ready"})

    async def metrics(self) -> Response:
        """Return the metrics of this process for Prometheus."""
        try:
            models = await self._in_time(self._backend.models())
        except NotAnswered:
            models = []  # the other numbers matter most when the models are away
        return Response(self._metrics.text(models), media_type=CONTENT_TYPE_LATEST)

    async def stop(self) -> None:
        """Wait for the challenger's answers in work."""
        if self._shadows:
            await asyncio.wait(self._shadows, timeout=self._settings.request_timeout_s)

    async def _in_time(self, work: Awaitable[T]) -> T:
        limit = self._settings.request_timeout_s
        try:
            async with asyncio.timeout(limit):
                return await work
        except TimeoutError:
            raise NotAnswered(Reason.too_slow, f"no answer within {limit:g} s") from None

    def _start_shadow(self, question: Question, recorded: Recorded) -> None:
        """Ask the challenger in the background; nobody who asked waits for it."""
        if len(self._shadows) >= self._settings.max_shadows:
            self._metrics.shadow_lost()
            return
        task = asyncio.create_task(self._shadow(question, recorded.answer))
        self._shadows.add(task)
        task.add_done_callback(self._shadows.discard)

    async def _shadow(self, question: Question, served: dict[str, Any]) -> None:
        try:
            opinion = await self._in_time(self._backend.shadow(question))
            if opinion is None:
                return
            apart = distance(served["weights"], opinion.weights)
            await self._log.record_shadow(
                served["decision_id"], opinion.model["sha256"], opinion.weights, apart
            )
            self._metrics.shadowed(apart)
        except Exception:
            logger.exception("the challenger's answer to %s is lost", served["decision_id"])
            self._metrics.shadow_lost()


class Counted:
    """The outermost layer: counts every answer, and answers what nobody expected with a 500.

    Args:
        app: the application.
        metrics: of this process.
    """

    def __init__(self, app: App, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, code = time.perf_counter(), _CLIENT_GONE

        async def noted(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
                message["headers"] = [*message["headers"], *ALWAYS_SENT]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception:
            logger.exception("%s %s failed", scope["method"], label(ROUTES, path_of(scope)))
            if code == _CLIENT_GONE:
                await failure()(scope, receive, noted)
        finally:
            seconds = time.perf_counter() - started
            self._metrics.answered(label(ROUTES, path_of(scope)), str(code), seconds)
            if code == Reason.not_ready.status:
                self._metrics.unavailable(scope.get(REFUSED, "unknown"))


def make_app(backend: Backend, log: DecisionLog, settings: WebSettings, tokens: Tokens) -> App:
    """Return the ASGI application.

    Args:
        backend: answers questions; in this process or behind Ray Serve.
        log: of decisions; whoever made it closes it.
        settings: limits and timeouts.
        tokens: who may ask.
    """
    metrics = Metrics()
    service = Service(backend, log, settings, metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await service.stop()

    api = FastAPI(
        openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=lifespan
    )
    add_refusals(api)
    _add_routes(api, service)
    guard = Guard(api, tokens, settings, ROUTES, in_clear=True)  # Serve's proxy is in between
    return Counted(guard, metrics)


def _add_routes(api: FastAPI, service: Service) -> None:
    """Connect every route of `serving.routes` with what it does."""
    status = {"schema": {"type": "string"}, "description": "submittable, expired, superseded, ..."}
    api.post(
        "/v1/allocations",
        response_model=Allocation,
        responses={200: {"headers": {STATUS_HEADER: status}}},
    )(service.allocate)
    api.get("/v1/allocations/{decision_id}", response_model=RecordedAllocation)(service.decision)
    api.get("/v1/models", response_model=Models)(service.models)
    api.post("/v1/refresh", response_model=Models)(service.refresh)
    api.get("/healthz", response_model=Health)(service.healthz)
    api.get("/readyz", response_model=Health)(service.readyz)
    api.get("/metrics", response_class=Response)(service.metrics)
    openapi.add_pages(
        api,
        openapi.description(
            api,
            version("tercet"),
            "The daily allocation of a society of portfolio agents.",
            ROUTES,
            {"/v1/allocations": messages.AllocationRequest},
        ),
    )
