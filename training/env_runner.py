"""Sampling for RLlib: one batched environment, one forward pass per policy and session.

RLlib's own runners build Python objects per environment, agent and step. This one steps a
`BatchEnv` of G starts x R replicas into preallocated tensors and returns a finished batch. All
replicas of a start live through the same days and differ by their actions alone; their mean
advantage on a day is the baseline that takes the market's noise, common to them, out of the
gradient.

A rollout is a pure function of (seed, runner, version of the weights): every call starts fresh
episodes from a generator of its own, so there is no random state to save, and a restarted or
resumed runner repeats the stream exactly.
"""

import time
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.core import COMPONENT_RL_MODULE
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModule
from ray.rllib.env import INPUT_ENV_SPACES
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils import metrics as keys
from torch import Tensor

from agents.observation import BOOK_ASSET_FEATURES, BOOK_CLIP, BOOK_FEATURES
from training import rl_module as columns
from training.config import RLSettings
from training.rl_module import BookModule, innovation_log_std, log_density, society_of
from training.seeds import generator_of
from training.society import Society, encodings

# Keys of `AlgorithmConfig.env_config`.
SETTINGS = "settings"
ROWS = "rows"
SEED = "seed"

Spaces = dict[str, tuple[gym.Space[Any], gym.Space[Any]]]  # observation, action

SMALLEST_DEVIATION = 1e-8
WEIGHTS_SEQ_NO = "weights_seq_no"


class SocietyRunner(EnvRunner):  # type: ignore[misc]  # RLlib is untyped
    """Samples whole episodes of G x R environments, all agents of all policies at once."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        env_config = self.config.env_config
        self.settings: RLSettings = env_config[SETTINGS]
        self._seed_of_run: int = env_config[SEED]
        self._weights_version = 0
        self.society: Society = society_of(
            self.config.model_config[columns.SOCIETY], self.settings.device
        )
        self.env = self.society.env(env_config[ROWS])
        rows = self.env.rows
        self.sessions = min(self.env.settings.episode_sessions, rows.stop - 1 - rows.start)
        spec = self.config.get_multi_rl_module_spec(spaces=self.get_spaces(), inference_only=True)
        self.module: MultiRLModule = spec.build()

    # --- what RLlib asks of every runner

    def assert_healthy(self) -> None:
        """Raise if the constructor did not finish."""
        assert self.env and self.module

    def get_spaces(self) -> Spaces:
        """Return the spaces of one book: the market part of an observation is its day."""
        return self.society_spaces(self.society)

    @staticmethod
    def society_spaces(society: Society) -> Spaces:
        """Return observation and action space by policy, and those of the environment."""
        assets = society.market.n_assets

        def bounded(*shape: int) -> gym.spaces.Box:
            return gym.spaces.Box(-BOOK_CLIP, BOOK_CLIP, shape, np.float32)

        observation = gym.spaces.Dict(
            {
                columns.DAY: gym.spaces.Discrete(society.market.n_sessions),
                columns.BOOK_ASSET: bounded(assets, BOOK_ASSET_FEATURES),
                columns.BOOK: bounded(BOOK_FEATURES),
            }
        )
        action = gym.spaces.Box(-1.0, 1.0, (assets + 1,), np.float32)
        return dict.fromkeys((INPUT_ENV_SPACES, *society.policies), (observation, action))

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return what the next rollout depends on, apart from configuration."""
        return {
            COMPONENT_RL_MODULE: self.module.get_state(),
            WEIGHTS_SEQ_NO: self._weights_version,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over the weights of the learner and their version."""
        if COMPONENT_RL_MODULE in state:
            self.module.set_state(state[COMPONENT_RL_MODULE])
        self._weights_version = state.get(WEIGHTS_SEQ_NO, self._weights_version)

    def get_metrics(self) -> Any:
        """Return what was logged since the last call."""
        return self.metrics.reduce()

    # --- sampling

    @torch.no_grad()
    def sample(self, **kwargs: Any) -> MultiAgentBatch:
        """Play one episode in every environment and return it as training batches by policy."""
        started = time.perf_counter()
        rollout = _Rollout(self)
        for step in range(self.sessions):
            rollout.step(step)
        batches = rollout.batches()
        self._log(rollout, time.perf_counter() - started)
        return MultiAgentBatch(batches, env_steps=self.sessions * rollout.n_envs)

    def network_of(self, policy: str) -> BookModule:
        """Return the module that plays a policy."""
        module: BookModule = self.module[policy]
        return module

    def generator(self, *path: str) -> torch.Generator:
        """Return the generator of one part of the next rollout."""
        return generator_of(
            self._seed_of_run, "runner", self.worker_index, self._weights_version, *path
        )

    def _log(self, rollout: "_Rollout", seconds: float) -> None:
        """Log the metrics that RLlib's own multi-agent runner logs."""
        env_steps = self.sessions * rollout.n_envs
        returns = rollout.rewards.sum(0).flatten(0, 1)  # (E, A), unscaled
        by_agent = {m.name: returns[:, a].mean() for a, m in enumerate(self.env.mandates)}
        by_policy = {
            policy: returns[:, agents].sum(-1).mean()
            for policy, agents in self.society.policies.items()
        }
        log = self.metrics.log_value
        log(keys.NUM_ENV_STEPS_SAMPLED, env_steps, reduce="sum")
        log(
            keys.NUM_ENV_STEPS_SAMPLED_LIFETIME,
            env_steps,
            reduce="lifetime_sum",
            with_throughput=True,
        )
        log(keys.NUM_EPISODES, rollout.n_envs, reduce="sum")
        log(keys.NUM_EPISODES_LIFETIME, rollout.n_envs, reduce="lifetime_sum")
        log(keys.SAMPLE_TIMER, seconds, reduce="mean", window=1)
        totals = returns.sum(-1)
        log(keys.EPISODE_LEN_MEAN, self.sessions, window=1)
        log(keys.EPISODE_RETURN_MEAN, float(totals.mean()), window=1)
        log(keys.EPISODE_RETURN_MIN, float(totals.min()), reduce="min", window=1)
        log(keys.EPISODE_RETURN_MAX, float(totals.max()), reduce="max", window=1)
        for name, value in by_agent.items():
            log((keys.EPISODE_AGENT_RETURN_MEAN, name), float(value), window=1)
            log((keys.NUM_AGENT_STEPS_SAMPLED, name), env_steps, reduce="sum")
            log((keys.NUM_AGENT_STEPS_SAMPLED_LIFETIME, name), env_steps, reduce="lifetime_sum")
        for policy, value in by_policy.items():
            steps = env_steps * len(self.society.policies[policy])
            log((keys.EPISODE_MODULE_RETURN_MEAN, policy), float(value), window=1)
            log((keys.NUM_MODULE_STEPS_SAMPLED, policy), steps, reduce="sum")
            log((keys.NUM_MODULE_STEPS_SAMPLED_LIFETIME, policy), steps, reduce="lifetime_sum")


class _Rollout:
    """One episode of every environment, written into preallocated tensors.

    Leading axes are L sessions, G starts, R replicas, A agents.
    """

    def __init__(self, runner: SocietyRunner) -> None:
        self.runner, self.env = runner, runner.env
        settings, env = runner.settings, runner.env
        market, length = env.market, runner.sessions
        self.starts, self.replicas = settings.starts, settings.replicas
        self.n_envs = self.starts * self.replicas
        first = env.draw_starts(self.starts, runner.generator("starts"))
        env.reset(first.repeat_interleave(self.replicas), length)
        self.days = first + torch.arange(length, device=market.device).unsqueeze(1)  # (L, G)
        self.encodings = {
            policy: encodings(runner.network_of(policy).network, market, first, length)
            for policy in runner.society.policies
        }
        books = (length, self.starts, self.replicas, env.n_agents)
        assets = market.n_assets

        def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.empty(shape, dtype=dtype, device=market.device)

        # One row more than there are actions: what is seen after the last one gives its value.
        self.book_asset = empty(length + 1, *books[1:], assets, BOOK_ASSET_FEATURES)
        self.book = empty(length + 1, *books[1:], BOOK_FEATURES)
        self.action = empty(*books, assets + 1)
        self.offset = empty(*books, assets + 1)
        self.normal = self._standard_normal()
        # The noise of the session before the first, so that all of it is stationary.
        self._noise = self.normal[length]
        for policy, agents in runner.society.policies.items():
            log_std = runner.network_of(policy).network.log_std
            self._noise[:, :, agents] *= innovation_log_std(log_std, 0.0, assets).exp()
        self.logp = empty(*books, assets + 1)
        self.rewards = empty(*books)
        self.alive = empty(length + 1, *books[1:], dtype=torch.bool)
        self._observe(0)

    def step(self, step: int) -> None:
        """Act once in every environment."""
        investable = self.env.market.investable[self.days[step]][:, None, None]  # (G, 1, 1, N)
        memory = self.runner.settings.noise_memory
        normal, action = self.normal[step], self.action[step]
        for policy, agents in self.runner.society.policies.items():
            network = self.runner.network_of(policy).network
            asset, book = self.book_asset[step][:, :, agents], self.book[step][:, :, agents]
            mean = network.act(next(self.encodings[policy])[:, None, None], asset, book, investable)
            log_std = innovation_log_std(network.log_std, memory, len(mean[0, 0, 0]) - 1)
            offset = memory * self._noise[:, :, agents]
            drawn = mean + offset + normal[:, :, agents] * log_std.exp()
            self._noise[:, :, agents] = drawn - mean
            self.offset[step][:, :, agents] = offset
            action[:, :, agents] = drawn
            self.logp[step][:, :, agents] = log_density(drawn, mean + offset, log_std)
        transition = self.env.step(action.flatten(0, 1))
        self.rewards[step] = transition.reward.view_as(self.rewards[step])
        self._observe(step + 1)

    def batches(self) -> dict[str, SampleBatch]:
        """Return the rollout by policy, one row per session and start."""
        return {
            policy: self._batch(policy, agents)
            for policy, agents in self.runner.society.policies.items()
        }

    def _standard_normal(self) -> Tensor:
        """Draw (L + 1, G, R, A, N + 1), each agent from its own stream: it explores alike alone."""
        length, *books, _, actions = self.action.shape
        drawn = [
            torch.randn(length + 1, *books, actions, generator=self.runner.generator(mandate.name))
            for mandate in self.env.mandates
        ]
        return torch.stack(drawn, -2).to(self.action.device)

    def _observe(self, step: int) -> None:
        seen = self.env.observe()
        self.book_asset[step] = seen.asset.view_as(self.book_asset[step])
        self.book[step] = seen.book.view_as(self.book[step])
        self.alive[step] = self.env.alive.view_as(self.alive[step])

    def _batch(self, policy: str, agents: list[int]) -> SampleBatch:
        settings = self.runner.settings
        module = self.runner.network_of(policy)
        day = torch.cat([self.days, self.days[-1:] + 1])  # (L + 1, G)
        seen = {columns.DAY: day.flatten(), columns.BOOK: self.book[..., agents, :].flatten(0, 1)}
        value = module.compute_values(seen).view_as(self.alive[..., agents])
        alive = self.alive[..., agents]
        advantage = generalised_advantage(
            self.rewards[..., agents] * settings.reward_scale,
            value,
            alive,
            settings.gamma,
            settings.gae_lambda,
        )
        rows = {
            columns.DAY: self.days,
            columns.BOOK_ASSET: self.book_asset[:-1][..., agents, :, :],
            columns.BOOK: self.book[:-1][..., agents, :],
            columns.ACTIONS: self.action[..., agents, :],
            columns.OFFSET: self.offset[..., agents, :],
            columns.ACTION_LOGP: self.logp[..., agents, :],
            columns.ADVANTAGES: standardise(advantage, alive[:-1]),
            columns.VALUE_TARGETS: advantage + value[:-1],
            columns.ALIVE: alive[:-1],
        }
        return SampleBatch({name: column.flatten(0, 1) for name, column in rows.items()})


def generalised_advantage(
    reward: Tensor, value: Tensor, alive: Tensor, gamma: float, gae_lambda: float
) -> Tensor:
    """Return the advantages (L, ...) of one episode each; 0 where the book was ruined before.

    Args:
        reward: (L, ...).
        value: (L + 1, ...) of what is seen before each action, and after the last: the episode is
            cut there, it does not end.
        alive: (L + 1, ...) bool; ruin ends an episode for good, so nothing follows it.
        gamma: discount.
        gae_lambda: weight of longer returns.

    Source:
        Schulman et al., "High-Dimensional Continuous Control Using Generalized Advantage
        Estimation", ICLR 2016, equation 16.
    """
    follows = alive[1:].to(reward.dtype)
    error = (reward + gamma * value[1:] * follows - value[:-1]) * alive[:-1]
    advantage = torch.empty_like(error)
    later = torch.zeros_like(error[0])
    for step in range(len(error) - 1, -1, -1):
        later = error[step] + gamma * gae_lambda * follows[step] * later
        advantage[step] = later
    return advantage


def standardise(advantage: Tensor, alive: Tensor) -> Tensor:
    """Return advantages less their mean over the replicas, at standard deviation 1 per agent.

    Args:
        advantage: (L, G, R, P).
        alive: (L, G, R, P) bool; others count for nothing and become 0.
    """
    weight = alive.to(advantage.dtype)
    living = weight.sum(2, keepdim=True).clamp(min=1.0)
    centred = (advantage - (advantage * weight).sum(2, keepdim=True) / living) * weight
    variance = centred.square().sum((0, 1, 2)) / weight.sum((0, 1, 2)).clamp(min=1.0)
    return centred / variance.sqrt().clamp(min=SMALLEST_DEVIATION)
