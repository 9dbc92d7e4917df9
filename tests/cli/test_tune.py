"""`tercet tune`: what a search leaves, and that one that is killed goes on where it was."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from agents import artefact
from evaluation.trial_ledger import State, TrialLedger, Tried
from market.compose import CONF
from training.tracking import TRIAL_KEYS

MARKET = (
    "market=synthetic", "market.sessions=1000", "market.assets=5", "market.world=planted_alpha",
    "market.drift_half_life=60", "env.episode_sessions=21", "network.members=2", "tracking=none",
    "pretrain.updates=60", "pretrain.batch_days=64", "seed=3",
)  # fmt: skip
WARM = (*MARKET, "algorithm=none", "~tune.space.algorithm", "tune.folds=2")
SMALL_RL = (
    "algorithm.starts=2", "algorithm.replicas=4", "algorithm.minibatch_days=21",
    "algorithm.steps=4_032", "tune.folds=1", "tune.rungs=2",
)  # fmt: skip
PATIENCE_S = 3600.0

pytestmark = pytest.mark.timeout(7200)


@pytest.fixture(autouse=True)
def trials_find_this_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the processes of trials import what is tested, from whatever folder it runs in."""
    monkeypatch.setenv("PYTHONPATH", str(CONF.parent))


@contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run `tercet tune` as a process of its own, which does not outlive the block."""
    with subprocess.Popen(
        [sys.executable, "-m", "cli", "tune", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as started:
        try:
            yield started
        finally:
            started.kill()


def rows(folder: Path) -> list[Tried]:
    """Return the trials of the search in a folder that was not finished."""
    name = folder / "search" / "id"
    return TrialLedger(folder.parent).of_run(name.read_text()) if name.exists() else []


def wait_for_done(folder: Path, count: int, running: subprocess.Popen[str]) -> list[Tried]:
    """Wait until that many trials are over, and return them."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        over = [row for row in rows(folder) if row.state is not State.running]
        if len(over) >= count:
            return over
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < deadline, f"no {count} trials within {PATIENCE_S} s"
        time.sleep(0.05)


def test_a_search_that_was_killed_goes_on_without_repeating_finished_trials(
    tercet: Callable[..., Any], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    search = (*WARM, "tune=optuna", "tune.trials=3", "tune.drawn=2", f"out={folder}")
    with process(*search, "resume=auto") as first:
        before = wait_for_done(folder, 1, first)
        first.kill()
    assert len(before) < 3
    times = changes(folder)

    code, out, said = tercet("tune", *search, "resume=auto")
    assert code == 0, said
    found = json.loads((folder / "search.json").read_text())
    table = pd.read_parquet(folder / "trials.parquet")
    assert sorted(table["trial"]) == ["00000", "00001", "00002"]
    assert set(table["state"]) == {"done"}
    for tried in before:
        row = table[table["trial"] == tried.trial].iloc[0]
        assert row["score"] == tried.score
        assert row["changed"] == times[tried.trial], "it was not run again"

    best = table.loc[table["score"].idxmax()]
    assert found["best"]["trial"] == best["trial"]
    assert found["best"]["score"] == best["score"] >= found["default"]["score"]
    assert found["default"]["settings"]["pretrain.updates"] == 60
    assert found["trials"] == found["configurations"] == 3
    config = json.loads((folder / "config.json").read_text())
    assert config["pretrain"]["updates"] == best["pretrain.updates"]

    summary = json.loads((folder / "summary.json").read_text())
    assert summary["trials"] == 3
    assert artefact.load(folder / "artefact").manifest.trials == 3
    assert "3 configurations" in " ".join(summary["notes"])
    assert "3 trials with 3 configurations: 3 done" in out
    assert not (folder / "search").exists()

    code, _, said = tercet("tune", *search, f"resume={folder}")
    assert code == 2
    assert "no run to go on with" in said


def changes(folder: Path) -> dict[str, str]:
    """Return when each trial was last written down."""
    ledger, name = TrialLedger(folder.parent), (folder / "search" / "id").read_text()
    ledger.export(name, folder.parent / "before.parquet")
    table = pd.read_parquet(folder.parent / "before.parquet")
    return dict(zip(table["trial"], table["changed"], strict=True))


def test_a_population_trades_states_and_every_setting_that_it_had_is_written_down(
    tercet: Callable[..., Any], tmp_path: Path, soak: bool
) -> None:
    if not soak:
        pytest.skip("a population takes a minute: --soak")
    folder = tmp_path / "run"
    code, out, said = tercet(
        "tune", *MARKET, *SMALL_RL, "tune=pbt", "tune.trials=3", f"out={folder}",
        "tune.quantile=0.34", "tracking=wandb",
    )  # fmt: skip
    assert code == 0, said
    table = pd.read_parquet(folder / "trials.parquet")
    done, left = (table[table["state"] == state] for state in ("done", "left"))
    assert sorted(done["trial"]) == ["00000", "00001", "00002"]
    assert len(left) == 1, "the worst of three took over another one's state"
    assert all(json.loads(scores).keys() == {"1"} for scores in left["scores"])
    taken = done[done["trial"] == left["trial"].iloc[0]].iloc[0]
    assert json.loads(taken["scores"]).keys() == {"2"}
    assert (
        taken["agents.balanced.reward.downside"]
        != (left["agents.balanced.reward.downside"].iloc[0])
    )
    assert json.loads((folder / "summary.json").read_text())["trials"] == 4
    assert "4 configurations: 3 done, 1 left" in out

    for trial in done["trial"]:
        (written,) = (folder / "trials" / trial).glob("wandb/offline-run-*/*.wandb")
        record = written.read_bytes()
        assert all(key.encode() in record for key in TRIAL_KEYS)
        assert folder.name.encode() in record, "the group is that of the search"


def test_a_population_that_was_asked_to_end_goes_on_from_its_states(
    tercet: Callable[..., Any], tmp_path: Path, soak: bool
) -> None:
    if not soak:
        pytest.skip("a population, twice: --soak")
    folder = tmp_path / "run"
    search = (
        *MARKET, *SMALL_RL, "tune=pbt", "tune.trials=3", "tune.rungs=3", "tune.quantile=0.34",
        f"out={folder}", "resume=auto",
    )  # fmt: skip
    with process(*search) as first:
        while sum(1 in row.scores for row in rows(folder)) < 3:
            assert first.poll() is None, first.communicate()
            time.sleep(0.05)
        first.send_signal(signal.SIGTERM)
        _, said = first.communicate(timeout=PATIENCE_S)
    assert first.returncode == 128 + signal.SIGTERM
    assert said.splitlines()[-1].startswith("ended by SIGTERM; to go on, add resume=")
    before = {row.trial: row.scores[1] for row in rows(folder) if 1 in row.scores}

    code, _, said = tercet("tune", *search)
    assert code == 0, said
    table = pd.read_parquet(folder / "trials.parquet")
    assert sorted(table[table["state"] == "done"]["trial"]) == ["00000", "00001", "00002"]
    for trial, score in before.items():
        seen = [json.loads(scores).get("1") for scores in table[table["trial"] == trial]["scores"]]
        assert score in seen, "the rung was not climbed again"


def test_every_key_that_is_logged_of_a_trial_is_explained() -> None:
    section = (CONF.parent / "docs" / "metrics.md").read_text().split("## Logged of each trial")[1]
    explained = re.findall(r"^\| `([^`]+)` \|", section.split("\n## ")[0], re.MULTILINE)
    assert explained == list(TRIAL_KEYS)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("tune.trials=1",), "tune.trials must be >= 2, was 1"),
        (("tune.folds=9",), "tune.folds=9: 700 sessions"),
        (("+tune.space.market.seed={choices:[1,2]}",), "tune.space.market.seed: trials may differ"),
        (("+tune.space.network.membres={choices:[1,2]}",), "tune.space.network.membres: "),
        (("pretrain.updates=1",), "does not hold the value 1"),
        (("pretrain=none", "algorithm=none"), "pretrain.updates does not exist"),
        (("resume=nowhere",), "no run to go on with"),
        (("tune=asah",), "did you mean asha"),
    ],
)
def test_a_search_that_cannot_be_is_refused_in_one_line(
    tercet: Callable[..., Any], tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    code, out, err = tercet("tune", *MARKET, "tune.folds=2", f"out={tmp_path / 'run'}", *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_twenty_trials_beat_the_default_and_survive_a_kill_half_way(
    tercet: Callable[..., Any], tmp_path: Path, soak: bool
) -> None:
    if not soak:
        pytest.skip("twenty trials take several minutes: --soak")
    folder = tmp_path / "run"
    search = (
        "market=synthetic", "market.world=planted_alpha", "network.members=2", "tracking=none",
        "algorithm.steps=96_768", "algorithm.replicas=8",
        "tune=asha", "tune.folds=2", "tune.rungs=2", "tune.trials=20", f"out={folder}",
    )  # fmt: skip
    with process(*search) as first:
        before = wait_for_done(folder, 10, first)
        first.send_signal(signal.SIGKILL)
    times = changes(folder)
    code, _, said = tercet("tune", *search[:-1], f"resume={folder}")
    assert code == 0, said

    table = pd.read_parquet(folder / "trials.parquet").set_index("trial")
    assert list(table.index) == [f"{number:05d}" for number in range(20)]
    assert {row.trial: times[row.trial] for row in before} == {
        row.trial: table.loc[row.trial, "changed"] for row in before
    }, "what was over was not run again"
    found = json.loads((folder / "search.json").read_text())
    assert found["trials"] == found["configurations"] == 20
    assert found["default"]["trial"] == "00000"
    assert found["best"]["score"] > found["default"]["score"]
    assert json.loads((folder / "summary.json").read_text())["trials"] == 20
