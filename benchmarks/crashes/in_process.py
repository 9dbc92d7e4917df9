"""Lives in this process, one after another: a point ends a life by an exception nobody catches."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.crashes.direct import URL, Direct, pool_of
from benchmarks.crashes.life import Birth, live
from benchmarks.crashes.points import Trap, TrappedBroker
from benchmarks.crashes.venue import HEADERS, KEY, KEYS, SECRET, Watched, client, prepare
from brokers.exchange.serve import application
from risk.gateway.audit import FileAnchor


class Crash(BaseException):
    """The end of a life."""


def crash() -> None:
    """End a life."""
    raise Crash


class Room:
    """An exchange in this process; see `venue.Venue`.

    Args:
        folder: new.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._taken = False
        self.exchange = Watched(folder / "exchange.sqlite", self._take)
        self.direct = Direct(application(self.exchange, KEY, SECRET))
        prepare(self)

    @property
    def folder(self) -> Path:
        """Return where everything lies."""
        return self._folder

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        """Drive the exchange."""
        content = b"" if body is None else json.dumps(body).encode()
        status, _, answer = self.direct.ask(method, path, HEADERS, content)
        if status >= 300:
            raise ValueError(f"{method} {path}: {status} {answer!r}")
        return json.loads(answer) if answer else None

    def broker(self, trap: Trap) -> TrappedBroker:
        """Return the account by the official client."""
        found = TrappedBroker(client(URL, 1.0), KEYS, trap, self._accepted)
        for rest in (found._trading, found._data):
            pools = rest._session.get_adapter(URL).poolmanager  # type: ignore[attr-defined]
            pools.pool_classes_by_scheme = {"http": pool_of(self.direct)}
        return found

    def close(self) -> None:
        """Let go of everything, and remove it."""
        self.direct.close()
        self.exchange.close()
        shutil.rmtree(self._folder)

    def _take(self) -> None:
        self._taken = True

    def _accepted(self) -> bool:
        taken, self._taken = self._taken, False
        return taken


def lives(room: Room, anchor: FileAnchor, ends: Sequence[str]) -> list[Trap]:
    """Live once for each end and once more to the end of the decision; return all traps."""
    traps = []
    for at in (*ends, None):
        trap = Trap(at, crash)
        traps.append(trap)
        try:
            live(Birth(room, room.broker(trap), anchor, trap))
        except Crash:
            continue
        return traps
    return traps
