"""One trial of a search, in a process that Ray Tune chooses: learn on every fold, rung by rung."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile, copytree
from tempfile import TemporaryDirectory

import torch

from agents.networks import PolicyNetwork
from market.build import build
from market.dataset import Dataset
from market.errors import InputError
from training.configuration import Configuration
from training.objective import Fold, Score, score, sealed
from training.search_space import Setting
from training.seeds import seed_of
from training.settings import NoAlgorithm, NoPretrain
from training.train import make_society
from training.trial_state import TrialStates
from training.warm_start import warm_start

Networks = dict[str, PolicyNetwork]
Configure = Callable[[Setting], Configuration]

SCORE, ERROR, RUNG = "score", "standard_error", "rung"
RUNG_FILE = "rung.json"


@dataclass(frozen=True, slots=True, eq=False)
class Assignment:
    """What all trials of a search are given.

    Args:
        data: sealed; it lies once in the object store of each node.
        base: what the trials differ from.
        configure: setting of a trial -> its configuration.
        folds: to learn and to be judged on.
        rungs: times that a trial is judged.
        states: what trials leave to go on from.
        handed_on: whether Ray Tune gets each state as well, to hand it to another trial.
    """

    data: Dataset
    base: Configuration
    configure: Configure
    folds: Sequence[Fold]
    rungs: int
    states: TrialStates
    handed_on: bool


def learn(setting: Setting, assignment: Assignment) -> None:
    """Learn under a setting and report a score after each rung; Ray Tune calls this."""
    from ray import tune

    torch.set_num_threads(1)
    states, name = assignment.states, tune.get_context().get_trial_name()
    handed = tune.get_checkpoint()
    with TemporaryDirectory() as scratch:
        pupil = Pupil.of(setting, assignment, Path(scratch))
        if handed is not None:
            with handed.as_directory() as state:
                pupil.take_over(Path(state))
        elif (last := states.last(name)) is not None:
            pupil.take_over(last)
        for rung in pupil.ahead():
            judged = pupil.climb(rung)
            states.keep(name, pupil.state, rung)
            checkpoint = None
            if assignment.handed_on:
                checkpoint = tune.Checkpoint.from_directory(str(pupil.state))
            report = {SCORE: judged.value, ERROR: judged.standard_error, RUNG: rung}
            tune.report(report, checkpoint=checkpoint)


class Pupil:
    """A society that learns under one configuration, the same on every fold.

    All trials of a search share the seed of their configuration: what differs between two of them
    is their settings.

    Args:
        config: of the trial.
        data: sealed market.
        folds: to learn and to be judged on.
        rungs: times that it is judged; without reinforcement learning only the last one is.
        state: folder for what the pupil goes on from.

    Raises:
        InputError: if the configuration trains nothing.
    """

    def __init__(
        self,
        config: Configuration,
        data: Dataset,
        folds: Sequence[Fold],
        rungs: int,
        state: Path,
    ) -> None:
        if isinstance(config.algorithm, NoAlgorithm) and isinstance(config.pretrain, NoPretrain):
            raise InputError("pretrain=none with algorithm=none trains nothing to judge")
        self._config, self._data, self._folds = config, data, folds
        self._society = make_society(data, config)
        self._rungs = rungs
        self._done = 0
        self.state = state

    @classmethod
    def of(cls, setting: Setting, assignment: Assignment, state: Path) -> "Pupil":
        """Return the society of one setting; other features are computed anew, and sealed."""
        config = assignment.configure(setting)
        data = assignment.data
        if config.features != assignment.base.features:
            data = sealed(build(config.market, config.quality, config.features))
        return cls(config, data, assignment.folds, assignment.rungs, state)

    def take_over(self, state: Path) -> None:
        """Go on from the state of another pupil, or from one's own before an interruption."""
        copytree(state, self.state, dirs_exist_ok=True)
        self._done = json.loads((state / RUNG_FILE).read_text())

    def ahead(self) -> list[int]:
        """Return the rungs that are still to be climbed."""
        if isinstance(self._config.algorithm, NoAlgorithm):
            return [self._rungs] if self._done < self._rungs else []
        return list(range(self._done + 1, self._rungs + 1))

    def climb(self, rung: int) -> Score:
        """Learn up to a rung on every fold, leave the state behind, and return the score there."""
        learned = [self._learn(fold, rung) for fold in self._folds]
        self._done = rung
        (self.state / RUNG_FILE).write_text(json.dumps(rung))
        return score(self._data, self._society, self._folds, learned)

    def _learn(self, fold: Fold, rung: int) -> Networks:
        settings, seed = self._config.algorithm, self._config.seed
        if isinstance(settings, NoAlgorithm):
            return self._warm(fold)
        from training.algorithm import Trainer  # here: RLlib takes seconds to import

        start = self._society.new_networks(seed) if self._done else self._warm(fold)
        seed = seed_of(seed, fold.name, "rl")
        trainer = Trainer(self._society, start, fold.learned, settings, seed)
        try:
            with TemporaryDirectory() as scratch:
                own = Path(scratch)
                if self._done:
                    for file in self.state.glob(f"{fold.name}-*"):
                        copyfile(file, own / file.name.removeprefix(f"{fold.name}-"))
                    trainer.restore(own)
                while trainer.agent_steps * self._rungs < settings.steps * rung:
                    trainer.iterate()
                trainer.save(own)
                for file in own.iterdir():  # the state is flat, as a store wants it
                    copyfile(file, self.state / f"{fold.name}-{file.name}")
            return trainer.networks()
        finally:
            trainer.stop()

    def _warm(self, fold: Fold) -> Networks:
        """Return the networks after their supervised warm start, if there is one."""
        networks = self._society.new_networks(self._config.seed)
        settings = self._config.pretrain
        if not isinstance(settings, NoPretrain):
            seed = seed_of(self._config.seed, fold.name)
            warm_start(networks, self._society.market, fold.learned, settings, seed)
        return networks
