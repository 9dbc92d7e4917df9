"""The official client's requests, answered by the exchange's own application without a socket.

Client and exchange are the real ones, from alpaca-py's calls down to prepared HTTP requests and from
the ASGI application down to SQLite. What is left out is urllib3, the kernel and uvicorn between them,
which `tests/brokers` and `tests/gateway/test_engine.py` go through. A planned fault does what it does
to a connection: it resets it, lets it fall silent, ends it in the middle of an answer.
"""

from collections.abc import Callable, Coroutine, MutableMapping
from io import BytesIO
from typing import Any, NoReturn
from urllib.parse import urlsplit

import requests
from requests import PreparedRequest, Response
from urllib3 import HTTPResponse

from brokers.alpaca import AlpacaBroker
from brokers.exchange.wire import _TRANSPORTS, App
from brokers.one_shot import NoAnswer, OneShotAdapter, Timeouts

PEER = ("inside", 0)  # the address of the only client
Before = Callable[[PreparedRequest], None]
After = Callable[[PreparedRequest, Response], None]


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
        self.scope: MutableMapping[str, Any] = {
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

    async def receive(self) -> MutableMapping[str, Any]:
        """Give the body once; after that the client has hung up."""
        if self._asked:
            return {"type": "http.disconnect"}
        self._asked = True
        return {"type": "http.request", "body": self._body, "more_body": False}

    async def send(self, message: MutableMapping[str, Any]) -> None:
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


def _run(answering: Coroutine[Any, Any, None] | Any) -> None:
    """Run what never waits, without a loop."""
    try:
        answering.send(None)
    except StopIteration:
        return
    _waits()


def _waits() -> NoReturn:
    raise RuntimeError("the exchange waits for something: only a planned `slow` does")
