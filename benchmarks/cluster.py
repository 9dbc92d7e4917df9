"""Training with remote samplers: steps a second, and what the network has to carry per update.

In every iteration each remote sampler is sent the weights and sends back its batch; then one
process learns from all batches. On one machine the batches go through shared memory, so what a
network would add is projected, by this arithmetic, for `n` samplers on machines of their own:

    T(n) = s + l(n) + n (u + w) / B + n j + p

with `s` the seconds in which a sampler plays its batch, `l` those of learning from one batch, `u`
and `w` the bytes of a batch and of the weights, `B` the bytes per second of the learner's link
(an assumption: `NETWORK_GBIT`), `j` the seconds in which this process takes in one batch, and `p`
those of publishing the weights. Efficiency is (s + l) / T(n): the share of `n` times one sampler's
rate that is left. `l(n)` is `l` where learners grow with the samplers, and `n l` with one learner
like the one that was measured. Ray must run.
"""

import pickle
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import ray
import torch
from ray.rllib.utils import metrics as keys

from benchmarks.measure import Result
from market.dataset import Dataset
from market.errors import InputError
from training.algorithm import build_config
from training.configuration import Configuration
from training.settings import RLSettings
from training.society import Society
from training.society_ppo import SocietyPPO
from training.train import make_society

RUNNERS = (0, 1, 2)
PROJECTED = (8, 64, 256)
NETWORK_GBIT = 10.0
MEGABYTE = 1e6
COLUMNS = (
    "env runners", "agent-steps/s", "slowest", "fastest", "sample s", "learn s", "sync ms", "up MB",
    "down MB",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Iteration:
    """What one iteration took."""

    steps: int  # agent steps of all samplers
    sample_s: float  # until all batches are joined
    own_s: float  # of it, the slowest sampler's playing, by its own clock
    learn_s: float
    publish_s: float

    @property
    def rate(self) -> float:
        """Agent steps a second."""
        return self.steps / (self.sample_s + self.learn_s + self.publish_s)

    @property
    def sync_s(self) -> float:
        """Seconds of moving batches and weights."""
        return max(self.sample_s - self.own_s, 0.0) + self.publish_s


@dataclass(frozen=True, slots=True)
class Measured:
    """Some iterations with equally many samplers."""

    runners: int
    iterations: tuple[Iteration, ...]
    up: int  # bytes of one sampler's batch; 0 without remote samplers
    down: int  # bytes of the weights that one sampler is sent

    def median(self, of: Callable[[Iteration], float]) -> float:
        """Return the median of a number of the iterations."""
        return statistics.median(of(one) for one in self.iterations)

    def row(self) -> tuple[str, ...]:
        """Return a line of the table."""
        rates = sorted(one.rate for one in self.iterations)
        return (
            str(self.runners),
            f"{self.median(lambda one: one.rate):,.0f}",
            f"{rates[0]:,.0f}",
            f"{rates[-1]:,.0f}",
            f"{self.median(lambda one: one.sample_s):.2f}",
            f"{self.median(lambda one: one.learn_s):.2f}",
            f"{self.median(lambda one: one.sync_s) * 1e3:.0f}",
            f"{self.runners * self.up / MEGABYTE:.2f}",
            f"{self.runners * self.down / MEGABYTE:.2f}",
        )


def run(config: Configuration, data: Dataset, repeats: int, threads: int) -> Result:
    """Train with no, one and two remote samplers, one algorithm after the other.

    Args:
        config: of market, agents, environment, network and algorithm.
        data: of its market.
        repeats: timed iterations of each.
        threads: of torch, in this process.

    Raises:
        InputError: if nothing is learned by sampling.
    """
    torch.set_num_threads(threads)
    if not isinstance(config.algorithm, RLSettings):
        raise InputError("algorithm=none samples nothing that could be timed")
    society = make_society(data, config)
    found = {
        runners: _measured(society, data, config.algorithm, config.seed, runners, repeats)
        for runners in RUNNERS
    }
    most = found[RUNNERS[-1]]
    figures: dict[str, object] = {
        "steps_per_s": {str(n): one.median(lambda each: each.rate) for n, one in found.items()},
        "sync_ms": most.median(lambda one: one.sync_s) * 1e3,
        "payload_mb": most.runners * (most.up + most.down) / MEGABYTE,
        "up_mb_per_runner": most.up / MEGABYTE,
        "down_mb_per_runner": most.down / MEGABYTE,
        "steps_per_runner": most.iterations[0].steps // most.runners,
        "network_gbit": NETWORK_GBIT,
        **projection(found[1]).figures(),
        "agents": len(society.mandates),
        "assets": society.market.n_assets,
    }
    return Result("cluster", figures, COLUMNS, tuple(one.row() for one in found.values()))


@dataclass(frozen=True, slots=True)
class Projection:
    """The terms of T(n) in the module's docstring."""

    sample_s: float  # s
    learn_s: float  # l
    network_s: float  # (u + w) / B
    take_in_s: float  # j
    publish_s: float  # p

    def efficiency(self, runners: int, learners_grow: bool) -> float:
        """Return the share of so many times one sampler's rate that is left, in (0, 1].

        >>> one = Projection(1.0, 1.0, 0.01, 0.01, 0.1)
        >>> round(one.efficiency(10, learners_grow=True), 3)
        0.87
        >>> round(one.efficiency(10, learners_grow=False), 3)
        0.177
        """
        learning = self.learn_s if learners_grow else runners * self.learn_s
        moving = runners * (self.network_s + self.take_in_s) + self.publish_s
        return (self.sample_s + self.learn_s) / (self.sample_s + learning + moving)

    def figures(self) -> dict[str, float]:
        """Return the terms, and the efficiencies that are asked for."""
        return {
            "projected_sample_s": self.sample_s,
            "projected_learn_s": self.learn_s,
            "projected_network_ms": self.network_s * 1e3,
            "projected_take_in_ms": self.take_in_s * 1e3,
            "projected_publish_ms": self.publish_s * 1e3,
            **{f"efficiency_{n}": self.efficiency(n, True) for n in PROJECTED},
            **{f"efficiency_{n}_one_learner": self.efficiency(n, False) for n in PROJECTED},
        }


def projection(one: Measured) -> Projection:
    """Return the terms as one remote sampler was measured."""
    return Projection(
        sample_s=one.median(lambda each: each.own_s),
        learn_s=one.median(lambda each: each.learn_s),
        network_s=(one.up + one.down) * 8.0 / (NETWORK_GBIT * 1e9),
        take_in_s=one.median(lambda each: max(each.sample_s - each.own_s, 0.0)),
        publish_s=one.median(lambda each: each.publish_s),
    )


def _measured(
    society: Society, data: Dataset, settings: RLSettings, seed: int, runners: int, repeats: int
) -> Measured:
    """Iterate with so many remote samplers; the first iteration is not counted."""
    placed = replace(settings, num_env_runners=runners, num_learners=0)
    algorithm: SocietyPPO = build_config(society, data.train, placed, seed).build_algo()
    try:
        _iterate(algorithm, society)
        iterations = tuple(_iterate(algorithm, society) for _ in range(repeats))
        up, down = _payload(algorithm) if runners else (0, 0)
    finally:
        algorithm.stop()
    return Measured(runners, iterations, up, down)


def _iterate(algorithm: SocietyPPO, society: Society) -> Iteration:
    """Do what `SocietyPPO.training_step` does, with a clock between its parts."""
    clock = [time.perf_counter()]
    batch, metrics = algorithm._sample()
    clock.append(time.perf_counter())
    algorithm._learn(batch)
    clock.append(time.perf_counter())
    algorithm.publish_weights()
    clock.append(time.perf_counter())
    sampling, learning, publishing = (b - a for a, b in pairwise(clock))
    steps = batch.env_steps() * len(society.mandates)
    playing = max(float(each[keys.SAMPLE_TIMER].peek()) for each in metrics)
    return Iteration(steps, sampling, playing, learning, publishing)


def _payload(algorithm: SocietyPPO) -> tuple[int, int]:
    """Return the bytes of one sampler's batch, and of the weights that it is sent."""
    batch, _ = ray.get(_actors(algorithm)[0].play.remote(algorithm._weights))
    return _bytes(batch), _bytes(ray.get(algorithm._weights))


def _actors(algorithm: SocietyPPO) -> list[Any]:
    return list(algorithm.env_runner_group._worker_manager.actors().values())


def _bytes(value: object) -> int:
    """Return the bytes of a value as Ray sends it: the pickle, and the arrays beside it."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    return len(head) + sum(buffer.raw().nbytes for buffer in buffers)
