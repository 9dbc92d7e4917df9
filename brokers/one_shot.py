"""HTTP for orders: sent at most once, over in time, and with every digit of its numbers.

`requests` has a timeout for a connection and one for each wait for a byte. Neither bounds the name
look-up, nor an answer that trickles in; so each request runs in a thread of its own that its caller
gives up in the end. From that moment on not one byte of it is sent.
"""

import json
import socket
import threading
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from http.client import HTTPException
from typing import Any, NamedTuple, NoReturn

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests.exceptions import RequestException, Timeout
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

# What a request can fail with on its way; ValueError and RecursionError: JSON that is none.
FAILURES = (OSError, HTTPError, HTTPException, ValueError, RecursionError)

_of_this_thread = threading.local()


class Timeouts(NamedTuple):
    """How long a request may take."""

    connect_s: float
    read_s: float  # without a byte

    @property
    def total_s(self) -> float:
        """Return how long the whole of it may take."""
        return self.connect_s + self.read_s


class OutOfTime(Timeout):
    """A request was given up; whether it arrived is not known."""


class NoAnswer(RequestException):
    """What came back is no answer: a redirection, or nothing where something was due."""


class OneShotAdapter(HTTPAdapter):
    """Sends each request once and returns its complete answer in time.

    The environment's proxies are for the session to ignore (`trust_env`): a proxy's connections
    would be others than ours, without the end in time.
    """

    def __init__(self, timeouts: Timeouts) -> None:
        super().__init__(max_retries=0)
        self.timeouts = timeouts

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make connections that can be given up."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}

    def build_response(self, req: PreparedRequest, resp: Any) -> Response:
        """Return an answer whose JSON keeps every digit."""
        exact = _ExactResponse()
        vars(exact).update(vars(super().build_response(req, resp)))
        return exact

    def send(
        self,
        request: PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> Response:
        """Send a request and read its answer.

        Args:
            request: to send.
            stream: not listened to: an answer is read before it is given out.
            timeout: not listened to: ours holds for everybody.
            verify: of `requests`.
            cert: of `requests`.
            proxies: not listened to.

        Raises:
            OutOfTime: if it takes longer than connecting and reading together may.
            NoAnswer: for a redirection, or a 200 without a body.
            OSError: for whatever else can happen on the way.
        """
        call = _Call()

        def work() -> None:
            _of_this_thread.call = call
            try:
                response = super(OneShotAdapter, self).send(
                    request, timeout=(self.timeouts.connect_s, self.timeouts.read_s),
                    verify=verify, cert=cert,
                )  # fmt: skip
                _ = response.content  # read here, so that the end in time holds for the body too
                call.response = response
            except FAILURES as error:
                call.error = error
            finally:
                call.over.set()

        threading.Thread(target=work, name="broker request", daemon=True).start()
        try:
            if not call.over.wait(self.timeouts.total_s):
                raise OutOfTime(f"no complete answer within {self.timeouts.total_s:g} s")
        finally:
            call.give_up()  # changes nothing once it is over
        return _complete(call)


class _Call:
    """A request under way in its thread, until whoever waits for it gives it up."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.response: Response | None = None
        self.error: BaseException | None = None
        self._lock = threading.Lock()
        self._given_up = False
        self._socket: socket.socket | None = None

    def sends_on(self, connection: socket.socket) -> None:
        """Note the connection just before bytes leave on it; refuse once given up."""
        with self._lock:
            if self._given_up:
                raise ConnectionAbortedError("the request was given up before it was sent")
            self._socket = connection

    def give_up(self) -> None:
        """Let no further byte be sent, and end the waiting for an answer."""
        with self._lock:
            if self.over.is_set():
                return  # the connection may already serve another request
            self._given_up = True
            if self._socket is not None:
                with suppress(OSError):
                    # Not the method of a TLS socket: that one changes what the thread is using.
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class _Abortable:
    """A connection that tells the request of its thread when bytes are about to leave."""

    sock: socket.socket | None

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()  # type: ignore[attr-defined]
        _of_this_thread.call.sends_on(self.sock)
        super().send(data)  # type: ignore[misc]


class _Connection(_Abortable, HTTPConnection):
    """Over TCP."""


class _SecureConnection(_Abortable, HTTPSConnection):
    """Over TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class _ExactResponse(Response):
    """An answer whose numbers never become floats."""

    def json(self, **_: Any) -> Any:
        """Return the body; fractions are Decimals.

        Raises:
            ValueError: if it is not JSON, or holds NaN or an infinity.
        """
        return json.loads(self.content, parse_float=_decimal, parse_constant=_refuse)


def _decimal(digits: str) -> Decimal:
    try:
        return Decimal(digits)
    except InvalidOperation:  # an exponent beyond every number
        raise ValueError(f"no number: {digits[:40]}") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"no number: {constant}")


def _complete(call: _Call) -> Response:
    """Return the answer of a request that is over."""
    if call.error is not None:
        raise call.error
    response = call.response
    if response is None:  # its thread died of something nobody foresaw, and printed it
        raise NoAnswer("the request ended without an answer")
    if not (200 <= response.status_code < 300 or response.status_code >= 400):
        raise NoAnswer(f"HTTP {response.status_code} instead of an answer", response=response)
    if response.status_code == 200 and not response.content:
        raise NoAnswer("an empty answer", response=response)
    return response
