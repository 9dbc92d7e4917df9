"""Sampling: advantages with known answers, streams, and who may influence whom."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agents.mandates import Mandate
from envs.costs import CostModel
from training import columns
from training.rollout import (
    Rollout,
    generalised_advantage,
    log_density,
    log_deviations,
    standardise,
)
from training.seeds import generator_of
from training.settings import RLSettings
from training.society import Society, day_parts

ROWS = slice(0, 300)
SMALL = {"starts": 3, "replicas": 4}


@pytest.fixture
def ppo(settings: Callable[..., Any]) -> RLSettings:
    chosen: RLSettings = settings("algorithm", "ppo", **SMALL)
    return chosen


def roll(society: Society, settings: RLSettings, runner: int = 0, version: int = 0) -> Rollout:
    with torch.no_grad():
        rollout = Rollout(
            society,
            society.env(ROWS),
            society.new_networks(1),
            settings,
            lambda *path: generator_of(1, "runner", runner, version, *path),
        )
        rollout.play()
    return rollout


def advantage_by_hand(
    reward: list[float], value: list[float], gamma: float, lam: float
) -> list[float]:
    errors = [r + gamma * value[t + 1] - value[t] for t, r in enumerate(reward)]
    return [
        sum((gamma * lam) ** k * e for k, e in enumerate(errors[t:])) for t in range(len(reward))
    ]


@given(
    st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=1, max_size=12),
    st.floats(-1, 1),
    st.floats(0.1, 0.99),
    st.floats(0.0, 1.0),
)
def test_advantages_are_the_discounted_sum_of_the_errors_of_the_value(
    steps: list[tuple[float, float]], last: float, gamma: float, lam: float
) -> None:
    reward, value = [r for r, _ in steps], [v for _, v in steps] + [last]
    found = generalised_advantage(
        torch.tensor(reward, dtype=torch.float64),
        torch.tensor(value, dtype=torch.float64),
        torch.ones(len(value), dtype=torch.bool),
        gamma,
        lam,
    )
    np.testing.assert_allclose(found, advantage_by_hand(reward, value, gamma, lam), atol=1e-12)


def test_nothing_follows_ruin() -> None:
    # Ruined by the second action: its reward counts, no value does, and no later step has any.
    reward = torch.tensor([0.1, -0.5, 9.0])
    value = torch.tensor([0.2, 0.3, 7.0, 7.0])
    alive = torch.tensor([True, True, False, False])
    found = generalised_advantage(reward, value, alive, gamma=0.9, gae_lambda=0.5)
    second = -0.5 - 0.3
    first = 0.1 + 0.9 * 0.3 - 0.2 + 0.45 * second
    np.testing.assert_allclose(found, [first, second, 0.0], rtol=1e-6)


def test_a_shock_common_to_all_replicas_of_a_day_is_no_advantage() -> None:
    generator = torch.Generator().manual_seed(0)
    advantage = torch.randn(10, 3, 4, 2, generator=generator)
    alive = torch.ones(10, 3, 4, 2, dtype=torch.bool)
    shock = 5.0 * torch.randn(10, 3, 1, 2, generator=generator)
    found = standardise(advantage + shock, alive)
    torch.testing.assert_close(found, standardise(advantage, alive), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.mean(2), torch.zeros(10, 3, 2), atol=1e-6, rtol=0.0)
    torch.testing.assert_close(found.square().mean((0, 1, 2)), torch.ones(2))


def test_the_ruined_count_for_nothing_in_the_standardisation() -> None:
    advantage = torch.randn(10, 3, 4, 2, generator=torch.Generator().manual_seed(0))
    alive = torch.ones(10, 3, 4, 2, dtype=torch.bool)
    alive[5:, 0, 1] = False
    wild = torch.where(alive, advantage, 1e6)
    found = standardise(wild, alive)
    assert not found[~alive].any()
    torch.testing.assert_close(found, standardise(torch.where(alive, advantage, 0.0), alive))


def test_a_batch_has_a_row_per_session_and_start(
    society_of: Callable[..., Society], ppo: RLSettings
) -> None:
    society = society_of(episode_sessions=16)
    batches = roll(society, ppo).batches()
    assert set(batches) == {"conservative", "balanced", "aggressive"}
    shapes = {name: tuple(column.shape) for name, column in batches["balanced"].items()}
    n = society.market.n_assets
    assert shapes == {
        columns.DAY: (48,),
        columns.BOOK_ASSET: (48, 2, 4, 1, n),
        columns.BOOK: (48, 4, 1, 5),
        columns.ACTIONS: (48, 4, 1, n + 1),
        columns.ACTION_LOGP: (48, 4, 1, n + 1),
        columns.ADVANTAGES: (48, 4, 1),
        columns.VALUE_TARGETS: (48, 4, 1),
        columns.ALIVE: (48, 4, 1),
    }


def test_agents_of_one_policy_share_its_batch(
    society_of: Callable[..., Society], ppo: RLSettings, mandates: tuple[Mandate, ...]
) -> None:
    shared = tuple(replace(m, policy="shared") for m in mandates[:2]) + mandates[2:]
    batches = roll(society_of(mandates=shared), ppo).batches()
    assert batches["shared"][columns.BOOK].shape[2] == 2
    assert batches["aggressive"][columns.BOOK].shape[2] == 1


def test_episodes_start_anywhere_and_stay_inside_the_rows(
    society_of: Callable[..., Society], ppo: RLSettings
) -> None:
    society = society_of(episode_sessions=16)
    days = torch.cat([roll(society, ppo, version=v).days for v in range(20)], dim=1)
    assert days.min() >= ROWS.start
    assert days.max() <= ROWS.stop - 2  # the last decision is filled and marked in the last row
    assert len(days[0].unique()) > 30
    assert torch.equal(days[1:] - days[:-1], torch.ones_like(days[1:]))


def test_runners_have_distinct_streams_that_repeat(
    society_of: Callable[..., Society], ppo: RLSettings
) -> None:
    society = society_of(episode_sessions=8)
    actions = [roll(society, ppo, runner=r).action for r in range(4)]
    for a in range(4):
        assert torch.equal(actions[a], roll(society, ppo, runner=a).action)
        for b in range(a):
            assert not torch.equal(actions[a], actions[b])
    assert not torch.equal(actions[0], roll(society, ppo, version=1).action)
    first = actions[0][0].flatten(0, 1)  # environments of one runner differ too
    assert len(first.flatten(1).unique(dim=0)) == len(first)


@pytest.mark.parametrize("impact", [0.0, 0.7])
def test_removing_an_agent_changes_the_others_through_impact_alone(
    society_of: Callable[..., Society],
    ppo: RLSettings,
    mandates: tuple[Mandate, ...],
    impact: float,
) -> None:
    costs = CostModel(1.0, 10.0, impact, 0.02)
    whole = society_of(costs=costs)
    whole = replace(whole, market=replace(whole.market, adv=torch.full((400, 6), 1e6).double()))
    pair = replace(whole, mandates=(mandates[0], mandates[2]))
    ours, theirs = roll(whole, ppo), roll(pair, ppo)
    torch.testing.assert_close(ours.action[..., [0, 2], :][0], theirs.action[0])
    same = torch.allclose(ours.rewards[..., [0, 2]], theirs.rewards, rtol=1e-6, atol=1e-9)
    assert same == (impact == 0.0)


def test_each_distinct_day_is_encoded_once_and_found_again(
    society_of: Callable[..., Society],
) -> None:
    society = society_of()
    market, network = society.market, society.new_networks(1)["balanced"]
    days = torch.tensor([3, 40]) + torch.arange(300).unsqueeze(1)
    parts, slots = day_parts([network], market, days, bfloat16=False)
    assert parts.scores.shape[:2] == (1, 337)
    for step in (0, 36, 37, 255, 256, 299):
        day = days[step]
        expected = network.day_part(
            network.encode(
                market.asset_features[day], market.market_features[day], market.investable[day]
            ),
            market.investable[day],
        )
        for part, same in zip(parts, expected, strict=True):
            torch.testing.assert_close(part[0, slots[step]], same)


def test_the_density_of_a_component_is_that_of_its_own_normal_up_to_a_constant() -> None:
    generator = torch.Generator().manual_seed(12)
    mean, action = torch.randn(2, 5, 4, generator=generator, dtype=torch.float64)
    deviations = log_deviations(torch.tensor([-1.5, -3.0], dtype=torch.float64), 3)
    expected = torch.distributions.Normal(mean, deviations.exp()).log_prob(action)
    found = log_density(action, mean, deviations)
    torch.testing.assert_close(found - expected, torch.full_like(mean, 0.5 * np.log(2.0 * np.pi)))
