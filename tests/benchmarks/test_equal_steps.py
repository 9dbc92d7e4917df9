"""What the comparison at equal steps is made of: the anchor, its base weights, the difference."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from benchmarks import defaults
from benchmarks.synthetic_market import random_walk, society
from envs.market_env import MarketEnv
from training.local_ray import local_ray
from training.society import Society

torch.set_num_threads(1)

ROWS = slice(0, 300)
SESSIONS = 12


@pytest.fixture(scope="module", autouse=True)
def ray_here() -> Iterator[None]:
    with local_ray():
        yield


@pytest.fixture(scope="module")
def made() -> Society:
    env = defaults.settings(episode_sessions=SESSIONS)
    return society(random_walk(300, 5), defaults.mandates(), env)


def test_the_anchor_is_the_divergence_of_the_tilted_weights_from_the_base() -> None:
    from benchmarks.equal_steps import anchor

    random = torch.Generator().manual_seed(0)
    scores = torch.randn(7, 5, generator=random).tanh()
    base = torch.rand(7, 5, generator=random)
    base /= base.sum(-1, keepdim=True)
    tilted = base * (0.6 * scores).exp()
    tilted /= tilted.sum(-1, keepdim=True)
    by_definition = (tilted * (tilted / base).log()).sum(-1)
    assert torch.allclose(anchor(scores, base, 0.6), by_definition, atol=1e-6)
    assert not anchor(scores, torch.zeros(7, 5), 0.6).any()


def test_the_observation_ends_with_the_base_weights_of_its_day(made: Society) -> None:
    from benchmarks.equal_steps import WithBase
    from benchmarks.rllib_default import observation_spec

    env = MarketEnv(made.env(ROWS), observation_spec(made, 3.0))
    longer = WithBase(env)
    seen, _ = longer.reset(seed=1)
    for _ in range(SESSIONS):
        base = env.batch.action_map.base_weights(env.batch.books.t)[0].numpy()
        for agent, name in enumerate(env.possible_agents):
            assert longer.observation_space(name).contains(seen[name])
            assert np.allclose(seen[name][env.spec.size :], base[agent], atol=1e-7)
        seen, *_ = longer.step({name: np.zeros(6, np.float32) for name in env.agents})
    assert not env.agents


def test_a_difference_is_judged_against_history_and_seeds() -> None:
    from benchmarks.equal_steps import difference

    random = np.random.default_rng(0)
    market = 0.0005 + 0.01 * random.normal(size=1000)
    theirs = market + 0.001 * random.normal(size=(3, 1000))
    ours = market + 0.001 * random.normal(size=(3, 1000))
    found = difference(ours, theirs)
    assert found.error == pytest.approx(np.hypot(found.bootstrap_error, found.seeds_error))
    assert abs(found.mean) < 2.0 * found.error
    better = difference(theirs + 0.0005, theirs)
    assert better.mean > 2.0 * better.error
    assert better.seeds_error < better.bootstrap_error


def test_equal_paths_do_not_differ() -> None:
    from benchmarks.equal_steps import difference

    returns = 0.01 * np.random.default_rng(0).normal(size=(3, 300))
    found = difference(returns, returns)
    assert found.mean == 0.0
    assert found.error == 0.0
