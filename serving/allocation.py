"""From an opinion to the recorded answer: the same for the HTTP service and the command line."""

import hashlib
import math
from datetime import date
from typing import Any

from risk.access.errors import NotAnswered, Reason
from risk.access.strict import canonical_json
from serving.decisions import Decision, DecisionLog, Recorded
from serving.messages import AllocationRequest, canonical
from serving.questions import CASH, Opinion

SUM_TOLERANCE = 1e-6


def decision_id(account: str | None, as_of: str, model_sha256: str, body: bytes) -> str:
    """Return the identity of a decision: a hash of account, session, model and question.

    Args:
        account: id of the account; None is advice to nobody.
        as_of: the session, ISO date, also where the question left it out.
        model_sha256: of the artefact that answers.
        body: canonical body of the question.
    """
    parts = {"account": account, "as_of": as_of, "model": model_sha256, "body": body.decode()}
    return hashlib.sha256(canonical_json(parts)).hexdigest()


async def answer(log: DecisionLog, request: AllocationRequest, opinion: Opinion) -> Recorded:
    """Return the recorded answer to a question: the first time this one, later the same again.

    Raises:
        NotAnswered: store_failed; internal where the opinion is no allocation.
    """
    _require_whole(opinion)
    body = canonical(request)
    account = None if request.account is None else request.account.id
    sha256 = opinion.model["sha256"]
    identity = decision_id(account, opinion.as_of, sha256, body)
    decision = Decision(
        id=identity,
        account=account,
        as_of=opinion.as_of,
        model_sha256=sha256,
        request=body.decode(),
        answer=allocation(identity, opinion),
        explanation_key=explanation_key(request, opinion),
        explanation=opinion.explanation,
    )
    recorded = await log.record(decision)
    recorded.answer["diagnostics"] |= {
        "data_age": opinion.data_age,
        "seconds": dict(opinion.seconds),
    }
    return recorded


def allocation(identity: str, opinion: Opinion) -> dict[str, Any]:
    """Return the answer's JSON; `supersedes` is filled in where it is recorded."""
    return {
        "decision_id": identity,
        "as_of": opinion.as_of,
        "expires_at": opinion.expires_at,
        "supersedes": None,
        "model": dict(opinion.model),
        "weights": dict(opinion.weights),
        "agents": {name: dict(agent) for name, agent in opinion.agents.items()},
        "market": dict(opinion.market),
        "diagnostics": {
            "data_age": opinion.data_age,
            "missing": list(opinion.missing),
            "rebalance": opinion.rebalance,
            "seconds": dict(opinion.seconds),
        },
    }


def explanation_key(request: AllocationRequest, opinion: Opinion) -> str:
    """Return what an explanation depends on; the account is not among it."""
    universe = None if request.universe is None else sorted(request.universe)
    parts = [opinion.model["sha256"], opinion.data_sha256, opinion.as_of, universe]
    return hashlib.sha256(canonical_json(parts)).hexdigest()


def distance(weights: dict[str, float], others: dict[str, float]) -> float:
    """Return half the L1 distance of two books: the fraction of NAV that lies elsewhere.

    >>> distance({"A": 0.5, "CASH": 0.5}, {"A": 0.2, "B": 0.3, "CASH": 0.5})
    0.3
    """
    names = weights.keys() | others.keys()
    return math.fsum(abs(weights.get(name, 0.0) - others.get(name, 0.0)) for name in names) / 2


def _require_whole(opinion: Opinion) -> None:
    """Refuse to publish what is no allocation: fractions of NAV with cash, a sum of 1."""
    total = math.fsum(opinion.weights.values())  # NaN and infinity end here as well
    if CASH not in opinion.weights or not abs(total - 1.0) <= SUM_TOLERANCE:
        raise NotAnswered(Reason.internal, f"weights sum to {total}, with CASH it must be 1")
    date.fromisoformat(opinion.as_of)
