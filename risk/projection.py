"""Projection of target weights onto a book's limits: batched, differentiable, never adding risk.

The order is fixed: a blend towards the held weights (turnover), then name cap, sector, the three
largest names, cash floor and gross, volatility. Every step after the blend only reduces weights;
what it takes away becomes cash and is never spread over other names, so that a later step cannot
break an earlier one. One exception follows from that: where a limit forces a sale, the trade may
be larger than `max_turnover`.

Where no limit binds, the target passes through bit for bit. A weight that is cut back to a fixed
cap has no gradient of its own; every scaled weight has one, and exactly at a limit the gradient is
that of the inside, so that a fully invested book can still learn to hold cash.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from risk.limits import Limits

UNKNOWN_SECTOR = "unknown"
ROUNDING = 1.0 + 1e-12  # a sum above its limit by less than this factor is at its limit


@dataclass(frozen=True, slots=True, eq=False)
class LimitTensors:
    """The limits of A books, each field (A,) float64, named and measured as in `Limits`."""

    max_weight: Tensor
    max_sector: Tensor
    max_top3: Tensor
    max_invested: Tensor
    max_turnover: Tensor
    max_volatility: Tensor

    @classmethod
    def stack(cls, limits: Sequence[Limits], device: torch.device | str = "cpu") -> "LimitTensors":
        """Return the limits of several books side by side."""

        def column(name: str) -> Tensor:
            values = [getattr(limit, name) for limit in limits]
            return torch.tensor(values, dtype=torch.float64, device=device)

        return cls(
            column("max_weight"),
            column("max_sector"),
            column("max_top3"),
            column("max_invested"),
            column("max_turnover"),
            column("max_volatility"),
        )


def sector_index(sectors: Sequence[str]) -> tuple[Tensor, int]:
    """Return the (N,) int64 sector number of each name and how many sectors there are.

    A name whose sector is unknown is a sector of its own: counting all of them as one would cap
    the whole book of a source that has no sectors.

    >>> sector_index(["tech", "unknown", "tech", "unknown"])
    (tensor([0, 1, 0, 2]), 3)
    """
    keys = [
        (sector, index if sector == UNKNOWN_SECTOR else -1) for index, sector in enumerate(sectors)
    ]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return torch.tensor([numbers[key] for key in keys], dtype=torch.int64), len(numbers)


def project(
    weights: Tensor,
    held: Tensor,
    limits: LimitTensors,
    sector_of: Tensor,
    n_sectors: int,
    beta: Tensor,
    market_volatility: Tensor,
    idiosyncratic_volatility: Tensor,
) -> Tensor:
    """Return the target weights within every limit.

    Args:
        weights: (E, A, N) float64 fraction of NAV, >= 0, finite.
        held: (E, A, N) float64 weights held now, >= 0.
        limits: of the A books.
        sector_of: (N,) int64 in [0, n_sectors), see `sector_index`.
        n_sectors: number of sectors.
        beta: (E, N) float64 to the market factor, finite.
        market_volatility: (E,) float64 annualised, of the market factor.
        idiosyncratic_volatility: (E, N) float64 annualised, of what beta leaves.

    Returns:
        (E, A, N) float64 fraction of NAV; in no name above the target blended for turnover.
    """
    blended = blend_for_turnover(weights, held, limits.max_turnover)
    capped = blended.clamp_max(limits.max_weight[:, None])
    spread = _limit_sectors(capped, limits.max_sector, sector_of, n_sectors)
    levelled = _limit_top3(spread, limits.max_top3)
    variance = book_variance(levelled, beta, market_volatility, idiosyncratic_volatility)
    # One factor scales all names alike, so the tighter of the two limits satisfies both.
    scale = torch.minimum(
        _at_most(levelled.sum(-1), limits.max_invested),
        _at_most(variance, limits.max_volatility.square()).sqrt(),
    )
    return levelled * scale.unsqueeze(-1)


def blend_for_turnover(weights: Tensor, held: Tensor, max_turnover: Tensor) -> Tensor:
    """Return (E, A, N) weights moved from `held` towards the target as far as turnover allows."""
    trade = weights - held
    scale = _at_most(trade.abs().sum(-1), max_turnover).unsqueeze(-1)
    return torch.where(scale < 1.0, held + scale * trade, weights)


def book_variance(
    weights: Tensor, beta: Tensor, market_volatility: Tensor, idiosyncratic_volatility: Tensor
) -> Tensor:
    """Return the (E, A) annualised variance of a one-factor model with a diagonal: linear in N."""
    factor = (weights * beta.unsqueeze(1)).sum(-1) * market_volatility.unsqueeze(1)
    own = (weights * idiosyncratic_volatility.unsqueeze(1)).square().sum(-1)
    return factor.square() + own


def _at_most(value: Tensor, limit: Tensor) -> Tensor:
    """Return the factor that brings `value` down to `limit`: exactly 1 where it is not above.

    NaN stays NaN: an unknown volatility must not switch its limit off.
    """
    return torch.where(value <= limit * ROUNDING, 1.0, limit / torch.maximum(value, limit))


def _limit_sectors(
    weights: Tensor, max_sector: Tensor, sector_of: Tensor, n_sectors: int
) -> Tensor:
    """Scale down the names of each sector that weighs too much."""
    total = weights.new_zeros(*weights.shape[:-1], n_sectors).index_add(-1, sector_of, weights)
    scale = _at_most(total, max_sector[:, None])  # (E, A, S)
    return weights * scale.index_select(-1, sector_of)


def _limit_top3(weights: Tensor, max_top3: Tensor) -> Tensor:
    """Cut the largest names back to the level at which the three largest sum to the limit.

    With a >= b >= c the sum of min(a, x), min(b, x), min(c, x) is the least of 3x, 2x + c,
    x + b + c and a + b + c, so x is the largest of three closed forms. Names below the third are
    cut to the same level, which keeps the three largest the largest.
    """
    largest, second, third = _three_largest(weights)
    level = torch.maximum(
        torch.maximum(max_top3 / 3.0, (max_top3 - third) / 2.0), max_top3 - second - third
    )
    level = torch.where(largest + second + third > max_top3 * ROUNDING, level, torch.inf)
    return weights.clamp_max(level.unsqueeze(-1))


def _three_largest(weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the (E, A) three largest weights, 0 for names that a universe of one or two has not.

    A tournament between two halves: log2(N) rounds of maxima and minima, in a tenth of the time of
    `topk` on a short last axis.
    """
    first, second, third = weights, torch.zeros_like(weights), torch.zeros_like(weights)
    while first.shape[-1] > 1:
        (a1, b1), (a2, b2), (a3, b3) = map(_halves, (first, second, third))
        beaten, runner_up = torch.minimum(a1, b1), torch.maximum(a2, b2)
        first = torch.maximum(a1, b1)
        second = torch.maximum(beaten, runner_up)
        third = torch.maximum(torch.minimum(beaten, runner_up), torch.maximum(a3, b3))
    return first.squeeze(-1), second.squeeze(-1), third.squeeze(-1)


def _halves(values: Tensor) -> tuple[Tensor, Tensor]:
    """Split the last axis in two of equal length; a 0 fills the second where one is missing."""
    length = values.shape[-1]
    first, second = values.split((length + 1) // 2, dim=-1)
    return first, torch.nn.functional.pad(second, (0, length % 2))
