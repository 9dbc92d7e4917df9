"""A policy network as an RLlib module.

A batch row is one day slot: the day, and every book that any replica held on it. The market part of
the network depends on the day alone, so it is encoded once per row and shared by the books. The
market's features are looked up by day and are no part of the module's state.
"""

import math
from functools import lru_cache
from typing import Any

import ray
import torch
from ray.rllib.core.rl_module.apis.value_function_api import ValueFunctionAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor

from agents.networks import PolicyNetwork, pool
from training.society import Society

SOCIETY = "society"  # key of the object reference in the module's configuration
DEVICE = "device"

# Columns of a batch row, with R replicas, P agents of the policy, N assets.
DAY = "day"  # int64, row of the market arrays
BOOK_ASSET = "book_asset"  # (R, P, N, B)
BOOK = "book"  # (R, P, K)
ACTIONS = "actions"  # (R, P, N + 1), before clamping
OFFSET = "offset"  # (R, P, N + 1), what is left of the last session's exploration noise
ACTION_LOGP = "action_logp"  # (R, P, N + 1), of each component, given the offset
ADVANTAGES = "advantages"  # (R, P), mean 0 over the replicas, standard deviation 1
VALUE_TARGETS = "value_targets"  # (R, P), in scaled reward
ALIVE = "alive"  # (R, P) bool, the book was not ruined before
MEAN = "mean"  # (R, P, N + 1), output of the module


@lru_cache(maxsize=4)
def society_of(reference: "ray.ObjectRef[Society]", device: str) -> Society:
    """Fetch the society from Ray's object store, once per process."""
    society: Society = ray.get(reference)
    return society if device == "cpu" else society.on(device)


def innovation_log_std(log_std: Tensor, noise_memory: float, n_assets: int) -> Tensor:
    """Return the log deviation (N + 1,) of a session's new noise, given that of all the noise (2,).

    Exploration noise is a stationary first-order autoregression: a slow tilt averages white noise
    away before it moves the book out of its no-trade band. Given what is left of the last noise,
    an action is normal around mean + offset, so likelihood ratios stay exact.

    Source:
        Korenkevych et al., "Autoregressive Policies for Continuous Control Deep Reinforcement
        Learning", IJCAI 2019.
    """
    by_action = torch.cat([log_std[:1].expand(n_assets), log_std[1:]])
    return by_action + 0.5 * math.log1p(-noise_memory * noise_memory)


def log_density(action: Tensor, centre: Tensor, log_std: Tensor) -> Tensor:
    """Return the log density (..., N + 1) of each action component, up to a constant."""
    return -0.5 * ((action - centre) / log_std.exp()).square() - log_std


class BookModule(TorchRLModule, ValueFunctionAPI):  # type: ignore[misc]  # RLlib is untyped
    """One policy; `model_config` holds the reference to the society and the device."""

    def setup(self) -> None:
        """Build the network; its initial parameters are replaced by those of the driver."""
        config: dict[str, Any] = self.model_config
        self.society = society_of(config[SOCIETY], config[DEVICE])
        self.network = PolicyNetwork(self.society.network, torch.Generator().manual_seed(0))

    def _forward(self, batch: dict[str, Tensor], **kwargs: Any) -> dict[str, Tensor]:
        """Return the mean actions (D, R, P, N + 1) of a batch of D day slots."""
        day, market = batch[DAY], self.society.market
        investable = market.investable[day]
        encoding = self.network.encode(
            market.asset_features[day], market.market_features[day], investable
        )
        mean = self.network.act(
            encoding[:, None, None], batch[BOOK_ASSET], batch[BOOK], investable[:, None, None]
        )
        return {MEAN: mean}

    def compute_values(self, batch: dict[str, Tensor], embeddings: Any = None) -> Tensor:
        """Return the values (D, R, P) in scaled reward."""
        day, market = batch[DAY], self.society.market
        features = market.asset_features[day]
        pooled = pool(features, market.investable[day].to(features.dtype).unsqueeze(-1))
        return self.network.value(
            pooled.unsqueeze(1), market.market_features[day][:, None, None], batch[BOOK]
        )
