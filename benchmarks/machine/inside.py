"""The official client's requests, answered by the exchange's own application without a socket.

Client and exchange are the real ones, from alpaca-py's calls down to prepared HTTP requests, and
from the fault plan and the routes' own functions down to SQLite. What is left out lies between
them, and other tests go through it: urllib3, the kernel, uvicorn, and FastAPI's way from a path to
its function. A planned fault does what it does to a connection: it resets it, lets it fall silent,
ends it in the middle of an answer.
"""

from collections.abc import Callable
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import requests
from fastapi.routing import APIRoute, APIRouter
from requests import PreparedRequest, Response
from starlette.requests import Request
from urllib3 import HTTPResponse

from brokers.alpaca import AlpacaBroker
from brokers.exchange.records import Rejection
from brokers.exchange.web import Keys, rejected
from brokers.exchange.wire import _TRANSPORTS, App, Message, Receive, Scope, Send
from brokers.one_shot import NoAnswer, OneShotAdapter, Timeouts
from market.errors import InputError

PEER = ("inside", 0)  # the address of the only client
Before = Callable[[PreparedRequest], None]
After = Callable[[PreparedRequest, Response], None]


class Routes:
    """An exchange's routes as an ASGI application, found by path alone.

    Args:
        router: of the exchange.
        keys: that its callers must send.
    """

    def __init__(self, router: APIRouter, keys: Keys) -> None:
        self._keys = keys
        routes = [route for route in router.routes if isinstance(route, APIRoute)]
        self._fixed = {
            (method, route.path): route.endpoint
            for route in routes
            for method in route.methods or ()
            if "{" not in route.path
        }
        self._open = [route for route in routes if "{" in route.path]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        endpoint, scope["path_params"] = self._found(scope["method"], scope["path"])
        request = Request(scope, receive)
        try:
            self._keys.check(request)
            response = await endpoint(request)
        except (Rejection, InputError) as error:
            response = await rejected(request, error)
        await response(scope, receive, send)

    def _found(self, method: str, path: str) -> tuple[Callable[..., Any], dict[str, str]]:
        if (method, path) in self._fixed:
            return self._fixed[method, path], {}
        for route in self._open:
            if method in (route.methods or ()) and (match := route.path_regex.match(path)):
                return route.endpoint, match.groupdict()
        raise LookupError(f"the exchange has no {method} {path}")


class Inside(OneShotAdapter):
    """Answers what a session sends.

    Args:
        app: the exchange's.
        before: called with each request before the exchange sees it; whatever it raises ends it.
        after: called with each answer before its caller sees it.
    """

    def __init__(self, app: App, before: Before, after: After) -> None:
        super().__init__(Timeouts(1.0, 1.0))
        self._app, self._before, self._after = app, before, after

    def send(self, request: PreparedRequest, *_: Any, **__: Any) -> Response:
        """Let the exchange answer; see `OneShotAdapter.send` for what is raised."""
        self._before(request)
        wire = _Wire(request)
        _TRANSPORTS[PEER] = wire  # type: ignore[assignment]
        _run(self._app(wire.scope, wire.receive, wire.send))
        response = self.build_response(request, wire.answer())
        if response.status_code == 200 and not response.content:
            raise NoAnswer("an empty answer", response=response)
        self._after(request, response)
        return response


def connect_inside(broker: AlpacaBroker, adapter: Inside) -> None:
    """Let everything that a broker sends go to an adapter."""
    for client in (broker._trading, broker._data):
        client._session.mount("http://", adapter)


class _Wire:
    """One request, its connection, and what came back on it."""

    def __init__(self, request: PreparedRequest) -> None:
        url = urlsplit(request.url or "")
        body = request.body or b""
        self._body = body.encode() if isinstance(body, str) else body
        self.scope: Scope = {
            "type": "http",
            "method": request.method,
            "path": url.path,
            "raw_path": url.path.encode(),
            "root_path": "",
            "query_string": url.query.encode(),
            "headers": [
                (name.lower().encode(), value.encode() if isinstance(value, str) else value)
                for name, value in request.headers.items()
            ],
            "client": PEER,
            "server": ("inside", 80),
            "scheme": "http",
            "http_version": "1.1",
            "asgi": {"version": "3.0"},
        }
        self._asked = self._reset = self._ended = False
        self._status = 0
        self._headers: dict[str, str] = {}
        self._parts: list[bytes] = []

    async def receive(self) -> Message:
        """Give the body once; after that the client has hung up."""
        if self._asked:
            return {"type": "http.disconnect"}
        self._asked = True
        return {"type": "http.request", "body": self._body, "more_body": False}

    async def send(self, message: Message) -> None:
        """Take a part of the answer."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self._parts.append(message.get("body", b""))
            self._ended = not message.get("more_body", False)

    def get_extra_info(self, name: str) -> "_Wire":
        """Return itself as the socket."""
        return self

    def setsockopt(self, *_: Any) -> None:
        """Do without."""

    def abort(self) -> None:
        """Reset the connection."""
        self._reset = True

    def close(self) -> None:
        """End the connection, wherever the answer is."""

    def answer(self) -> HTTPResponse:
        """Return what came back.

        Raises:
            OSError: of `requests`, where that is no whole answer.
        """
        if self._reset:
            raise requests.ConnectionError(ConnectionResetError(104, "Connection reset by peer"))
        if self._status == 0:
            raise requests.ReadTimeout("Read timed out.")
        return HTTPResponse(
            BytesIO(b"".join(self._parts)), self._headers, self._status, preload_content=False
        )


def _run(answering: Any) -> None:
    """Run what never waits, without a loop."""
    try:
        answering.send(None)
    except StopIteration:
        return
    raise RuntimeError("the exchange waits for something: only a planned `slow` does")
