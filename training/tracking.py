"""What is logged while training runs, and where to; the only file that imports wandb.

`KEYS` lists every key; docs/metrics.md explains each of them.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import Any, Protocol

from agents.manifest import HASHES
from evaluation import figures
from evaluation.contest import Contest
from market.errors import InputError
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

TRIAL_KEYS = ("search/rung", "search/score", "search/standard_error")
"""Logged of each trial of a search, in a run of its own."""

PASSES = ("inner", "final")
DOUBTS = (
    "active_information_ratio",
    "average_weights",
    "without_best_stock",
    "degeneracy",
    "test_window",
)
"""Entries of the run's summary that are tracked as they are."""
RESULTS = ("summary.json", "nav.parquet", "trades.parquet", "report.html")


class Tracker(Protocol):
    """Where numbers go."""

    def log(self, values: Mapping[str, float]) -> None:
        """Log numbers of one moment, by key."""

    def finish(self, folder: Path, summary: Mapping[str, Any], contest: Contest) -> None:
        """Record what a run left in its folder, and the figures of its report."""


class SilentTracker:
    """Tracks nothing."""

    def log(self, values: Mapping[str, float]) -> None:
        """Forget the numbers."""

    def finish(self, folder: Path, summary: Mapping[str, Any], contest: Contest) -> None:
        """Forget the results."""


class WandbTracker:
    """Logs to a Weights & Biases run."""

    def __init__(self, run: Any) -> None:
        self._run = run
        for part in PASSES:  # drawn over what was spent: a row's number says nothing
            run.define_metric(f"{part}/*", step_metric=f"{part}/agent_steps")

    def log(self, values: Mapping[str, float]) -> None:
        """Log one row."""
        self._run.log(dict(values))

    def finish(self, folder: Path, summary: Mapping[str, Any], contest: Contest) -> None:
        """Write the run's summary, draw the report's figures and keep the files by their hash."""
        self._run.log({f"plots/{name}": drawn for name, drawn in figures.drawn(contest).items()})
        self._run.summary.update(final_numbers(summary))
        artefact = Path(summary["artefact"])
        self._keep("policy", artefact, [p for p in sorted(artefact.rglob("*")) if p.is_file()])
        self._keep("results", folder, [folder / name for name in RESULTS])

    def _keep(self, kind: str, root: Path, files: list[Path]) -> None:
        """Log files as one artefact, whose metadata has the sha256 of each."""
        import wandb

        hashes = {
            path.relative_to(root).as_posix(): sha256(path.read_bytes()).hexdigest()
            for path in files
        }
        kept = wandb.Artifact(f"{kind}-{self._run.id}", type=kind, metadata={"sha256": hashes})
        for name in hashes:
            # Offline, the file is read where it lies, when the run is synchronised.
            kept.add_file(str(root / name), name=name, policy="immutable")
        self._run.log_artifact(kept)


def final_numbers(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is tracked of a finished run: every book's measures, the doubts, the hashes."""
    books = {**summary["baselines"], **summary["agents"], "ensemble": summary["ensemble"]}
    measures = {
        f"test/{book}/{name}": value for book, row in books.items() for name, value in row.items()
    }
    hashes = json.loads((Path(summary["artefact"]) / HASHES).read_text())
    doubts = {name: summary[name] for name in DOUBTS}
    return {**measures, **doubts, "artefact_sha256": hashes["files"]}


def grouped(
    settings: NoTracking | WandbSettings, experiment: str, trial: str | None = None
) -> NoTracking | WandbSettings:
    """Return settings for one run of several; a name that the user has given stays."""
    if isinstance(settings, NoTracking):
        return settings
    return replace(
        settings,
        experiment=settings.experiment if settings.experiment is not None else experiment,
        trial=settings.trial if settings.trial is not None else trial,
    )


@contextmanager
def tracking(
    settings: NoTracking | WandbSettings,
    folder: Path,
    config: Mapping[str, Any],
    data_sha256: str,
) -> Iterator[Tracker]:
    """Open the configured tracker for one run; a resumed run goes on in its own.

    Args:
        settings: which, and under what names.
        folder: of the run; tracking files go below it.
        config: everything that the run was configured with, "seed" among it.
        data_sha256: hash of the market's bars.

    Raises:
        InputError: if W&B is to be used online and lets the run not in.
    """
    if isinstance(settings, NoTracking):
        yield SilentTracker()
        return
    # wandb takes our package `agents` for a library of language models and advertises another one.
    os.environ.setdefault("WANDB_DISABLE_WEAVE", "true")
    import wandb  # here, because it takes a second that an untracked run need not wait

    online = bool(os.environ.get("WANDB_API_KEY"))
    labels = _labels(settings, folder, config)
    try:
        run = wandb.init(
            project=settings.project,
            id=_id(folder),
            resume="allow" if online else None,
            name=folder.name,
            group=str(labels["experiment"]),
            job_type="train" if settings.trial is None else "trial",
            tags=[f"{name}={value}"[:64] for name, value in labels.items() if value is not None],
            dir=str(folder),
            mode="online" if online else "offline",
            config={**config, **labels, "data_sha256": data_sha256},
            # What wandb notes of the process has its command line, and that may have a password.
            settings=wandb.Settings(silent=True, console="off", x_disable_meta=True),
        )
    except wandb.errors.Error as error:
        raise InputError(f"W&B lets no run in: {error}; tracking=none goes without") from error
    try:
        yield WandbTracker(run)
    except BaseException:
        run.finish(exit_code=1)
        raise
    run.finish()


def _labels(
    settings: WandbSettings, folder: Path, config: Mapping[str, Any]
) -> dict[str, str | int | None]:
    """Return what the runs of a project are grouped by."""
    experiment = folder.name if settings.experiment is None else settings.experiment
    return {
        "experiment": experiment,
        "fold": settings.fold,
        "seed": config["seed"],
        "trial": settings.trial,
    }


def _id(folder: Path) -> str:
    """Return the run's id at W&B, which stays the same after an interruption."""
    path = folder / "wandb" / "id"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_text(token_hex(8))
    return path.read_text()
