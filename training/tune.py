"""`tercet tune`: search settings on inner folds, then train, export and judge the best of them."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from shutil import rmtree
from typing import Any
from uuid import uuid4

import numpy as np

from evaluation.run_folder import RUNS, SUMMARY, claimed, is_claimed, open_run, room_in
from evaluation.statistics import Estimate, deflated_sharpe
from evaluation.summary import write
from evaluation.trial_ledger import PARQUET, State, TrialLedger, Tried
from market.build import build
from market.dataset import Dataset
from market.errors import InputError
from training import train
from training.checkpoint import CONFIG, check_config, write_config
from training.configuration import Configuration
from training.joined_ray import ray_for
from training.leaving import leaving_on_signals
from training.objective import inner_folds, sealed
from training.progress import Narrator
from training.resume import AUTO
from training.search import PbtSearch, Search
from training.search_space import Setting
from training.settings import ClusterSettings, NoTracking
from training.tracking import grouped, tracking
from training.trial import Assignment, Configure, Pupil
from training.trial_state import TrialStates

SEARCH = "search"  # folder of what an interrupted search goes on from
ID = "id"  # file with the search's name in the ledger: a folder may be made anew under its name
STATES = "states"
TRIALS = "trials"  # folder, of the tracking files of each
RESULT = "search.json"


def run(
    base: Configuration,
    search: Search,
    cluster: ClusterSettings,
    configure: Configure,
    default: Setting,
    out: str | None,
    resume: str | None,
    command: str,
) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """Search, then train the best setting on the whole train window and judge it out of sample.

    Args:
        base: what the trials differ from.
        search: how, and over what.
        cluster: where it runs.
        configure: setting of a trial -> its configuration; importable wherever trials run.
        default: the values of `base` at the keys of the search space.
        out: folder; None is a new one under `runs/`.
        resume: folder of an interrupted search of the same configuration, or `auto`: the newest
            one; None begins a new one.
        command: as it was typed.

    Returns:
        The folder, what the search found, and the content of `summary.json`.

    Raises:
        InputError: if the data, the configuration or the folder cannot be used, the cluster has no
            room, or no trial reaches its end.
    """
    _require_default(search, default)
    data = build(base.market, base.quality, base.features)
    folds = inner_folds(data.train, base.selection, search.folds)
    with Narrator() as narrator:
        record = {
            "base": base.record(data.bars.sha256),
            "search": {"kind": type(search).__name__, **asdict(search)},
        }
        folder = _open(record, out, resume, narrator)
        ledger = TrialLedger(folder.resolve().parent)
        with claimed(folder), train.resumable(folder, narrator):
            assignment = Assignment(
                sealed(data),
                base,
                configure,
                folds,
                search.rungs,
                TrialStates(
                    (folder / SEARCH / STATES).resolve(),
                    cluster.checkpoints,
                    (folder / SEARCH / ID).read_text(),
                ),
                handed_on=isinstance(search, PbtSearch),
            )
            _search(folder, data, assignment, search, cluster, default, narrator)
            rows = ledger.of_run(assignment.states.search)
            ledger.export(assignment.states.search, folder / PARQUET)
            found = summarised(rows, default, ledger.compared(data.bars.sha256))
            write(folder / RESULT, found)
            assignment.states.discard()
    best = configure(found["best"]["settings"])
    if not (folder / CONFIG).exists():
        write_config(folder, best.record(data.bars.sha256))
    _, summary = train.run(best, cluster, out=None, resume=str(folder), command=command)
    rmtree(folder / SEARCH)
    return folder, found, summary


def summarised(rows: Sequence[Tried], default: Setting, compared: int) -> dict[str, Any]:
    """Return what a search found: how many trials ended how, the best of them, and the default.

    Args:
        rows: of the search.
        default: setting of its first trial.
        compared: configurations that were ever tried on this data.

    Raises:
        InputError: if no trial reached its end.
    """
    ended = [row for row in rows if row.state is State.done]
    if not ended:
        failed = next((f": {row.error}" for row in rows if row.error is not None), "")
        raise InputError(f"no trial of the search reached its end{failed}")
    best = max(ended, key=_score)
    first = next((row for row in rows if row.settings == default), None)
    error = math.nan if best.standard_error is None else best.standard_error
    scores = np.array([row.score for row in rows if row.score is not None])
    deflated = deflated_sharpe(Estimate(_score(best), error), scores, max(compared, len(scores)))
    return {
        "trials": len({row.trial for row in rows}),
        "configurations": len({row.configuration for row in rows}),
        "states": {state.name: sum(row.state is state for row in rows) for state in State},
        "compared": compared,
        "deflated": None if math.isnan(deflated) else deflated,
        "best": _shown(best),
        "default": None if first is None else _shown(first),
    }


def _score(row: Tried) -> float:
    return -math.inf if row.score is None else row.score


def _shown(row: Tried) -> dict[str, Any]:
    return {
        "trial": row.trial,
        "settings": dict(row.settings),
        "score": row.score,
        "standard_error": row.standard_error,
        "state": row.state.name,
    }


def _search(
    folder: Path,
    data: Dataset,
    assignment: Assignment,
    search: Search,
    cluster: ClusterSettings,
    default: Setting,
    narrator: Narrator,
) -> None:
    """Run what the ledger does not know to be over."""
    Pupil.of(default, assignment, folder)  # refuses what every trial would fail by
    ledger, name = TrialLedger(folder.resolve().parent), assignment.states.search
    rows = ledger.of_run(name)
    if len({row.trial for row in rows}) == search.trials and not any(
        row.state is State.running for row in rows
    ):
        return
    blank = Tried(name, "", "", data.bars.sha256, assignment.base.seed, {})

    @cache
    def identity_of(setting: str) -> str:
        return assignment.configure(json.loads(setting)).identity

    def identify(setting: Setting) -> str:
        return identity_of(json.dumps(dict(setting), sort_keys=True))

    def track(row: Tried) -> None:
        _track(folder, row, assignment.configure(row.settings))

    with ray_for(cluster, narrator.say), leaving_on_signals():  # Ray takes SIGTERM for its own
        # Ray reads its environment when it is first imported, so not before it was started.
        from training.recorder import Recorder
        from training.search_ray import bundles, require_room, search_with_ray

        if not cluster.wait:
            require_room(bundles(search, assignment.base.algorithm))
        recorder = Recorder(ledger, blank, identify, search.rungs, search.trials, narrator, track)
        storage = _storage(folder, search, cluster)
        search_with_ray(assignment, search, default, recorder, storage)


def _storage(folder: Path, search: Search, cluster: ClusterSettings) -> str:
    """Return where Ray Tune puts states that go from one member of a population to another."""
    import ray

    if not isinstance(search, PbtSearch) or sum(node["Alive"] for node in ray.nodes()) == 1:
        return str((folder / SEARCH).resolve())
    if cluster.checkpoints is None:
        raise InputError(
            "tune=pbt hands states from machine to machine: cluster.checkpoints=<URL> that all see"
        )
    return cluster.checkpoints


def _track(folder: Path, row: Tried, config: Configuration) -> None:
    """Track a trial that is over as a run of its own, beside the others of the search.

    It is done here and not where the trial ran: that machine may not see the folder.
    """
    settings = grouped(config.tracking, folder.name, row.trial)
    own = folder / TRIALS / row.trial
    if not isinstance(settings, NoTracking):
        own.mkdir(parents=True, exist_ok=True)
    with tracking(settings, own, config.to_json(), row.data) as tracker:
        for rung, score in row.scores.items():
            tracker.log({"search/rung": rung, "search/score": score})
        if row.standard_error is not None:
            tracker.log({"search/standard_error": row.standard_error})


def _require_default(search: Search, default: Setting) -> None:
    for key, one in search.ranges.items():
        if not one.holds(default[key]):
            raise InputError(
                f"tune.space.{key}={one} does not hold the value {default[key]!r} that the first "
                f"trial has: the others are compared with it"
            )


def _open(record: dict[str, Any], out: str | None, resume: str | None, narrator: Narrator) -> Path:
    """Return the folder of a new search, or that of the interrupted one."""
    if resume == AUTO and out is not None and (Path(out) / SEARCH / CONFIG).exists():
        resume = out
    if resume is not None and resume != AUTO:
        check_config(Path(resume) / SEARCH, record)
        return Path(resume)
    if resume == AUTO and out is None:
        newest = max(_interrupted(record), key=_touched, default=None)
        if newest is not None:
            narrator.say(f"resume=auto: {newest} goes on")
            return newest
        narrator.say("resume=auto: there is no interrupted search of this configuration")
    folder = open_run(out, "tune", record["base"]["seed"])
    with room_in(folder):
        (folder / SEARCH / STATES).mkdir(parents=True)
        (folder / SEARCH / ID).write_text(f"{folder.resolve().name}-{uuid4().hex[:8]}")
        write_config(folder / SEARCH, record)
    return folder


def _interrupted(record: dict[str, Any]) -> Iterator[Path]:
    """Yield the folders of searches of a configuration that neither ended nor still run."""
    for path in RUNS.glob(f"*/{SEARCH}/{CONFIG}"):
        folder = path.parent.parent
        try:
            check_config(folder / SEARCH, record)
        except InputError:
            continue
        if not (folder.is_symlink() or (folder / SUMMARY).exists() or is_claimed(folder)):
            yield folder


def _touched(folder: Path) -> tuple[float, str]:
    return (folder / SEARCH).stat().st_mtime, folder.name
