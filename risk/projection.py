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
from typing import NamedTuple

import torch
from torch import Tensor

from risk.limits import Limits
from risk.memory_layout import settled

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


@dataclass(frozen=True, slots=True, eq=False)
class SectorTensors:
    """Who shares a sector with whom: S sectors of two names or more, of at most M.

    Work grows with S M, which real taxonomies keep near N; a name alone in its sector is no sector
    but has a lower cap.

    Args:
        members: (S, M) int64 names of each sector, filled up with 0.
        counted: (S, M) float64, 1 for a member and 0 for the filling.
        sector: (N,) int64 row of each name in `members`, S for a name alone.
        alone: (N,) bool.
    """

    members: Tensor
    counted: Tensor
    sector: Tensor
    alone: Tensor

    @classmethod
    def of(cls, sector_of: Tensor, n_sectors: int) -> "SectorTensors":
        """Group (N,) int64 sector numbers, see `sector_index`."""
        sizes = torch.bincount(sector_of, minlength=n_sectors)
        shared = (sizes > 1).nonzero().flatten()
        names = [(sector_of == number).nonzero().flatten() for number in shared]
        members = torch.nn.utils.rnn.pad_sequence(names, batch_first=True) if names else None
        counted = [torch.ones_like(each, dtype=torch.float64) for each in names]
        row = torch.full_like(sizes, len(names))
        row[shared] = torch.arange(len(names), device=row.device)
        nobody = sector_of.new_zeros(0, 0)
        return cls(
            members=nobody if members is None else members,
            counted=torch.nn.utils.rnn.pad_sequence(counted, batch_first=True)
            if counted
            else nobody.to(torch.float64),
            sector=row[sector_of],
            alone=sizes[sector_of] == 1,
        )


def project(
    weights: Tensor,
    held: Tensor,
    limits: LimitTensors,
    sectors: SectorTensors,
    beta: Tensor,
    market_volatility: Tensor,
    idiosyncratic_volatility: Tensor,
) -> Tensor:
    """Return the target weights within every limit.

    Args:
        weights: (E, A, N) float64 fraction of NAV, >= 0, finite.
        held: (E, A, N) float64 weights held now, >= 0.
        limits: of the A books.
        sectors: of the N names.
        beta: (E, N) float64 to the market factor, finite.
        market_volatility: (E,) float64 annualised, of the market factor.
        idiosyncratic_volatility: (E, N) float64 annualised, of what beta leaves.

    Returns:
        (E, A, N) float64 fraction of NAV; in no name above the target blended for turnover.
    """
    done = steps(weights, held, limits, sectors, beta, market_volatility, idiosyncratic_volatility)
    # One factor scales all names alike, so the tighter of the two limits satisfies both.
    scale = torch.minimum(done.invested, done.calm)
    return done.levelled * settled(scale).unsqueeze(-1)


class Steps(NamedTuple):
    """What the projection makes of weights, step by step.

    Args:
        blended: (E, A, N) towards the held weights.
        spread: (E, A, N) after name caps and sectors.
        levelled: (E, A, N) after the three largest names.
        invested: (E, A) factor that the cash floor and the gross limit ask for.
        calm: (E, A) factor that the volatility asks for.
    """

    blended: Tensor
    spread: Tensor
    levelled: Tensor
    invested: Tensor
    calm: Tensor


def steps(
    weights: Tensor,
    held: Tensor,
    limits: LimitTensors,
    sectors: SectorTensors,
    beta: Tensor,
    market_volatility: Tensor,
    idiosyncratic_volatility: Tensor,
) -> Steps:
    """Take all steps of `project` but the last one.

    Args:
        weights: as for `project`, and so are all others.
        held: likewise.
        limits: likewise.
        sectors: likewise.
        beta: likewise.
        market_volatility: likewise.
        idiosyncratic_volatility: likewise.
    """
    blended = blend_for_turnover(weights, held, limits.max_turnover)
    cap, max_sector = limits.max_weight[:, None], limits.max_sector[:, None]
    cap = torch.where(sectors.alone, torch.minimum(cap, max_sector), cap)  # (A, N)
    capped = torch.where(blended <= cap, blended, cap)  # at the cap the gradient is the inside's
    spread = _limit_sectors(capped, max_sector, sectors)
    levelled = _limit_top3(settled(spread), limits.max_top3)
    variance = book_variance(levelled, beta, market_volatility, idiosyncratic_volatility)
    return Steps(
        blended,
        spread,
        levelled,
        invested=_at_most(levelled.sum(-1), limits.max_invested),
        calm=_at_most(variance, limits.max_volatility.square()).sqrt(),
    )


def blend_for_turnover(weights: Tensor, held: Tensor, max_turnover: Tensor) -> Tensor:
    """Return (E, A, N) weights moved from `held` towards the target as far as turnover allows."""
    trade = weights - held
    scale = settled(_at_most(trade.abs().sum(-1), max_turnover)).unsqueeze(-1)
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


def sector_totals(weights: Tensor, sectors: SectorTensors) -> Tensor:
    """Return the (E, A, S) weight of each sector of several names."""
    return settled((weights[..., sectors.members] * sectors.counted).sum(-1))


def _limit_sectors(weights: Tensor, max_sector: Tensor, sectors: SectorTensors) -> Tensor:
    """Scale down the names of each sector of several that weighs too much."""
    if not sectors.members.numel():
        return weights
    total = _at_most(sector_totals(weights, sectors), max_sector)
    scale = torch.nn.functional.pad(settled(total), (0, 1), value=1.0)
    return weights * scale.index_select(-1, sectors.sector)


def _limit_top3(weights: Tensor, max_top3: Tensor) -> Tensor:
    """Cut the largest names back to the level at which the three largest sum to the limit.

    With a >= b >= c the sum of min(a, x), min(b, x), min(c, x) is the least of 3x, 2x + c,
    x + b + c and a + b + c, so x is the largest of three closed forms. Names below the third are
    cut to the same level, which keeps the three largest the largest.
    """
    largest, second, third = three_largest(weights)
    level = torch.maximum(
        torch.maximum(max_top3 / 3.0, (max_top3 - third) / 2.0), max_top3 - second - third
    )
    level = torch.where(largest + second + third > max_top3 * ROUNDING, level, torch.inf)
    return weights.clamp_max(settled(level).unsqueeze(-1))


def three_largest(weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the (E, A) three largest weights, 0 for names that a universe of one or two has not.

    Compiled, a tournament between two halves: log2(N) rounds of maxima and minima, in a tenth of
    the time of `topk`, which no other operation can join.
    """
    if not torch.compiler.is_compiling():
        missing = max(3 - weights.shape[-1], 0)
        largest = torch.nn.functional.pad(weights, (0, missing)).topk(3).values
        return largest[..., 0], largest[..., 1], largest[..., 2]
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
    half = (length + 1) // 2
    return values[..., :half], torch.nn.functional.pad(values[..., half:], (0, length % 2))
