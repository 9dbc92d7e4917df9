"""One agent's Gymnasium view of the market, beside others that follow what they are given."""

import warnings
from collections.abc import Callable, Iterator

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from agents.market_tensors import MarketTensors
from envs.batch import BatchEnv
from envs.market_env import MarketEnv
from envs.single_agent import SingleAgentEnv

Build = Callable[..., MarketTensors]
MakeBatch = Callable[..., BatchEnv]
Shell = Callable[[BatchEnv], MarketEnv]

ID = "envs.single_agent:tercet/Market-v0"


@pytest.fixture
def small(random_market: Build, batch: MakeBatch, market_env: Shell) -> Callable[[], MarketEnv]:
    return lambda: market_env(batch(random_market(0)))


@pytest.fixture(autouse=True)
def warnings_are_errors() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("agent", [None, "careful", "free"])
def test_the_view_of_a_synthetic_market_passes_gymnasiums_checker(
    small: Callable[[], MarketEnv], agent: str | None
) -> None:
    check_env(gymnasium.make(ID, agent=agent, market=small()).unwrapped)


def test_the_view_of_the_embedded_market_passes_gymnasiums_checker() -> None:
    env = gymnasium.make(ID, agent="balanced", overrides=["env.episode_sessions=30"])
    assert env.unwrapped.agent == "balanced"
    check_env(env.unwrapped)


def test_the_spaces_are_finite_and_actions_lie_between_minus_one_and_one(
    small: Callable[[], MarketEnv],
) -> None:
    env = gymnasium.make(ID, market=small())
    assert env.action_space == gymnasium.spaces.Box(-1.0, 1.0, (7,), np.float32)
    assert np.isfinite(env.observation_space.low).all()
    assert np.isfinite(env.observation_space.high).all()


def test_every_observation_lies_in_the_space_and_the_episode_ends_once(
    small: Callable[[], MarketEnv],
) -> None:
    env = gymnasium.make(ID, agent="middle", market=small())
    random = np.random.default_rng(0)
    seen, _ = env.reset(seed=4)
    ends = []
    while not ends or not ends[-1]:
        assert env.observation_space.contains(seen)
        seen, reward, terminated, truncated, info = env.step(
            random.uniform(-1.0, 1.0, 7).astype(np.float32)
        )
        assert np.isfinite(reward) and info["nav"] > 0.0
        ends.append(terminated or truncated)
    assert env.observation_space.contains(seen)
    assert len(ends) == 40


def test_the_others_follow_their_policies_and_else_their_rule(
    small: Callable[[], MarketEnv],
) -> None:
    """The same books as in the PettingZoo environment under the same actions."""
    width = 7
    policy_saw = []

    def follower(observation: np.ndarray) -> np.ndarray:
        policy_saw.append(observation)
        return np.tanh(observation[:width])

    env = SingleAgentEnv("middle", {"free": follower}, market=small())
    both = small()
    env.reset(seed=9)
    seen, _ = both.reset(9)
    random = np.random.default_rng(9)
    while both.agents:
        own = random.uniform(-1.0, 1.0, width).astype(np.float32)
        actions = {
            "careful": np.zeros(width, dtype=np.float32),
            "middle": own,
            "free": np.tanh(seen["free"][:width]),
        }
        np.testing.assert_array_equal(seen["middle"], env._seen["middle"])
        mine = env.step(own)
        np.testing.assert_array_equal(policy_saw[-1], seen["free"])
        seen, rewards, terminated, truncated, infos = both.step(actions)
        np.testing.assert_array_equal(mine[0], seen["middle"])
        assert mine[1:] == (
            rewards["middle"],
            terminated["middle"],
            truncated["middle"],
            infos["middle"],
        )
    assert len(policy_saw) == 40


def test_a_seed_is_repeatable_through_the_view(small: Callable[[], MarketEnv]) -> None:
    def navs(seed: int) -> list[float]:
        env = gymnasium.make(ID, market=small())
        env.reset(seed=seed)
        action = np.full(7, 0.5, dtype=np.float32)
        return [env.step(action)[4]["nav"] for _ in range(20)]

    assert navs(0) == navs(0)
    assert navs(0) != navs(1)


def test_a_start_can_be_named_through_the_view(small: Callable[[], MarketEnv]) -> None:
    market = small()
    gymnasium.make(ID, market=market).reset(seed=0, options={"start": 33})
    assert torch.equal(market.batch.books.t, torch.tensor([33]))


@pytest.mark.parametrize("names", [{"agent": "nobody"}, {"others": {"nobody": np.zeros}}])
def test_an_unknown_agent_is_refused_with_the_known_ones(
    small: Callable[[], MarketEnv], names: dict[str, object]
) -> None:
    with pytest.raises(ValueError, match="nobody; there are careful, middle, free"):
        SingleAgentEnv(**names, market=small())


def test_a_bad_action_is_refused_through_the_view(small: Callable[[], MarketEnv]) -> None:
    env = SingleAgentEnv("free", market=small())
    env.reset(seed=0)
    with pytest.raises(ValueError, match="agent free must be 7 finite"):
        env.step(np.full(7, np.nan, dtype=np.float32))
