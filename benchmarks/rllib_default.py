"""RLlib's own way through our PettingZoo environment: what an experienced user of it would write.

PPO of the new API stack with its `MultiAgentEnvRunner`, its default connectors and learner, and
`ParallelPettingZooEnv` around `envs.market_env.MarketEnv`; one policy per mandate. The runner and
the learner live in this process. The network is our `PolicyNetwork` on the flat observation, with
RLlib's diagonal Gaussian around its mean; or RLlib's own fully connected network.

Market, mandates, costs, rewards and episode are those of our path, and so are discount, lambda,
learning rate, clip, epochs and gradient norm. It differs in what belongs to RLlib: one ratio per
action where ours has one per component, advantages standardised over the batch where ours are
relative to the replicas of a day, no anchor to the base portfolio.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import gymnasium
import numpy as np
import torch
from pettingzoo import ParallelEnv
from pettingzoo.utils import BaseParallelWrapper
from ray.rllib.algorithms.ppo import PPO, PPOConfig
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis.value_function_api import ValueFunctionAPI
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.core.rl_module.torch import TorchRLModule
from ray.rllib.env.wrappers.pettingzoo_env import ParallelPettingZooEnv
from ray.tune.registry import register_env
from torch import Tensor

from agents.networks import PolicyNetwork, pool
from agents.observation import Blocks, ObservationSpec
from envs.market_env import MarketEnv
from training.rollout import log_deviations
from training.seeds import seed_of
from training.settings import RLSettings
from training.society import Society

ENVIRONMENT = "tercet_market"
RLLIB_ENVIRONMENT = "rllib-multi-agent-env-v0"  # the name under which its runner registers it

# Keys of a module's configuration.
NETWORK = "network"
OBSERVATION = "observation"

Wrapper = Callable[[MarketEnv], ParallelEnv]
Steps = tuple[
    dict[str, Any], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]
]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much RLlib does at once."""

    environments: int  # stepped in turn by the runner, one forward pass for all of them
    rows: int  # sessions of one training batch, all environments together, at least
    minibatch: int  # rows of one policy per update

    @property
    def fragment(self) -> int:
        """Return the sessions that one call of `sample` plays in each environment."""
        return math.ceil(self.rows / self.environments)

    @property
    def batch(self) -> int:
        """Return the sessions of one training batch, each environment's as many."""
        return self.fragment * self.environments


class ScaledReward(BaseParallelWrapper):  # type: ignore[misc]  # PettingZoo ships no types
    """The environment with rewards of order one, as our own path scales them."""

    def __init__(self, env: ParallelEnv, scale: float) -> None:
        super().__init__(env)
        self._scale = scale

    def step(self, actions: Mapping[str, Any]) -> Steps:
        """Step, and scale what every agent earned."""
        seen, rewards, *rest = self.env.step(actions)
        scaled = {agent: reward * self._scale for agent, reward in rewards.items()}
        return (seen, scaled, *rest)


class FlatPolicy(TorchRLModule, ValueFunctionAPI):  # type: ignore[misc]  # RLlib is untyped
    """One policy: our network on rows of flat observations."""

    def setup(self) -> None:
        """Build the network; its parameters are set by `set_networks`."""
        self.spec: ObservationSpec = self.model_config[OBSERVATION]
        generator = torch.Generator().manual_seed(0)
        self.network = PolicyNetwork(self.model_config[NETWORK], generator)

    def blocks(self, batch: Mapping[str, Tensor]) -> Blocks:
        """Return the parts of the observations; what a loss appends to them is left out."""
        return self.spec.split(batch[Columns.OBS][..., : self.spec.size])

    def _forward(self, batch: dict[str, Tensor], **kwargs: Any) -> dict[str, Tensor]:
        """Return means and log deviations (B, 2 (N + 1)) side by side."""
        seen = self.blocks(batch)
        encoding = self.network.encode(seen.asset_features, seen.market_features, seen.investable)
        mean = self.network.act(encoding, seen.book_asset, seen.book, seen.investable)
        log_std = log_deviations(self.network.log_std, self.spec.n_assets)
        return {Columns.ACTION_DIST_INPUTS: torch.cat([mean, log_std.expand_as(mean)], dim=-1)}

    def compute_values(self, batch: dict[str, Tensor], embeddings: Any = None) -> Tensor:
        """Return the values (B,) in scaled reward."""
        seen = self.blocks(batch)
        pooled = pool(seen.asset_features, seen.investable.unsqueeze(-1)).squeeze(-2)
        return self.network.value(pooled, seen.market_features, seen.book)


def observation_spec(society: Society, clip: float) -> ObservationSpec:
    """Return the layout of a flat observation whose market features are bounded by `clip`."""
    market = society.market
    return ObservationSpec(
        n_assets=market.n_assets,
        asset_features=market.asset_features.shape[-1],
        market_features=market.market_features.shape[-1],
        clip=clip,
    )


def build_config(
    society: Society, clip: float, rows: slice, settings: RLSettings, seed: int, sizes: Sizes
) -> PPOConfig:
    """Translate our settings into RLlib's.

    Args:
        society: market, mandates and network shape.
        clip: bound of the market's features.
        rows: sessions that may be visited.
        settings: of the algorithm; its starts, replicas and minibatches are replaced by `sizes`.
        seed: of this run.
        sizes: of RLlib's batches.
    """
    spec = observation_spec(society, clip)
    playing = {mandate.name: mandate.policy for mandate in society.mandates}
    config = PPOConfig()
    set_environment(
        config, society, rows, spec, lambda env: ScaledReward(env, settings.reward_scale)
    )
    config.env_runners(
        num_env_runners=0,
        num_envs_per_env_runner=sizes.environments,
        rollout_fragment_length=sizes.fragment,
    )
    config.learners(num_learners=0)
    config.training(
        train_batch_size_per_learner=sizes.batch,
        minibatch_size=min(sizes.minibatch, sizes.batch),
        num_epochs=settings.epochs,
        lr=settings.learning_rate,
        gamma=settings.gamma,
        lambda_=settings.gae_lambda,
        clip_param=math.inf if settings.clip is None else settings.clip,
        vf_loss_coeff=settings.value_weight,
        vf_clip_param=math.inf,
        grad_clip=settings.grad_clip,
        grad_clip_by="global_norm",
        use_kl_loss=False,
        entropy_coeff=0.0,
    )
    config.multi_agent(
        policies=set(society.policies),
        policy_mapping_fn=lambda agent, *args, **kwargs: playing[agent],
    )
    config.rl_module(
        rl_module_spec=RLModuleSpec(module_class=FlatPolicy),
        model_config={NETWORK: society.network, OBSERVATION: spec},
    )
    config.debugging(seed=seed_of(seed, "rllib_default") % 2**31, log_level="ERROR")
    return config


def build_algorithm(
    society: Society, clip: float, rows: slice, settings: RLSettings, seed: int, sizes: Sizes
) -> PPO:
    """Return the algorithm with our network; the arguments are those of `build_config`."""
    return built(build_config(society, clip, rows, settings, seed, sizes))


def built(config: PPOConfig) -> PPO:
    """Build an algorithm; RLlib warns where another one has registered its environment."""
    gymnasium.registry.pop(RLLIB_ENVIRONMENT, None)
    return config.build_algo()


def set_environment(
    config: PPOConfig, society: Society, rows: slice, spec: ObservationSpec, wrap: Wrapper
) -> None:
    """Let a configuration play the society's environment inside a wrapper."""
    # Many environments at once are worth compiling; each of many single ones is not.
    eager = replace(society, settings=replace(society.settings, compile=False))
    register_env(
        ENVIRONMENT, lambda _: ParallelPettingZooEnv(wrap(MarketEnv(eager.env(rows), spec)))
    )
    config.environment(ENVIRONMENT, disable_env_checking=True)


def set_fully_connected(config: PPOConfig, hidden: list[int]) -> None:
    """Replace our network by RLlib's default one: separate actor and critic of these widths."""
    config.rl_module(
        rl_module_spec=RLModuleSpec(),
        model_config=DefaultModelConfig(fcnet_hiddens=hidden, fcnet_activation="silu"),
    )


def set_networks(
    algorithm: PPO, networks: Mapping[str, PolicyNetwork], settings: RLSettings
) -> None:
    """Start from these parameters, with fresh exploration noise, in learner and runner."""
    noise = np.log(np.array([settings.score_noise, settings.exposure_noise], dtype=np.float32))
    state = {
        policy: {f"network.{name}": value.numpy() for name, value in network.state_dict().items()}
        | {"network.log_std": noise}
        for policy, network in networks.items()
    }
    algorithm.learner_group.set_state({COMPONENT_LEARNER: {COMPONENT_RL_MODULE: state}})
    algorithm.env_runner_group.sync_weights(
        from_worker_or_learner_group=algorithm.learner_group, inference_only=True
    )


def trained_networks(algorithm: PPO, society: Society) -> dict[str, PolicyNetwork]:
    """Return copies of the learner's policies."""
    weights = algorithm.learner_group.get_weights()
    networks = society.new_networks(0)
    for policy, network in networks.items():
        network.load_state_dict(
            {
                name.removeprefix("network."): torch.as_tensor(value)
                for name, value in weights[policy].items()
            }
        )
    return networks
