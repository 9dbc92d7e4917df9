"""Prove that a client still sends once, in time and exactly, against a server that answers badly.

The client's private parts are set to make it so; another version of it could have others. So it is
asked to talk to a server inside this process, and what arrives there is counted.
"""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from decimal import Decimal
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from time import monotonic
from types import TracebackType
from typing import Any

from requests import Session

from brokers.one_shot import OneShotAdapter, Timeouts
from risk.gateway.broker import BrokerError

HASTY = Timeouts(connect_s=0.25, read_s=0.25)
LATE_S = 2.0  # the bad server ends a silence then: what took that long would have waited for ever
REPEATABLE = (429, 502, 503, 504)  # statuses after which clients like to repeat a request


def check_session(session: Session, url: str, timeouts: Timeouts) -> None:
    """Check how a session would reach an address.

    Raises:
        BrokerError: if it would not be by our adapter with these timeouts, or by a proxy.
    """
    adapter = session.get_adapter(url)
    if not isinstance(adapter, OneShotAdapter) or adapter.timeouts != timeouts:
        raise BrokerError(f"requests to {url} have lost their timeouts")
    if adapter.max_retries.total != 0 or session.trust_env or session.proxies:
        raise BrokerError(f"requests to {url} may be repeated, or go by a proxy")


def check_client(session: Session, ask: Callable[[str, str], object]) -> None:
    """Check what a client does when it is answered badly.

    Args:
        session: of the client.
        ask: posts to (path, base address) by the client; returns its answer, or None where the
            client raised an error of its own or of the network.

    Raises:
        BrokerError: if it repeats a request, waits for ever, or makes a float of a number.
    """
    with _BadServer() as server:
        session.mount(server.url, OneShotAdapter(HASTY))
        try:
            for status in REPEATABLE:
                ask(f"/{status}", server.url)
                _expect_once(server, f"/{status}", "was answered")
            for manner in ("/silent", "/trickle"):
                began = monotonic()
                ask(manner, server.url)
                _expect_once(server, manner, "was kept waiting")
                if monotonic() - began >= LATE_S:
                    raise BrokerError("the client waits for an answer without an end")
            if ask("/exact", server.url) != {"price": Decimal("0.10")}:
                raise BrokerError("the client does not keep the digits of a number")
        finally:
            del session.adapters[server.url]


def _expect_once(server: "_BadServer", path: str, fate: str) -> None:
    count = server.received(path)
    if count != 1:
        raise BrokerError(f"a request that {fate} {path} was sent {count} times instead of once")


class _Handler(BaseHTTPRequestHandler):
    """Answers each path in its own bad manner."""

    server: "_Listener"

    def do_POST(self) -> None:
        path = self.path.removeprefix("/v2")
        with self.server.lock:
            self.server.paths.append(path)
        if path == "/silent":
            self.server.closing.wait(LATE_S)
        elif path == "/trickle":
            self._trickle()
        elif path == "/exact":
            self._answer(200, b'{"price": 0.10}')
        else:
            self._answer(int(path[1:]), b"{}")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(body)

    def _trickle(self) -> None:
        """Send a byte of a header, again and again, so that no wait for a byte is long."""
        end = monotonic() + LATE_S
        try:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while monotonic() < end and not self.server.closing.wait(HASTY.read_s / 5):
                self.wfile.write(b".")
        except OSError:
            self.close_connection = True  # given up, as it should be

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class _Listener(ThreadingTCPServer):
    """Keeps what it was sent; not an `HTTPServer`, which looks up the name of this machine."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.paths: list[str] = []
        self.lock = threading.Lock()
        self.closing = threading.Event()


class _BadServer(AbstractContextManager["_BadServer"]):
    """A listener on a free port of this machine, while it is entered."""

    def __init__(self) -> None:
        self._listener = _Listener()
        self.url = f"http://127.0.0.1:{self._listener.server_address[1]}"
        self._thread = threading.Thread(
            target=self._listener.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )

    def __enter__(self) -> "_BadServer":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.closing.set()
        self._listener.shutdown()
        self._listener.server_close()

    def received(self, path: str) -> int:
        """Return how often a path was asked for."""
        with self._listener.lock:
            return self._listener.paths.count(path)
