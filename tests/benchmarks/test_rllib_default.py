"""RLlib's default path plays our policy in our environment, and its rows are the ones we count."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from agents.networks import PolicyNetwork
from benchmarks import defaults
from benchmarks.synthetic_market import random_walk, society
from envs.market_env import MarketEnv
from training.local_ray import local_ray
from training.rollout import book_values, log_density, log_deviations
from training.society import Society

torch.set_num_threads(1)

ROWS = slice(0, 300)
CLIP = 3.0
SESSIONS = 12  # of an episode: shorter than what one call of `sample` plays
SETTINGS = defaults.algorithm(starts=2, replicas=4, minibatch_days=16)


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    with local_ray():
        yield


@pytest.fixture(scope="module")
def made() -> Society:
    env = defaults.settings(episode_sessions=SESSIONS)
    return society(random_walk(300, 5), defaults.mandates(), env)


@pytest.fixture(scope="module")
def networks(made: Society) -> dict[str, PolicyNetwork]:
    """Return networks of which no parameter is 0, as many are at first."""
    every = made.new_networks(1)
    random = torch.Generator().manual_seed(1)
    for network in every.values():
        for parameter in network.parameters():
            parameter.data.normal_(0.0, 0.3, generator=random)
    return every


@pytest.fixture
def algorithm(ray_here: None, made: Society, networks: dict[str, PolicyNetwork]) -> Iterator[Any]:
    from benchmarks.rllib_default import Sizes, build_algorithm, set_networks

    sizes = Sizes(environments=2, rows=60, minibatch=20)
    algorithm = build_algorithm(made, CLIP, ROWS, SETTINGS, 1, sizes)
    set_networks(algorithm, networks, SETTINGS)
    yield algorithm
    algorithm.stop()


@pytest.fixture
def played(made: Society) -> tuple[MarketEnv, dict[str, Any]]:
    """Return an environment in the middle of an episode, and what the agents see there."""
    from benchmarks.rllib_default import observation_spec

    env = MarketEnv(made.env(ROWS), observation_spec(made, CLIP))
    seen, _ = env.reset(seed=1)
    for _ in range(5):
        seen, *_ = env.step(some_actions(env))
    return env, seen


def some_actions(env: MarketEnv) -> dict[str, Any]:
    random = np.random.default_rng(1)
    width = env.batch.market.n_assets + 1
    return {agent: random.uniform(-1.0, 1.0, width).astype(np.float32) for agent in env.agents}


def test_its_policy_acts_and_values_as_ours_does(
    algorithm: Any,
    made: Society,
    networks: dict[str, PolicyNetwork],
    played: tuple[MarketEnv, dict[str, Any]],
) -> None:
    env, flat = played
    seen, market = env.batch.observe(), made.market
    day = market.asset_features[seen.t], market.market_features[seen.t], market.investable[seen.t]
    for agent, mandate in enumerate(made.mandates):
        module = algorithm.get_module(mandate.policy)
        rows = {"obs": torch.from_numpy(flat[mandate.name])[None]}
        inputs = module.forward_inference(rows)["action_dist_inputs"].detach()
        mean, log_std = inputs.chunk(2, dim=-1)
        network, book = networks[mandate.policy], seen.book[:, agent]
        with torch.no_grad():
            encoding = network.encode(*day)
            expected = network.act(encoding, seen.asset[:, agent], book, day[-1])
            value = book_values(network, made.market, seen.t, book[:, None, None])[0, 0]
            found = module.compute_values(rows)
        assert mean.abs().max() > 0.01
        assert torch.allclose(mean, expected, rtol=0.0, atol=1e-5)
        assert torch.allclose(found, value, rtol=0.0, atol=1e-5)
        noise = torch.tensor([SETTINGS.score_noise, SETTINGS.exposure_noise]).log()
        assert torch.allclose(log_std[0], log_deviations(noise, made.market.n_assets))


def test_its_density_of_an_action_is_the_product_of_ours(algorithm: Any, made: Society) -> None:
    module = algorithm.get_module(made.mandates[0].policy)
    width = made.market.n_assets + 1
    mean, log_std = torch.zeros(4, width), torch.full((4, width), -2.0)
    actions = torch.randn(4, width, generator=torch.Generator().manual_seed(0))
    distribution = module.get_exploration_action_dist_cls().from_logits(
        torch.cat([mean, log_std], dim=-1)
    )
    theirs = distribution.logp(actions)
    ours = log_density(actions, mean, log_std).sum(-1)
    assert torch.allclose(theirs - theirs[0], ours - ours[0], atol=1e-4)


def test_the_networks_come_back_as_they_were_set(
    algorithm: Any, made: Society, networks: dict[str, PolicyNetwork]
) -> None:
    from benchmarks.rllib_default import trained_networks

    back = trained_networks(algorithm, made)
    for policy, network in networks.items():
        for name, value in network.state_dict().items():
            if name != "log_std":  # which starts afresh
                assert torch.equal(back[policy].state_dict()[name], value)


def test_a_sample_has_the_agent_steps_that_its_episodes_hold(algorithm: Any) -> None:
    episodes = algorithm.env_runner.sample(num_timesteps=2 * 30)
    counted = sum(episode.agent_steps() for episode in episodes)
    held = sum(
        len(alone.get_actions())
        for episode in episodes
        for alone in episode.agent_episodes.values()
    )
    assert counted == held == 2 * 30 * 3
    ended = [episode for episode in episodes if episode.is_truncated]
    assert len(ended) == 2 * (30 // SESSIONS)
    assert all(len(episode) == SESSIONS for episode in ended)


def test_training_learns_from_the_rows_that_are_counted(algorithm: Any, made: Society) -> None:
    before = algorithm.learner_group.get_weights()
    result = algorithm.train()
    sampled = result["env_runners"]
    assert sampled["num_env_steps_sampled"] == 60
    for policy in made.policies:
        assert sampled["num_module_steps_sampled"][policy] == 60
        assert result["learners"][policy]["num_module_steps_trained"] >= 60 * SETTINGS.epochs
        after = algorithm.learner_group.get_weights()[policy]
        assert any((after[name] != value).any() for name, value in before[policy].items())


def test_rewards_are_scaled_as_on_our_path(made: Society) -> None:
    from benchmarks.rllib_default import ScaledReward, observation_spec

    spec = observation_spec(made, CLIP)
    plain, scaled = (MarketEnv(made.env(ROWS), spec) for _ in range(2))
    wrapped = ScaledReward(scaled, 100.0)
    for env in (plain, wrapped):
        env.reset(seed=2)
    earned = plain.step(some_actions(plain))[1]
    shown = wrapped.step(some_actions(scaled))[1]
    assert any(earned.values())
    assert shown == {agent: 100.0 * reward for agent, reward in earned.items()}
