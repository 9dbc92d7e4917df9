"""`tercet train --multirun` through the command line: one bad job, one line, and the rest whole."""

import json
from pathlib import Path

import pytest

SMALL = (
    "market=synthetic",
    "market.cache=null",
    "market.assets=6",
    "algorithm=none",
    "pretrain.updates=5",
    "network.members=2",
    "env.episode_sessions=21",
)


@pytest.fixture(autouse=True)
def found_by_other_processes(monkeypatch: pytest.MonkeyPatch):
    """Let Ray's processes import this repository wherever the command runs."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


def test_a_bad_run_fails_the_multirun_with_its_line_and_leaves_the_other_whole(
    tercet, tmp_path: Path
):
    result = tercet(
        "train", "--multirun", "selection.embargo=5,9000", *SMALL, "market.sessions=1100"
    )
    assert result.code == 2
    (told,) = [line for line in result.err.splitlines() if line.startswith("tercet: ")]
    assert "1 of 2 runs failed: selection.embargo=9000: " in told
    header, good, bad = result.out.splitlines()
    assert header.split()[:2] == ["run", "Sharpe"]
    assert good.startswith("selection.embargo=5")
    folder = tmp_path / good.split()[-1]
    assert json.loads((folder / "summary.json").read_text())["seed"] == 1
    assert (tmp_path / "runs" / "latest").resolve() == folder
    assert bad.split()[0] == "selection.embargo=9000"
    assert bad.split()[-1] == "failed"
    tracked = json.loads((folder / "config.json").read_text())["tracking"]
    assert tracked["experiment"].endswith("-multirun")


def test_bad_input_of_any_job_is_refused_before_one_begins(tercet, tmp_path: Path):
    result = tercet("train", "--multirun", "seed=1,-1", *SMALL)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "seed must be at least 0, was -1" in result.err
    assert not list((tmp_path / "runs").glob("*-train-*"))


def test_without_ray_one_run_follows_the_other(tercet, tmp_path: Path, soak: bool):
    if not soak:
        pytest.skip("two more runs: --soak")
    result = tercet(
        "train", "--multirun", "hydra/launcher=basic", "seed=1,2", "market.sessions=1100", *SMALL
    )
    assert result.code == 0, result.err
    assert len(list((tmp_path / "runs").glob("*-train-seed*/summary.json"))) == 2
