"""Who trades in which market, with which networks."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from agents.mandates import Mandate
from agents.market_tensors import MarketTensors
from agents.network_spec import NetworkSpec
from agents.networks import PolicyNetwork
from envs.batch import BatchEnv, EnvSettings
from training.seeds import generator_of

# Sessions whose encodings are held in memory at once.
ENCODED_SESSIONS = 64


@dataclass(frozen=True, slots=True, eq=False)
class Society:
    """A market, the mandates that trade in it and the shape of their networks.

    Args:
        market: shared by all environments.
        mandates: one per agent, in the order of every agent axis.
        settings: costs, capital and episode.
        cash_rate: annual, earned on positive cash.
        network: shape of every policy.
    """

    market: MarketTensors
    mandates: tuple[Mandate, ...]
    settings: EnvSettings
    cash_rate: float
    network: NetworkSpec

    @property
    def policies(self) -> dict[str, list[int]]:
        """Return the agents that each policy plays, by index, in the mandates' order."""
        players: dict[str, list[int]] = {}
        for index, mandate in enumerate(self.mandates):
            players.setdefault(mandate.policy, []).append(index)
        return players

    def env(self, rows: slice) -> BatchEnv:
        """Return environments over some rows."""
        return BatchEnv(self.market, self.mandates, self.settings, rows, self.cash_rate)

    def new_networks(self, seed: int) -> dict[str, PolicyNetwork]:
        """Return untrained networks, each policy from its own seed."""
        return {
            policy: PolicyNetwork(self.network, generator_of(seed, "network", policy))
            for policy in self.policies
        }

    def on(self, device: str) -> "Society":
        """Return the same society with its market on a device."""
        moved: dict[str, Any] = {
            item.name: value.to(device)
            for item in fields(self.market)
            if isinstance(value := getattr(self.market, item.name), Tensor)
        }
        return replace(self, market=replace(self.market, **moved))


def encodings(
    network: PolicyNetwork, market: MarketTensors, start: Tensor, sessions: int
) -> Iterator[Tensor]:
    """Yield the encoding (G, N, H) of each session from `start` (G,) on, computed in blocks."""
    for first in range(0, sessions, ENCODED_SESSIONS):
        count = min(ENCODED_SESSIONS, sessions - first)
        days = start + torch.arange(first, first + count, device=start.device).unsqueeze(1)
        yield from network.encode(
            market.asset_features[days], market.market_features[days], market.investable[days]
        )
