"""Reinforcement learning of a society on RLlib; the only file that knows RLlib's option names."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from ray.rllib.algorithms.ppo import PPO, PPOConfig
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.execution.rollout_ops import synchronous_parallel_sample
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils import metrics as keys

from agents.networks import PolicyNetwork
from training import env_runner, learner, rl_module
from training.env_runner import SocietyRunner
from training.learner import SocietyLearner
from training.rl_module import BookModule
from training.seeds import seed_of
from training.settings import RLSettings
from training.society import Society

LEARNER_FOLDER = "learner"
COUNTERS_FILE = "counters.json"


class SocietyPPO(PPO):  # type: ignore[misc]  # RLlib is untyped
    """PPO whose runners return finished batches: sample, update, send the new weights."""

    def training_step(self) -> None:
        """Take one batch from every runner and learn from it."""
        with self.metrics.log_time((keys.TIMERS, keys.ENV_RUNNER_SAMPLING_TIMER)):
            parts, results = synchronous_parallel_sample(
                worker_set=self.env_runner_group,
                concat=False,
                _uses_new_env_runners=True,
                _return_metrics=True,
            )
            if not parts:  # every runner failed; RLlib restarts them before the next call
                return
            self.metrics.aggregate(results, key=keys.ENV_RUNNER_RESULTS)
        with self.metrics.log_time((keys.TIMERS, keys.LEARNER_UPDATE_TIMER)):
            results = self.learner_group.update(
                batch=_joined(parts),
                num_epochs=self.config.num_epochs,
                minibatch_size=self.config.minibatch_size,
            )
            self.metrics.aggregate(results, key=keys.LEARNER_RESULTS)
        with self.metrics.log_time((keys.TIMERS, keys.SYNCH_WORKER_WEIGHTS_TIMER)):
            self.send_weights()

    def send_weights(self) -> None:
        """Give the learner's weights to every runner, and wait until they have them.

        RLlib's own `sync_weights` does not wait, and drops the call for a runner that is busy.
        """
        component = f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}"
        state = self.learner_group.get_state(components=component, inference_only=True)
        weights = ray.put(state[COMPONENT_LEARNER])
        self.env_runner_group.foreach_env_runner(lambda runner: runner.set_state(ray.get(weights)))


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
        self._algorithm.send_weights()
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
                    name.removeprefix("network."): torch.as_tensor(value)
                    for name, value in weights[policy].items()
                }
            )
            networks[policy] = network
        return networks

    def save(self, folder: Path) -> None:
        """Write networks, optimisers, version of the weights and step counter to a new folder."""
        self._algorithm.learner_group.save_to_path(_absolute(folder))
        counters = {"agent_steps": self.agent_steps}
        (folder / COUNTERS_FILE).write_text(json.dumps(counters))

    def restore(self, folder: Path) -> None:
        """Continue where `save` was called."""
        self._algorithm.learner_group.restore_from_path(_absolute(folder))
        self._algorithm.send_weights()
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
            env_runner.ROWS: rows,
            env_runner.SEED: seed,
        },
        disable_env_checking=True,
    )
    config.env_runners(
        env_runner_cls=SocietyRunner,
        num_env_runners=settings.num_env_runners,
        num_envs_per_env_runner=settings.starts * settings.replicas,
    )
    config.learners(
        num_learners=settings.num_learners,
        num_gpus_per_learner=int(settings.device == "cuda"),
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
        model_config={rl_module.SOCIETY: ray.put(society), rl_module.DEVICE: settings.device},
    )
    config.debugging(seed=ray_seed, log_level="ERROR")
    config._dont_auto_sync_env_runner_states = True  # connectors: these runners have none
    return config


def _absolute(folder: Path) -> Path:
    """Return where the learners' state lies: RLlib takes a relative path for a damaged URI."""
    return folder.resolve() / LEARNER_FOLDER


def _module_state(network: PolicyNetwork, settings: RLSettings) -> dict[str, Any]:
    """Return the parameters under the module's names, with fresh exploration noise."""
    state = {f"network.{name}": value.numpy() for name, value in network.state_dict().items()}
    noise = [settings.score_noise, settings.exposure_noise]
    return state | {"network.log_std": np.log(np.array(noise, dtype=np.float32))}


def _joined(parts: list[MultiAgentBatch]) -> MultiAgentBatch:
    """Return the rows of all runners' batches as one."""
    policies = parts[0].policy_batches
    return MultiAgentBatch(
        {
            policy: SampleBatch(
                {
                    name: torch.cat(
                        [torch.as_tensor(p.policy_batches[policy][name]) for p in parts]
                    )
                    for name in columns
                }
            )
            for policy, columns in policies.items()
        },
        env_steps=sum(part.env_steps() for part in parts),
    )
