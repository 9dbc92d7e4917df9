"""The gateway as those see it who ask it over HTTP: the only way from here to a broker.

Nothing of an account is decided here; amounts pass as the decimal strings that they are.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Any

from requests.auth import AuthBase

from serving.asking import ask


class Mode(Enum):
    """What an allocation is handed over for."""

    dry_run = "dry_run"  # judged and planned; nothing is sent
    paper = "paper"  # only where the broker itself says that no real money is in the account
    live = "live"


@dataclass(frozen=True, slots=True)
class GatewayClient:
    """The API of one account's gateway.

    Args:
        url: such as http://127.0.0.1:8020.
        caller: how to be let in, with the role allocate.
        timeout_s: for each answer, > 0.

    Every method raises `Silent` where nothing, or nothing certain, is answered; `Refused` where
    the gateway says no to the request; and InputError where we are not let in.
    """

    url: str
    caller: AuthBase
    timeout_s: float

    def state(self) -> dict[str, Any]:
        """Return what the gateway knows of itself and its account."""
        return self._ask("GET", "/v1/state")

    def decide(self, account: str, mode: Mode, allocation: dict[str, Any]) -> dict[str, Any]:
        """Hand an allocation over; the same one again gets the same answer."""
        body = {"account": account, "mode": mode.value, "allocation": allocation}
        return self._ask("POST", "/v1/decisions", body)

    def decision(self, decision_id: str) -> dict[str, Any]:
        """Return what came of a decision so far."""
        return self._ask("GET", f"/v1/decisions/{decision_id}")

    def history(self) -> dict[str, Any]:
        """Return the account's closes and what models made of them."""
        return self._ask("GET", "/v1/history")

    def reconcile(self) -> dict[str, Any]:
        """Let ledger and broker be compared now, and return what differs."""
        return self._ask("POST", "/v1/reconcile")

    def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        return ask("gateway", self.url, self.caller, self.timeout_s, method, path, body)
