"""Recording what the kernel does, to be cut into one record per book afterwards."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from agents.market_tensors import MarketTensors
from envs.kernel import Books, Outcome
from evaluation.books import CAUSES, Book
from market.bars import Bars, FloatArray

BooksByScale = dict[str, tuple[Book, ...]]  # name -> one book per cost scale
# A book that lost everything is recorded with this share of its capital: measures of a NAV of 0 do
# not exist, those of nearly nothing say what happened.
LEAST_LEFT = 1e-9
Place = tuple[int, int]  # environment, agent


@dataclass(frozen=True, slots=True)
class Part:
    """The part of a tape that belongs to one window.

    Args:
        rows: sessions of the window, the tape's first ones.
        places: name -> where its book was, one place per cost scale.
    """

    rows: slice
    places: dict[str, list[Place]]


class Tape:
    """What the kernel did, session by session; cut into books at the end."""

    def __init__(self, bars: Bars, market: MarketTensors, opened: Books) -> None:
        self._bars, self._market = bars, market
        self._shares = [opened.shares]
        self._nav = [opened.cash]
        self._outcomes: list[Outcome] = []

    def record(self, books: Books, outcome: Outcome) -> None:
        """Note the books after a step, and what it did."""
        self._shares.append(books.shares)
        self._nav.append(outcome.nav_after)
        self._outcomes.append(outcome)

    def cut(self, parts: Sequence[Part]) -> list[BooksByScale]:
        """Return the books of each part, by name and cost scale."""
        nav = np.maximum(
            torch.stack(self._nav).cpu().numpy(), LEAST_LEFT * self._nav[0][0, 0].item()
        )
        shares = torch.stack(self._shares).cpu().numpy()
        turnover = _from_second([outcome.turnover for outcome in self._outcomes])
        trade = _from_second([outcome.trade for outcome in self._outcomes])
        cost = np.stack(
            [_from_second([getattr(o.cost, cause) for o in self._outcomes]) for cause in CAUSES]
        )

        def book(name: str, place: Place, rows: slice, close: FloatArray) -> Book:
            at = (slice(rows.stop - rows.start), *place)
            return Book(
                name=name,
                dates=self._bars.dates[rows],
                nav=nav[at],
                weights=shares[at] * close / nav[at][:, None],
                turnover=turnover[at],
                cost=cost[(slice(None), *at)],
                trade=trade[at],
            )

        cuts = []
        for part in parts:
            close = self._market.close[part.rows].cpu().numpy()
            cuts.append(
                {
                    name: tuple(book(name, place, part.rows, close) for place in by_scale)
                    for name, by_scale in part.places.items()
                }
            )
        return cuts


def _from_second(steps: Sequence[Tensor]) -> FloatArray:
    """Return the (T, ...) values of T - 1 steps after a row of zeros."""
    values = torch.stack([torch.zeros_like(steps[0]), *steps])
    array: FloatArray = values.cpu().numpy()
    return array
