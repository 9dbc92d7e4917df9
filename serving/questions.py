"""What is asked of a policy and what it says: the records between the HTTP ingress and a replica.

Everything in them is plain data, small, and the same in whichever process it was made.
"""

from dataclasses import dataclass, replace
from typing import Any, Protocol

CASH = "CASH"


@dataclass(frozen=True, slots=True)
class Question:
    """Which session's allocation is wanted, for whom.

    Args:
        as_of: session at whose close is decided, ISO date; None is the last completed one.
        account: id, which decides whether the challenger answers; None is always the champion's.
        universe: the names to choose from; None is all.
    """

    as_of: str | None
    account: str | None
    universe: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one whole artefact says of one session.

    Args:
        model: "id" and "sha256" of the artefact.
        data_sha256: of the bars that it has seen.
        as_of: session, ISO date.
        expires_at: end of the next session's execution window, ISO UTC time.
        weights: symbol -> fraction of NAV, and "CASH": a sum of 1.
        agents: name -> weights, share, confidence, breaches_before_projection.
        market: regime and other words about the day.
        missing: names of the universe that are not listed in that session.
        rebalance: whether the ensemble trades in the backtest's sense after this close.
        explanation: what each agent wanted, and what mixer and limits changed.
        data_age: completed sessions that have passed since `as_of`; the clock's, not the data's.
        seconds: what took how long.
    """

    model: dict[str, str]
    data_sha256: str
    as_of: str
    expires_at: str
    weights: dict[str, float]
    agents: dict[str, dict[str, Any]]
    market: dict[str, Any]
    missing: tuple[str, ...]
    rebalance: bool
    explanation: dict[str, Any]
    data_age: int
    seconds: dict[str, float]

    def at(self, data_age: int, seconds: dict[str, float]) -> "Opinion":
        """Return the same opinion as it is given at another time."""
        return replace(self, data_age=data_age, seconds=seconds)


class Backend(Protocol):
    """Whatever answers questions: a desk in this process, or replicas behind Ray Serve.

    Every method raises `risk.access.errors.NotAnswered` for a question that it cannot answer.
    """

    async def opinion(self, question: Question) -> Opinion:
        """Return what the model that serves this account says."""
        ...

    async def shadow(self, question: Question) -> Opinion | None:
        """Return what a challenger in shadow says; None where there is none."""
        ...

    async def models(self) -> list[dict[str, Any]]:
        """Return role, id, sha256, state and share of every model that is loaded or wanted."""
        ...

    async def unready(self) -> str | None:
        """Return why no question can be answered now, or None."""
        ...

    async def refresh(self) -> None:
        """Look at the registry and at the data now."""
        ...
