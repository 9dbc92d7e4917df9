"""The invented market obeys the contract of `MarketTensors`; the society is that of `conf/`."""

from pathlib import Path
from typing import Any

import hydra
import pytest
import torch

from agents.mandates import society as mandates_of
from benchmarks import defaults
from benchmarks.synthetic_market import random_walk, society
from cli.config import register
from envs.batch import BatchEnv

CONF = Path(__file__).resolve().parents[2] / "conf"


@pytest.fixture(scope="module")
def composed() -> Any:
    register()
    choices = ["agents=three", "env=default", "env/costs=impact", "algorithm=ppo", "network=small"]
    overrides = [choice if "/" in choice else f"+{choice}" for choice in choices]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose(overrides=overrides)
    return hydra.utils.instantiate(config, _convert_="object")


def test_the_mandates_are_those_of_the_configuration(composed: Any) -> None:
    assert defaults.mandates(3) == mandates_of(composed["agents"])


def test_environment_and_algorithm_are_those_of_the_configuration(composed: Any) -> None:
    assert defaults.settings() == composed["env"]
    assert defaults.algorithm() == composed["algorithm"]


def test_the_network_is_that_of_the_configuration(composed: Any) -> None:
    ours, theirs = defaults.network("small", 17, 8), composed["network"]
    for name in theirs.__dataclass_fields__:
        assert getattr(ours, name) == getattr(theirs, name)


def test_every_cost_is_paid() -> None:
    model = defaults.settings().costs
    assert min(model.commission_bp, model.spread_bp, model.impact, model.borrow_rate) > 0.0


def test_more_agents_have_names_and_policies_of_their_own() -> None:
    many = defaults.mandates(7)
    assert len({mandate.name for mandate in many}) == 7
    assert len({mandate.policy for mandate in many}) == 7
    assert many[6].limits == many[0].limits


@pytest.mark.parametrize(("sessions", "assets", "agents"), [(300, 1, 1), (600, 33, 4)])
def test_a_society_of_any_size_trades_and_stays_finite(
    sessions: int, assets: int, agents: int
) -> None:
    market = random_walk(sessions, assets)
    made = society(market, defaults.mandates(agents), defaults.settings(episode_sessions=8))
    assert (market.n_sessions, market.n_assets) == (sessions, assets)
    env: BatchEnv = made.env(slice(0, sessions))
    env.reset(env.draw_starts(5, torch.Generator()), 8)
    drawn = torch.Generator().manual_seed(1)
    costs = torch.zeros(5, agents, dtype=torch.float64)
    for _ in range(8):
        step = env.step(2.0 * torch.rand(5, agents, assets + 1, generator=drawn) - 1.0)
        costs += step.outcome.cost.total
        assert bool(torch.isfinite(step.reward).all())
    assert bool((costs > 0.0).all())


def test_the_reference_is_the_mean_return_of_the_names() -> None:
    market = random_walk(40, 5)
    mean = (market.close[1:] / market.close[:-1]).mean(1) - 1.0
    torch.testing.assert_close(market.reference_return[1:], mean)
    night = (market.open[1:] / market.close[:-1]).mean(1) - 1.0
    torch.testing.assert_close(market.reference_night[1:], night)


def test_one_seed_gives_one_market() -> None:
    assert torch.equal(random_walk(50, 3).close, random_walk(50, 3).close)
    assert not torch.equal(random_walk(50, 3).close, random_walk(50, 3, seed=1).close)
