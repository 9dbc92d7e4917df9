"""What the proxy says when the ingress cannot speak."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from serving.fallback import Fallback


def asked(app: Any, kind: str = "http") -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(dict(message))

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    asyncio.run(Fallback(app)({"type": kind, "path": "/v1/allocations"}, receive, send))
    return sent


def answers(status: int, content_type: bytes, body: bytes = b"body") -> Callable[..., Any]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", content_type)]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    return app


async def silent(scope: Any, receive: Any, send: Any) -> None:
    return None


@pytest.mark.parametrize(
    "app", [silent, answers(500, b"text/plain"), answers(503, b"text/plain; charset=utf-8")]
)
def test_a_failure_of_the_proxy_becomes_503_with_a_time_to_ask_again(app: Any) -> None:
    start, body = asked(app)
    assert start["status"] == 503
    assert int(dict(start["headers"])[b"retry-after"]) >= 1
    assert json.loads(body["body"])["error"]["code"] == "replica_failed"


@pytest.mark.parametrize(
    "app", [answers(200, b"text/plain"), answers(500, b"application/json"), answers(404, b"")]
)
def test_what_the_ingress_says_passes_untouched(app: Any) -> None:
    start, body = asked(app)
    assert body["body"] == b"body" and start["status"] in (200, 500, 404)


def test_an_answer_that_breaks_off_is_not_begun_twice() -> None:
    async def breaks(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        asked(breaks)


def test_what_is_no_http_passes(capsys: Any) -> None:
    assert asked(silent, "lifespan") == []
