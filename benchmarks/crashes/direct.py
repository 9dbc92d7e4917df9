"""The official client and the exchange in one process: real on both sides, without a socket.

What lies between them, urllib3's connections, is replaced by a call of the exchange's application.
Time on the way is virtual: a request that would be given up after a second is given up at once.
"""

import asyncio
import selectors
import threading
from collections.abc import Callable, Mapping
from io import BytesIO
from itertools import count
from typing import Any

from urllib3 import HTTPConnectionPool, HTTPHeaderDict, HTTPResponse
from urllib3.exceptions import IncompleteRead, ProtocolError, ReadTimeoutError

from brokers.exchange.wire import App, Message, connected

URL = "http://127.0.0.1:9"  # discard: where nobody listens, should a request leave after all
READ_S = 1.0  # that a client waits for an answer, in virtual seconds


class Line(asyncio.Transport):
    """One connection, as the exchange's faults know it: they reset or close it."""

    def __init__(self) -> None:
        super().__init__({"socket": self})
        self.is_reset = self.is_closed = False

    def abort(self) -> None:
        """End it with a reset."""
        self.is_reset = True

    def close(self) -> None:
        """End it."""
        self.is_closed = True

    def setsockopt(self, *_: object) -> None:
        """Set an option of the socket that is none."""


class Virtual(asyncio.SelectorEventLoop):
    """A loop in which nobody waits: its clock jumps to the next thing that is due."""

    def __init__(self) -> None:
        super().__init__(_Jumping(self))
        self.passed = 0.0

    def time(self) -> float:
        """Return virtual seconds."""
        return super().time() + self.passed


class _Jumping(selectors.DefaultSelector):
    def __init__(self, loop: Virtual) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout:
            self._loop.passed += timeout
        return super().select(0)


class Direct:
    """Calls an application as a server would."""

    def __init__(self, app: App) -> None:
        self._app, self._loop, self._ports = app, Virtual(), count(1)
        self._turn = threading.Lock()

    def close(self) -> None:
        """Let go of the loop."""
        self._loop.close()

    def ask(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """Return status, headers and body of an answer.

        Raises:
            ReadTimeoutError, ProtocolError: where a client would meet them.
        """
        with self._turn:
            return self._loop.run_until_complete(self._asked(method, target, headers, body))

    async def _asked(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        path, _, query = target.partition("?")
        line, client = Line(), ("direct", next(self._ports))
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        sent: list[Message] = []

        async def receive() -> Message:
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
            "scheme": "http", "path": path, "raw_path": path.encode(), "root_path": "",
            "query_string": query.encode(), "client": client, "server": ("direct", 80),
            "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
        }  # fmt: skip
        begin = self._loop.passed
        with connected(client, line):
            await self._app(scope, receive, send)
        if line.is_reset:
            raise ProtocolError("connection reset", ConnectionResetError(104, "reset"))
        if not sent or self._loop.passed - begin > READ_S:
            raise ReadTimeoutError(None, target, "no answer in time")  # type: ignore[arg-type]
        content = b"".join(message.get("body", b"") for message in sent[1:])
        if line.is_closed:
            raise ProtocolError("connection broken", IncompleteRead(len(content), 1))
        pairs = [(k.decode(), v.decode()) for k, v in sent[0]["headers"]]
        return sent[0]["status"], pairs, content


def pool_of(direct: Direct) -> Callable[..., HTTPConnectionPool]:
    """Return what makes connections for a client: each calls the application."""

    class Pool(HTTPConnectionPool):
        def urlopen(self, method: str, url: str, body: Any = None, **more: Any) -> HTTPResponse:  # type: ignore[override]
            content = body.encode() if isinstance(body, str) else body or b""
            status, headers, answer = direct.ask(method, url, more["headers"], content)
            return HTTPResponse(
                BytesIO(answer),
                HTTPHeaderDict(headers),
                status,
                preload_content=False,
                decode_content=False,
            )

    return Pool
