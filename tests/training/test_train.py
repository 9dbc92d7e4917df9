"""A whole run on a small invented market: what it leaves, and how it goes on after a stop."""

import json
import math
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest
import torch

from agents import artefact
from evaluation import run_folder
from evaluation.contest import Contest
from market.build import build
from market.errors import InputError
from training import stages, train
from training.checkpoint import Checkpoint
from training.configuration import Configuration
from training.export import export
from training.passes import inner_pass, train_stages
from training.placement import ActorsLostError
from training.progress import Narrator
from training.selection import inner_windows
from training.settings import ClusterSettings
from training.stages import Stages
from training.store import Store
from training.tracking import KEYS, SilentTracker, final_numbers
from training.train import make_society, resumable, run

pytestmark = pytest.mark.usefixtures("ray_here")


class Recorder:
    """A tracker that keeps what it is given."""

    def __init__(self) -> None:
        self.rows: list[Mapping[str, float]] = []
        self.summary: Mapping[str, Any] = {}

    def log(self, values: Mapping[str, float]) -> None:
        self.rows.append(values)

    def finish(self, folder: Path, summary: Mapping[str, Any], contest: Contest) -> None:
        self.summary = final_numbers(summary)


@pytest.fixture
def cluster(compose: Callable[..., Any]) -> ClusterSettings:
    chosen: ClusterSettings = compose("cluster=local")["cluster"]
    return chosen


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    made = Recorder()

    class Opened:
        def __enter__(self) -> Recorder:
            return made

        def __exit__(self, *error: object) -> None:
            pass

    monkeypatch.setattr(train, "tracking", lambda *args: Opened())
    return made


def files(folder: Path) -> set[str]:
    return {item.name for item in folder.iterdir()}


def generalised(key: str) -> str:
    """Return a key with its names of agents, policies, passes and stages left open."""
    names = {"conservative", "balanced", "aggressive"}
    parts = key.split("/")
    for place, part in enumerate(parts):
        if part in names:
            parts[place] = "<agent>" if parts[place - 1] == "agents" else "<policy>"
        elif part in ("inner", "final"):
            parts[place] = "<pass>"
        elif part in ("warm_start", "rl"):
            parts[place] = "<stage>"
    return "/".join(parts)


def test_a_run_leaves_everything_and_an_interrupted_one_goes_on_to_the_same(
    configuration: Callable[..., Configuration],
    cluster: ClusterSettings,
    recorder: Recorder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    config = configuration()
    folder, summary = run(config, cluster, None, None, "tercet train")
    assert folder.parent == run_folder.RUNS
    assert (run_folder.RUNS / "latest").resolve() == folder.resolve()
    assert files(folder) == {
        "artefact", "config.json", "nav.parquet", "report.html", "stages", "summary.json",
        "test_window.json", "trades.parquet",
    }  # fmt: skip
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert files(folder / "stages") == {"rule", "warm_start", "rl"}
    assert set(summary["seconds"]) == {"market", "inner_pass", "final_pass", "backtest"}
    for agent in ("conservative", "balanced", "aggressive"):
        rows = summary["stages"][agent]
        assert [row["stage"] for row in rows] == ["rule", "warm_start", "rl"]
        assert sum(row["chosen"] for row in rows) == 1
        chosen = next(row for row in rows if row["chosen"])
        assert chosen["sharpe"] == pytest.approx(summary["agents"][agent]["sharpe"], abs=1e-6)
        exported = artefact.load(folder / "artefact").manifest.stages[agent]
        assert exported.name == chosen["stage"]
        assert "of inner validation" in rows[1]["decision"]

    logged = {generalised(key) for row in recorder.rows for key in row}
    assert logged == set(KEYS)
    assert recorder.summary["test/balanced/sharpe"] == summary["agents"]["balanced"]["sharpe"]
    assert len(recorder.summary["artefact_sha256"]["policy.safetensors"]) == 64

    # The same run, stopped by hand in the middle of the final pass, then gone on with.
    latest = (run_folder.RUNS / "latest").resolve()

    class Impatient(Narrator):
        updates = 0

        def advance(self, done: float, note: str) -> None:
            if "final pass, ppo" in self._phase:
                Impatient.updates += 1
                if Impatient.updates == 2:
                    os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(train, "Narrator", Impatient)
    stopped = Path("stopped")  # relative, as it is typed
    copied = replace(cluster, checkpoints="memory://bucket")
    with pytest.raises(KeyboardInterrupt):
        run(config, copied, str(stopped), None, "tercet train")
    assert (stopped / "checkpoint" / "final-rl.state-0" / "counters.json").exists()
    assert (run_folder.RUNS / "latest").resolve() == latest
    rmtree(stopped)  # and this machine's disk is lost

    begun = []
    monkeypatch.setattr(stages, "warm_start", lambda *args: begun.append(args))
    with pytest.raises(InputError, match=r"resume=.* was configured otherwise: seed is 4"):
        run(replace(config, seed=4), copied, None, str(stopped), "tercet train")
    resumed, again = run(config, copied, str(stopped), "auto", "tercet train resume=auto")
    assert Store("memory://bucket").runs() == []
    assert not begun  # nothing that was finished is trained again
    assert resumed == stopped
    assert files(stopped) == files(folder)
    for place in ("artefact", "stages/warm_start", "stages/rl"):
        ours = artefact.load(folder / place).networks
        theirs = artefact.load(stopped / place).networks
        assert set(ours) == set(theirs)
        for policy, network in ours.items():
            for name, value in network.state_dict().items():
                assert torch.equal(value, theirs[policy].state_dict()[name])
    assert again["agents"] == summary["agents"]
    with pytest.raises(InputError, match="is a complete run"):
        run(config, cluster, None, str(stopped), "tercet train")


def test_a_run_that_lost_its_learners_says_how_it_goes_on(tmp_path: Path) -> None:
    line = rf"^one of 2 learners died; to go on, add resume={tmp_path} to the same overrides$"
    with pytest.raises(InputError, match=line), resumable(tmp_path, Narrator()):
        raise ActorsLostError("one of 2 learners died")


def test_without_any_training_the_rule_is_exported(
    configuration: Callable[..., Configuration],
    cluster: ClusterSettings,
    compose: Callable[..., Any],
    tmp_path: Path,
) -> None:
    config = configuration(
        pretrain=compose("pretrain=none")["pretrain"],
        algorithm=compose("algorithm=none")["algorithm"],
    )
    folder, summary = run(config, cluster, str(tmp_path / "out"), None, "tercet train")
    assert artefact.load(folder / "artefact").networks == {}
    for rows in summary["stages"].values():
        assert [(row["stage"], row["chosen"]) for row in rows] == [("rule", True)]


@pytest.mark.parametrize(("warm", "rl"), [(-math.inf, math.inf), (math.inf, -math.inf)])
def test_the_thresholds_of_the_stages_decide_what_is_kept(
    configuration: Callable[..., Configuration],
    cluster: ClusterSettings,
    settings: Callable[..., Any],
    tmp_path: Path,
    warm: float,
    rl: float,
) -> None:
    ppo = settings("algorithm", "ppo", steps=1, starts=2, replicas=4, minibatch_days=21, keep_if=rl)
    ranker = settings("pretrain", "ranker", updates=5, batch_days=64, keep_if=warm)
    config = configuration(pretrain=ranker, algorithm=ppo)
    data = build(config.market, config.quality, config.features)
    society = make_society(data, config)
    checkpoint = Checkpoint(tmp_path, society.network, None, str)
    tracker = SilentTracker()
    both = Stages(society, ranker, ppo, cluster, config.seed, checkpoint, Narrator(), tracker)
    windows = inner_windows(data.train, config.selection)
    first, second = inner_pass(data, society, both, windows, config)
    for policy in society.policies:
        assert first[policy].kept is (warm < 0.0)
        assert second[policy].kept is (rl < 0.0)
        assert second[policy].previous == ("warm_start" if warm < 0.0 else "rule")

    trained = train_stages(both, "final", data.train, [first, second])
    chosen = export(tmp_path / "run", data, society, trained, [first, second], config, 1)
    assert set(chosen.values()) == {"warm_start" if warm < 0.0 else "rl"}
    for policy, network in trained["rl"].items():  # which never moves the scale that it starts with
        started_warm = torch.equal(network.scale, trained["warm_start"][policy].scale)
        assert started_warm is (warm < 0.0)
