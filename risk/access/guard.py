"""What stands in front of every route: who asks, how often, how much, and in which form.

Who asks shows a bearer token, or signs; see `risk.access.signed`. Nothing of a body is read before
the caller is known, nothing is parsed before it is theirs, and nothing reaches a route that the
service does not declare. The counters are those of one process: with
several ingress replicas a caller can ask that many times as often.
"""

import asyncio
import base64
import binascii
import ipaddress
import re
import time
from collections.abc import Sequence
from math import ceil

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from risk.access.errors import NotAnswered, Reason
from risk.access.refusals import App, Message, Receive, RefusalResponse, Scope, Send
from risk.access.routes import Route, routes_at
from risk.access.settings import GuardSettings
from risk.access.signed import SCHEME, Asked, Signatures
from risk.access.tokens import Bearer, Tokens

BEARER = "tercet.bearer"  # key of the scope: who asks
_SIGNED = "tercet.signed"  # key of the scope: what of the request was signed

# A string with its escapes, also one that never ends: the end of the text ends it, so that a
# hostile body costs one pass. All quantifiers are possessive.
_STRING = re.compile(rb'"(?:[^"\\]++|\\(?:.|\Z))*+(?:"|\Z)', re.DOTALL)
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_JSON = re.compile(r'application/json(?:\s*;\s*charset="?utf-8"?)?', re.IGNORECASE)


class DisconnectedError(Exception):
    """The caller went away while its body was awaited: nobody waits for an answer."""


class Guard:
    """An ASGI application in front of another one.

    Args:
        app: what the admitted requests reach.
        tokens: the valid ones.
        settings: all limits.
        routes: all there are.
        in_clear: a bearer token is taken from another machine over a connection that is not
            encrypted, as it is behind a proxy that has ended the TLS.
    """

    def __init__(
        self,
        app: App,
        tokens: Tokens,
        settings: GuardSettings,
        routes: Sequence[Route],
        in_clear: bool,
    ) -> None:
        self._app, self._tokens, self._settings, self._routes = app, tokens, settings, routes
        self._signatures, self._in_clear = Signatures(tokens), in_clear
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._rate = RateLimitItemPerMinute(settings.requests_per_minute)
        self._failures = RateLimitItemPerMinute(settings.failures_per_minute)
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Admit a request, or answer it with the reason why not."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = path_of(scope)
        try:
            route = await self._admit(scope, path)
        except NotAnswered as error:
            await RefusalResponse(error, _asking(error, routes_at(self._routes, path)))(
                scope, receive, send
            )
            return
        if route.role is None:
            await self._app(scope, receive, send)
            return
        self._in_flight += 1
        try:
            if self._in_flight > self._settings.max_in_flight and not route.urgent:
                raise NotAnswered(Reason.busy, f"{self._in_flight - 1} requests are in work")
            if route.body:
                body = await self._body(scope, receive)
                if (signed := scope.get(_SIGNED)) is not None:
                    signed.require(body)
                require_shallow(body, self._settings.max_depth)
                receive = replayed(body, receive)
            await self._app(scope, receive, send)
        except NotAnswered as error:
            await RefusalResponse(error)(scope, receive, send)
        except DisconnectedError:
            return
        finally:
            self._in_flight -= 1

    async def _admit(self, scope: Scope, path: str) -> Route:
        """Return the route; by then the caller is known and may use it, this often."""
        routes = routes_at(self._routes, path)
        route = next((r for r in routes if r.method == scope["method"]), None)
        if route is not None and route.role is None:
            return route
        browser = any(r.browser for r in routes)
        bearer = await self._authenticated(scope, browser)
        scope[BEARER] = bearer
        if route is None or not route.urgent:
            await self._count(self._rate, bearer.name, "requests with this token")
        if not routes:
            raise NotAnswered(Reason.not_found, "there is nothing at this path")
        if route is None:
            allowed = ", ".join(r.method for r in routes)
            raise NotAnswered(Reason.method_not_allowed, f"this path answers {allowed}")
        assert route.role is not None, "open routes were returned before"
        if bearer.role < route.role:
            reason = f"needs the role {route.role.name}, the token has {bearer.role.name}"
            raise NotAnswered(Reason.forbidden, reason)
        return route

    async def _authenticated(self, scope: Scope, browser: bool) -> Bearer:
        """Return who asks; failures are counted together, who is known always passes."""
        try:
            return self._known(scope, browser)
        except NotAnswered:
            await self._count(self._failures, "unauthenticated", "requests without a valid token")
            raise

    def _known(self, scope: Scope, browser: bool) -> Bearer:
        headers = _headers(scope, b"authorization")
        header = headers[0] if len(headers) == 1 else b""
        if header.partition(b" ")[0].lower() == SCHEME.lower().encode():
            signed = self._signatures.signed(header, _asked(scope))
            scope[_SIGNED] = signed
            return signed.bearer
        if not (self._in_clear or _is_private(scope)):
            why = "a token is taken over TLS or from this machine only: sign the request"
            raise NotAnswered(Reason.unauthenticated, why)
        token = _token(header, browser)
        bearer = None if token is None else self._tokens.bearer(token)
        if bearer is None:
            raise NotAnswered(Reason.unauthenticated, "a valid bearer token is needed")
        return bearer

    async def _count(self, limit: RateLimitItemPerMinute, who: str, what: str) -> None:
        if not await self._limiter.hit(limit, who):
            stats = await self._limiter.get_window_stats(limit, who)
            wait = max(1, ceil(stats.reset_time - time.time()))
            reason = f"more than {limit.amount} {what} in a minute"
            raise NotAnswered(Reason.too_many_requests, reason, wait)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """Return the whole body of a request whose form is right."""
        _require_json(scope)
        self._require_small(_declared_length(scope))
        try:
            async with asyncio.timeout(self._settings.body_timeout_s):
                body = await self._received(receive)
        except TimeoutError:
            waited = f"the body took longer than {self._settings.body_timeout_s:g} s"
            raise NotAnswered(Reason.request_timeout, waited) from None
        return body

    async def _received(self, receive: Receive) -> bytes:
        parts, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise DisconnectedError
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            self._require_small(size)
            more = message.get("more_body", False)
        return b"".join(parts)

    def _require_small(self, size: int) -> None:
        if size > self._settings.max_body_bytes:
            most = self._settings.max_body_bytes
            raise NotAnswered(Reason.too_large, f"the body has more than {most} bytes")


def _asked(scope: Scope) -> Asked:
    """Return what a caller that signs has signed of a request."""
    hosts, query = _headers(scope, b"host"), scope.get("query_string", b"")
    target = scope.get("raw_path") or scope["path"].encode()
    if query:
        target += b"?" + query
    return Asked(scope["method"], hosts[0] if len(hosts) == 1 else b"", target)


def _is_private(scope: Scope) -> bool:
    """Return whether nobody between the caller and this process can read what is sent."""
    if scope.get("scheme") == "https":
        return True
    client = scope.get("client")
    try:
        return client is not None and ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False


def path_of(scope: Scope) -> str:
    """Return the path within the application, wherever it is mounted."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def require_shallow(body: bytes, deepest: int) -> None:
    """Refuse JSON that is nested deeper than this, before any parser recurses into it.

    Each round takes the innermost brackets away; what is left after so many is too deep, or
    does not match and is no JSON.
    """
    brackets = _STRING.sub(b"", body).translate(_BRACKETS, _NO_BRACKETS)
    for _ in range(deepest):
        brackets = brackets.replace(b"[]", b"")
    if brackets:
        reason = f"brackets that do not match, or are nested more than {deepest} deep"
        raise NotAnswered(Reason.bad_request, reason)


def replayed(body: bytes, receive: Receive) -> Receive:
    """Return a channel that gives the body once, then what the server says."""
    waiting = [body]

    async def again() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return again


def _asking(error: NotAnswered, routes: list[Route]) -> dict[str, str]:
    """Return the header that says how to come in, or which method is answered."""
    if error.reason is Reason.unauthenticated:
        basic = 'Basic realm="tercet", charset="UTF-8", ' if any(r.browser for r in routes) else ""
        return {"WWW-Authenticate": f'{basic}Bearer realm="tercet"'}
    if error.reason is Reason.method_not_allowed:
        return {"Allow": ", ".join(route.method for route in routes)}
    return {}


def _token(header: bytes, browser: bool) -> bytes | None:
    scheme, _, rest = header.partition(b" ")
    credentials = rest.strip(b" ")
    if scheme.lower() == b"bearer":
        return credentials
    if browser and scheme.lower() == b"basic":
        try:
            return base64.b64decode(credentials, validate=True).partition(b":")[2]
        except binascii.Error:
            return None
    return None


def _headers(scope: Scope, name: bytes) -> list[bytes]:
    return [value for key, value in scope["headers"] if key.lower() == name]


def _require_json(scope: Scope) -> None:
    types = _headers(scope, b"content-type")
    if len(types) != 1 or not _JSON.fullmatch(types[0].decode("latin-1").strip()):
        raise NotAnswered(Reason.unsupported_media_type, "the body must be application/json")
    if _headers(scope, b"content-encoding"):
        raise NotAnswered(Reason.unsupported_media_type, "the body must not be compressed")


def _declared_length(scope: Scope) -> int:
    lengths = _headers(scope, b"content-length")
    if not lengths:
        return 0
    if len(lengths) != 1 or not re.fullmatch(rb"[0-9]{1,18}", lengths[0]):
        raise NotAnswered(Reason.bad_request, "Content-Length is not one number")
    return int(lengths[0])
