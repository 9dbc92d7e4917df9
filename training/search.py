"""Settings of a search: how many trials, how they are judged, and who chooses the next one."""

from dataclasses import dataclass
from typing import Any

from training.search_space import Space, read_space


@dataclass(slots=True)
class Search:
    """Every trial is drawn evenly and runs to its end; the other searches begin from this."""

    trials: int  # configurations, the default being the first; for PBT the population; >= 2
    folds: int  # inner validations of each trial, one after another in time, >= 1
    rungs: int  # times that a trial is judged while it learns, evenly spread, >= 1
    cpus_per_trial: float  # that a trial occupies beside its remote samplers and learners, > 0
    gpus_per_trial: float | None  # likewise, >= 0; null: one where the cluster has any
    space: Any  # nested by the keys of train: {low, high, log} or {choices}

    def __post_init__(self) -> None:
        for name, least in (("trials", 2), ("folds", 1), ("rungs", 1)):
            value = getattr(self, name)
            if value < least:
                raise ValueError(f"tune.{name} must be >= {least}, was {value}")
        if not self.cpus_per_trial > 0.0:
            raise ValueError(f"tune.cpus_per_trial must be > 0, was {self.cpus_per_trial}")
        if self.gpus_per_trial is not None and not self.gpus_per_trial >= 0.0:
            raise ValueError(f"tune.gpus_per_trial must be >= 0, was {self.gpus_per_trial}")
        read_space(self.space)

    @property
    def ranges(self) -> Space:
        """Return the search space by dotted key."""
        return read_space(self.space)


@dataclass(slots=True)
class AshaSearch(Search):
    """Drawn evenly; the worse trials end early (Li et al., "Massively Parallel Tuning", 2020)."""

    reduction: float  # one in so many goes on after each rung, > 1

    def __post_init__(self) -> None:
        Search.__post_init__(self)
        if not self.reduction > 1.0:
            raise ValueError(f"tune.reduction must be > 1, was {self.reduction}")


@dataclass(slots=True)
class OptunaSearch(Search):
    """Optuna's tree-structured Parzen estimator proposes what did well (Bergstra et al., 2011)."""

    drawn: int  # trials that are drawn evenly before it proposes, >= 1

    def __post_init__(self) -> None:
        Search.__post_init__(self)
        if self.drawn < 1:
            raise ValueError(f"tune.drawn must be >= 1, was {self.drawn}")


@dataclass(slots=True)
class PbtSearch(Search):
    """The worse of a population take over the better ones' state and change their settings.

    Source:
        Jaderberg et al., "Population Based Training of Neural Networks", 2017.
    """

    quantile: float  # of the population that is replaced after each rung, in (0, 0.5]
    resample: float  # probability that a setting is drawn anew and not perturbed, in [0, 1]

    def __post_init__(self) -> None:
        Search.__post_init__(self)
        if not 0.0 < self.quantile <= 0.5:
            raise ValueError(f"tune.quantile must be in (0, 0.5], was {self.quantile}")
        if not 0.0 <= self.resample <= 1.0:
            raise ValueError(f"tune.resample must be in [0, 1], was {self.resample}")
