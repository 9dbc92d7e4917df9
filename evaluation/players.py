"""Networks that play a backtest: the market part once for all days, the book part per step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.mandates import Mandate
from agents.market_tensors import MarketTensors
from agents.networks import PolicyNetwork
from envs.batch import BatchEnv

Policies = Mapping[str, PolicyNetwork | None]  # policy -> network; None is the mandate's rule


@dataclass(frozen=True, slots=True, eq=False)
class Player:
    """The agents that one network plays, and its market part for every session of the window."""

    network: PolicyNetwork
    agents: Tensor  # (k,) places on the second axis
    encoding: Tensor  # (T, N, H)


def make_players(
    market: MarketTensors, rows: slice, mandates: Sequence[Mandate], policies: Policies
) -> list[Player]:
    """Encode the market once per network that plays anyone."""
    players = []
    for name in dict.fromkeys(mandate.policy for mandate in mandates):
        network = policies[name]
        if network is None:
            continue
        agents = [a for a, mandate in enumerate(mandates) if mandate.policy == name]
        encoding = network.encode(
            market.asset_features[rows], market.market_features[rows], market.investable[rows]
        )
        players.append(Player(network, torch.tensor(agents, device=market.device), encoding))
    return players


def actions(env: BatchEnv, players: Sequence[Player], row: int) -> Tensor:
    """Return the (E, A, N + 1) mean actions at a row; an agent without a network acts by zeros."""
    shape = env.books.shares.shape
    action = torch.zeros(*shape[:-1], shape[-1] + 1, device=env.market.device)
    if not players:
        return action
    seen = env.observe()
    investable = env.market.investable[row]
    for player in players:
        asset, book = seen.asset[:, player.agents], seen.book[:, player.agents]
        encoding = player.encoding[row - env.rows.start]
        action[:, player.agents] = player.network.act(encoding, asset, book, investable)
    return action
