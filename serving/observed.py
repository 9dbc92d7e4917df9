"""What the agents saw along a track, as the blocks that their policies take."""

from collections.abc import Sequence

import torch

from agents.action_map import ActionMap
from agents.observation import Blocks, observe_books
from serving.track import Track


def observed(track: Track, action_map: ActionMap, sessions: Sequence[int]) -> dict[str, Blocks]:
    """Return by policy what the agents that it plays saw of market and book.

    Args:
        track: the replayed books.
        action_map: of their mandates and market.
        sessions: rows of the track, S of them.

    Returns:
        Blocks that lead with (P S,): the sessions of one agent after those of another.
    """
    market, index = action_map.market, torch.as_tensor(sessions)
    rows = (index + track.first).to(market.device)
    held, tilt, drawdown = (
        torch.from_numpy(column)[index].to(market.device)
        for column in (track.held, track.tilt, track.drawdown)
    )
    assets, books = observe_books(action_map, action_map.day(rows), held, tilt, drawdown)
    played: dict[str, list[int]] = {}
    for a, mandate in enumerate(action_map.mandates):
        played.setdefault(mandate.policy, []).append(a)
    return {
        policy: Blocks(
            torch.cat([market.asset_features[rows]] * len(agents)),
            torch.cat([market.market_features[rows]] * len(agents)),
            torch.cat([market.investable[rows].to(torch.float32)] * len(agents)),
            torch.cat([assets[:, a] for a in agents]),
            torch.cat([books[:, a] for a in agents]),
        )
        for policy, agents in played.items()
    }
