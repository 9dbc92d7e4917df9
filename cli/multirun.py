"""`tercet train --multirun`: several runs at once, and one table of what they found."""

import shlex
import sys
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from omegaconf import DictConfig, open_dict

from cli.config import TrainConfig
from evaluation.run_folder import open_run
from evaluation.wording import HEADER, aligned, cells
from market.compose import typed
from market.errors import InputError
from training.multirun import Job, Outcome, run_all
from training.tracking import grouped


def train_all(composed: Sequence[DictConfig]) -> None:
    """Train every configuration of a multirun and print a line for each.

    Args:
        composed: as Hydra composed them, with its own node.

    Raises:
        InputError: if a configuration is wrong, before anything runs, or if runs failed.
        Exception: a run's own, where that is a defect.
    """
    overrides = [list(one.hydra.overrides.task) for one in composed]
    names = _names(overrides)
    configs = [_typed(one) for one in composed]
    experiment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S-multirun")
    jobs = [
        _job(number, name, config, experiment, typed_as)
        for number, (name, config, typed_as) in enumerate(
            zip(names, configs, overrides, strict=True), start=1
        )
    ]
    outcomes = run_all(jobs, lambda line: print(line, file=sys.stderr, flush=True))
    print(_table(jobs, outcomes))
    _raise_for(jobs, outcomes)


def _names(overrides: Sequence[Sequence[str]]) -> list[str]:
    """Return what of its overrides sets each job apart from the others.

    >>> _names([["agents=five", "seed=1"], ["agents=five", "seed=2"]])
    ['seed=1', 'seed=2']
    """
    everywhere = set(overrides[0]).intersection(*overrides[1:]) if len(overrides) > 1 else set()
    own = [[one for one in job if one not in everywhere] for job in overrides]
    return [" ".join(job) or "run" for job in own]


def _typed(composed: DictConfig) -> TrainConfig:
    task = deepcopy(composed)
    with open_dict(task):
        del task["hydra"]
    return typed(task, TrainConfig)


def _job(
    number: int, name: str, config: TrainConfig, experiment: str, overrides: Sequence[str]
) -> Job:
    """Return one run, in a folder that is its own from now on unless it goes on with another."""
    whole = config.configuration()
    out = config.out
    if out is not None:  # the last part names the run in W&B and among the checkpoints
        out = str(Path(out) / f"{Path(out).name}-{number}")
    if config.resume is None:
        out = str(open_run(out, "train", config.seed))
    return Job(
        name=name,
        config=replace(whole, tracking=grouped(whole.tracking, experiment)),
        cluster=config.cluster,
        out=out,
        resume=config.resume,
        command=shlex.join(["tercet train", *overrides]).replace("'tercet train'", "tercet train"),
    )


def _table(jobs: Sequence[Job], outcomes: Sequence[Outcome]) -> str:
    """Return a line per run with its ensemble out of sample, and the mean over seeds."""
    rows: list[tuple[str, ...]] = [("run", *HEADER[1:], "folder")]
    sharpes = []
    for job, outcome in zip(jobs, outcomes, strict=True):
        if outcome.summary is None:
            rows.append((job.name, *["–"] * (len(HEADER) - 1), "failed"))
            continue
        row = outcome.summary["ensemble"]
        rows.append((job.name, *cells(job.name, row)[1:], str(outcome.folder)))
        sharpes.append(row["sharpe"])
    lines = aligned(rows)
    seeds = all(job.name.startswith("seed=") and " " not in job.name for job in jobs)
    if seeds and len(sharpes) > 1 and None not in sharpes:
        lines.append(
            f"over {len(sharpes)} seeds: Sharpe {np.mean(sharpes):.2f}, from {min(sharpes):.2f} to "
            f"{max(sharpes):.2f}; they share one test window, so its luck is in all of them"
        )
    return "\n".join(lines)


def _raise_for(jobs: Sequence[Job], outcomes: Sequence[Outcome]) -> None:
    """Raise what went wrong in any of the runs, our own defects first."""
    failed = [
        (job, outcome)
        for job, outcome in zip(jobs, outcomes, strict=True)
        if outcome.line is not None
    ]
    for _, outcome in failed:
        if outcome.defect is not None:
            raise outcome.defect
    if failed:
        lines = "; ".join(f"{job.name}: {outcome.line}" for job, outcome in failed)
        raise InputError(f"{len(failed)} of {len(jobs)} runs failed: {lines}")
