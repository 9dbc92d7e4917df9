"""What an error answer of Alpaca proves, and what it does not.

A status alone proves little: proxies and load balancers answer with 4xx of their own. Alpaca's
refusals are JSON with a number as `code` and words as `message`.
"""

import json
import re
from collections.abc import Mapping
from time import time

from requests import Response

from risk.gateway.broker import BrokerError, DuplicateId, OutcomeUnknown, Refused, Unauthorised

REFUSALS = (400, 403, 404, 422)  # under which Alpaca says no and gives its reason
LONGEST_LINE = 300  # characters of a message
LONGEST_WAIT_S = 3600.0
SECONDS = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")
WINDOW_S = 60.0  # in which Alpaca counts requests: after it the limit is no more, whatever it was


class NotFound(Refused):
    """The broker says that there is no such thing, now."""


def meaning(response: Response) -> BrokerError:
    """Return what an answer with an error status proves.

    Args:
        response: with a status of 400 or more.

    Returns:
        `Unauthorised` for keys that are not accepted; `Refused`, `NotFound` or `DuplicateId` where
        the broker itself said no; `OutcomeUnknown` where nothing is proven.
    """
    status, body = response.status_code, _body(response)
    code, words = body.get("code"), body.get("message")
    if not isinstance(words, str) or not words:
        words = None
    if status == 401 or (status == 403 and words is not None and _means_keys(code, words)):
        return Unauthorised(f"HTTP {status}: {line(words or 'the keys are not accepted')}")
    if status == 429:
        return Refused(
            code if type(code) is int else status,
            line(words or "too many requests"),
            _retry_after(response.headers),
        )
    if status not in REFUSALS or type(code) is not int or words is None:
        return OutcomeUnknown(f"HTTP {status}: {line(response.text)}")
    if status == 404:
        return NotFound(code, line(words))
    # In doubt a duplicate: it is looked up, while an order taken for refused would be forgotten.
    if "client_order_id" in words.lower().replace(" ", "_"):
        return DuplicateId(code, line(words))
    return Refused(code, line(words))


def _means_keys(code: object, words: str) -> bool:
    """Return whether a 403 is about the keys: Alpaca says "forbidden.", without a code."""
    return code is None or words.lower().startswith("forbidden")


def line(said: object) -> str:
    """Return an error or a broker's words on one line that a terminal and a log can show."""
    if isinstance(said, Exception):
        root = _root(said)
        said = f"{type(root).__name__}: {root}"
    text = str(said)
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= LONGEST_LINE else text[:LONGEST_LINE] + "..."


def _root(error: Exception) -> Exception:
    """Return what an error of the HTTP libraries wraps; they call one attempt "max retries"."""
    for _ in range(4):
        inner = getattr(error, "reason", None) or (error.args[0] if error.args else None)
        if not isinstance(inner, Exception):
            break
        error = inner
    return error


def _body(response: Response) -> Mapping[str, object]:
    try:
        body = json.loads(response.content)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds to wait; Alpaca says at which second of the epoch instead."""
    if (wait := _seconds(headers.get("Retry-After"))) is not None:
        return min(wait, LONGEST_WAIT_S)
    if (reset := _seconds(headers.get("X-RateLimit-Reset"))) is not None:
        return min(max(reset - time(), 0.0), LONGEST_WAIT_S)
    return WINDOW_S


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and SECONDS.fullmatch(text) else None
