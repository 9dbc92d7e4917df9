"""The answer that is no answer: always of one form, and how an application gives it."""

import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from risk.access.errors import NotAnswered, Reason

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

REFUSED = "tercet.refused"  # key of the scope: why there was no answer
ALWAYS_SENT = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))


class Problem(BaseModel):
    """Which rule refused, and what it saw."""

    model_config = ConfigDict(extra="forbid")

    code: str
    reason: str


class Refusal(BaseModel):
    """Every answer that is no answer."""

    model_config = ConfigDict(extra="forbid")

    error: Problem


class RefusalResponse(JSONResponse):
    """The answer that is no answer: always of this one form."""

    def __init__(self, error: NotAnswered, headers: dict[str, str] | None = None) -> None:
        headers = dict(headers or {})
        if error.retry_after is not None:
            headers["Retry-After"] = str(error.retry_after)
        self.code = error.reason.value[1]
        content = {"error": {"code": self.code, "reason": error.detail}}
        super().__init__(content, error.reason.status, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, and leave the reason where the metrics find it."""
        scope[REFUSED] = self.code
        await super().__call__(scope, receive, send)


def add_refusals(api: FastAPI) -> None:
    """Let an application answer every refusal and every failure in the one form."""
    api.add_exception_handler(NotAnswered, _refused)
    api.add_exception_handler(HTTPException, _refused)
    api.add_exception_handler(Exception, _failed)


def failure() -> RefusalResponse:
    """Return the answer to what nobody expected."""
    return RefusalResponse(NotAnswered(Reason.internal, "the service failed; its log says why"))


def json_response(record: Any, headers: dict[str, str] | None = None) -> Response:
    """Return a record as it is sent: strict JSON."""
    content = json.dumps(record, allow_nan=False, separators=(",", ":"))
    return Response(content, media_type="application/json", headers=headers)


async def _refused(_: Request, error: Exception) -> Response:
    """Answer a refusal; what FastAPI refuses by itself is a wrong request."""
    if isinstance(error, NotAnswered):
        if error.reason is Reason.internal:
            logger.error("an answer was withheld: %s", error.detail)
        return RefusalResponse(error)
    assert isinstance(error, HTTPException), "registered for these two"
    return RefusalResponse(NotAnswered(Reason.bad_request, error.detail))


async def _failed(_: Request, error: Exception) -> Response:
    """Answer what nobody expected; the exception itself goes on outwards, where it is logged."""
    return failure()
