"""One copy of the market for all actors of a node, and nobody changes it."""

from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import pytest
import torch

from agents.market_tensors import MarketTensors
from training.society import Society

pytestmark = pytest.mark.usefixtures("ray_here")


@pytest.fixture(scope="module")
def society(society_of: Callable[..., Society]) -> Society:
    return society_of(episode_sessions=16)


@pytest.fixture(scope="module")
def trainer(society: Society, settings: Callable[..., Any], ray_here: None) -> Iterator[Any]:
    """Three remote actors that have sampled and learned."""
    from training.algorithm import Trainer

    ppo = settings(
        "algorithm", "ppo", starts=2, replicas=4, minibatch_days=16, device="cpu",
        num_env_runners=2, num_learners=1,
    )  # fmt: skip
    made = Trainer(society, society.new_networks(1), slice(0, 300), ppo, 1)
    made.iterate()
    yield made
    made.stop()


def tensors(market: MarketTensors) -> dict[str, torch.Tensor]:
    named = {item.name: getattr(market, item.name) for item in fields(market)}
    return {name: value for name, value in named.items() if isinstance(value, torch.Tensor)}


def mapping(address: int) -> tuple[str, str]:
    """Return (inode, path) of what is mapped at an address of this process."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            span, _, _, _, inode, *path = line.split()
            first, last = (int(end, 16) for end in span.split("-"))
            if first <= address < last:
                return inode, " ".join(path)
    raise AssertionError(f"nothing is mapped at {address:#x}")


def seen_by_runner(runner: Any) -> dict[str, tuple[str, str]]:
    return {n: mapping(t.data_ptr()) for n, t in tensors(runner.society.market).items()}


def seen_by_learner(learner: Any) -> dict[str, tuple[str, str]]:
    module = next(iter(learner.module.values())).unwrapped()
    return {n: mapping(t.data_ptr()) for n, t in tensors(module.society.market).items()}


def values_of(runner: Any) -> dict[str, Any]:
    return {name: value.numpy() for name, value in tensors(runner.society.market).items()}


def test_all_actors_of_a_node_look_at_one_copy_of_the_market(trainer: Any) -> None:
    import ray

    algorithm = trainer._algorithm
    runners = list(algorithm.env_runner_group._worker_manager.actors().values())
    learners = list(algorithm.learner_group._worker_manager.actors().values())
    seen = ray.get(
        [runner.apply.remote(seen_by_runner) for runner in runners]
        + [learner.apply.remote(seen_by_learner) for learner in learners]
    )
    assert len(seen) == 3
    assert all(set(places) == set(tensors(trainer.society.market)) for places in seen)
    copies = {place for places in seen for place in places.values()}
    assert len(copies) == 1
    assert "plasma" in copies.pop()[1]


def test_training_changes_nothing_of_the_market_that_all_look_at(trainer: Any) -> None:
    import ray

    runner = next(iter(trainer._algorithm.env_runner_group._worker_manager.actors().values()))
    values = ray.get(runner.apply.remote(values_of))
    for name, ours in tensors(trainer.society.market).items():
        assert torch.equal(torch.tensor(values[name]).nan_to_num(), ours.nan_to_num()), name
