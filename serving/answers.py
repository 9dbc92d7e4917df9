"""The answers as they go over the wire, for the OpenAPI description and the tests against it.

An answer is not validated when it is given: it was checked when it was recorded.
"""

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Model(_Answer):
    """Which artefact answered."""

    id: str
    sha256: Sha256


class Agent(_Answer):
    """What one agent's own book is to hold."""

    weights: dict[str, float]
    share: float
    confidence: float | None
    breaches_before_projection: list[str]


class Diagnostics(_Answer):
    """How fresh the data are and what the answer cost; only `missing` and `rebalance` last."""

    data_age: int
    missing: list[str]
    rebalance: bool
    seconds: dict[str, float]


class Allocation(_Answer):
    """The answer: weights as fractions of NAV, with their source."""

    decision_id: Sha256
    as_of: date
    expires_at: str
    supersedes: Sha256 | None
    model: Model
    weights: dict[str, float]
    agents: dict[str, Agent]
    market: dict[str, Any]
    diagnostics: Diagnostics


class Shadow(_Answer):
    """What a challenger would have answered instead."""

    model_sha256: Sha256
    weights: dict[str, float]
    distance: float


class RecordedAllocation(Allocation):
    """A decision as it was answered first, what became of it, and why it was taken."""

    account: str | None
    status: Literal["advice", "submittable", "superseded", "expired"]
    superseded_by: Sha256 | None
    explanation: dict[str, Any]
    shadows: list[Shadow]


class ModelStatus(BaseModel):
    """A model in its role, and what the service knows of it."""

    model_config = ConfigDict(extra="allow")

    role: str
    sha256: Sha256 | None
    wanted: Sha256 | None
    problem: str | None
    share: float


class Models(_Answer):
    """All models that are loaded or wanted."""

    models: list[ModelStatus]


class Health(_Answer):
    """The process, or its model, is there."""

    status: str
