"""Sampling: our runner beside RLlib's own, with the same environment and policy network.

Both return what their learner takes: ours a finished batch with advantages, RLlib's a list of
episodes whose batch and advantages are still to be made. An agent step is one decision of one book.
Ray must run.
"""

from dataclasses import replace
from typing import Any

import torch
from ray.rllib.algorithms.ppo import PPO

from benchmarks.measure import Result
from benchmarks.rates import COLUMNS, rates
from benchmarks.rllib_default import Sizes, build_algorithm, set_networks
from market.dataset import Dataset
from market.errors import InputError
from training.algorithm import build_config
from training.configuration import Configuration
from training.settings import RLSettings
from training.society import Society
from training.train import make_society

MINIBATCH = 4096  # rows of one policy
EPOCHS = 4
# What suits RLlib best. With 1, 4, 16, 64, 128 and 256 environments it samples 0.9, 1.4, 1.6, 1.9,
# 2.0 and 1.9 thousand agent steps per second of one core's time: its steps are Python per
# environment and agent, and only the forward pass is shared. End to end 16 to 128 environments and
# batches of 4,096 to 16,384 rows are alike within a tenth.
ENVIRONMENTS = 128
SESSIONS = 1024  # that RLlib plays in one timed run, all environments together


def run(config: Configuration, data: Dataset, repeats: int, threads: int) -> Result:
    """Sample by turns through both runners.

    Args:
        config: of market, agents, environment, network and algorithm.
        data: of its market.
        repeats: timed runs of each.
        threads: of torch.
    """
    torch.set_num_threads(threads)
    society, settings = make_society(data, config), timed_settings(config)
    ours = build_config(society, data.train, settings, config.seed).build_algo()
    sizes = Sizes(ENVIRONMENTS, MINIBATCH, MINIBATCH)
    theirs = build_algorithm(society, data.features.clip, data.train, settings, config.seed, sizes)
    set_networks(theirs, society.new_networks(config.seed), settings)
    found = rates({"ours": lambda: _ours(ours, society), "rllib": lambda: _theirs(theirs)}, repeats)
    ours.stop()
    theirs.stop()
    mine, default = found["ours"], found["rllib"]
    return Result(
        "sample",
        {
            "ratio": mine.median / default.median,
            "ours_per_s": mine.median,
            "rllib_per_s": default.median,
            **mine.spread("ours"),
            **default.spread("rllib"),
            "ours_environments": settings.starts * settings.replicas,
            "rllib_environments": ENVIRONMENTS,
            "agents": len(society.mandates),
            "assets": society.market.n_assets,
        },
        COLUMNS,
        (mine.row("ours", default), default.row("RLlib's default", default)),
    )


def timed_settings(config: Configuration) -> RLSettings:
    """Return the algorithm's settings in this process, with the minibatch that is compared."""
    settings = config.algorithm
    if not isinstance(settings, RLSettings):
        raise InputError("algorithm=none trains nothing that could be timed")
    return replace(
        settings,
        epochs=EPOCHS,
        minibatch_days=MINIBATCH // settings.replicas,
        num_env_runners=0,
        num_learners=0,
    )


def _ours(algorithm: Any, society: Society) -> int:
    batch = algorithm.env_runner.sample()
    algorithm.env_runner.get_metrics()
    return int(batch.env_steps()) * len(society.mandates)


def _theirs(algorithm: PPO) -> int:
    episodes = algorithm.env_runner.sample(num_timesteps=SESSIONS)
    algorithm.env_runner.get_metrics()  # else it keeps every episode for its metrics
    return sum(episode.agent_steps() for episode in episodes)
