"""The search on Ray Tune: what a trial occupies, who stops it, and where it goes on from."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    PopulationBasedTraining,
    TrialScheduler,
)
from ray.tune.search import BasicVariantGenerator

from evaluation.trial_ledger import Tried
from market.errors import InputError
from training import placement
from training.placement import Bundle
from training.proposals import FIRST, Listed, Proposed, drawn
from training.recorder import Recorder
from training.search import AshaSearch, OptunaSearch, PbtSearch, Search
from training.search_space import Setting, Space
from training.seeds import seed_of
from training.settings import NoAlgorithm, RLSettings
from training.trial import RUNG, SCORE, Assignment, learn

EXPERIMENT = "tune"
MACHINES_LOST = 2  # how often a trial is begun again whose process has died
ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the ledger is the record
    "RAY_AIR_NEW_OUTPUT": "0",  # which prints a table even at the lowest verbosity
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # an interruption ends it, as any other command
}


def search_with_ray(
    assignment: Assignment, search: Search, default: Setting, recorder: Recorder, storage: str
) -> None:
    """Run every trial that is not over; Ray runs already.

    Args:
        assignment: of all trials.
        search: how.
        default: the setting of the first trial.
        recorder: writes trials down, and knows those of before an interruption.
        storage: folder or address for Ray Tune's own files; all machines see it.
    """
    os.environ.update(ENVIRONMENT)
    seed = assignment.base.seed
    fresh = range(recorder.known, search.trials)
    planned = {**recorder.unfinished(), **drawn(search.ranges, seed, fresh, default)}
    if not planned:
        return
    searcher: Any
    name: Callable[[Trial], str]
    if isinstance(search, PbtSearch):
        searcher, name = _population(planned)
    else:
        searcher = _proposer(search, seed, planned, recorder)
        names = searcher.names

        def name(trial: Trial) -> str:
            return str(names[trial.trial_id])

    trainable = tune.with_parameters(learn, assignment=assignment)
    room = bundles(search, assignment.base.algorithm)
    tune.Tuner(
        tune.with_resources(trainable, tune.PlacementGroupFactory(room)),
        param_space=dict(default) if isinstance(search, PbtSearch) else None,
        tune_config=tune.TuneConfig(
            num_samples=len(planned),
            search_alg=searcher,
            scheduler=scheduler(search, seed, recorder.judged(), _next_rung(assignment, planned)),
            reuse_actors=True,
            trial_name_creator=name,
            trial_dirname_creator=name,
        ),
        run_config=tune.RunConfig(
            name=EXPERIMENT,
            storage_path=storage,
            stop={RUNG: search.rungs},
            callbacks=[recorder],
            failure_config=tune.FailureConfig(max_failures=MACHINES_LOST),
            verbose=0,
        ),
    ).fit()


def bundles(search: Search, algorithm: RLSettings | NoAlgorithm) -> list[Bundle]:
    """Return what a trial occupies: its own process first, then its remote actors."""
    gpus, remote = search.gpus_per_trial, list[Bundle]()
    if isinstance(algorithm, RLSettings):
        gpus = placement.driver_gpus(algorithm) if gpus is None else gpus
        remote = placement.bundles(algorithm)
    own = {"CPU": search.cpus_per_trial} | ({"GPU": gpus} if gpus else {})
    return [own, *remote]


def require_room(needed: Sequence[Bundle]) -> None:
    """Refuse a trial that the cluster could never place: Ray Tune would wait for ever.

    Raises:
        InputError: names what is needed and what there is.
    """
    if (lacks := placement.lacking(needed)) is not None:
        raise InputError(
            f"each trial needs {lacks}: tune.cpus_per_trial, tune.gpus_per_trial and the "
            f"algorithm's own actors count"
        )


def _next_rung(assignment: Assignment, planned: Mapping[str, Setting]) -> int:
    """Return the lowest rung that a trial will report next."""
    states = [assignment.states.last(name) for name in planned]
    return 1 + min(0 if state is None else int(state.name) for state in states)


def scheduler(search: Search, seed: int, past: Sequence[Tried], rung: int) -> TrialScheduler:
    """Return who stops trials or replaces them, knowing the trials of before an interruption.

    Args:
        search: how.
        seed: of the search.
        past: trials of before that are over.
        rung: the lowest that a trial will report next. A population that waits for an earlier one
            would wait for ever.
    """
    if isinstance(search, PbtSearch):
        return PopulationBasedTraining(
            time_attr=RUNG,
            metric=SCORE,
            mode="max",
            perturbation_interval=1,
            burn_in_period=rung,
            quantile_fraction=search.quantile,
            custom_explore_fn=Explorer(search.ranges, search.resample, seed),
            synch=True,
        )
    if not isinstance(search, AshaSearch):
        return FIFOScheduler()
    asha = Asha(
        time_attr=RUNG,
        metric=SCORE,
        mode="max",
        max_t=search.rungs,
        grace_period=1,
        reduction_factor=search.reduction,
    )
    for tried in past:
        trial = Trial(EXPERIMENT, stub=True, trial_id=tried.trial)
        asha.on_trial_add(None, trial)
        for climbed, value in tried.scores.items():
            asha.on_trial_result(None, trial, {RUNG: climbed, SCORE: value})
    return asha


class Asha(ASHAScheduler):  # type: ignore[misc]  # Ray Tune is untyped
    """Stops no default: what the best is compared with is judged as often."""

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Return whether a trial goes on after a rung."""
        action = str(super().on_trial_result(tune_controller, trial, result))
        return str(TrialScheduler.CONTINUE) if str(trial) == FIRST else action


class Explorer:
    """Changes the settings that a member of the population has taken over.

    Ray's own way leaves the ranges and draws from the global generator.

    Args:
        space: that settings stay in.
        resample: probability that a value is drawn anew and not perturbed.
        seed: of the search.
    """

    def __init__(self, space: Space, resample: float, seed: int) -> None:
        self._space, self._resample = space, resample
        self._random = np.random.default_rng(seed_of(seed, "explore"))

    def __call__(self, setting: Setting) -> dict[str, Any]:
        """Return a changed copy of a setting."""
        return {key: self._changed(key, value) for key, value in setting.items()}

    def _changed(self, key: str, value: Any) -> Any:
        if self._random.random() < self._resample:
            return self._space[key].draw(self._random)
        return self._space[key].perturbed(value, self._random)


def _population(
    planned: Mapping[str, Setting],
) -> tuple[BasicVariantGenerator, Callable[[Trial], str]]:
    """Return the members of a population, in their order, and how they are called."""
    order = list(planned)

    def name(trial: Trial) -> str:
        return order[int(trial.trial_id.rpartition("_")[2])]

    return BasicVariantGenerator(points_to_evaluate=[dict(s) for s in planned.values()]), name


def _proposer(
    search: Search, seed: int, planned: Mapping[str, Setting], recorder: Recorder
) -> Listed:
    if not isinstance(search, OptunaSearch):
        return Listed(planned)
    # What was interrupted and the default come first; the rest of the names get Optuna's settings.
    certain = recorder.unfinished()
    names = [name for name in planned if name not in certain]
    if not recorder.known:
        certain = {names[0]: planned[names.pop(0)]}
    return Proposed(search, seed, certain, names, recorder.done())
