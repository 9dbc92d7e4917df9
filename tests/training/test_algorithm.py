"""Reinforcement learning through RLlib: streams, resuming, what is saved, who learns from what."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from agents.mandates import Mandate
from agents.market_tensors import MarketTensors
from agents.networks import PolicyNetwork
from training.settings import RLSettings
from training.society import Society
from training.stages import iteration_numbers

pytestmark = pytest.mark.usefixtures("ray_here")

ROWS = slice(0, 300)
SMALL = {"starts": 2, "replicas": 4, "minibatch_days": 16, "steps": 10_000}

Weights = dict[str, dict[str, torch.Tensor]]


@pytest.fixture
def society(society_of: Callable[..., Society]) -> Society:
    return society_of(episode_sessions=16)


@pytest.fixture
def ppo(settings: Callable[..., Any]) -> RLSettings:
    chosen: RLSettings = settings("algorithm", "ppo", **SMALL)
    return chosen


@contextmanager
def trainer(
    society: Society,
    settings: RLSettings,
    networks: Mapping[str, PolicyNetwork] | None = None,
    seed: int = 1,
) -> Iterator[Any]:
    from training.algorithm import Trainer

    made = Trainer(society, networks or society.new_networks(1), ROWS, settings, seed)
    try:
        yield made
    finally:
        made.stop()


def weights_of(trainer: Any) -> Weights:
    return {policy: network.state_dict() for policy, network in trainer.networks().items()}


def same(ours: Weights, theirs: Weights) -> bool:
    return all(
        torch.equal(value, theirs[policy][name])
        for policy, tensors in ours.items()
        for name, value in tensors.items()
    )


def trained(society: Society, settings: RLSettings, iterations: int = 2, seed: int = 1) -> Weights:
    with trainer(society, settings, seed=seed) as made:
        for _ in range(iterations):
            made.iterate()
        return weights_of(made)


def test_before_the_first_iteration_the_policies_are_the_given_ones(
    society: Society, ppo: RLSettings
) -> None:
    networks = society.new_networks(5)
    with trainer(society, ppo, networks) as made:
        for policy, network in made.networks().items():
            for name, value in network.state_dict().items():
                expected = networks[policy].state_dict()[name]
                if name == "log_std":  # exploration begins as configured
                    expected = torch.tensor([ppo.score_noise, ppo.exposure_noise]).log()
                torch.testing.assert_close(value, expected)


def test_training_repeats_with_its_seed_and_differs_with_another(
    society: Society, ppo: RLSettings
) -> None:
    first = trained(society, ppo)
    assert same(first, trained(society, ppo))
    assert not same(first, trained(society, ppo, seed=2))


def test_a_restored_trainer_ends_where_an_uninterrupted_one_does(
    society: Society, ppo: RLSettings, tmp_path: Path
) -> None:
    with trainer(society, ppo) as whole:
        whole.iterate()
        whole.save(tmp_path)
        whole.iterate()
        expected, steps = weights_of(whole), whole.agent_steps
    assert steps == 2 * 8 * 16 * 3  # iterations, environments, sessions, agents
    with trainer(society, ppo) as resumed:
        resumed.restore(tmp_path)
        resumed.iterate()
        assert same(weights_of(resumed), expected)
        assert resumed.agent_steps == steps


def test_the_market_is_no_part_of_what_is_saved(
    society_of: Callable[..., Society],
    market_of: Callable[..., MarketTensors],
    ppo: RLSettings,
    tmp_path: Path,
) -> None:
    sizes = []
    for sessions in (400, 4000):
        folder = tmp_path / str(sessions)
        folder.mkdir()
        with trainer(society_of(market_of(sessions), episode_sessions=16), ppo) as made:
            made.save(folder)
        sizes.append(sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()))
    assert sizes[1] < 1.01 * sizes[0]


def test_a2c_learns_in_one_epoch_without_clipping(
    society: Society, settings: Callable[..., Any]
) -> None:
    a2c = settings("algorithm", "a2c", **SMALL)
    assert (a2c.name, a2c.epochs, a2c.clip) == ("a2c", 1, None)
    start = {p: n.state_dict() for p, n in society.new_networks(1).items()}
    assert not same(trained(society, a2c, 1), start)


def test_removing_an_agent_leaves_the_others_training_as_it_was(
    society: Society, ppo: RLSettings, mandates: tuple[Mandate, ...]
) -> None:
    pair = replace(society, mandates=(mandates[0], mandates[2]))
    ours, theirs = trained(society, ppo), trained(pair, ppo)
    for policy in ("conservative", "aggressive"):
        for name, value in theirs[policy].items():
            torch.testing.assert_close(ours[policy][name], value, atol=1e-5, rtol=1e-4)


def test_mandates_learn_from_their_own_rewards(
    society: Society, ppo: RLSettings, mandates: tuple[Mandate, ...]
) -> None:
    """From one start and under one noise, only what they are and earn tells two apart."""
    start = society.new_networks(1)["balanced"]
    networks = {policy: start for policy in society.policies}
    with trainer(society, ppo, networks) as made:
        made.iterate()
        after = weights_of(made)
    initial = start.state_dict()
    moves = [
        torch.cat([(after[p][k] - initial[k]).flatten() for k in initial if k != "log_std"])
        for p in after
    ]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        cosine = torch.nn.functional.cosine_similarity(moves[a], moves[b], dim=0)
        assert cosine < 0.9


def test_a_strong_anchor_holds_the_scores_at_the_base(
    society: Society, settings: Callable[..., Any]
) -> None:
    market = society.market

    def spread(anchor: float) -> float:
        rl = settings(
            "algorithm", "ppo", **SMALL, anchor=anchor, learning_rate=1e-2, score_noise=0.5
        )
        with trainer(society, rl) as made:
            for _ in range(12):
                made.iterate()
            network = made.networks()["aggressive"]
        raw = network.score_raw(market.asset_features, market.market_features, market.investable)
        return float(raw.detach().square().mean())

    assert spread(anchor=1000.0) < 0.2 * spread(anchor=0.0)


def test_rllibs_own_metrics_are_reported(society: Society, ppo: RLSettings) -> None:
    with trainer(society, ppo) as made:
        made.iterate()
        result = made.iterate()
    sampled = result["env_runners"]
    assert result["num_env_steps_sampled_lifetime"] == 2 * 8 * 16
    assert sampled["num_agent_steps_sampled_lifetime"]["balanced"] == 2 * 8 * 16
    assert sampled["episode_len_mean"] == 16
    total = sum(sampled["agent_episode_returns_mean"].values())
    assert sampled["episode_return_mean"] == pytest.approx(total, rel=1e-4)
    numbers = iteration_numbers("inner", result, list(society.policies))
    assert len(numbers) == 3 + 3 + 3 * 8
