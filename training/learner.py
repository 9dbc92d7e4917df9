"""RLlib's learner of a society's policies; the arithmetic is in `training.loss`."""

from collections.abc import Callable, Iterator
from typing import Any

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


class SocietyLearner(PPOTorchLearner):  # type: ignore[misc]  # RLlib is untyped
    """PPO on day slots, with a KL anchor of the tilted portfolio to the mandate's base."""

    def build(self) -> None:
        """Build the module, and the loss that needs the society's base portfolios."""
        super().build()
        module: BookModule = next(iter(self.module.values())).unwrapped()
        self._loss = SocietyLoss(module.society)

    def apply(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function with this learner; RLlib's own version ends the process at an error."""
        return func(self, *args, **kwargs)

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
        for index in minibatches(rows, minibatch_size, num_epochs, generator):
            yield MultiAgentBatch(
                {
                    policy: SampleBatch({name: c[index] for name, c in columns.items()})
                    for policy, columns in batch.policy_batches.items()
                },
                env_steps=len(index),
            )
