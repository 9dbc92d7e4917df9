"""Settings of the training stages: what is refused, and that every value counts."""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

import pytest
import torch

from training.rollout import Rollout
from training.seeds import generator_of
from training.selection import inner_windows
from training.settings import (
    NoAlgorithm,
    NoPretrain,
    NoTracking,
    RankerSettings,
    RLSettings,
    SelectionSettings,
)
from training.society import Society
from training.warm_start import warm_start


@pytest.mark.parametrize(
    ("choice", "kind"),
    [("pretrain=none", NoPretrain), ("algorithm=none", NoAlgorithm), ("tracking=none", NoTracking)],
)
def test_none_is_a_choice_of_its_own(compose: Callable[..., Any], choice: str, kind: type) -> None:
    assert isinstance(compose(choice)[choice.partition("=")[0]], kind)


@pytest.mark.parametrize(
    ("group", "choice", "field", "value"),
    [
        ("algorithm", "ppo", "steps", 0),
        ("algorithm", "ppo", "gamma", 1.0),
        ("algorithm", "ppo", "gae_lambda", 1.1),
        ("algorithm", "ppo", "clip", 0.0),
        ("algorithm", "ppo", "replicas", 1),
        ("algorithm", "ppo", "device", "tpu"),
        ("algorithm", "ppo", "learning_rate", float("nan")),
        ("algorithm", "ppo", "keep_if", float("nan")),
        ("algorithm", "ppo", "num_env_runners", -1),
        ("algorithm", "ppo", "num_cpus_per_env_runner", -0.5),
        ("algorithm", "ppo", "num_gpus_per_env_runner", 1.5),
        ("pretrain", "ranker", "horizon", 0),
        ("pretrain", "ranker", "learning_rate", 0.0),
        ("pretrain", "ranker", "weight_decay", -1e-4),
        ("selection", "inner", "validation_fraction", 0.6),
        ("selection", "inner", "embargo", -1),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(
    settings: Callable[..., Any], group: str, choice: str, field: str, value: object
) -> None:
    with pytest.raises(ValueError, match=rf"{group}\.{field} must be .*, was {value}"):
        settings(group, choice, **{field: value})


# --- every setting counts ------------------------------------------------------------------------

ROWS = slice(0, 300)
RANKER = {
    "horizon": 6,
    "updates": 7,
    "batch_days": 33,
    "learning_rate": 1e-2,
    "weight_decay": 0.5,
}
SELECTION = {"validation_fraction": 0.3, "embargo": 5}
NETWORK = {"members": 3, "hidden": 5, "dropout": 0.5, "attention": True}
SAMPLED = {"gamma": 0.9, "gae_lambda": 0.5, "reward_scale": 50.0, "starts": 3, "replicas": 5}
LEARNT = {
    "learning_rate": 1e-3,
    "clip": 0.01,
    "score_noise": 0.3,
    "exposure_noise": 0.2,
    "epochs": 4,
    "minibatch_days": 8,
    "anchor": 30.0,
    "value_weight": 5.0,
    "grad_clip": 0.05,
    "bfloat16": True,
}
KEPT = {"keep_if"}  # tests/training/test_train.py decides by it
# A budget and a rhythm that `Stages` reads, where the work is done, and a word for reports.
WITHOUT_EFFECT_ON_LEARNING = {
    "name",
    "steps",
    "num_env_runners",
    "num_cpus_per_env_runner",
    "num_gpus_per_env_runner",
    "num_learners",
    "device",
    "checkpoint_seconds",
}


@pytest.mark.parametrize(
    ("kind", "known"),
    [
        (RankerSettings, {*RANKER, *KEPT}),
        (SelectionSettings, {*SELECTION}),
        (RLSettings, {*SAMPLED, *LEARNT, *KEPT, *WITHOUT_EFFECT_ON_LEARNING}),
    ],
)
def test_every_setting_is_perturbed_or_named(kind: type, known: set[str]) -> None:
    assert known == {item.name for item in fields(kind)}


def supervised(society: Society, ranker: RankerSettings) -> list[torch.Tensor]:
    networks = society.new_networks(1)
    warm_start(networks, society.market, ROWS, ranker, seed=1)
    return [value for network in networks.values() for value in network.state_dict().values()]


def differ(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> bool:
    pairs = zip(ours, theirs, strict=True)
    return any(one.shape != other.shape or not torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("name", RANKER)
def test_every_setting_of_the_warm_start_changes_what_is_learnt(
    society_of: Callable[..., Society], settings: Callable[..., Any], name: str
) -> None:
    usual = settings("pretrain", "ranker", horizon=5, updates=6, batch_days=32)
    changed = replace(usual, **{name: RANKER[name]})
    assert not differ(supervised(society_of(), usual), supervised(society_of(), usual))
    assert differ(supervised(society_of(), usual), supervised(society_of(), changed))


@pytest.mark.parametrize("name", NETWORK)
def test_every_part_of_a_network_changes_what_is_learnt(
    society_of: Callable[..., Society], settings: Callable[..., Any], name: str
) -> None:
    ranker = settings("pretrain", "ranker", horizon=5, updates=6, batch_days=32)
    society = society_of()
    other = replace(society, network=replace(society.network, **{name: NETWORK[name]}))
    ours, theirs = supervised(society, ranker), supervised(other, ranker)
    assert len(ours) != len(theirs) or differ(ours, theirs)


@pytest.mark.parametrize("name", SELECTION)
def test_every_setting_of_the_selection_moves_its_windows(
    settings: Callable[..., Any], name: str
) -> None:
    usual = settings("selection", "inner")
    changed = replace(usual, **{name: SELECTION[name]})
    assert inner_windows(slice(0, 1000), usual) != inner_windows(slice(0, 1000), changed)


def sampled(society: Society, rl: RLSettings) -> Mapping[str, torch.Tensor]:
    with torch.no_grad():
        rollout = Rollout(
            society,
            society.env(ROWS),
            society.new_networks(1),
            rl,
            lambda *path: generator_of(1, *path),
        )
        rollout.play()
        return rollout.batches()["balanced"]


@pytest.mark.parametrize("name", SAMPLED)
def test_every_setting_of_sampling_changes_the_batch(
    society_of: Callable[..., Society], settings: Callable[..., Any], name: str
) -> None:
    usual = settings("algorithm", "ppo", starts=2, replicas=4)
    changed = replace(usual, **{name: SAMPLED[name]})
    ours, theirs = sampled(society_of(), usual), sampled(society_of(), changed)
    assert differ([*ours.values()], [*theirs.values()])


@pytest.fixture(scope="module")
def learnt(ray_here: None) -> Callable[[Society, RLSettings], list[torch.Tensor]]:
    def learn(society: Society, rl: RLSettings) -> list[torch.Tensor]:
        from training.algorithm import Trainer

        trainer = Trainer(society, society.new_networks(1), ROWS, rl, 1)
        try:
            trainer.iterate()
            networks = trainer.networks().values()
            return [value for network in networks for value in network.state_dict().values()]
        finally:
            trainer.stop()

    return learn


@pytest.mark.parametrize("name", LEARNT)
def test_every_setting_of_learning_changes_the_policies(
    society_of: Callable[..., Society],
    settings: Callable[..., Any],
    learnt: Callable[[Society, RLSettings], list[torch.Tensor]],
    name: str,
) -> None:
    usual = settings("algorithm", "ppo", starts=2, replicas=4, minibatch_days=16)
    society = society_of(episode_sessions=16)
    changed = replace(usual, **{name: LEARNT[name]})
    assert differ(learnt(society, usual), learnt(society, changed))
