"""The loss of a society's policies: clipped policy gradient, value error, anchor to the base."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from ray.rllib.algorithms.ppo.ppo import (
    LEARNER_RESULTS_KL_KEY,
    LEARNER_RESULTS_VF_EXPLAINED_VAR_KEY,
)
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.core.learner.learner import ENTROPY_KEY, POLICY_LOSS_KEY, VF_LOSS_KEY
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from torch import Tensor
from torch.nn import functional

from agents.action_map import ActionMap
from agents.networks import entropy
from training import columns
from training.rl_module import MEAN, BookModule
from training.rollout import log_density, log_deviations
from training.seeds import generator_of

ANCHOR = "anchor"  # key of the learner's configuration and of the logged divergence
SEED = "seed"

SMALLEST_WEIGHT = 1e-30


class SocietyLearner(PPOTorchLearner):  # type: ignore[misc]  # RLlib is untyped
    """PPO on day slots, with a KL anchor of the tilted portfolio to the mandate's base."""

    def build(self) -> None:
        """Build the module, and the action map whose base portfolios the anchor needs."""
        super().build()
        module: BookModule = next(iter(self.module.values())).unwrapped()
        society = module.society
        self._action_map = ActionMap(society.mandates, society.market)
        self._agents = society.policies
        self._gain = torch.tensor(
            [mandate.tilt for mandate in society.mandates], device=society.market.device
        )

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Tensor], fwd_out: dict[str, Tensor]
    ) -> Tensor:
        """Return the loss of one policy over its living books."""
        module: BookModule = self.module[module_id].unwrapped()
        market = module.society.market
        investable = market.investable[batch[columns.DAY]][:, None, None]
        log_std, mean = module.network.log_std, fwd_out[MEAN]
        alive = batch[columns.ALIVE].to(mean.dtype)

        def average(values: Tensor) -> Tensor:
            return (values * alive).sum() / alive.sum().clamp(min=1.0)

        deviations = log_deviations(log_std, market.n_assets)
        logp = log_density(batch[columns.ACTIONS], mean, deviations)
        # Clipped by component: a joint ratio over N scores would leave each of them less room the
        # more assets there are. To first order the gradient is that of the joint ratio.
        ratio = (logp - batch[columns.ACTION_LOGP]).exp()
        counted = functional.pad(investable.to(mean.dtype), (0, 1), value=1.0)
        advantage = batch[columns.ADVANTAGES].unsqueeze(-1)
        clipped = ratio.clamp(1.0 - config.clip_param, 1.0 + config.clip_param)
        gain = torch.minimum(advantage * ratio, advantage * clipped)
        surrogate = average((gain * counted).sum(-1))
        value, target = module.compute_values(batch), batch[columns.VALUE_TARGETS]
        value_loss = average((value - target).square())
        anchor = average(self._anchor(module_id, mean, batch[columns.DAY]))

        with torch.no_grad():
            log_ratio = ratio.log()
            spread = average((target - average(target)).square())
            self.metrics.log_dict(
                {
                    POLICY_LOSS_KEY: -surrogate,
                    VF_LOSS_KEY: value_loss,
                    LEARNER_RESULTS_VF_EXPLAINED_VAR_KEY: 1.0 - value_loss / spread,
                    LEARNER_RESULTS_KL_KEY: average(((ratio - 1.0 - log_ratio) * counted).sum(-1)),
                    ENTROPY_KEY: entropy(log_std, investable).mean(),
                    ANCHOR: anchor,
                },
                key=module_id,
                window=1,
            )
        weight: float = config.learner_config_dict[ANCHOR]
        loss: Tensor = -surrogate + config.vf_loss_coeff * value_loss + weight * anchor
        return loss

    def _anchor(self, policy: str, mean: Tensor, day: Tensor) -> Tensor:
        """Return KL(tilted || base) (D, R, P) of the portfolio that the mean scores lead to.

        It is 0 for a mandate without a base.
        """
        agents = self._agents[policy]
        base = self._action_map.base_weights(day)[:, None, agents].to(mean.dtype)  # (D, 1, P, N)
        log_base = base.clamp(min=SMALLEST_WEIGHT).log()
        tilt = self._gain[agents].unsqueeze(-1).to(mean.dtype) * mean[..., :-1]
        tilted = torch.log_softmax(log_base + tilt, dim=-1)
        return (tilted.exp() * (tilted - log_base)).sum(-1) * (base.sum(-1) > 0.0)

    def _create_iterator_if_necessary(
        self, *, training_data: Any, num_epochs: int, minibatch_size: int, **kwargs: Any
    ) -> Iterator[MultiAgentBatch]:
        """Yield minibatches of whole day slots, drawn by this version's own generator."""
        batch = training_data.batch
        if self._device.type != "cpu":
            batch = self._convert_batch_type(batch)
        seed = self.config.learner_config_dict[SEED]
        generator = generator_of(seed, "learner", self._weights_seq_no)
        rows = len(next(iter(batch.policy_batches.values())))
        parts = math.ceil(rows / minibatch_size)
        for _ in range(num_epochs):
            for index in torch.randperm(rows, generator=generator).tensor_split(parts):
                yield MultiAgentBatch(
                    {
                        policy: SampleBatch({name: c[index] for name, c in columns_.items()})
                        for policy, columns_ in batch.policy_batches.items()
                    },
                    env_steps=len(index),
                )
