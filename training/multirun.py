"""Several runs at once, each a Ray task with room of its own on the cluster or on this machine.

A task holds a CPU for itself and room for its remote samplers and learners, all in one placement
group, so that two runs never wait for what the other one holds. It runs where there is room; what
it leaves comes back to the folder that it would have written to here.
"""

import os
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

from evaluation.run_folder import SUMMARY, publish
from market.errors import InputError
from training import placement
from training.configuration import Configuration
from training.joined_ray import ray_for
from training.leaving import Leave, leaving_on_signals
from training.placement import Bundle
from training.settings import ClusterSettings, RLSettings
from training.train import run

SECONDS_TO_LEAVE = 60.0  # that interrupted runs get for their last checkpoint


@dataclass(frozen=True, slots=True)
class Job:
    """One run of several.

    Args:
        name: what sets it apart from the others.
        config: of the run.
        cluster: where all of them run.
        out: its folder; None is a new one, or that of the run which goes on.
        resume: as `training.train.run` takes it.
        command: that would do this run alone.
    """

    name: str
    config: Configuration
    cluster: ClusterSettings
    out: str | None
    resume: str | None
    command: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run has ended.

    Args:
        folder: of the run; None where it has none, or died with it.
        summary: content of its `summary.json`; None where it failed.
        line: why it failed.
        defect: the exception behind the line, where that is no fault of the input.
        files: what it has left on another machine, as a tar archive.
    """

    folder: Path | None = None
    summary: Mapping[str, Any] | None = None
    line: str | None = None
    defect: Exception | None = None
    files: bytes | None = None


def run_all(jobs: Sequence[Job], say: Callable[[str], None]) -> list[Outcome]:
    """Run jobs side by side, as many as there is room for; one that fails leaves the others alone.

    Args:
        jobs: at least one; the first one's cluster is that of all.
        say: tells how each one ends.

    Returns:
        The outcomes, in the order of the jobs.

    Raises:
        InputError: if the cluster can never have room for one of them.
        KeyboardInterrupt, Leave: when interrupted; the runs have left their checkpoints then.
    """
    with ray_for(jobs[0].cluster, say), leaving_on_signals():
        import ray

        for job in jobs:
            _require_possible(job)
        home = (ray.get_runtime_context().get_node_id(), str(Path.cwd()))
        outcomes: dict[int, Outcome] = {}
        for number, task in _ended(jobs, home):
            outcomes[number] = _brought_home(_outcome(task))
            say(_told(jobs[number], outcomes[number], len(outcomes), len(jobs)))
    return [outcomes[number] for number in range(len(jobs))]


def room_of(config: Configuration) -> list[Bundle]:
    """Return what a run occupies: its own CPU, with a GPU where it learns on one, and its actors.

    Counts that are left to the cluster are none here: the runs themselves fill it.
    """
    own: Bundle = {"CPU": 1.0}
    algorithm = config.algorithm
    if not isinstance(algorithm, RLSettings):
        return [own]
    if gpus := placement.driver_gpus(algorithm):
        own["GPU"] = gpus
    return [own, *placement.bundles(algorithm)]


def _require_possible(job: Job) -> None:
    """Refuse a run that needs more than the whole cluster, unless that is to grow."""
    if not job.cluster.wait and (lacks := placement.lacking(room_of(job.config))) is not None:
        raise InputError(f"{job.name} needs {lacks}; cluster.wait=true waits for more")


def _ended(jobs: Sequence[Job], home: tuple[str, str]) -> Iterator[tuple[int, Any]]:
    """Run all jobs; yield the number of each one that ends, and the reference of its outcome."""
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group

    groups = [placement_group(room_of(job.config)) for job in jobs]
    tasks = [_submitted(job, group, home) for job, group in zip(jobs, groups, strict=True)]
    numbers = {task: number for number, task in enumerate(tasks)}
    waiting = tasks
    try:
        while waiting:
            (task, *_), waiting = ray.wait(waiting)
            remove_placement_group(groups[numbers[task]])  # the next one waits for this room
            yield numbers[task], task
    except (KeyboardInterrupt, Leave):
        for task in waiting:
            ray.cancel(task)
        ray.wait(waiting, num_returns=len(waiting), timeout=SECONDS_TO_LEAVE)
        raise
    finally:
        for task in waiting:
            remove_placement_group(groups[numbers[task]])


def _submitted(job: Job, group: Any, home: tuple[str, str]) -> Any:
    """Return the reference of a job's outcome, which begins when there is room for its group."""
    import ray
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    own = group.bundle_specs[0]
    place = PlacementGroupSchedulingStrategy(
        group, placement_group_bundle_index=0, placement_group_capture_child_tasks=True
    )
    # A process of its own for each, so that nothing of one run is left for the next. One that died
    # with its machine has left a folder already: `resume=auto` goes on with it.
    work = ray.remote(max_calls=1, max_retries=0)(_work)
    task = work.options(
        num_cpus=own["CPU"], num_gpus=own.get("GPU", 0.0), scheduling_strategy=place
    )
    return task.remote(job, home)


def _work(job: Job, home: tuple[str, str]) -> Outcome:
    """Do one run, in a process of Ray's."""
    import ray

    node, folder = home
    Path(folder).mkdir(parents=True, exist_ok=True)
    os.chdir(folder)  # relative paths mean here what they mean to the command
    away = ray.get_runtime_context().get_node_id() != node
    try:
        # The cluster is joined already, and what it has is divided.
        own, summary = run(
            job.config, replace(job.cluster, join=False), job.out, job.resume, job.command
        )
        outcome = Outcome(own, summary)
    except InputError as error:
        outcome = Outcome(_left(job), line=str(error))
    except Leave as leave:
        outcome = Outcome(_left(job), line=leave.reason)
    return replace(outcome, files=packed(outcome.folder)) if away and outcome.folder else outcome


def _left(job: Job) -> Path | None:
    return Path(job.out) if job.out is not None and Path(job.out).is_dir() else None


def packed(folder: Path) -> bytes:
    """Return the files of a folder as a tar archive, without links."""
    archive = BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz", compresslevel=1) as tar:
        tar.add(folder, ".", filter=lambda item: None if item.issym() or item.islnk() else item)
    return archive.getvalue()


def unpack(files: bytes, folder: Path) -> None:
    """Write what was packed into a folder; `summary.json` comes last, it marks a whole run."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=BytesIO(files)) as tar:
        last_last = sorted(tar.getmembers(), key=lambda item: Path(item.name).name == SUMMARY)
        for item in last_last:
            tar.extract(item, folder, filter="data")


def _outcome(task: Any) -> Outcome:
    """Return how a task has ended, also where it could not say so itself."""
    import ray

    try:
        outcome: Outcome = ray.get(task)
    except ray.exceptions.RayTaskError as error:
        return Outcome(line=str(error.cause or error).strip().splitlines()[-1], defect=error)
    except ray.exceptions.RayError as error:  # its process or its machine is gone
        lost = str(error).strip().splitlines()[0]
        return Outcome(line=f"{type(error).__name__}: {lost} The others go on.")
    return outcome


def _brought_home(outcome: Outcome) -> Outcome:
    """Write what a run has left elsewhere here, and let `runs/latest` point to it."""
    if outcome.folder is None:
        return outcome
    if outcome.files is not None and not (outcome.folder / SUMMARY).exists():
        unpack(outcome.files, outcome.folder)
    if outcome.summary is not None:
        publish(outcome.folder)
    return replace(outcome, files=None)


def _told(job: Job, outcome: Outcome, ended: int, jobs: int) -> str:
    how = f"done, {outcome.folder}" if outcome.line is None else f"failed: {outcome.line}"
    return f"{ended} of {jobs} runs: {job.name} {how}"
