"""The bare loop computes what training computes: only then is it a bound for it."""

from collections.abc import Iterator

import pytest
import torch

from benchmarks import defaults
from benchmarks.bare_torch import BareLoop
from benchmarks.synthetic_market import random_walk, society
from training.local_ray import local_ray

torch.set_num_threads(1)

ROWS = slice(0, 300)
SEED = 3


@pytest.fixture
def ray_here() -> Iterator[None]:
    with local_ray():
        yield


@pytest.mark.usefixtures("ray_here")
def test_it_learns_what_training_through_rllib_learns() -> None:
    from training.algorithm import Trainer

    made = society(random_walk(300, 5), defaults.mandates(), defaults.settings(episode_sessions=16))
    settings = defaults.algorithm(starts=2, replicas=4, minibatch_days=16, learning_rate=1e-3)
    loop = BareLoop(made, ROWS, settings, SEED)
    trainer = Trainer(made, made.new_networks(SEED), ROWS, settings, SEED)
    start = {name: network.state_dict() for name, network in made.new_networks(SEED).items()}
    try:
        for _ in range(2):
            assert loop.iterate() == 2 * 4 * 16 * 3
            trainer.iterate()
        theirs = trainer.networks()
    finally:
        trainer.stop()
    for policy, network in loop.networks.items():
        for name, value in network.state_dict().items():
            expected = theirs[policy].state_dict()[name]
            torch.testing.assert_close(value, expected, rtol=0.0, atol=1e-5, msg=f"{policy} {name}")
        moved = network.own_weight.detach() - start[policy]["own_weight"]
        assert float(moved.abs().max()) > 1e-3  # far more than the tolerance
