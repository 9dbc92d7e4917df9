"""What can come back for an order in the place of the answer, before and after it was taken."""

from typing import Any

Json = dict[str, Any]

LATE_S = 1.5  # more than a life waits for an answer
HIDDEN_S = 600.0  # longer than a case: what is hidden appears again when a life clears the faults


def _both(kind: str, **more: Any) -> list[Json]:
    return [{"kind": kind, "after": after, **more} for after in (False, True)]


LOST = (
    *(fault for status in (500, 502, 503, 504) for fault in _both("status", status=status)),
    *_both("reset"),
    *_both("silence"),
    *_both("slow", seconds=LATE_S),
    *_both("html"),
    *_both("empty"),
    {"kind": "truncated"},
    {"kind": "unknown_enum"},
    {"kind": "hide", "seconds": HIDDEN_S},
    *_both("status", status=429, retry_after=1),
)
"""Answers that say nothing true of the order; a rate limit, even one told after it was taken."""

REFUSED: Json = {
    "kind": "status", "status": 403, "after": False, "code": 40310000, "message": "refused",
}  # fmt: skip
"""An answer that proves that nothing was done."""

FAULTS: tuple[Json, ...] = (*LOST, REFUSED)


def on_order(fault: Json, number: int) -> Json:
    """Return a fault that hits the n-th order that is sent, from 1."""
    return {"method": "POST", "path": "/v2/orders", "nth": number, **fault}


def name_of(fault: Json) -> str:
    """Return a fault in a few words.

    >>> name_of({"kind": "status", "status": 504, "after": True})
    '504 after'
    """
    what = str(fault["status"]) if fault["kind"] == "status" else fault["kind"]
    return f"{what} {'after' if fault.get('after', True) else 'before'}"
