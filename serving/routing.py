"""Who is asked: the roles of the models, and which accounts belong to which.

Nothing here computes; the ingress needs it, and needs neither torch nor a market.
"""

import hashlib
import json
from dataclasses import dataclass
from enum import Enum
from typing import Any

from risk.access.errors import NotAnswered, Reason
from serving.questions import Question


class ModelRole(Enum):
    """What a model is for."""

    champion = "champion"
    challenger = "challenger"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which artefacts are to serve, and of which state the market's data are.

    Args:
        champion: sha256, or None where nothing was promoted.
        challenger: sha256, or None.
        share: of the accounts that the challenger serves; 0 is shadow: recorded, never served.
        market: version of the source's data.
    """

    champion: str | None
    challenger: str | None
    share: float
    market: str


def role_for(question: Question, wanted: Wanted) -> ModelRole:
    """Return whose answer an account gets: the challenger's for its share of the accounts.

    Raises:
        NotAnswered: if there is no champion.
    """
    if wanted.champion is None:
        raise NotAnswered(Reason.no_model, "no champion was promoted: see tercet promote")
    tried = wanted.challenger is not None and question.account is not None
    if tried and question.account is not None and place(question.account, wanted.share):
        return ModelRole.challenger
    return ModelRole.champion


def in_shadow(wanted: Wanted) -> bool:
    """Return whether a challenger is to be asked without being served."""
    return wanted.challenger is not None and wanted.share == 0.0


def described(statuses: list[dict[str, Any]], share: float) -> list[dict[str, Any]]:
    """Return the roles that are filled or wanted, with the share of accounts each one serves."""
    shares = {ModelRole.champion.value: 1.0 - share, ModelRole.challenger.value: share}
    return [
        {**status, "share": shares[status["role"]]}
        for status in statuses
        if status["sha256"] is not None or status["wanted"] is not None
    ]


def place(account: str, share: float) -> bool:
    """Return whether an account belongs to the share of the accounts that a challenger serves.

    The same accounts for the same share, and those of a smaller share are among them.

    >>> place("paper", 1.0), place("paper", 0.0)
    (True, False)
    """
    digest = hashlib.sha256(json.dumps(["canary", account]).encode()).digest()
    return int.from_bytes(digest[:8]) < share * 2.0**64
