"""One question over HTTP, and what an answer proves."""

from typing import Any

import requests
from requests.auth import AuthBase

from market.errors import InputError, Refused

CONNECT_S = 5.0


class Silent(InputError):
    """Nobody answered, or not in a way that says what was done."""


def ask(
    who: str, url: str, caller: AuthBase, timeout_s: float, method: str, path: str, body: Any = None
) -> dict[str, Any]:
    """Return the JSON object that is answered.

    Args:
        who: is asked, for messages, such as "gateway".
        url: of the service.
        caller: how we are let in.
        timeout_s: for the answer, > 0.
        method: of the request.
        path: of the request.
        body: that is sent as JSON; None sends none.

    Raises:
        Silent: where nothing, or nothing certain, is answered.
        Refused: where the answer is no.
        InputError: where we are not let in.
    """
    where = f"{url.rstrip('/')}{path}"
    try:
        answer = requests.request(
            method,
            where,
            json=body,
            auth=caller,
            timeout=(CONNECT_S, timeout_s),
            allow_redirects=False,
        )
        found = answer.json()
    except (requests.RequestException, ValueError) as error:
        raise Silent(f"no {who} answers at {where}: {type(error).__name__}") from None
    if answer.status_code == 200 and isinstance(found, dict):
        return found
    reason = f"the {who} says {answer.status_code}: {_reason(found)}"
    if answer.status_code in (401, 403):
        raise InputError(
            f"{reason}; {who}.tokens must hold a token, or the key, of the role allocate"
        )
    if answer.status_code >= 500 or answer.status_code in (200, 408, 429):
        raise Silent(reason)
    raise Refused(reason)


def _reason(answer: Any) -> str:
    """Return the words of a refusal, wherever they came from."""
    error = answer.get("error") if isinstance(answer, dict) else None
    return str(error.get("reason", "")) if isinstance(error, dict) else "no reason in it"
