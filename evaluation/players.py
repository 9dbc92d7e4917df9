"""Networks that play a backtest: the market part once for all days, the book part per step.

All books that any network plays are one batch: their networks' few parameters that meet a book are
stacked, so that a session costs the same whoever plays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.mandates import Mandate
from agents.market_tensors import MarketTensors
from agents.networks import BookWeights, DayPart, PolicyNetwork, mean_action
from envs.batch import BatchEnv

Policies = Mapping[str, PolicyNetwork | None]  # policy -> network; None is the mandate's rule
ENCODED_SESSIONS = 256  # encoded at once: an encoding is much larger than what is kept of it


@dataclass(frozen=True, slots=True)
class Cast:
    """Who plays in some environments.

    Args:
        policies: of the mandates.
        first_row: session of the environments' first decision.
        environments: their places on the first axis.
    """

    policies: Policies
    first_row: int
    environments: range


@dataclass(frozen=True, slots=True, eq=False)
class Players:
    """The K books that networks play.

    Args:
        environments: (K,) places on the first axis.
        agents: (K,) places on the second axis.
        part: (K,) which of the P day parts is its own.
        days: (T, P, ...) of every network in every window that it plays in.
        weights: (K, ...) of each book's network.
    """

    environments: Tensor
    agents: Tensor
    part: Tensor
    days: DayPart
    weights: BookWeights

    def act(self, env: BatchEnv, session: int, rest: Tensor) -> Tensor:
        """Return the (E, A, N + 1) mean actions after the close of a session.

        Args:
            env: whose books they are.
            session: counted from the first decision of each environment.
            rest: (E, A, N + 1) actions of the agents that no network plays.
        """
        seen = env.observe()
        books = (self.environments, self.agents)
        mean = mean_action(
            DayPart(*(values[session].index_select(0, self.part) for values in self.days)),
            self.weights,
            seen.asset[books],
            seen.book[books],
            env.market.investable[seen.t[self.environments]],
        )
        return rest.index_put(books, mean)


def make_players(
    market: MarketTensors, mandates: Sequence[Mandate], casts: Sequence[Cast], sessions: int
) -> Players | None:
    """Encode the market once per network and window; None where no network plays anyone.

    Args:
        market: the shared tensors.
        mandates: one per agent.
        casts: who plays where; all networks have one shape.
        sessions: of the longest window, T. Where another ends earlier, its last known day stands.
    """
    networks: list[PolicyNetwork] = []
    days: list[DayPart] = []
    books: list[tuple[int, int, int]] = []
    for cast in casts:
        for name in dict.fromkeys(mandate.policy for mandate in mandates):
            network = cast.policies[name]
            if network is None:
                continue
            played = [a for a, mandate in enumerate(mandates) if mandate.policy == name]
            books += [(e, a, len(networks)) for e in cast.environments for a in played]
            networks.append(network)
            days.append(_day_parts(network, market, cast.first_row, sessions))
    if not networks:
        return None
    environments, agents, part = torch.tensor(books, device=market.device).T
    weights = (torch.stack(each) for each in zip(*(n.book_weights for n in networks), strict=True))
    return Players(
        environments,
        agents,
        part,
        DayPart(*(torch.stack(each, dim=1) for each in zip(*days, strict=True))),
        BookWeights(*(each[part] for each in weights)),
    )


def _day_parts(network: PolicyNetwork, market: MarketTensors, first: int, sessions: int) -> DayPart:
    """Return the network's part of each session from a row on."""
    rows = torch.arange(first, first + sessions, device=market.device)
    rows = rows.clamp_max(market.n_sessions - 1)
    parts = []
    for block in torch.split(rows, ENCODED_SESSIONS):
        investable = market.investable[block]
        encoding = network.encode(
            market.asset_features[block], market.market_features[block], investable
        )
        parts.append(network.day_part(encoding, investable))
    return DayPart(*(torch.cat(each) for each in zip(*parts, strict=True)))
