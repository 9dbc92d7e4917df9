"""What a caller hears when the ingress itself cannot speak: a refusal in the words of all others.

Ray Serve's proxy answers in plain text when a replica dies under a request, and without saying
when to ask again. This middleware runs in the proxy, before everything else.
"""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.middleware import Middleware

from risk.access.errors import RETRY_AFTER_S, Reason

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

SERVER_ERROR = 500


class Fallback:
    """Turn the proxy's own failures into 503 with a reason and Retry-After.

    Args:
        app: the proxy.
    """

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Pass a request on, and watch its answer begin."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, failed = False, False

        async def watched(message: Message) -> None:
            nonlocal begun, failed
            if message["type"] == "http.response.start" and not begun:
                failed = _is_the_proxys(message)
                begun = not failed
            if not failed:
                await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            if not begun:
                await _refuse(send)


def middlewares() -> list[Middleware]:
    """Return what Ray Serve puts around its proxy; found by RAY_SERVE_HTTP_PROXY_CALLBACK_..."""
    return [Middleware(Fallback)]


def _is_the_proxys(start: Message) -> bool:
    """Return whether the proxy failed: the ingress itself only speaks JSON."""
    headers = dict(start.get("headers", ()))
    is_json = headers.get(b"content-type", b"").startswith(b"application/json")
    return bool(start["status"] >= SERVER_ERROR) and not is_json


async def _refuse(send: Send) -> None:
    problem = {"code": Reason.replica_failed.name, "reason": "the service lost this request"}
    body = json.dumps({"error": problem}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"retry-after", str(RETRY_AFTER_S).encode()),
    ]
    status = Reason.replica_failed.status
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
