"""Reinforcement learning of a society on RLlib; the only file that knows RLlib's option names."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils import metrics as keys

from agents.networks import PolicyNetwork
from training import env_runner, learner, placement, rl_module, shared_society
from training.env_runner import SocietyRunner
from training.learner import SocietyLearner
from training.rl_module import BookModule
from training.seeds import seed_of
from training.settings import RLSettings
from training.society import Society
from training.society_ppo import SocietyPPO

LEARNERS_FILE = "learners.pt"
COUNTERS_FILE = "counters.json"


class Trainer:
    """One pass of reinforcement learning, iteration by iteration.

    Args:
        society: market, mandates and network shape.
        networks: initial parameters by policy; not changed.
        rows: sessions that may be learned from.
        settings: of the algorithm.
        seed: of this pass.
    """

    def __init__(
        self,
        society: Society,
        networks: Mapping[str, PolicyNetwork],
        rows: slice,
        settings: RLSettings,
        seed: int,
    ) -> None:
        self.settings = settings
        self.society = society
        self._algorithm: SocietyPPO = build_config(society, rows, settings, seed).build_algo()
        state = {policy: _module_state(network, settings) for policy, network in networks.items()}
        self._algorithm.learner_group.set_state({COMPONENT_LEARNER: {COMPONENT_RL_MODULE: state}})
        self._algorithm.publish_weights()
        self.agent_steps = 0

    @property
    def finished(self) -> bool:
        """Return whether the budget of agent steps is spent."""
        return self.agent_steps >= self.settings.steps

    def iterate(self) -> dict[str, Any]:
        """Sample and learn once; return RLlib's result."""
        result: dict[str, Any] = self._algorithm.train()
        sampled = result[keys.ENV_RUNNER_RESULTS].get(keys.NUM_ENV_STEPS_SAMPLED, 0)
        self.agent_steps += int(sampled) * len(self.society.mandates)
        return result

    def networks(self) -> dict[str, PolicyNetwork]:
        """Return copies of the current policies, on the CPU."""
        weights = self._algorithm.learner_group.get_weights()
        networks = {}
        for policy in self.society.policies:
            network = PolicyNetwork(self.society.network, torch.Generator().manual_seed(0))
            network.load_state_dict(
                {
                    name.removeprefix("network."): torch.tensor(value)
                    for name, value in weights[policy].items()
                }
            )
            networks[policy] = network
        return networks

    def nodes(self) -> set[str]:
        """Return Ray's ids of the machines of this process and of the learners."""
        mine = ray.get_runtime_context().get_node_id()
        learners = self._algorithm.learner_group.foreach_learner(
            lambda learner: ray.get_runtime_context().get_node_id()
        )
        return {mine, *(answer.get() for answer in learners)}

    def save(self, folder: Path) -> None:
        """Write networks, optimisers, version of the weights and step counter to a new folder."""
        torch.save(self._algorithm.learner_group.get_state(), folder / LEARNERS_FILE)
        counters = {"agent_steps": self.agent_steps}
        (folder / COUNTERS_FILE).write_text(json.dumps(counters))

    def restore(self, folder: Path) -> None:
        """Continue where `save` was called."""
        state = torch.load(folder / LEARNERS_FILE, weights_only=False)
        self._algorithm.learner_group.set_state(state)
        self._algorithm.publish_weights()
        self.agent_steps = json.loads((folder / COUNTERS_FILE).read_text())["agent_steps"]

    def stop(self) -> None:
        """Free the actors and the market of this pass."""
        self._algorithm.stop()
        rl_module.society_of.cache_clear()


def build_config(society: Society, rows: slice, settings: RLSettings, seed: int) -> PPOConfig:
    """Translate our settings into RLlib's."""
    ray_seed = seed_of(seed, "ray") % 2**31
    config = PPOConfig(algo_class=SocietyPPO)
    config.environment(
        env_config={
            env_runner.SETTINGS: settings,
            env_runner.DEVICE: placement.runner_device(settings),
            env_runner.ROWS: rows,
            env_runner.SEED: seed,
        },
        disable_env_checking=True,
    )
    config.env_runners(
        env_runner_cls=SocietyRunner,
        num_env_runners=settings.num_env_runners or 0,
        num_cpus_per_env_runner=settings.num_cpus_per_env_runner,
        num_gpus_per_env_runner=placement.runner_gpus(settings),
        num_envs_per_env_runner=settings.starts * settings.replicas,
        create_local_env_runner=not settings.num_env_runners,
        add_default_connectors_to_env_to_module_pipeline=False,
        add_default_connectors_to_module_to_env_pipeline=False,
    )
    # `SocietyPPO` replaces runners that died: Ray's own restarts keep what they were made with.
    config.fault_tolerance(restart_failed_env_runners=False, ignore_env_runner_failures=True)
    config.learners(
        num_learners=settings.num_learners or 0,
        num_gpus_per_learner=placement.learner_gpus(settings),
    )
    config.training(
        learner_class=SocietyLearner,
        learner_config_dict={
            learner.ANCHOR: settings.anchor,
            learner.SEED: seed,
        },
        lr=settings.learning_rate,
        gamma=settings.gamma,
        lambda_=settings.gae_lambda,
        clip_param=math.inf if settings.clip is None else settings.clip,
        vf_loss_coeff=settings.value_weight,
        grad_clip=settings.grad_clip,
        grad_clip_by="global_norm",
        use_kl_loss=False,
        num_epochs=settings.epochs,
        minibatch_size=settings.minibatch_days,
    )
    config.multi_agent(policies=set(society.policies), policy_mapping_fn=None)
    config.rl_module(
        rl_module_spec=RLModuleSpec(module_class=BookModule),
        model_config={
            rl_module.SOCIETY: shared_society.put(society),
            rl_module.DEVICE: placement.learner_device(settings),
            rl_module.BFLOAT16: settings.bfloat16,
        },
    )
    config.debugging(seed=ray_seed, log_level="CRITICAL")  # deaths of actors are told in one line
    config._dont_auto_sync_env_runner_states = True  # connectors: these runners have none
    return config


def _module_state(network: PolicyNetwork, settings: RLSettings) -> dict[str, Any]:
    """Return the parameters under the module's names, with fresh exploration noise."""
    state = {f"network.{name}": value.numpy() for name, value in network.state_dict().items()}
    noise = [settings.score_noise, settings.exposure_noise]
    return state | {"network.log_std": np.log(np.array(noise, dtype=np.float32))}
