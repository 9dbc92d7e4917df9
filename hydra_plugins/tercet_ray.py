"""Hydra's `hydra/launcher=ray`: the jobs of a multirun as Ray tasks, all at once.

Hydra finds launchers in this namespace package alone. Its own plugin for Ray (1.2.2) needs
cloudpickle < 3, which Ray 2.60 is not pinned with, and gives up all jobs when one of them fails.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass(slots=True)
class RayLauncherConfig:
    """The launcher has no values of its own: what a run occupies follows from its algorithm."""

    _target_: str = "hydra_plugins.tercet_ray.RayLauncher"


ConfigStore.instance().store(
    group="hydra/launcher", name="ray", node=RayLauncherConfig, provider="tercet"
)


class RayLauncher(Launcher):
    """Composes the configuration of every job and hands them to `cli.multirun` together."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep what composes a job; the jobs themselves are `training.train.run`."""
        self._context, self._config = hydra_context, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the jobs; the error of a job is raised when all others have ended."""
        from cli.multirun import train_all  # here: every verb loads this module

        setup_globals()
        load = self._context.config_loader.load_sweep_config
        composed = [load(self._config, list(overrides)) for overrides in job_overrides]
        train_all(composed)
        return [
            JobReturn(overrides=list(overrides), status=JobStatus.COMPLETED)
            for overrides in job_overrides
        ]
