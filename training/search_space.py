"""What a search may change: ranges and choices, by the key that `tercet train` knows them by."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Value = float | int | bool | str | None
Setting = Mapping[str, Any]  # key -> value, of one trial

# Groups that no trial may change: they make the data and the measure that trials are compared by.
SEARCHED = ("features", "agents", "network", "pretrain", "algorithm")
# They decide which stages are exported, or how often a state is saved: no trial depends on them.
IRRELEVANT = ("keep_if", "checkpoint_seconds", "name")
RANGE = ({"low", "high"}, {"low", "high", "log"})
CHOICES = {"choices"}
FACTOR = 1.25  # by which a perturbation scales a number that is drawn on a logarithmic scale
STEP = 0.2  # of the range, by which it moves another one


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `low` to `high`, both included; whole ones where both are.

    Args:
        low: the least.
        high: the greatest, above it.
        log: drawn evenly on a logarithmic scale, which needs `low` > 0.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"low must be below high, were {self.low} and {self.high}")
        if self.log and not self.low > 0:
            raise ValueError(f"low must be > 0 on a logarithmic scale, was {self.low}")

    @property
    def whole(self) -> bool:
        """Return whether only whole numbers are drawn."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def holds(self, value: Value) -> bool:
        """Return whether a value can be drawn."""
        if isinstance(value, bool) or not isinstance(value, float | int):
            return False
        return self.low <= value <= self.high and (not self.whole or float(value).is_integer())

    def draw(self, random: np.random.Generator) -> Value:
        """Return a value."""
        if self.log:
            drawn = math.exp(random.uniform(math.log(self.low), math.log(self.high)))
        else:
            drawn = random.uniform(self.low, self.high)
        return self._within(drawn)

    def perturbed(self, value: Value, random: np.random.Generator) -> Value:
        """Return a value a little below or above another one."""
        assert isinstance(value, float | int), "drawn from this range"
        up = bool(random.integers(2))
        if self.log:
            return self._within(value * FACTOR if up else value / FACTOR)
        step = STEP * (self.high - self.low)
        return self._within(value + step if up else value - step)

    def _within(self, value: float) -> Value:
        bounded = min(max(value, self.low), self.high)
        return round(bounded) if self.whole else float(bounded)


@dataclass(frozen=True, slots=True)
class Choices:
    """One of several values, in an order in which neighbours are alike."""

    choices: tuple[Value, ...]

    def __post_init__(self) -> None:
        if len(self.choices) < 2:
            raise ValueError(f"choices must be two or more, were {list(self.choices)}")

    def holds(self, value: Value) -> bool:
        """Return whether a value can be drawn."""
        return value in self.choices

    def draw(self, random: np.random.Generator) -> Value:
        """Return a value."""
        return self.choices[int(random.integers(len(self.choices)))]

    def perturbed(self, value: Value, random: np.random.Generator) -> Value:
        """Return a neighbour of a value."""
        place = self.choices.index(value) + (1 if random.integers(2) else -1)
        return self.choices[min(max(place, 0), len(self.choices) - 1)]


Space = Mapping[str, Range | Choices]


def read_space(tree: Mapping[str, Any]) -> dict[str, Range | Choices]:
    """Return the ranges and choices of a nested mapping by their dotted keys.

    Raises:
        ValueError: if a range cannot be read, or must not be searched.

    >>> read_space({"pretrain": {"updates": {"low": 50, "high": 400}}})
    {'pretrain.updates': Range(low=50, high=400, log=False)}
    """
    space = dict(_leaves(tree, ()))
    if not space:
        raise ValueError("tune.space must name what is searched")
    for key in space:
        if key.partition(".")[0] not in SEARCHED:
            raise ValueError(
                f"tune.space.{key}: trials may differ in {', '.join(SEARCHED)} alone; everything "
                f"else makes the measure that they are compared by"
            )
        if key.rpartition(".")[2] in IRRELEVANT:
            raise ValueError(f"tune.space.{key}: no trial depends on it")
    return space


def _leaves(node: Mapping[str, Any], path: tuple[str, ...]) -> list[tuple[str, Range | Choices]]:
    leaves: list[tuple[str, Range | Choices]] = []
    for name, value in node.items():
        here = (*path, str(name))
        key = ".".join(here)
        if not isinstance(value, Mapping):
            raise ValueError(f"tune.space.{key} must be {{low, high, log}} or {{choices}}")
        try:
            if set(value) in RANGE:
                leaves.append((key, Range(**value)))
            elif set(value) == CHOICES:
                leaves.append((key, Choices(tuple(value["choices"]))))
            else:
                leaves += _leaves(value, here)
        except (TypeError, ValueError) as error:
            if str(error).startswith("tune.space"):
                raise
            raise ValueError(f"tune.space.{key}: {error}") from error
    return leaves
