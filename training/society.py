"""Who trades in which market, with which networks."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from agents.mandates import Mandate
from agents.market_tensors import MarketTensors
from agents.network_spec import NetworkSpec
from agents.networks import DayPart, PolicyNetwork
from envs.batch import BatchEnv, EnvSettings
from training.seeds import generator_of

# Days whose encodings are held in memory at once: they are much larger than what is kept of them.
ENCODED_SESSIONS = 256


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


def day_parts(
    networks: Sequence[PolicyNetwork], market: MarketTensors, days: Tensor, bfloat16: bool
) -> tuple[DayPart, Tensor]:
    """Encode every distinct day once per network, in blocks.

    Args:
        networks: of one shape.
        market: of the days.
        days: rows of the market's arrays, of any shape.
        bfloat16: as in `encode_days`.

    Returns:
        What each of K networks takes from each of the D distinct days, (K, D, ...); and where among
        these each of the `days` is, of their shape.
    """
    distinct, slot = torch.unique(days, return_inverse=True)
    encoded = []
    for network in networks:
        blocks = torch.split(distinct, ENCODED_SESSIONS)
        parts = [encode_days(network, market, block, bfloat16) for block in blocks]
        encoded.append([torch.cat(each) for each in zip(*parts, strict=True)])
    return DayPart(*(torch.stack(each) for each in zip(*encoded, strict=True))), slot


def encode_days(
    network: PolicyNetwork, market: MarketTensors, days: Tensor, bfloat16: bool
) -> DayPart:
    """Return a network's part of the days (D,), in float32.

    Args:
        network: encodes.
        market: of the days.
        days: rows of the market's arrays.
        bfloat16: run the encoder's products in that type: a wide encoder takes half the time.
    """
    investable = market.investable[days]
    with torch.autocast(market.device.type, torch.bfloat16, enabled=bfloat16):
        encoding = network.encode(
            market.asset_features.index_select(0, days), market.market_features[days], investable
        )
    return network.day_part(encoding.float(), investable)
