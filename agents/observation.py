"""What a policy sees: the market's features of the day, and the state of its own book.

E environments, A agents, N assets, F asset features, M market features. Everything is float32 and
bounded; NaN does not occur. Training, the PettingZoo environment and serving all call these
functions, so a feature cannot come to mean two things.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from agents.action_map import ActionMap, Day
from risk.memory_layout import stacked

BOOK_ASSET_FEATURES = 2  # distance to the base portfolio, tilt
BOOK_FEATURES = 5  # exposure, rule's exposure, drawdown, target volatility, market volatility
BOOK_CLIP = 3.0

# Scales that bring the book's scalars to order one.
DRAWDOWN_SCALE = 10.0
TARGET_VOLATILITY_SCALE = 5.0
MARKET_VOLATILITY_SCALE = 2.0


class Blocks(NamedTuple):
    """The parts of one observation, float32, with any leading dimensions."""

    asset_features: Tensor  # (..., N, F)
    market_features: Tensor  # (..., M)
    investable: Tensor  # (..., N) 1 where the name can be held, else 0
    book_asset: Tensor  # (..., N, BOOK_ASSET_FEATURES)
    book: Tensor  # (..., BOOK_FEATURES)


@dataclass(frozen=True, slots=True)
class ObservationSpec:
    """The layout of an observation written as one vector."""

    n_assets: int
    asset_features: int
    market_features: int
    clip: float  # bound of the market's features

    @property
    def sizes(self) -> tuple[int, ...]:
        """Return the length of each block in the order of `Blocks`."""
        return (
            self.n_assets * self.asset_features,
            self.market_features,
            self.n_assets,
            self.n_assets * BOOK_ASSET_FEATURES,
            BOOK_FEATURES,
        )

    @property
    def size(self) -> int:
        """Return the length D of the whole vector."""
        return sum(self.sizes)

    @property
    def bound(self) -> float:
        """Return the largest absolute value of any entry."""
        return max(self.clip, BOOK_CLIP)

    def flat(self, blocks: Blocks) -> Tensor:
        """Return (E, A, D): the day's blocks (E, ...) repeated for every agent, and its book.

        Args:
            blocks: the market's blocks with leading (E,), the book's with leading (E, A).
        """
        books = blocks.book.shape[:2]
        day = [
            block.reshape(books[0], 1, -1).expand(*books, -1).to(torch.float32)
            for block in (blocks.asset_features, blocks.market_features, blocks.investable)
        ]
        own = [blocks.book_asset.flatten(-2), blocks.book]
        return torch.cat(day + own, dim=-1)

    def split(self, flat: Tensor) -> Blocks:
        """Return the blocks of (..., D) observations, each with the leading dimensions."""
        assets, market, investable, book_asset, book = torch.split(flat, list(self.sizes), dim=-1)
        names = (*flat.shape[:-1], self.n_assets)
        return Blocks(
            assets.reshape(*names, self.asset_features),
            market,
            investable,
            book_asset.reshape(*names, BOOK_ASSET_FEATURES),
            book,
        )


def observe_books(
    action_map: ActionMap, day: Day, held: Tensor, tilt: Tensor, drawdown: Tensor
) -> tuple[Tensor, Tensor]:
    """Return what the agents see of their own books at the close of a session.

    Args:
        action_map: of the mandates.
        day: what the market gives at that close.
        held: (E, A, N) weights at the close.
        tilt: (E, A, N) the averaged scores.
        drawdown: (E, A) fraction of the peak NAV, in [0, 1].

    Returns:
        (E, A, N, 2) float32: distance of the weight to the base portfolio at the rule's exposure
        in units of an equal weight, and the tilt; and (E, A, 5) float32: exposure, rule's
        exposure, drawdown, target volatility and market volatility, each of order one.
    """
    names = day.investable.sum(-1).clamp_min(1.0)[:, None, None]  # (E, 1, 1)
    due = day.base * (day.rule.unsqueeze(-1) * action_map.has_base)
    assets = [_narrowed((held - due) * names), _narrowed(tilt)]

    volatility = (day.market_volatility * MARKET_VOLATILITY_SCALE).unsqueeze(-1)
    scalars = [
        held.sum(-1),
        day.rule,
        drawdown * DRAWDOWN_SCALE,
        (action_map.target_volatility * TARGET_VOLATILITY_SCALE).expand_as(day.rule),
        volatility.expand_as(day.rule),
    ]
    return stacked(assets), stacked([_narrowed(each) for each in scalars])


def _narrowed(values: Tensor) -> Tensor:
    """Return clamped float32 values."""
    return values.clamp(-BOOK_CLIP, BOOK_CLIP).to(torch.float32)
