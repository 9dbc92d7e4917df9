"""The exchange in the process of whoever lives there: nothing waits, and a life is cheap."""

import json
from pathlib import Path
from typing import Any

from benchmarks.crashes.direct import URL, Direct, pool_of
from benchmarks.crashes.points import Trap, TrappedBroker
from benchmarks.crashes.venue import HEADERS, KEY, KEYS, SECRET, Watched, client, prepare
from brokers.exchange.serve import application

PATIENCE_S = 60.0  # of the machine's own time, which nothing here should need


class Room:
    """An exchange in this process; see `venue.Venue`.

    Args:
        folder: where it lies, or will lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._taken = False
        self.exchange = Watched(folder / "exchange.sqlite", self._take)
        self.direct = Direct(application(self.exchange, KEY, SECRET))

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
        content = b"" if body is None else json.dumps(body).encode()
        status, _, answer = self.direct.ask(method, path, HEADERS, content)
        if status >= 300:
            raise ValueError(f"{method} {path}: {status} {answer!r}")
        return json.loads(answer) if answer else None

    def broker(self, trap: Trap) -> TrappedBroker:
        """Return the account by the official client."""
        found = TrappedBroker(client(URL, PATIENCE_S), KEYS, trap, self._accepted)
        for rest in (found._trading, found._data):
            pools = rest._session.get_adapter(URL).poolmanager  # type: ignore[attr-defined]
            pools.pool_classes_by_scheme = {"http": pool_of(self.direct)}
        return found

    def close(self) -> None:
        """Let go of everything."""
        self.direct.close()
        self.exchange.close()

    def _take(self) -> None:
        self._taken = True

    def _accepted(self) -> bool:
        taken, self._taken = self._taken, False
        return taken
