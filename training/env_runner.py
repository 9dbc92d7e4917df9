"""Sampling for RLlib: one batched environment, one forward pass per policy and session.

RLlib's own runners build Python objects per environment, agent and step. This one steps one
`BatchEnv` and returns a finished batch.

A rollout is a pure function of (seed, runner, version of the weights): every call starts fresh
episodes from a generator of its own, so there is no random state to save, and a restarted or
resumed runner repeats the stream exactly.
"""

import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import ray
import torch
from ray.rllib.core import COMPONENT_RL_MODULE
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModule
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES, INPUT_ENV_SPACES
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils import metrics as keys

from agents.observation import BOOK_ASSET_FEATURES, BOOK_CLIP, BOOK_FEATURES
from training import rl_module
from training.columns import BOOK, BOOK_ASSET, DAY
from training.rl_module import SOCIETY, society_of
from training.rollout import Columns, Rollout
from training.seeds import generator_of
from training.settings import RLSettings
from training.society import Society

# Keys of `AlgorithmConfig.env_config`.
SETTINGS = "settings"
DEVICE = "device"
ROWS = "rows"
SEED = "seed"

Spaces = dict[str, tuple[gym.Space[Any], gym.Space[Any]]]  # observation, action

WEIGHTS_SEQ_NO = "weights_seq_no"


class SocietyRunner(EnvRunner):  # type: ignore[misc]  # RLlib is untyped
    """Samples whole episodes of G x R environments, all agents of all policies at once."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        env_config = self.config.env_config
        self.settings: RLSettings = env_config[SETTINGS]
        self._seed_of_run: int = env_config[SEED]
        self._weights_version = 0
        device: str = env_config[DEVICE]
        self.society: Society = society_of(self.config.model_config[SOCIETY], device)
        self.env = self.society.env(env_config[ROWS])
        spec = self.config.get_multi_rl_module_spec(spaces=self.get_spaces(), inference_only=True)
        for policy in spec.rl_module_specs.values():  # theirs is the device of the learners
            policy.model_config = {**policy.model_config, rl_module.DEVICE: device}
        self.module: MultiRLModule = spec.build()
        for policy in self.society.policies:
            self.module[policy].to(device)

    # --- what RLlib asks of every runner

    def assert_healthy(self) -> None:
        """Raise if the constructor did not finish."""
        assert self.env and self.module

    def get_spaces(self) -> Spaces:
        """Return the spaces of one book: the market part of an observation is its day."""
        market = self.society.market

        def bounded(*shape: int) -> gym.spaces.Box:
            return gym.spaces.Box(-BOOK_CLIP, BOOK_CLIP, shape, np.float32)

        observation = gym.spaces.Dict(
            {
                DAY: gym.spaces.Discrete(market.n_sessions),
                BOOK_ASSET: bounded(market.n_assets, BOOK_ASSET_FEATURES),
                BOOK: bounded(BOOK_FEATURES),
            }
        )
        action = gym.spaces.Box(-1.0, 1.0, (market.n_assets + 1,), np.float32)
        names = (INPUT_ENV_SPACES, INPUT_ENV_SINGLE_SPACES, *self.society.policies)
        return dict.fromkeys(names, (observation, action))

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return what the next rollout depends on, apart from configuration."""
        return {
            COMPONENT_RL_MODULE: self.module.get_state(),
            WEIGHTS_SEQ_NO: self._weights_version,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over the weights of the learner and their version."""
        weights = state.get(COMPONENT_RL_MODULE)
        if weights is not None:
            by_reference = isinstance(weights, ray.ObjectRef)
            self.module.set_state(ray.get(weights) if by_reference else weights)
        self._weights_version = state.get(WEIGHTS_SEQ_NO, self._weights_version)

    def get_metrics(self) -> Any:
        """Return what was logged since the last call."""
        return self.metrics.reduce()

    def apply(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function with this runner; RLlib's own version ends the process at an error."""
        return func(self, *args, **kwargs)

    # --- sampling

    def play(self, state: dict[str, Any]) -> tuple[MultiAgentBatch, Any]:
        """Take over weights and sample with them, in one call: a restarted runner has no others."""
        self.set_state(state)
        return self.sample(), self.get_metrics()

    @torch.no_grad()
    def sample(self, **kwargs: Any) -> MultiAgentBatch:
        """Play one episode in every environment and return it as training batches by policy."""
        started = time.perf_counter()
        networks = {policy: self.module[policy].network for policy in self.society.policies}
        rollout = Rollout(self.society, self.env, networks, self.settings, self._generator)
        rollout.play()
        batches = {policy: self._packed(columns) for policy, columns in rollout.batches().items()}
        self._log(rollout, time.perf_counter() - started)
        return MultiAgentBatch(batches, env_steps=rollout.env_steps)

    def _packed(self, columns: Columns) -> SampleBatch:
        """Return a training batch; of arrays where it leaves this process.

        Ray hands over the memory of an array, but pickles a tensor, and with it all that shares
        its storage.
        """
        if self.worker_index:
            return SampleBatch({name: column.cpu().numpy() for name, column in columns.items()})
        return SampleBatch(columns)

    def _generator(self, *path: str) -> torch.Generator:
        """Return the generator of one part of the next rollout."""
        return generator_of(
            self._seed_of_run, "runner", self.worker_index, self._weights_version, *path
        )

    def _log(self, rollout: Rollout, seconds: float) -> None:
        """Log the metrics that RLlib's own multi-agent runner logs, under the same keys.

        Runners play equally many episodes, so the mean of their means is that of all episodes.
        """
        returns = rollout.rewards.sum(0).flatten(0, 1)  # (E, A)
        totals = returns.sum(-1)
        self._log_count(keys.NUM_ENV_STEPS_SAMPLED, rollout.env_steps, throughput=True)
        self._log_count(keys.NUM_EPISODES, rollout.n_envs)
        recent = {
            keys.WEIGHTS_SEQ_NO: self._weights_version,
            keys.SAMPLE_TIMER: seconds,
            keys.EPISODE_DURATION_SEC_MEAN: seconds,
            keys.EPISODE_LEN_MEAN: rollout.sessions,
            keys.EPISODE_RETURN_MEAN: float(totals.mean()),
        }
        self.metrics.log_dict(recent, window=1)
        least = {
            keys.EPISODE_LEN_MIN: rollout.sessions,
            keys.EPISODE_RETURN_MIN: float(totals.min()),
        }
        most = {
            keys.EPISODE_LEN_MAX: rollout.sessions,
            keys.EPISODE_RETURN_MAX: float(totals.max()),
        }
        self.metrics.log_dict(least, reduce="min", window=1)
        self.metrics.log_dict(most, reduce="max", window=1)
        for index, mandate in enumerate(self.society.mandates):
            mean = float(returns[:, index].mean())
            self.metrics.log_value((keys.EPISODE_AGENT_RETURN_MEAN, mandate.name), mean, window=1)
            steps = rollout.sessions
            self.metrics.log_value((keys.EPISODE_AGENT_STEPS, mandate.name), steps, window=1)
            self._log_count((keys.NUM_AGENT_STEPS_SAMPLED, mandate.name), rollout.env_steps)
        for policy, agents in self.society.policies.items():
            mean = float(returns[:, agents].sum(-1).mean())
            self.metrics.log_value((keys.EPISODE_MODULE_RETURN_MEAN, policy), mean, window=1)
            steps = rollout.env_steps * len(agents)
            self._log_count((keys.NUM_MODULE_STEPS_SAMPLED, policy), steps)

    def _log_count(self, key: str | tuple[str, str], count: int, throughput: bool = False) -> None:
        """Log a count since the last result, and over the runner's life."""
        path = (key,) if isinstance(key, str) else key
        self.metrics.log_value(path, count, reduce="sum")
        lifetime = (f"{path[0]}_lifetime", *path[1:])
        self.metrics.log_value(lifetime, count, reduce="lifetime_sum", with_throughput=throughput)
