"""Who says which setting comes next: a list that was drawn, or Optuna."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from ray.tune.search import Searcher

from evaluation.trial_ledger import Tried
from training.search import OptunaSearch
from training.search_space import Choices, Range, Setting, Space
from training.seeds import seed_of
from training.trial import SCORE

NAME = "{:05d}"  # of a trial, by its number in the search
FIRST = NAME.format(0)  # the default


def drawn(space: Space, seed: int, numbers: range, default: Setting) -> dict[str, Setting]:
    """Return the settings of some trials by their names; the first of a search is the default.

    A trial's setting depends on its number and the seed alone.
    """
    settings: dict[str, Setting] = {}
    for number in numbers:
        random = np.random.default_rng(seed_of(seed, "setting", number))
        settings[NAME.format(number)] = (
            {key: one.draw(random) for key, one in space.items()} if number else default
        )
    return settings


class Listed(Searcher):  # type: ignore[misc]  # Ray Tune is untyped
    """Proposes the settings of a list, in its order.

    Args:
        planned: name of a trial -> its setting.
    """

    def __init__(self, planned: Mapping[str, Setting]) -> None:
        super().__init__(metric=SCORE, mode="max")
        self._planned = list(planned.items())
        self.names: dict[str, str] = {}  # Ray Tune's id of a trial -> ours

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """Return the setting of the next trial."""
        if not self._planned:
            return str(Searcher.FINISHED)
        self.names[trial_id], setting = self._planned.pop(0)
        return dict(setting)

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing is learned from it."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing is to be saved: an interrupted search goes on from the ledger."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing was saved."""


class Proposed(Listed):
    """Proposes what Optuna makes of the trials before, after the settings of a list.

    Args:
        search: how.
        seed: of the search.
        planned: settings that come first, by the names of their trials.
        names: of the trials whose settings Optuna chooses.
        past: trials of the same search before an interruption.
    """

    def __init__(
        self,
        search: OptunaSearch,
        seed: int,
        planned: Mapping[str, Setting],
        names: Sequence[str],
        past: Sequence[Tried],
    ) -> None:
        super().__init__({})
        self._names = [*planned, *names]
        self._space = {key: _distribution(one) for key, one in search.ranges.items()}
        self._asked: dict[str, optuna.trial.Trial] = {}
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        sampler = optuna.samplers.TPESampler(
            seed=seed_of(seed, "optuna", len(past)) % 2**32,
            n_startup_trials=search.drawn,
            constant_liar=True,  # trials run side by side
        )
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        for tried in past:
            self._study.add_trial(
                optuna.trial.create_trial(
                    params=dict(tried.settings), distributions=self._space, value=tried.score
                )
            )
        for setting in planned.values():
            self._study.enqueue_trial(dict(setting))

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """Return what Optuna asks for next."""
        if not self._names:
            return str(Searcher.FINISHED)
        self.names[trial_id] = self._names.pop(0)
        self._asked[trial_id] = self._study.ask(fixed_distributions=self._space)
        return dict(self._asked[trial_id].params)

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell Optuna the score."""
        asked = self._asked.pop(trial_id)
        if error or not result or SCORE not in result:
            self._study.tell(asked, state=optuna.trial.TrialState.FAIL)
        else:
            self._study.tell(asked, result[SCORE])


def _distribution(one: Range | Choices) -> BaseDistribution:
    if isinstance(one, Choices):
        return CategoricalDistribution(one.choices)
    if one.whole:
        return IntDistribution(int(one.low), int(one.high), log=one.log)
    return FloatDistribution(one.low, one.high, log=one.log)
