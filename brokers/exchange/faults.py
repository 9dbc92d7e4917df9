"""What goes wrong on purpose between the exchange and its client, and what the client sent.

A fault is asked for as JSON and hits the nth request that matches it. `after` says whether the
exchange carries the request out first: a client sees the same, which is the point.
"""

import json
import re
import time
from collections import deque
from dataclasses import dataclass, field, fields
from decimal import Decimal
from enum import Enum
from typing import Any

from brokers.exchange.admission import malformed
from brokers.exchange.records import ExchangeOrder

Json = dict[str, Any]


class FaultKind(Enum):
    """What the client gets in the place of the answer."""

    status = "status"  # an HTTP status with an error in Alpaca's form
    reset = "reset"  # the connection is reset
    silence = "silence"  # nothing, until the client hangs up
    truncated = "truncated"  # half of the body, then the end of the connection
    slow = "slow"  # the answer, `seconds` late
    html = "html"  # status 200 and a page of HTML
    empty = "empty"  # status 200 and no body
    unknown_enum = "unknown_enum"  # the answer with a status that nobody knows
    hide = "hide"  # the answer; the order is not found for `seconds`


KEPT = 100_000  # requests that are remembered, the last ones
ALWAYS_CARRIED_OUT = {FaultKind.truncated, FaultKind.unknown_enum, FaultKind.hide}


@dataclass(slots=True)
class Fault:
    """One entry of the plan.

    Args:
        kind: what goes wrong.
        method: of the request; None is any.
        path: regular expression of the whole path; None is any.
        nth: the first match that is hit, from 1.
        times: matches that are hit from there; None is all.
        for_s: seconds, since it was planned, in which it hits; None is for ever.
        after: the exchange carries the request out first.
        status: of `status`.
        retry_after: header of `status`, seconds; None sends none.
        seconds: of `slow` and `hide`.
        code: Alpaca's, of `status`.
        message: Alpaca's, of `status`.
    """

    kind: FaultKind
    method: str | None
    path: str | None
    nth: int
    times: int | None
    for_s: float | None
    after: bool
    status: int
    retry_after: float | None
    seconds: float
    code: int
    message: str
    planned_at: float = field(default_factory=time.monotonic)
    matched: int = 0
    hit: int = 0

    def hits(self, method: str, path: str) -> bool:
        """Count a request, and return whether it is hit."""
        if self.method not in (None, method) or not re.fullmatch(self.path or ".*", path):
            return False
        if self.for_s is not None and time.monotonic() - self.planned_at > self.for_s:
            return False
        self.matched += 1
        if self.matched < self.nth or (self.times is not None and self.hit >= self.times):
            return False
        self.hit += 1
        return True

    def answer(self) -> Json:
        """Return the entry with what it did so far."""
        shown = {item.name: getattr(self, item.name) for item in fields(self)}
        del shown["planned_at"]
        return shown | {"kind": self.kind.value}


ASKED: dict[str, tuple[Any, tuple[type, ...]]] = {
    "method": (None, (str,)),
    "path": (None, (str,)),
    "nth": (1, (int,)),
    "times": (1, (int,)),
    "for_s": (None, (int, float)),
    "after": (False, (bool,)),
    "status": (500, (int,)),
    "retry_after": (None, (int, float)),
    "seconds": (1.0, (int, float)),
    "code": (50010000, (int,)),
    "message": ("a planned fault", (str,)),
}
"""What a fault may ask for, with what it means where it is left out."""


def parse_fault(asked: Any) -> Fault:
    """Return the fault that a JSON object asks for.

    Raises:
        Rejection: if it is none.
    """
    if not isinstance(asked, dict) or (unknown := set(asked) - set(ASKED) - {"kind"}):
        raise malformed(f"a fault is an object without {sorted(unknown)}" if asked else "no fault")
    try:
        kind = FaultKind(asked.get("kind"))
        re.compile(asked.get("path") or "")
    except (ValueError, re.error) as error:
        raise malformed(str(error)) from None
    values: dict[str, Any] = {}
    for name, (default, types) in ASKED.items():
        value = asked.get(name, default)
        if isinstance(value, Decimal):
            value = int(value) if types == (int,) else float(value)
        if value is not None and not isinstance(value, types):
            raise malformed(f"{name} of a fault cannot be {value!r}")
        values[name] = value
    values["after"] = values["after"] or kind in ALWAYS_CARRIED_OUT
    return Fault(kind, **values)


@dataclass(slots=True)
class Sent:
    """A request as it came in.

    Args:
        number: from 1.
        monotonic_s: when, by the machine's monotonic clock.
        method: of the request.
        path: of the request.
        query: of the request.
        body: of the request.
        carried_out: the exchange's own status; None where it never saw the request.
        fault: kind of what went wrong; None where nothing did.
    """

    number: int
    monotonic_s: float
    method: str
    path: str
    query: str
    body: str
    carried_out: int | None = None
    fault: str | None = None


class FaultPlan:
    """The faults to come, the orders that are hidden, and what was sent."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.sent: deque[Sent] = deque(maxlen=KEPT)
        self._received = 0
        self._hidden: dict[str, float] = {}

    def record(self, method: str, path: str, query: str, body: bytes) -> Sent:
        """Keep a request."""
        text = body.decode("utf-8", "replace")
        self._received += 1
        sent = Sent(self._received, time.monotonic(), method, path, query, text)
        self.sent.append(sent)
        return sent

    def take(self, method: str, path: str) -> Fault | None:
        """Return the fault that hits a request; the first of several."""
        hits = [fault for fault in self.faults if fault.hits(method, path)]
        return hits[0] if hits else None

    def hide(self, body: bytes, seconds: float) -> None:
        """Hide the order of an answer from every look-up."""
        self._hidden[json.loads(body)["id"]] = time.monotonic() + seconds

    def hidden(self, order: ExchangeOrder) -> bool:
        """Return whether an order is hidden now."""
        return self._hidden.get(order.id, 0.0) > time.monotonic()

    def clear(self) -> None:
        """Forget the faults to come; what is hidden appears again."""
        self.faults.clear()
        self._hidden.clear()
