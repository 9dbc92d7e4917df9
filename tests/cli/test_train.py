"""A whole run through the command line, small enough to stay quick."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

SMALL = (
    "market=synthetic",
    "market.cache=null",
    "market.assets=6",
    "market.sessions=1100",
    "algorithm=none",
    "pretrain.updates=5",
    "network.members=2",
)
MARKET = SMALL[:4]
MEASURES = {
    "cagr", "volatility", "sharpe", "sharpe_se", "psr", "sortino", "calmar", "max_drawdown",
    "var_95", "cvar_95", "turnover_annual", "cost_annual", "win_rate", "profit_factor", "beta",
    "correlation", "effective_positions", "active_share_vs_equal_weight",
}  # fmt: skip


@pytest.fixture
def trained(tercet, tmp_path: Path) -> Path:
    """Return the folder of a small run that keeps its warm start."""
    result = tercet("train", *SMALL, "pretrain.keep_if=-inf")
    assert result.code == 0, result.err
    return tmp_path / "runs" / "latest"


def test_a_run_leaves_its_files_and_says_where(trained: Path):
    summary = json.loads((trained / "summary.json").read_text())
    assert set(summary["agents"]) == {"conservative", "balanced", "aggressive"}
    rows = [summary["ensemble"], *summary["agents"].values(), *summary["baselines"].values()]
    assert all(set(row) >= MEASURES for row in rows)
    assert {"run_id", "commit", "data", "seconds", "artefact"} <= set(summary)
    assert {"source", "symbols", "fields", "train", "test", "sha256"} <= set(summary["data"])
    nav = pd.read_parquet(trained / "nav.parquet")
    assert nav.index.name == "date"
    assert {"ensemble", *summary["agents"], *summary["baselines"]} <= set(nav.columns)
    assert (nav.iloc[0] == 100_000.0).all()
    assert (nav.dtypes == np.float64).all()
    assert "<html" in (trained / "report.html").read_text()[:200].lower()


def test_an_artefact_backtests_to_the_run_that_exported_it(tercet, trained: Path, tmp_path: Path):
    artefact = f"policy.path={trained / 'artefact'}"
    assert tercet("backtest", *MARKET, "policy=artefact", artefact, "out=again").code == 0
    first = pd.read_parquet(trained / "nav.parquet")
    again = pd.read_parquet(tmp_path / "again" / "nav.parquet")
    pd.testing.assert_frame_equal(first, again, rtol=1e-9)


def test_one_flipped_byte_of_an_artefact_is_refused(tercet, trained: Path, tmp_path: Path):
    spoilt = shutil.copytree(trained / "artefact", tmp_path / "spoilt")
    parameters = spoilt / "policy.safetensors"
    content = bytearray(parameters.read_bytes())
    content[len(content) // 2] ^= 1
    parameters.write_bytes(content)
    result = tercet("backtest", *MARKET, "policy=artefact", "policy.path=spoilt")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "spoilt/policy.safetensors" in result.err


@pytest.mark.parametrize(
    ("override", "named"),
    [("features=indicators", "features."), ("agents.balanced.tilt=0.1", "agents.balanced.tilt")],
)
def test_an_artefact_for_something_else_is_refused(tercet, trained: Path, override, named):
    artefact = f"policy.path={trained / 'artefact'}"
    result = tercet("backtest", *MARKET, "policy=artefact", artefact, override)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert named in result.err


def test_a_run_that_dies_leaves_the_last_good_one_as_the_latest(
    tercet, trained: Path, monkeypatch: pytest.MonkeyPatch
):
    good = trained.resolve()

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("evaluation.run_folder.write_report", full_disk)
    result = tercet("train", *SMALL, "seed=2")
    assert result.code == 2
    assert "No space left on device" in result.err
    assert trained.resolve() == good
    assert json.loads((trained / "summary.json").read_text())["seed"] == 1


def test_the_same_seed_gives_the_same_weights_and_another_one_others(tercet, tmp_path: Path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        arguments = (f"out={name}", f"seed={seed}", "tracking=none", "pretrain.keep_if=-inf")
        assert tercet("train", *SMALL, *arguments).code == 0
    a, b, c = ((tmp_path / name / "artefact" / "policy.safetensors").read_bytes() for name in "abc")
    assert a == b
    assert a != c
