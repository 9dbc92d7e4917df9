"""What is served is what the backtest measured."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from agents import artefact
from agents.ensemble import Hedge
from agents.market_tensors import MarketTensors
from evaluation.backtest import BacktestWindow, run_agents
from evaluation.netting import ensemble_schedules
from risk.breakers import BreakerRules
from risk.exits import ExitRules
from serving.track import replay


@pytest.mark.parametrize("rules", [False, True])
def test_replayed_books_are_those_of_the_backtest_to_the_last_bit(world: Any, rules: bool) -> None:
    trained = artefact.load(world.artefact(1))
    mandates, market = trained.manifest.mandates, MarketTensors.build(world.data)
    if rules:
        exits = ExitRules(0.03, 0.1, 0.04, 20, 5)
        breakers = BreakerRules(0.05, 0.8, 5, 0.2, 0.4, 10)
        mandates = tuple(replace(m, exits=exits, breakers=breakers) for m in mandates)
    env, first = world.config.env, world.data.test.start
    track = replay(market, mandates, trained.networks, env, first, 0.01)

    window = BacktestWindow(slice(first, market.n_sessions), env, 0.01, (1.0,))
    policies = {mandate.policy: trained.networks[mandate.policy] for mandate in mandates}
    result = run_agents(world.data.bars, market, window, mandates, policies)
    assert np.array_equal(track.target[:-1], result.targets[:-1, 0])
    assert np.array_equal(track.ordered[:-1], result.ordered[:-1, 0])
    navs = np.column_stack([result.books[name][0].nav for name in result.names])
    assert np.array_equal(track.nav, navs)
    assert track.ordered[:-1].any() and not track.ordered[:-1].all()

    regime = world.data.regime[first:]
    (schedule,) = ensemble_schedules(result, Hedge(1.0, 0.2), regime)
    netted = track.netted(Hedge(1.0, 0.2), world.data.regime)
    assert np.array_equal(netted.weights[:-1], schedule.weights[:-1])
    assert np.array_equal(netted.rebalance[:-1], schedule.rebalance[:-1])


def test_the_last_session_decides_as_it_would_if_another_one_followed(world: Any) -> None:
    trained = artefact.load(world.artefact(1))
    market, first = MarketTensors.build(world.data), world.data.test.start
    arguments = (trained.manifest.mandates, trained.networks, world.config.env, first, 0.0)
    whole = replay(market, *arguments)
    per_session = {
        name: getattr(market, name)[:-1]
        for name in MarketTensors.__dataclass_fields__
        if name not in ("sector_of", "n_sectors", "adv")
    }
    shorter = replay(replace(market, **per_session), *arguments)
    assert np.array_equal(shorter.target, whole.target[:-1])
