"""The running service as those see it who ask it over HTTP for an account's allocation."""

from dataclasses import dataclass
from typing import Any

from requests.auth import AuthBase

from serving.asking import ask


@dataclass(frozen=True, slots=True)
class ServerClient:
    """The API of `tercet serve`.

    Args:
        url: such as http://127.0.0.1:8000.
        caller: how to be let in, with the role allocate.
        timeout_s: for each answer, > 0.

    The method raises `Silent` where nothing certain is answered, `Refused` where the service says
    no, and InputError where we are not let in.
    """

    url: str
    caller: AuthBase
    timeout_s: float

    def allocation(self, account: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the allocation of the last completed session, and its explanation.

        Args:
            account: id, cash and positions.
        """
        answer = self._ask("POST", "/v1/allocations", {"account": account})
        recorded = self._ask("GET", f"/v1/allocations/{answer['decision_id']}")
        return answer, recorded["explanation"]

    def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        return ask("server", self.url, self.caller, self.timeout_s, method, path, body)
