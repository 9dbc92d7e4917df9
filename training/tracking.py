"""What is logged while training runs, and where to; the only file that imports wandb.

`KEYS` lists every key; docs/metrics.md explains each of them.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from training.settings import NoTracking, WandbSettings

KEYS = (
    "<pass>/agent_steps",
    "<pass>/agent_steps_per_second",
    "<pass>/sampling_seconds",
    "<pass>/learning_seconds",
    "<pass>/episode_return_mean",
    "<pass>/agents/<agent>/episode_return_mean",
    "<pass>/policies/<policy>/warm_start_loss",
    "<pass>/policies/<policy>/policy_loss",
    "<pass>/policies/<policy>/vf_loss",
    "<pass>/policies/<policy>/vf_explained_var",
    "<pass>/policies/<policy>/mean_kl_loss",
    "<pass>/policies/<policy>/entropy",
    "<pass>/policies/<policy>/anchor",
    "<pass>/policies/<policy>/total_loss",
    "<pass>/policies/<policy>/gradient_norm",
    "validation/<policy>/<stage>/excess",
    "validation/<policy>/<stage>/standard_error",
)
"""With <pass> one of inner, final; <stage> one of warm_start, rl."""


class Tracker(Protocol):
    """Where numbers go."""

    def log(self, values: Mapping[str, float]) -> None:
        """Log numbers of one moment, by key."""

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Record the final summary, which holds the hash of the artefact."""


class SilentTracker:
    """Tracks nothing."""

    def log(self, values: Mapping[str, float]) -> None:
        """Forget the numbers."""

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Forget the summary."""


class WandbTracker:
    """Logs to a Weights & Biases run."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def log(self, values: Mapping[str, float]) -> None:
        """Log one row."""
        self._run.log(dict(values))

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write the run's summary."""
        self._run.summary.update(dict(summary))


@contextmanager
def tracking(
    settings: NoTracking | WandbSettings, folder: Path, config: Mapping[str, Any]
) -> Iterator[Tracker]:
    """Open the configured tracker for one run.

    Args:
        settings: which, and under what project.
        folder: of the run; tracking files go below it.
        config: everything that the run was configured with.
    """
    if isinstance(settings, NoTracking):
        yield SilentTracker()
        return
    # wandb takes our package `agents` for a library of language models and advertises another one.
    os.environ.setdefault("WANDB_DISABLE_WEAVE", "true")
    import wandb  # here, because it takes a second that an untracked run need not wait

    run = wandb.init(
        project=settings.project,
        name=folder.name,
        dir=str(folder),
        mode="online" if os.environ.get("WANDB_API_KEY") else "offline",
        config=dict(config),
        settings=wandb.Settings(silent=True, console="off"),
    )
    try:
        yield WandbTracker(run)
    except BaseException:
        run.finish(exit_code=1)
        raise
    run.finish()
