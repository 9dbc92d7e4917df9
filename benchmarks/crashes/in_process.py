"""The exchange in the process of whoever lives there: nothing waits, and a life is cheap."""

import json
from pathlib import Path
from typing import Any

from benchmarks.crashes.points import Trap, TrappedBroker
from benchmarks.crashes.venue import HEADERS, KEY, KEYS, SECRET, Watched, client, prepare
from benchmarks.machine.inside import Inside, Routes, connect_inside
from brokers.exchange.admin import admin_routes
from brokers.exchange.faults import FaultPlan
from brokers.exchange.web import Keys, trading_routes
from brokers.exchange.wire import Faulty, Receive, Scope, Send

URL = "http://127.0.0.1:9"  # discard: where nobody listens, should a request leave after all


class Room:
    """An exchange in this process; see `venue.Venue`.

    Args:
        folder: where it lies, or will lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._taken = False
        self.exchange = Watched(folder / "exchange.sqlite", self._take)
        plan, keys = FaultPlan(), Keys(KEY, SECRET)
        self.exchange.hidden = plan.hidden
        self._trading = Faulty(Routes(trading_routes(self.exchange, keys), keys), plan)
        self._admin = Routes(admin_routes(self.exchange, plan, keys, keys), keys)
        self._inside = Inside(self._app, lambda _: None, lambda _: None)

    @classmethod
    def new(cls, folder: Path) -> "Room":
        """Return one where a case begins."""
        room = cls(folder)
        prepare(room)
        return room

    @property
    def folder(self) -> Path:
        """Return where everything lies."""
        return self._folder

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        """Drive the exchange."""
        answer = self._inside.request(method, f"{URL}{path}", json=body, headers=HEADERS)
        if not answer.ok:
            raise ValueError(f"{method} {path}: {answer.status_code} {answer.text}")
        return json.loads(answer.content) if answer.content else None

    def broker(self, trap: Trap) -> TrappedBroker:
        """Return the account by the official client."""
        found = TrappedBroker(client(URL, 1.0), KEYS, trap, self._accepted)
        connect_inside(found, self._inside)
        return found

    def close(self) -> None:
        """Let go of everything."""
        self._inside.close()
        self.exchange.close()

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._admin if scope["path"].startswith("/admin") else self._trading
        await app(scope, receive, send)

    def _take(self) -> None:
        self._taken = True

    def _accepted(self) -> bool:
        taken, self._taken = self._taken, False
        return taken
