"""An urgent route is answered however busy the service is, and to nobody who may not ask."""

import asyncio
from typing import Any

import pytest

from risk.access.guard import Guard
from risk.access.routes import Route
from risk.access.settings import GuardSettings
from risk.access.tokens import Role, Tokens

ROUTES = (
    Route("POST", "/slow", Role.read),
    Route("POST", "/stop", Role.allocate, urgent=True),
)
TOKENS = Tokens({"reader-of-the-tests": Role.read, "trader-of-the-tests": Role.allocate})
BUSY = GuardSettings(1000, 4, 1, 3, 100, 1.0)


async def asked(guard: Guard, path: str, token: str) -> int:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"authorization", f"Bearer {token}".encode())]
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
    await guard(scope, receive, send)
    status: int = sent[0]["status"]
    return status


@pytest.mark.parametrize("times", [1, 10])
def test_an_urgent_request_is_let_in_whatever_is_in_work(times: int) -> None:
    async def story() -> None:
        over = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/slow":
                await over.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})

        guard = Guard(app, TOKENS, BUSY, ROUTES, in_clear=True)
        slow = asyncio.create_task(asked(guard, "/slow", "trader-of-the-tests"))
        await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        assert await asked(guard, "/slow", "trader-of-the-tests") == 503
        for _ in range(times):
            assert await asked(guard, "/stop", "trader-of-the-tests") == 200
        assert await asked(guard, "/stop", "reader-of-the-tests") == 403
        assert await asked(guard, "/stop", "nobody-of-the-tests") == 401
        assert await asked(guard, "/slow", "trader-of-the-tests") == 503
        assert await asked(guard, "/slow", "trader-of-the-tests") == 429
        over.set()
        assert await slow == 200

    asyncio.run(story())
