"""Between the connection and the routes: keeps what was sent and does what the fault plan says."""

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from brokers.exchange.faults import Fault, FaultKind, FaultPlan

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

PAGE = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
UNKNOWN = "teleported"
LINGER_NOT = struct.pack("ii", 1, 0)  # close with a reset instead of a goodbye

_TRANSPORTS: dict[tuple[str, int], asyncio.Transport] = {}


class KnownConnections(H11Protocol):
    """Uvicorn's connection, found again by the client's address: ASGI itself cannot reset one."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Remember the connection."""
        super().connection_made(transport)
        if self.client is not None:  # it can be gone already
            _TRANSPORTS[self.client] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        if self.client is not None:
            _TRANSPORTS.pop(self.client, None)
        super().connection_lost(exc)


@dataclass(slots=True)
class Answer:
    """A whole answer."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Faulty:
    """Wraps the routes; the administration goes past it.

    Args:
        app: the routes.
        plan: of faults.
    """

    def __init__(self, app: App, plan: FaultPlan) -> None:
        self._app, self._plan = app, plan

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, well or badly."""
        if scope["type"] != "http" or scope["path"].startswith("/admin"):
            await self._app(scope, receive, send)
            return
        method, path = scope["method"], scope["path"]
        body = await _body(receive)
        if body is None:
            return
        sent = self._plan.record(method, path, scope["query_string"].decode("latin-1"), body)
        fault = self._plan.take(method, path)
        if fault is None:
            answer = await self._answer(scope, body)
            sent.carried_out = answer.status
            await _send(send, answer)
            return
        sent.fault = fault.kind.value
        if fault.kind is FaultKind.slow and not fault.after:
            await asyncio.sleep(fault.seconds)
        real = None
        if fault.after or fault.kind is FaultKind.slow:
            real = await self._answer(scope, body)
            sent.carried_out = real.status
        await self._misbehave(fault, real, scope, receive, send)

    async def _answer(self, scope: Scope, body: bytes) -> Answer:
        """Let the routes answer, and keep the answer."""
        answer = Answer(500, [], b"")

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.status, answer.headers = message["status"], list(message["headers"])
            else:
                answer.body += message.get("body", b"")

        await self._app(scope, receive, send)
        return answer

    async def _misbehave(
        self, fault: Fault, real: Answer | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Give the client what the fault gives it.

        Args:
            fault: what goes wrong.
            real: what the routes answered; None where they never saw the request.
            scope: of the request.
            receive: tells when the client hangs up.
            send: takes the answer.
        """
        if fault.kind is FaultKind.reset:
            _reset(scope)
        elif fault.kind is FaultKind.truncated and real is not None:
            await _send(send, real, len(real.body) // 2)
            _TRANSPORTS[scope["client"]].close()
        elif fault.kind is not FaultKind.silence:
            if fault.kind is FaultKind.slow and fault.after:
                await asyncio.sleep(fault.seconds)
            if fault.kind is FaultKind.hide and real is not None and real.status == 200:
                self._plan.hide(real.body, fault.seconds)
            await _send(send, _replaced(fault, real))
            return
        while (await receive())["type"] != "http.disconnect":
            pass


def _replaced(fault: Fault, real: Answer | None) -> Answer:
    """Return the answer that a fault puts in the place of the real one."""
    kind = fault.kind
    if kind is FaultKind.status:
        body = json.dumps({"code": fault.code, "message": fault.message}).encode()
        answer = _answer(fault.status, b"application/json", body)
        if fault.retry_after is not None:
            answer.headers.append((b"retry-after", f"{fault.retry_after:g}".encode()))
        return answer
    if kind is FaultKind.html:
        return _answer(200, b"text/html", PAGE)
    if kind is FaultKind.empty or real is None:
        return _answer(200, b"application/json", b"")
    if kind is FaultKind.unknown_enum:
        return _answer(real.status, b"application/json", _teleported(real.body))
    return real


def _teleported(body: bytes) -> bytes:
    """Return an answer whose orders are in a state that nobody knows."""
    found = json.loads(body)
    for order in found if isinstance(found, list) else [found]:
        if "status" in order:
            order["status"] = UNKNOWN
    return json.dumps(found).encode()


def _answer(status: int, kind: bytes, body: bytes) -> Answer:
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    return Answer(status, headers, body)


def _reset(scope: Scope) -> None:
    """Reset the connection of a request."""
    transport = _TRANSPORTS[scope["client"]]
    connection: socket.socket = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
    transport.abort()


async def _body(receive: Receive) -> bytes | None:
    """Return the whole body of a request; None where its client hung up before the end of it."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


async def _send(send: Send, answer: Answer, cut: int | None = None) -> None:
    """Send an answer, or only its first bytes."""
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    body = answer.body if cut is None else answer.body[:cut]
    await send({"type": "http.response.body", "body": body, "more_body": cut is not None})
