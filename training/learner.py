"""RLlib's learner of a society's policies; the arithmetic is in `training.loss`."""

import logging
from collections.abc import Callable, Iterator
from copy import deepcopy
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

from training.loss import LossWeights, SocietyLoss, minibatches
from training.rl_module import MEAN, BookModule
from training.seeds import generator_of

ANCHOR = "anchor"  # key of the learner's configuration and of the logged divergence
SEED = "seed"
GRADIENT_NORM = "gradients_default_optimizer_global_norm"  # RLlib's key

Gradients = dict[torch.nn.Parameter, Tensor]

logger = logging.getLogger(__name__)


class SocietyLearner(PPOTorchLearner):  # type: ignore[misc]  # RLlib is untyped
    """PPO on day slots, with a KL anchor of the tilted portfolio to the mandate's base."""

    def build(self) -> None:
        """Build the module, and the loss that needs the society's base portfolios."""
        super().build()
        module: BookModule = next(iter(self.module.values())).unwrapped()
        self._loss = SocietyLoss(module.society)
        self._norms: dict[str, Tensor] = {}  # of the latest gradients, by policy

    def apply(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function with this learner; RLlib's own version ends the process at an error."""
        return func(self, *args, **kwargs)

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """Register an Adam that moves all parameters of a policy in one call."""
        parameters = self.get_parameters(self.module[module_id])
        self.register_optimizer(
            module_id=module_id,
            optimizer=torch.optim.Adam(parameters, fused=True),
            params=parameters,
            lr_or_lr_schedule=config.lr,
        )

    def _set_optimizer_state(self, state: dict[str, Any]) -> None:
        """Take over a copy: arrays from Ray's store are memory that learners of a node share."""
        super()._set_optimizer_state(deepcopy(state))

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Tensor], fwd_out: dict[str, Tensor]
    ) -> Tensor:
        """Return the loss of one policy over its living books."""
        module: BookModule = self.module[module_id].unwrapped()
        weights = LossWeights(
            config.clip_param, config.vf_loss_coeff, config.learner_config_dict[ANCHOR]
        )
        loss = self._loss(module_id, module.network, fwd_out[MEAN], batch, weights)
        self.metrics.log_dict(
            {
                POLICY_LOSS_KEY: loss.policy.detach(),
                VF_LOSS_KEY: loss.value.detach(),
                LEARNER_RESULTS_VF_EXPLAINED_VAR_KEY: loss.explained,
                LEARNER_RESULTS_KL_KEY: loss.divergence,
                ENTROPY_KEY: loss.entropy,
                ANCHOR: loss.anchor.detach(),
            },
            key=module_id,
            window=1,
        )
        return loss.total

    def postprocess_gradients_for_module(
        self, *, module_id: str, config: Any, module_gradients_dict: Gradients
    ) -> Gradients:
        """Clip the gradients of one policy to their global norm; RLlib walks them one by one."""
        norm = torch.nn.utils.clip_grad_norm_(module_gradients_dict.keys(), config.grad_clip)
        self.metrics.log_value((module_id, GRADIENT_NORM), norm, window=1)
        self._norms[module_id] = norm
        return module_gradients_dict

    def apply_gradients(self, gradients_dict: Gradients) -> None:
        """Let each policy take its step; one whose gradient is not finite stays where it is."""
        for module_id, norm in self._norms.items():
            if not bool(torch.isfinite(norm)):
                logger.warning("%s: the gradient is not finite, its step is left out", module_id)
                continue
            for _, optimiser in self.get_optimizers_for_module(module_id):
                optimiser.step()

    def _create_iterator_if_necessary(
        self, *, training_data: Any, num_epochs: int, minibatch_size: int, **kwargs: Any
    ) -> Iterator[MultiAgentBatch]:
        """Yield minibatches of whole day slots, drawn by this version's own generator."""
        batch = self._convert_batch_type(training_data.batch)  # remote learners are sent arrays
        seed = self.config.learner_config_dict[SEED]
        generator = generator_of(seed, "learner", self._weights_seq_no)
        rows = len(next(iter(batch.policy_batches.values())))
        for drawn in minibatches(rows, minibatch_size, num_epochs, generator):
            index = drawn.to(self._device)  # drawn on the CPU: alike on every device
            yield MultiAgentBatch(
                {
                    policy: SampleBatch(
                        {name: c.index_select(0, index) for name, c in columns.items()}
                    )
                    for policy, columns in batch.policy_batches.items()
                },
                env_steps=len(index),
            )
