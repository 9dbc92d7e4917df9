import asyncio
import base64
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from risk.access.errors import NotAnswered, Reason
from risk.access.guard import require_shallow
from risk.access.routes import Route, routes_at
from risk.access.tokens import Role
from serving.routes import ROUTES

PATHS = [(route, route.path.replace("{decision_id}", "0" * 64)) for route in ROUTES]
CLOSED = [(r, path.replace("{asset}", "start.js")) for r, path in PATHS if r.role is not None]
BAD_TOKENS = [
    "",
    "Bearer",
    "Bearer ",
    "Bearer wrong-wrong-wrong-wrong",
    "bearer admin-xxxxxxxxxxxxxxx",
    "Basic YWRtaW46YWRtaW4=",
    "admin-xxxxxxxxxxxxxxxx",
    "Token admin-xxxxxxxxxxxxxxxx",
    "Bearer admin-xxxxxxxxxxxxxxxx, Bearer admin-xxxxxxxxxxxxxxxx",
]


async def never() -> Any:
    raise AssertionError("the body was read")


@pytest.mark.parametrize("token", BAD_TOKENS)
@pytest.mark.parametrize(("route", "path"), CLOSED, ids=str)
def test_without_a_valid_token_no_route_answers_and_no_body_is_read(
    shop: Any, route: Route, path: str, token: str
) -> None:
    headers = {"authorization": token, "content-length": str(1 << 40)}
    reply = shop.ask_once(route.method, path, b"", role=None, headers=headers, receive=never)
    assert (reply.status, reply.code) == (401, "unauthenticated")
    assert "Bearer" in reply.headers["www-authenticate"]
    assert shop.backend.asked == []


@pytest.mark.parametrize(("route", "path"), CLOSED, ids=str)
def test_each_role_opens_its_routes_and_no_others(
    shop: Any, route: Route, path: str, question: Any
) -> None:
    for role in Role:
        reply = shop.ask_once(route.method, path, question, role=role)
        assert route.role is not None
        if role < route.role:
            assert (reply.status, reply.code) == (403, "forbidden")
        else:
            assert reply.status == (404 if "{decision_id}" in route.path else 200)


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/allocations\n", "/v1/allocations/", "//v1/allocations", "/V1/allocations"),
        *("/v1/allocations/../models", "/v1/./models", "/healthz\n", "/healthz/", "/readyz\x00"),
        *("", "*", "/docs/../../etc/passwd", "/docs/a/b", "/redoc", "/-/routes"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_path_that_only_resembles_a_route_is_none(shop: Any, method: str, path: str) -> None:
    assert shop.ask_once(method, path, {}, role=None).status == 401
    assert shop.ask_once(method, path, {}, role=Role.admin).status == 404
    assert shop.backend.asked == []


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "get"])
def test_another_method_is_told_which_one_is_answered(shop: Any, method: str) -> None:
    reply = shop.ask_once(method, "/v1/allocations", {})
    assert (reply.status, reply.headers["allow"]) == (405, "POST")


def test_two_authorization_headers_are_none(shop: Any) -> None:
    async def twice(scope: Any, receive: Any, send: Any) -> None:
        scope["headers"] = scope["headers"] * 2
        await app(scope, receive, send)

    app = shop.app
    shop.app = twice
    assert shop.ask_once("GET", "/v1/models").status == 401


def test_under_a_prefix_the_routes_are_the_same(shop: Any) -> None:
    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        scope |= {"root_path": "/tercet", "path": "/tercet" + scope["path"]}
        await app(scope, receive, send)

    app = shop.app
    shop.app = mounted
    assert shop.ask_once("GET", "/v1/models").status == 200
    assert shop.ask_once("POST", "/v1/allocations", {}, role=None).status == 401
    assert shop.ask_once("GET", "/docs/start.js").status == 200


def test_a_browser_may_show_the_page_but_ask_nothing_else_with_a_password(shop: Any) -> None:
    secret = base64.b64encode(f"me:read-{'x' * 16}".encode()).decode()
    basic = {"authorization": f"Basic {secret}"}
    for path in ("/docs", "/docs/start.js", "/docs/swagger-ui.css", "/openapi.json"):
        assert shop.ask_once("GET", path, role=None, headers=basic).status == 200
        unasked = shop.ask_once("GET", path, role=None)
        assert unasked.headers["www-authenticate"].startswith("Basic")
    for method, path in (("GET", "/v1/models"), ("POST", "/v1/allocations"), ("GET", "/metrics")):
        assert shop.ask_once(method, path, {}, role=None, headers=basic).status == 401
    assert all(route.method == "GET" and not route.body for route in ROUTES if route.browser)


def test_a_body_above_the_limit_is_refused_by_its_declared_length_alone(shop: Any) -> None:
    headers = {"content-length": str((1 << 20) + 1)}
    reply = shop.ask_once("POST", "/v1/allocations", b"", headers=headers, receive=never)
    assert (reply.status, reply.code) == (413, "too_large")


def test_a_body_that_lies_about_its_length_is_read_up_to_the_limit_only(
    open_shop: Callable[..., Any],
) -> None:
    shop = open_shop(max_body_bytes=1000)
    read = 0

    async def endless() -> Any:
        nonlocal read
        read += 100
        return {"type": "http.request", "body": b" " * 100, "more_body": True}

    headers = {"content-length": "10"}
    reply = shop.ask_once("POST", "/v1/allocations", b"", headers=headers, receive=endless)
    assert (reply.status, read) == (413, 1100)


def test_a_body_of_exactly_the_limit_is_read(open_shop: Callable[..., Any]) -> None:
    shop = open_shop(max_body_bytes=100)
    assert shop.ask_once("POST", "/v1/allocations", b"{}".ljust(100)).status == 200
    assert shop.ask_once("POST", "/v1/allocations", b"{}".ljust(101)).status == 413


@pytest.mark.parametrize("length", ["-1", "1e3", "x", "1 0", "9" * 30, "+5"])
def test_a_length_that_is_no_number_is_refused(shop: Any, length: str) -> None:
    reply = shop.ask_once("POST", "/v1/allocations", b"{}", headers={"content-length": length})
    assert reply.status == 400


def test_a_body_that_drips_is_given_up(open_shop: Callable[..., Any]) -> None:
    shop = open_shop(body_timeout_s=0.2)

    async def dripping() -> Any:
        await asyncio.sleep(0.05)
        return {"type": "http.request", "body": b" ", "more_body": True}

    started = time.monotonic()
    reply = shop.ask_once("POST", "/v1/allocations", b"{}", receive=dripping)
    assert (reply.status, reply.code) == (408, "request_timeout")
    assert time.monotonic() - started < 1.0


def test_who_hangs_up_in_the_middle_of_a_body_reaches_nothing(shop: Any) -> None:
    parts = [
        {"type": "http.request", "body": b'{"as_of"', "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def cut() -> Any:
        return parts.pop(0)

    assert shop.ask_once("POST", "/v1/allocations", b"", receive=cut).status == 0
    assert shop.backend.asked == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "application/json"}, 200),
        ({"content-type": "Application/JSON; charset=UTF-8"}, 200),
        ({"content-type": ""}, 415),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/json; charset=utf-16"}, 415),
        ({"content-type": "application/jsonx"}, 415),
        ({"content-type": "multipart/form-data; boundary=x"}, 415),
        ({"content-encoding": "gzip"}, 415),
    ],
)
def test_only_plain_json_is_read(shop: Any, headers: dict[str, str], status: int) -> None:
    assert shop.ask_once("POST", "/v1/allocations", b"{}", headers=headers).status == status


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='[]{}"\\a,:'),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text('[{"\\'), inner, max_size=3)
    ),
    max_leaves=20,
)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@given(value=json_values, deepest=st.integers(0, 6))
def test_depth_is_that_of_the_nesting_and_not_of_the_text(value: Any, deepest: int) -> None:
    import json

    body = json.dumps(value).encode()
    if depth(value) <= deepest:
        require_shallow(body, deepest)
    else:
        with pytest.raises(NotAnswered) as caught:
            require_shallow(body, deepest)
        assert caught.value.reason is Reason.bad_request


@pytest.mark.parametrize(
    "body",
    [
        b"[" * (1 << 20),
        b"{" * (1 << 20),
        b'{"a":' * 200_000,
        b'"' + b'\\"' * (1 << 19),
        b'"' + b'\\"' * (1 << 19) + b"\\",
        b'"' * (1 << 20),
        b"\\" * (1 << 20),
        b"[]" * (1 << 19),
        b'"",' * 300_000,
    ],
    ids=range(9),
)
def test_a_hostile_megabyte_is_judged_at_once(shop: Any, body: bytes) -> None:
    started = time.perf_counter()
    assert shop.ask_once("POST", "/v1/allocations", body).status in (400, 413, 422)
    assert time.perf_counter() - started < 1.0


def test_a_token_that_asks_too_often_waits_and_the_others_do_not(
    open_shop: Callable[..., Any],
) -> None:
    shop = open_shop(requests_per_minute=5)
    replies = [shop.ask_once("GET", "/v1/models", role=Role.read) for _ in range(20)]
    assert replies[0].status == 200
    assert (replies[-1].status, replies[-1].code) == (429, "too_many_requests")
    assert 1 <= int(replies[-1].headers["retry-after"]) <= 60
    assert shop.ask_once("GET", "/v1/models", role=Role.admin).status == 200
    assert shop.ask_once("GET", "/healthz", role=None).status == 200


def test_guessing_is_slowed_and_never_locks_a_valid_token_out(
    open_shop: Callable[..., Any],
) -> None:
    shop = open_shop(failures_per_minute=5)
    guess = {"authorization": "Bearer guess-guess-guess-guess"}
    replies = [shop.ask_once("GET", "/v1/models", role=None, headers=guess) for _ in range(20)]
    assert (replies[0].status, replies[-1].status) == (401, 429)
    assert int(replies[-1].headers["retry-after"]) >= 1
    assert shop.ask_once("GET", "/v1/models", role=Role.read).status == 200


def test_more_than_can_be_worked_on_is_told_to_come_back(open_shop: Callable[..., Any]) -> None:
    shop = open_shop(max_in_flight=3)
    shop.backend.delay_s = 0.2

    async def crowd() -> list[Any]:
        work = [shop.ask("POST", "/v1/allocations", {}) for _ in range(5)]
        return await asyncio.gather(*work)

    replies = asyncio.run(crowd())
    assert sorted(reply.status for reply in replies) == [200, 200, 200, 503, 503]
    refused = [reply for reply in replies if reply.status == 503]
    assert all(reply.code == "busy" and reply.headers["retry-after"] for reply in refused)
    assert shop.ask_once("POST", "/v1/allocations", {}).status == 200  # all have left


def test_a_websocket_is_closed_unheard(shop: Any) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    connection: Awaitable[None] = shop.app({"type": "websocket", "path": "/"}, never, send)
    asyncio.run(connection)  # type: ignore[arg-type]
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_every_path_of_the_table_leads_to_its_own_route_only() -> None:
    for route, path in PATHS:
        assert [r.path for r in routes_at(ROUTES, path.replace("{asset}", "x"))] == [route.path]
