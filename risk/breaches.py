"""What a book's limits say of weights: which of them they break, and which the projection moves.

The tolerances and the steps are those of `risk.projection`.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from risk.projection import (
    ROUNDING,
    LimitTensors,
    SectorTensors,
    book_variance,
    sector_totals,
    steps,
    three_largest,
)

LIMITS = tuple(item.name for item in fields(LimitTensors))


@dataclass(frozen=True, slots=True, eq=False)
class Bounds:
    """Everything that decides whether (E, A) books are within their limits on a day.

    Args:
        limits: of the A books.
        sectors: of the N names.
        beta: (E, N) as for `project`.
        market_volatility: (E,) as for `project`.
        idiosyncratic_volatility: (E, N) as for `project`.
    """

    limits: LimitTensors
    sectors: SectorTensors
    beta: Tensor
    market_volatility: Tensor
    idiosyncratic_volatility: Tensor


def breaches(weights: Tensor, held: Tensor, bounds: Bounds) -> list[list[list[str]]]:
    """Return the names of the limits that weights would break, for (E, A) books.

    Every limit is asked of the weights as they are, not of what an earlier step of the projection
    would leave. Weights without a breach pass through the projection bit for bit; NaN is a breach.

    Args:
        weights: (E, A, N) float64 fraction of NAV.
        held: (E, A, N) float64 weights held now; only turnover depends on them.
        bounds: of the books on their days.

    Returns:
        Fields of `LimitTensors`, in their order.
    """
    limits = bounds.limits
    variance = book_variance(
        weights, bounds.beta, bounds.market_volatility, bounds.idiosyncratic_volatility
    )
    first, second, third = three_largest(weights)
    turnover = (weights - held).abs().sum(-1)
    within = {
        "max_weight": (weights <= limits.max_weight[:, None]).all(-1),
        "max_sector": _within_sectors(weights, limits.max_sector[:, None], bounds.sectors),
        "max_top3": first + second + third <= limits.max_top3 * ROUNDING,
        "max_invested": weights.sum(-1) <= limits.max_invested * ROUNDING,
        "max_turnover": turnover <= limits.max_turnover * ROUNDING,
        "max_volatility": variance <= limits.max_volatility.square() * ROUNDING,
    }
    broken = torch.stack([~within[name] for name in LIMITS], dim=-1).tolist()
    return [
        [[name for name, breaks in zip(LIMITS, book, strict=True) if breaks] for book in books]
        for books in broken
    ]


def changes(weights: Tensor, held: Tensor, bounds: Bounds) -> dict[str, Tensor]:
    """Return by limit the (E, A) L1 distance that its step of the projection moves weights.

    A step sees what earlier ones have left, so a limit that weights break may have nothing to do.
    Of the last two, which share one factor, the tighter one has done it all.

    Args:
        weights: as for `breaches`.
        held: likewise.
        bounds: likewise.

    Returns:
        Field of `LimitTensors` -> distance, in the order of the steps.
    """
    limits = bounds.limits
    done = steps(
        weights,
        held,
        limits,
        bounds.sectors,
        bounds.beta,
        bounds.market_volatility,
        bounds.idiosyncratic_volatility,
    )
    by_name = torch.minimum(done.blended, limits.max_weight[:, None])
    cut = done.levelled.sum(-1) * (1.0 - torch.minimum(done.invested, done.calm))
    tighter = done.invested <= done.calm
    return {
        "max_turnover": _distance(weights, done.blended),
        "max_weight": _distance(done.blended, by_name),
        "max_sector": _distance(by_name, done.spread),
        "max_top3": _distance(done.spread, done.levelled),
        "max_invested": torch.where(tighter, cut, 0.0),
        "max_volatility": torch.where(tighter, 0.0, cut),
    }


def _within_sectors(weights: Tensor, max_sector: Tensor, sectors: SectorTensors) -> Tensor:
    """Return whether (E, A) books keep the sector limit, names alone in theirs included."""
    alone = ((weights <= max_sector) | ~sectors.alone).all(-1)
    if not sectors.members.numel():
        return alone
    return alone & (sector_totals(weights, sectors) <= max_sector * ROUNDING).all(-1)


def _distance(before: Tensor, after: Tensor) -> Tensor:
    """Return the (E, A) L1 distance between two sets of weights."""
    return (after - before).abs().sum(-1)
