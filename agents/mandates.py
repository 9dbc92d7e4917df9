"""Mandates: what each agent may hold, what it aims at and what it is paid for.

Plain data without torch, so that a mandate can be read wherever a configuration can.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import Enum
from typing import Any

from market.errors import InputError
from risk.breakers import BreakerRules
from risk.exits import ExitRules
from risk.limits import Limits

# A name becomes part of the names of parameters, metrics and files.
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class BasePortfolio(Enum):
    """What a mandate holds, at its rule's exposure, when its policy has nothing to say."""

    equal_weight = "equal_weight"
    inverse_volatility = "inverse_volatility"
    none = "none"  # scores alone; the policy is not shown a distance to any base


class ExposureRule(Enum):
    """The exposure at which an exposure action of 0 leaves the book."""

    volatility_target = "volatility_target"  # min(1, target / market volatility)
    full = "full"


@dataclass(slots=True)
class RewardWeights:
    """Weight of each reward term; a term that is a penalty takes a negative weight.

    The terms are defined in `agents.rewards`, in this order.
    """

    log_growth: float
    active_return: float
    downside: float
    drawdown: float
    cost: float
    turnover: float
    differential_sharpe: float
    momentum: float
    diversification: float

    def __post_init__(self) -> None:
        if not any(getattr(self, item.name) != 0.0 for item in fields(self)):
            raise ValueError("reward: at least one weight must differ from 0")


@dataclass(slots=True)
class Mandate:
    """One agent's risk appetite, independent of who plays it."""

    name: str
    policy: str  # the policy that plays it; mandates may share one
    target_volatility: float  # annual, fraction, > 0
    base: BasePortfolio
    tilt: float  # largest change of a name's log weight against the base, in [0, 100]
    tilt_rate: float  # share of a new score taken into the tilt each session, in (0, 1]
    exposure: ExposureRule
    exposure_authority: float  # slope of the exposure at the rule, in (0, 1]; see ActionMap
    band: float  # L1 distance to the target that is left untraded, in [0, 1)
    limits: Limits
    exits: ExitRules
    breakers: BreakerRules
    reward: RewardWeights

    def __post_init__(self) -> None:
        for key, name in (("name", self.name), ("policy", self.policy)):
            if not NAME.fullmatch(name):
                raise ValueError(
                    f"agents: {key} must be 1 to 64 letters, digits, '_' or '-', was {name[:80]!r}"
                )
        self._check("target_volatility", 0.0 < self.target_volatility < float("inf"), "> 0")
        self._check("tilt", 0.0 <= self.tilt <= 100.0, "in [0, 100]")
        self._check("tilt_rate", 0.0 < self.tilt_rate <= 1.0, "in (0, 1]")
        self._check("exposure_authority", 0.0 < self.exposure_authority <= 1.0, "in (0, 1]")
        self._check("band", 0.0 <= self.band < 1.0, "in [0, 1)")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return {**asdict(self), "base": self.base.name, "exposure": self.exposure.name}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Mandate":
        """Return what `to_dict` wrote."""
        nested = {
            "base": BasePortfolio[record["base"]],
            "exposure": ExposureRule[record["exposure"]],
            "limits": Limits(**record["limits"]),
            "exits": ExitRules(**record["exits"]),
            "breakers": BreakerRules(**record["breakers"]),
            "reward": RewardWeights(**record["reward"]),
        }
        return cls(**{**record, **nested})

    def _check(self, field: str, holds: bool, allowed: str) -> None:
        if not holds:
            raise ValueError(
                f"agents.{self.name}.{field} must be {allowed}, was {getattr(self, field)}"
            )


def society(agents: Mapping[str, Mandate]) -> tuple[Mandate, ...]:
    """Return the configured mandates in their order.

    Raises:
        InputError: if there is none, or one has another name than its key.
    """
    if not agents:
        raise InputError("agents is empty: at least one agent is needed")
    for key, mandate in agents.items():
        if mandate.name != key:
            raise InputError(f"agents.{key}.name must be {key}, was {mandate.name}")
    return tuple(agents.values())
