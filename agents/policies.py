"""Which policy a backtest is about: the choices of the configuration group `policy`."""

from dataclasses import dataclass
from typing import Any

ROUNDING = 1e-9  # by which decimal weights may miss 1 as floats


@dataclass(slots=True)
class ArtefactPolicy:
    """Trained agents from a folder that `tercet train` exported."""

    path: str


@dataclass(slots=True)
class ChampionPolicy:
    """The trained agents that `tercet promote` made champion of a registry."""

    registry: str  # folder


@dataclass(slots=True)
class FixedPolicy:
    """Constant weights by symbol, restored every month; what they leave is cash."""

    weights: Any  # dict[str, float]; as a typed field OmegaConf would refuse every new symbol

    def __post_init__(self) -> None:
        if not isinstance(self.weights, dict):
            raise ValueError(f"policy.weights must map symbols to weights, was {self.weights!r}")
        for symbol, weight in self.weights.items():
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not weight >= 0:
                raise ValueError(f"policy.weights.{symbol} must be a number >= 0, was {weight!r}")
        if not sum(self.weights.values()) <= 1.0 + ROUNDING:
            total = sum(self.weights.values())
            raise ValueError(f"policy.weights must sum to at most 1, the sum was {total:.6g}")


@dataclass(slots=True)
class BaselinePolicy:
    """A rule of `agents.baselines` by name."""

    name: str
