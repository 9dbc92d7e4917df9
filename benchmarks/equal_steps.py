"""Learning is unchanged: both paths from the same warm start, at equal agent steps, judged alike.

For each seed the supervised warm start is trained once; then reinforcement learning goes on from it
twice, through our batched path and through RLlib's default one (`rllib_default`), with the same
number of agent steps, rows per batch, epochs, minibatches and so updates. Both are then backtested
with costs over the test window, which is recorded as every reading of it.

The objective is the same as near as RLlib's default path allows: reward and its scale, discount,
lambda, clip, learning rate, value weight, gradient norm, and the anchor to the base portfolio,
which its loss gets through a learner of five lines (the observation carries the base weights for
it). Different are:

- advantages: RLlib subtracts one mean over the batch, we the mean over the replicas of each day;
- the ratio that is clipped: of the whole action there, of each component here;
- episodes: RLlib draws a start per environment, we one per group of replicas.

The difference in Sharpe ratio between the paths is the mean over the seeds, whose pairs share their
start. Its standard error has two parts, both in the figures: that of a paired block bootstrap of
the seeds' mean daily returns, for the history that happened to be the test window; and that of the
mean over the seeds, for the noise of training. `largest_z` is the largest of the differences in
their standard errors.

    python -m benchmarks.equal_steps [algorithm.steps=290304] [repeats=3] [override ...]
"""

import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from pettingzoo.utils import BaseParallelWrapper
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.core.columns import Columns
from ray.rllib.utils import metrics as keys
from torch import Tensor

from agents.networks import PolicyNetwork
from benchmarks import rllib_default
from benchmarks.measure import Result
from benchmarks.rllib_default import ScaledReward, Sizes
from envs.market_env import MarketEnv
from evaluation.run_folder import open_run, record_opening
from evaluation.statistics import paired_bootstrap
from market.bars import TRADING_DAYS, FloatArray
from market.dataset import Dataset
from market.errors import InputError
from risk import measures
from training.algorithm import Trainer
from training.configuration import Configuration
from training.seeds import seed_of
from training.selection import validate
from training.settings import RankerSettings, RLSettings
from training.society import Society
from training.train import make_society
from training.warm_start import warm_start

# The demo of the embedded stocks; three iterations of its batch of 96,768 agent steps.
DEMO = (
    "env/costs=linear",
    "market.assumed_adv=null",
    "pretrain=ranker",
    "algorithm.steps=290304",
    "repeats=3",
    "threads=1",
)
ENVIRONMENTS = 64  # of RLlib's runner
ONE_SIGMA = 0.6827  # level of an interval whose half width is a standard error
PATHS = ("ours", "rllib", "warm_start")
COLUMNS = ("mandate", "ours", "RLlib's default", "warm start", "difference", "s.e.", "z")

# Keys of the learner's configuration.
ANCHOR = "anchor"
GAIN = "gain"

Trained = dict[str, PolicyNetwork]


class WithBase(BaseParallelWrapper):  # type: ignore[misc]  # PettingZoo ships no types
    """Observations followed by the weights (N,) of the mandate's base portfolio of the day."""

    def __init__(self, env: MarketEnv) -> None:
        super().__init__(env)
        self._market_env = env
        n_assets = env.spec.n_assets
        size, bound = env.spec.size + n_assets, env.spec.bound
        self._spaces = {
            agent: Box(-bound, bound, (size,), np.float32) for agent in env.possible_agents
        }

    def observation_space(self, agent: str) -> Box:
        """Return the space of the longer observation."""
        return self._spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode."""
        seen, infos = self.env.reset(seed=seed, options=options)
        return self._extended(seen), infos

    def step(self, actions: Mapping[str, Any]) -> rllib_default.Steps:
        """Trade one session on."""
        seen, *rest = self.env.step(actions)
        return (self._extended(seen), *rest)

    def _extended(self, seen: Mapping[str, Any]) -> dict[str, Any]:
        env = self._market_env
        base = env.batch.action_map.base_weights(env.batch.books.t)[0].to(torch.float32).numpy()
        return {
            agent: np.concatenate([vector, base[env.possible_agents.index(agent)]])
            for agent, vector in seen.items()
        }


class AnchoredLearner(PPOTorchLearner):  # type: ignore[misc]  # RLlib is untyped
    """RLlib's PPO with our anchor: KL(tilted portfolio || base) of the mean scores."""

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Tensor], fwd_out: dict[str, Tensor]
    ) -> Tensor:
        """Return RLlib's loss and the weighted anchor."""
        loss: Tensor = super().compute_loss_for_module(
            module_id=module_id, config=config, batch=batch, fwd_out=fwd_out
        )
        own = config.learner_config_dict
        scores = fwd_out[Columns.ACTION_DIST_INPUTS].chunk(2, dim=-1)[0][..., :-1]
        base = batch[Columns.OBS][..., -scores.shape[-1] :]
        # RLlib adds a row to each episode for the value of its end; that row is masked.
        divergence = anchor(scores, base, own[GAIN][module_id])[batch[Columns.LOSS_MASK]]
        total: Tensor = loss + own[ANCHOR] * divergence.mean()
        return total


def anchor(scores: Tensor, base: Tensor, gain: float) -> Tensor:
    """Return KL(tilted || base) (...) of scores (..., N) on base weights (..., N).

    It is 0 where there is no base.
    """
    tilt = gain * scores
    tilted = base * tilt.exp()
    total = tilted.sum(-1) + (base.sum(-1) == 0.0)
    return (tilted * tilt).sum(-1) / total - total.log()


def run(config: Configuration, data: Dataset, repeats: int, threads: int, command: str) -> Result:
    """Train both paths from the same warm starts and compare their books.

    Args:
        config: of the run; its seed is the first.
        data: of its market.
        repeats: seeds.
        threads: of torch.
        command: as it was typed, for the record of the test window.
    """
    torch.set_num_threads(threads)
    society, settings, pretrain = make_society(data, config), config.algorithm, config.pretrain
    if not isinstance(settings, RLSettings) or not isinstance(pretrain, RankerSettings):
        raise InputError("equal_steps needs pretrain=ranker and algorithm=ppo or a2c")
    record_opening(open_run(None, "equal_steps", config.seed), data, command)
    returns: dict[str, list[FloatArray]] = {path: [] for path in PATHS}
    for seed in range(config.seed, config.seed + repeats):
        start = _warm_started(society, data.train, pretrain, seed)
        trained = {
            "warm_start": start,
            "ours": train_ours(society, start, data.train, settings, seed),
            "rllib": train_rllib(society, start, data, settings, seed),
        }
        for path, networks in trained.items():
            returns[path].append(_returns(society, data, networks))
    return _compared(
        {path: np.stack(every) for path, every in returns.items()}, society, settings.steps
    )


def train_ours(
    society: Society, start: Trained, rows: slice, settings: RLSettings, seed: int
) -> Trained:
    """Return the networks after the budget of agent steps through our path."""
    trainer = Trainer(society, start, rows, settings, seed_of(seed, "ours"))
    try:
        while not trainer.finished:
            trainer.iterate()
        return trainer.networks()
    finally:
        trainer.stop()


def train_rllib(
    society: Society, start: Trained, data: Dataset, settings: RLSettings, seed: int
) -> Trained:
    """Return the networks after the same budget through RLlib's default path."""
    length = min(society.settings.episode_sessions, data.train.stop - data.train.start - 1)
    per_policy = max(len(agents) for agents in society.policies.values())
    sizes = Sizes(
        environments=ENVIRONMENTS,
        rows=settings.starts * settings.replicas * length,
        minibatch=settings.minibatch_days * settings.replicas * per_policy,
    )
    clip = data.features.clip
    config = rllib_default.build_config(society, clip, data.train, settings, seed, sizes)
    rllib_default.set_environment(
        config,
        society,
        data.train,
        rllib_default.observation_spec(society, clip),
        lambda env: ScaledReward(WithBase(env), settings.reward_scale),
    )
    gains = {mandate.policy: mandate.tilt for mandate in society.mandates}
    config.training(
        learner_class=AnchoredLearner,
        learner_config_dict={ANCHOR: settings.anchor, GAIN: gains},
    )
    algorithm = rllib_default.built(config)
    rllib_default.set_networks(algorithm, start, settings)
    steps = 0
    try:
        while steps < settings.steps:
            result = algorithm.train()
            sampled = int(result[keys.ENV_RUNNER_RESULTS][keys.NUM_ENV_STEPS_SAMPLED])
            steps += sampled * len(society.mandates)
        return rllib_default.trained_networks(algorithm, society)
    finally:
        algorithm.stop()


def _warm_started(society: Society, rows: slice, settings: RankerSettings, seed: int) -> Trained:
    networks = society.new_networks(seed)
    for policy, network in networks.items():
        warm_start({policy: network}, society.market, rows, settings, seed_of(seed, "final"))
    return networks


def _returns(society: Society, data: Dataset, networks: Trained) -> FloatArray:
    """Return the (A, T) daily returns of every agent over the test window."""
    books = validate(data.bars, society, data.test, networks).books
    navs = np.stack([books[mandate.name][0].nav for mandate in society.mandates])
    returns: FloatArray = navs[:, 1:] / navs[:, :-1] - 1.0
    return returns


@dataclass(frozen=True, slots=True)
class Difference:
    """The paths' difference in one mandate's Sharpe ratio, mean over S seeds.

    Args:
        every: (S,) of each seed.
        bootstrap_error: standard error from the market's history, by a paired block bootstrap of
            the seeds' mean daily returns.
    """

    every: FloatArray
    bootstrap_error: float

    @property
    def mean(self) -> float:
        """Return the mean over the seeds."""
        return float(self.every.mean())

    @property
    def seeds_error(self) -> float:
        """Return the standard error of that mean from the seeds; 0 for a single one."""
        return (
            float(self.every.std(ddof=1)) / math.sqrt(len(self.every))
            if len(self.every) > 1
            else 0.0
        )

    @property
    def error(self) -> float:
        """Return the standard error from both: histories and seeds are drawn independently."""
        return math.hypot(self.bootstrap_error, self.seeds_error)


def difference(ours: FloatArray, theirs: FloatArray) -> Difference:
    """Compare the (S, T) daily returns of S seeds through both paths."""
    generator = np.random.default_rng(0)
    found = paired_bootstrap(
        ours.mean(0), theirs.mean(0), TRADING_DAYS, generator, level=ONE_SIGMA
    ).sharpe
    return Difference(_sharpes(ours) - _sharpes(theirs), 0.5 * (found.high - found.low))


def _compared(returns: Mapping[str, FloatArray], society: Society, steps: int) -> Result:
    """Compare the paths' (S, A, T) returns: S seeds, A agents, T sessions."""
    figures: dict[str, object] = {}
    rows, scores = [], []
    for agent, mandate in enumerate(society.mandates):
        here = {path: every[:, agent] for path, every in returns.items()}
        found = difference(here["ours"], here["rllib"])
        scores.append(abs(found.mean) / found.error)
        figures |= {
            f"{mandate.name}_difference": found.mean,
            f"{mandate.name}_se": found.error,
            f"{mandate.name}_se_bootstrap": found.bootstrap_error,
            f"{mandate.name}_se_seeds": found.seeds_error,
            f"{mandate.name}_difference_by_seed": found.every.tolist(),
            **{f"{mandate.name}_{path}": float(_sharpes(r).mean()) for path, r in here.items()},
        }
        rows.append(
            (
                mandate.name,
                *(f"{_sharpes(here[path]).mean():.3f}" for path in PATHS),
                f"{found.mean:+.4f}",
                f"{found.error:.4f}",
                f"{found.mean / found.error:+.2f}",
            )
        )
    head = {
        "largest_z": max(scores),
        "agent_steps": steps,
        "seeds": len(returns["ours"]),
        "sessions": returns["ours"].shape[-1],
    }
    return Result("equal_steps", head | figures, COLUMNS, tuple(rows))


def _sharpes(returns: FloatArray) -> FloatArray:
    """Return the Sharpe ratio of each seed."""
    return np.array([measures.sharpe(each, TRADING_DAYS) for each in returns])


def main() -> None:
    """Run the benchmark as the console command does, with the settings of the demo."""
    command = [sys.executable, "-m", "cli", "bench", "equal_steps", *DEMO, *sys.argv[1:]]
    os.execv(sys.executable, command)


if __name__ == "__main__":
    main()
