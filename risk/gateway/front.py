"""The outermost layer of the gateway's service: what every answer carries, and who was refused.

A stranger that tries tokens, or a caller that sends what cannot be read, shall be seen: every
minute in which something was refused gives one alarm or warning and one record of the audit, with
counts, so that whoever asks a thousand times fills neither the log nor the ledger.
"""

import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime

from risk.access.guard import BEARER, path_of
from risk.access.refusals import ALWAYS_SENT, REFUSED, App, Message, Receive, Scope, Send
from risk.access.routes import Route, label
from risk.gateway.alarms import Alarm, alarm
from risk.gateway.ledger import Ledger
from risk.gateway.storage import LedgerFailed, StaleEpoch

logger = logging.getLogger(__name__)

PAUSE_S = 60.0  # between two records
KIND = "refused_requests"  # of the audit's record
NOBODY = "unknown"  # who asks without a valid token
# What a caller cannot help: an answer that is not there yet, and a service that is not at work.
_INNOCENT = frozenset({"not_found", "not_ready", "busy", "store_failed"})
_UNINVITED = frozenset({"unauthenticated", "forbidden", "too_many_requests"})


class Refused:
    """Counts refused requests until they are written down.

    Args:
        monotonic: seconds.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._written_at = -float("inf")

    def note(self, code: str, method: str, path: str, who: str) -> None:
        """Count one; there are few kinds, whatever is asked for."""
        if code not in _INNOCENT:
            with self._lock:
                self._counts[f"{code} {method} {path} {who}"] += 1

    def write(self, ledger: Ledger, epoch: int, clock: Callable[[], datetime]) -> None:
        """Tell log and audit what was refused, once a minute at most.

        Args:
            ledger: of the account.
            epoch: of the gateway.
            clock: UTC.

        Raises:
            LedgerFailed, StaleEpoch: if it cannot be recorded; it is tried again.
        """
        if self._monotonic() < self._written_at + PAUSE_S:
            return
        with self._lock:
            counts, self._counts = self._counts, Counter()
        if not counts:
            return
        record = {"at": clock().isoformat(), "counts": dict(counts)}
        try:
            with ledger.writing(epoch) as writer:
                writer.audit(KIND, "gateway", record)
        except (LedgerFailed, StaleEpoch):
            with self._lock:
                self._counts += counts
            raise
        self._written_at = self._monotonic()
        said = json.dumps(dict(counts), sort_keys=True)
        if any(key.partition(" ")[0] in _UNINVITED for key in counts):
            alarm(Alarm.strangers, said)
        else:
            logger.warning("refused requests: %s", said)


class Front:
    """An ASGI application in front of another one.

    Args:
        app: the application.
        routes: all there are.
        refused: where refusals are counted.
    """

    def __init__(self, app: App, routes: Sequence[Route], refused: Refused) -> None:
        self._app, self._routes, self._refused = app, routes, refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""

        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *ALWAYS_SENT]
            await send(message)

        try:
            await self._app(scope, receive, headed)
        finally:
            if (code := scope.get(REFUSED)) is not None:
                bearer = scope.get(BEARER)
                self._refused.note(
                    code,
                    _method(scope),
                    label(self._routes, path_of(scope)),
                    NOBODY if bearer is None else bearer.name,
                )


def _method(scope: Scope) -> str:
    """Return the method where HTTP has it; a stranger's words stay out of the log."""
    method: str = scope["method"]
    return method if method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD") else "OTHER"
