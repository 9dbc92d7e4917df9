"""A policy network as an RLlib module.

A batch row is one day slot: the day, and every book that any replica held on it. The market part of
the network depends on the day alone, so it is encoded once per row and shared by the books. The
market's features are looked up by day and are no part of the module's state.
"""

from functools import lru_cache
from typing import Any

import ray
import torch
from ray.rllib.core.rl_module.apis.value_function_api import ValueFunctionAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor

from agents.networks import PolicyNetwork
from training import shared_society
from training.columns import BOOK, DAY
from training.loss import mean_actions
from training.rollout import book_values
from training.shared_society import StoredSociety
from training.society import Society

SOCIETY = "society"  # key of the object reference in the module's configuration
DEVICE = "device"
BFLOAT16 = "bfloat16"  # whether days are encoded in that type

MEAN = "mean"  # output of the module, (D, R, P, N + 1)


@lru_cache(maxsize=4)
def society_of(reference: "ray.ObjectRef[StoredSociety]", device: str) -> Society:
    """Fetch the society from Ray's object store, once per process."""
    society = shared_society.get(reference)
    return society if device == "cpu" else society.on(device)


class BookModule(TorchRLModule, ValueFunctionAPI):  # type: ignore[misc]  # RLlib is untyped
    """One policy; `model_config` holds the reference to the society, the device and the type."""

    def setup(self) -> None:
        """Build the network; its initial parameters are replaced by those of the driver."""
        config: dict[str, Any] = self.model_config
        self.society = society_of(config[SOCIETY], config[DEVICE])
        self._bfloat16: bool = config[BFLOAT16]
        self.network = PolicyNetwork(self.society.network, torch.Generator().manual_seed(0))

    def _forward(self, batch: dict[str, Tensor], **kwargs: Any) -> dict[str, Tensor]:
        """Return the mean actions (D, R, P, N + 1) of a batch of D day slots."""
        return {MEAN: mean_actions(self.network, self.society.market, batch, self._bfloat16)}

    def compute_values(self, batch: dict[str, Tensor], embeddings: Any = None) -> Tensor:
        """Return the values (D, R, P) in scaled reward."""
        return book_values(self.network, self.society.market, batch[DAY], batch[BOOK])
