"""The official client's requests, answered by the exchange's own application without a socket.

Client and exchange are the real ones: alpaca-py with its methods, requests and errors, up to what
it gives to its HTTP session, and the exchange from its fault plan and the functions of its routes
down to SQLite. What is left out lies between them, and other tests go through it: `requests`,
sockets, uvicorn, and FastAPI's way from a path to its function. A planned fault does what it does
to a connection: it resets it, lets it fall silent, ends it in the middle of an answer.
"""

from collections.abc import Callable, Mapping
from json import dumps
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import requests
from fastapi.routing import APIRoute, APIRouter
from requests import Response
from requests.models import RequestEncodingMixin
from starlette.requests import Request

from brokers.alpaca import AlpacaBroker
from brokers.exchange.records import Rejection
from brokers.exchange.web import Keys, rejected
from brokers.exchange.wire import _TRANSPORTS, App, Message, Receive, Scope, Send
from brokers.one_shot import NoAnswer, _ExactResponse
from market.errors import InputError

PEER = ("inside", 0)  # the address of the only client


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


class Asked(NamedTuple):
    """A request as it leaves the client."""

    method: str
    path: str
    query: str
    body: bytes

    @property
    def is_order(self) -> bool:
        """Return whether it puts an order."""
        return (self.method, self.path) == ("POST", "/v2/orders")


Happens = Callable[[Asked], None]


class Inside(requests.Session):
    """The session of a client, whose requests are answered at once.

    Args:
        app: the exchange's.
        before: called with each request before the exchange sees it; whatever it raises ends it.
        after: called with each request that was answered, before its caller sees the answer.
    """

    def __init__(self, app: App, before: Happens, after: Happens) -> None:
        super().__init__()
        self._app, self._before, self._after = app, before, after

    def request(  # type: ignore[override]
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        params: Any = None,
        json: Any = None,
        allow_redirects: bool = False,
    ) -> Response:
        """Let the exchange answer what the client asks for.

        Raises:
            OSError: where what comes back is no answer, as `brokers.one_shot` does.
        """
        query = RequestEncodingMixin._encode_params(params or {})
        body = b"" if json is None else dumps(json).encode()
        asked = Asked(method, urlsplit(url).path, query, body)
        self._before(asked)
        wire = _Wire(asked, headers)
        _TRANSPORTS[PEER] = wire  # type: ignore[assignment]
        _run(self._app(wire.scope, wire.receive, wire.send))
        answer = wire.answer(url)
        self._after(asked)
        return answer


def connect_inside(broker: AlpacaBroker, session: Inside) -> None:
    """Let everything that a broker sends go to a session."""
    for client in (broker._trading, broker._data):
        client._session = session


class _Wire:
    """One request, its connection, and what came back on it."""

    def __init__(self, asked: Asked, headers: Mapping[str, str]) -> None:
        self._body = asked.body
        self.scope: Scope = {
            "type": "http",
            "method": asked.method,
            "path": asked.path,
            "query_string": asked.query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "client": PEER,
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

    def answer(self, url: str) -> Response:
        """Return what came back.

        Raises:
            OSError: where that is no whole answer.
        """
        if self._reset:
            raise requests.ConnectionError(ConnectionResetError(104, "Connection reset by peer"))
        if self._status == 0:
            raise requests.ReadTimeout("Read timed out.")
        if not self._ended:
            raise requests.exceptions.ChunkedEncodingError("Response ended prematurely")
        answer = _ExactResponse()
        answer._content = b"".join(self._parts)
        answer.status_code, answer.url, answer.encoding = self._status, url, "utf-8"
        answer.headers.update(self._headers)
        if answer.status_code == 200 and not answer.content:
            raise NoAnswer("an empty answer", response=answer)
        return answer


def _run(answering: Any) -> None:
    """Run what never waits, without a loop."""
    try:
        answering.send(None)
    except StopIteration:
        return
    raise RuntimeError("the exchange waits for something: only a planned `slow` does")
