"""Training end to end, from sample to new weights: ours, RLlib's default path, the bare torch loop.

Both sides of RLlib run `algorithm.train()` in this process: the same environment and network, four
epochs of minibatches of 4,096 rows per policy, Adam. What else differs is told in `rllib_default`.
Ours learns from a larger batch, that of its default episode and replicas; the rate of RLlib's path
does not grow with its batch, which is one minibatch here so that an iteration takes seconds.

`ratio` has the configured network on both sides. `ratio_wide` has our network with one member of
256 units on both sides: two layers of 256, applied to every asset, the same parameters. Beside it
stands RLlib's own fully connected 256 x 256 network on the flat observation, which does a quarter
of that arithmetic (`rllib_mlp_per_s`; `ratio_wide_mlp` is our wide network's rate over it).
`of_bare_torch` is what RLlib's machinery leaves of the same loop without it. Ray must run.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from ray.rllib.algorithms.ppo import PPO, PPOConfig
from ray.rllib.utils import metrics as keys

from benchmarks import rllib_default
from benchmarks.bare_torch import BareLoop
from benchmarks.measure import Result
from benchmarks.rates import COLUMNS, Rate, rates
from benchmarks.rllib_default import Sizes
from benchmarks.sample import ENVIRONMENTS, EPOCHS, MINIBATCH, timed_settings
from market.dataset import Dataset
from training.algorithm import build_config
from training.configuration import Configuration
from training.society import Society
from training.train import make_society

WIDTH = 256
WIDE_STARTS = 2  # of our runner with the wide network: with more an iteration takes half a minute
SIZES = Sizes(ENVIRONMENTS, MINIBATCH, MINIBATCH)

OURS, RLLIB, BARE = "ours", "rllib", "bare_torch"
OURS_WIDE, RLLIB_WIDE, RLLIB_MLP = "ours_wide", "rllib_wide", "rllib_mlp"
BESIDE = {  # what each rate is divided by in the table
    OURS: RLLIB,
    RLLIB: RLLIB,
    BARE: RLLIB,
    OURS_WIDE: RLLIB_WIDE,
    RLLIB_WIDE: RLLIB_WIDE,
    RLLIB_MLP: RLLIB_WIDE,
}
NAMES = {
    OURS: "ours",
    RLLIB: "RLlib's default",
    BARE: "bare torch loop",
    OURS_WIDE: "ours, 256 wide",
    RLLIB_WIDE: "RLlib's default, 256 wide",
    RLLIB_MLP: "RLlib's default, its own 256 x 256",
}


def run(config: Configuration, data: Dataset, repeats: int, threads: int) -> Result:
    """Train by turns through all paths.

    Args:
        config: of market, agents, environment, network and algorithm.
        data: of its market.
        repeats: timed iterations of each.
        threads: of torch.
    """
    torch.set_num_threads(threads)
    society, settings = make_society(data, config), timed_settings(config)
    wide = replace(society, network=replace(society.network, members=1, hidden=WIDTH))
    few = replace(settings, starts=min(settings.starts, WIDE_STARTS))

    def theirs(played: Society) -> PPOConfig:
        return rllib_default.build_config(
            played, data.features.clip, data.train, settings, config.seed, SIZES
        )

    fully_connected = theirs(society)
    rllib_default.set_fully_connected(fully_connected, [WIDTH, WIDTH])
    algorithms = {
        OURS: build_config(society, data.train, settings, config.seed).build_algo(),
        RLLIB: rllib_default.built(theirs(society)),
        OURS_WIDE: build_config(wide, data.train, few, config.seed).build_algo(),
        RLLIB_WIDE: rllib_default.built(theirs(wide)),
        RLLIB_MLP: rllib_default.built(fully_connected),
    }
    agents = len(society.mandates)
    works = {name: _iteration(algorithm, agents) for name, algorithm in algorithms.items()}
    works[BARE] = BareLoop(society, data.train, settings, config.seed).iterate
    found = rates(works, repeats)
    for algorithm in algorithms.values():
        algorithm.stop()
    return Result("train", _figures(found, society), COLUMNS, _rows(found))


def _iteration(algorithm: PPO, agents: int) -> Callable[[], int]:
    """Return work that samples, learns and hands on the weights; it returns the agent steps."""

    def work() -> int:
        result = algorithm.train()
        return int(result[keys.ENV_RUNNER_RESULTS][keys.NUM_ENV_STEPS_SAMPLED]) * agents

    return work


def _figures(found: dict[str, Rate], society: Society) -> dict[str, object]:
    ours = found[OURS].median
    spreads = [rate.spread(name) for name, rate in found.items()]
    return {
        "ratio": ours / found[RLLIB].median,
        "ratio_wide": found[OURS_WIDE].median / found[RLLIB_WIDE].median,
        "ratio_wide_mlp": found[OURS_WIDE].median / found[RLLIB_MLP].median,
        "of_bare_torch": ours / found[BARE].median,
        **{f"{name}_per_s": rate.median for name, rate in found.items()},
        **{name: value for spread in spreads for name, value in spread.items()},
        "minibatch": MINIBATCH,
        "epochs": EPOCHS,
        "rllib_environments": ENVIRONMENTS,
        "agents": len(society.mandates),
        "assets": society.market.n_assets,
    }


def _rows(found: dict[str, Rate]) -> tuple[tuple[str, ...], ...]:
    return tuple(found[name].row(label, found[BESIDE[name]]) for name, label in NAMES.items())
