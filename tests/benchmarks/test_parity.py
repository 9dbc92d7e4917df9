"""Served weights are those of the training side, and would be told from others."""

import asyncio
from dataclasses import replace
from pathlib import Path

import hydra
import numpy as np
import pytest

from agents import artefact
from agents.policies import ArtefactPolicy
from benchmarks import untrained
from benchmarks.parity import Weights, compared, run, serving_side, training_side
from cli.config import BenchConfig, register
from market.build import build
from market.compose import CONF, typed
from serving.local import LocalBackend
from serving.sources import OwnSources
from training.configuration import Configuration
from training.train import make_society

SMALL = ("subverb=parity", "market=synthetic", "market.assets=6", "market.sessions=900")


def composed(*overrides: str) -> BenchConfig:
    register()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return typed(hydra.compose("bench", [*SMALL, *overrides]), BenchConfig)


@pytest.fixture(scope="module")
def config() -> BenchConfig:
    return composed("ensemble=hedge")


def saved(folder: Path, config: Configuration) -> Path:
    data = build(config.market, config.quality, config.features)
    untrained.save(folder, make_society(data, config), data, config)
    return folder


def test_what_is_served_is_what_the_training_side_asks_for(config: BenchConfig) -> None:
    figures = run(config.configuration(), None, config.serving.desk, states=1000).figures
    assert figures["states"] >= 1000
    assert (figures["agents"], figures["assets"]) == (3, 6)
    assert figures["universes"] > 1
    assert figures["max_abs_diff"] <= 1e-6
    assert figures["account_max_abs_diff"] <= figures["max_abs_diff"]


def test_another_artefact_and_other_costs_are_told_apart(
    config: BenchConfig, tmp_path: Path
) -> None:
    plan = config.configuration()
    first = saved(tmp_path / "first", plan)
    second = saved(tmp_path / "second", replace(plan, seed=plan.seed + 1))
    trained = artefact.load(first)
    data = build(plan.market, plan.quality, trained.manifest.features)
    sessions = [str(day) for day in data.bars.dates[data.test][:60]]
    agents = [mandate.name for mandate in trained.manifest.mandates]
    whole = training_side(data, trained, plan.env, plan.market.cash_rate)
    ours = Weights(whole.agents[:60], whole.account[:60])

    def apart(folder: Path, cash_rate: float) -> float:
        sources = OwnSources(ArtefactPolicy(str(folder)), None, plan.market, plan.quality)
        backend = LocalBackend(
            sources, config.serving.desk, plan.env, plan.market.exchange, cash_rate
        )
        log = tmp_path / f"{folder.name}-{cash_rate}"
        asked = serving_side(backend, log, sessions, agents, data.bars.symbols)
        figures = compared([(ours, asyncio.run(asked))], agents).figures
        found = figures["max_abs_diff"]
        assert isinstance(found, float)
        return found

    assert apart(first, plan.market.cash_rate) <= 1e-6
    assert apart(second, plan.market.cash_rate) > 1e-2
    assert apart(first, plan.market.cash_rate + 0.05) > 1e-6


def test_the_largest_difference_is_found_wherever_it_is() -> None:
    still = Weights(np.zeros((5, 2, 3)), np.zeros((5, 3)))

    def figures(theirs: Weights) -> dict[str, object]:
        other = (Weights(still.agents[:, :, :2], still.account[:, :2]),) * 2
        return dict(compared([other, (still, theirs)], ["calm", "bold"]).figures)

    assert figures(still)["max_abs_diff"] == 0.0
    assert (figures(still)["states"], figures(still)["universes"]) == (20, 2)
    by_agent = replace(still, agents=still.agents.copy())
    by_agent.agents[3, 1, 2] = -0.25
    assert figures(by_agent)["max_abs_diff"] == 0.25
    by_account = replace(still, account=still.account.copy())
    by_account.account[4, 0] = 0.5
    found = figures(by_account)
    assert (found["max_abs_diff"], found["account_max_abs_diff"]) == (0.5, 0.5)
    unknown = replace(still, account=np.full((5, 3), np.nan))
    assert np.isnan(figures(unknown)["max_abs_diff"])
