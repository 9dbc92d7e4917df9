"""Rules that every policy is measured against, as schedules for the kernel.

T decisions, N assets. Row t is decided at the close of session t of the window with what is known
then; it says what to hold, the kernel says what that earns. "Monthly" is decided at the last close
of a month, and at the first row so that a book is invested from the start.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agents.mandates import Mandate
from market.bars import BoolArray, FloatArray
from market.dataset import Dataset
from market.errors import InputError
from market.suggest import nearest

VOLATILITY_TARGET = "volatility_target_"
VOLATILITY_TARGET_BAND = 0.05
MOMENTUM_SHARE = 1.0 / 3.0
OPTIMISED = ("minimum_variance", "risk_parity", "hrp")


@dataclass(frozen=True, slots=True, eq=False)
class Schedule:
    """What a book is to hold, and when it trades towards it.

    Args:
        weights: (T, N) fraction of NAV; cash is the rest.
        rebalance: (T,) where False the book is left alone, whatever the weights.
        band: L1 distance to the weights that a trade leaves, see `action_map.no_trade_band`.
    """

    weights: FloatArray
    rebalance: BoolArray
    band: float = 0.0


def names(mandates: Sequence[Mandate]) -> tuple[str, ...]:
    """Return the baselines that `build` knows, with one volatility target per mandate."""
    targets = (VOLATILITY_TARGET + mandate.name for mandate in mandates)
    return (*_MONTHLY, "buy_and_hold", *targets, *OPTIMISED)


def build(name: str, dataset: Dataset, rows: slice, mandates: Sequence[Mandate]) -> Schedule:
    """Return a baseline's schedule for the sessions `rows`.

    Args:
        name: one of `names(mandates)`.
        dataset: the market; rows before the window serve as history.
        rows: the window, T sessions.
        mandates: whose target volatilities may be named.

    Raises:
        InputError: if the name is unknown.
    """
    monthly = month_ends(dataset, rows)
    if name in _MONTHLY:
        return Schedule(_MONTHLY[name](dataset, rows), monthly)
    if name in OPTIMISED:
        from agents import optimised_baselines  # skfolio takes seconds to import

        equal = equal_weight(dataset, rows)
        weights = optimised_baselines.weights(name, dataset, rows, monthly, equal)
        return Schedule(weights, monthly)
    if name == "buy_and_hold":
        return Schedule(equal_weight(dataset, rows), np.arange(len(monthly)) == 0)
    for mandate in mandates:
        if name == VOLATILITY_TARGET + mandate.name:
            return _volatility_target(dataset, rows, mandate.target_volatility)
    known = names(mandates)
    raise InputError(f"policy {name} does not exist{nearest(name, known)}; known: {list(known)}")


def fixed(weights: Mapping[str, float], dataset: Dataset, rows: slice) -> Schedule:
    """Return constant weights by symbol, restored every month.

    Args:
        weights: fraction of NAV by symbol, as `policies.FixedPolicy` checks them; cash is the rest.
        dataset: the market.
        rows: the window, T sessions.

    Raises:
        InputError: if a symbol is not in the universe.
    """
    symbols = dataset.bars.symbols
    monthly = month_ends(dataset, rows)
    target = np.zeros((len(monthly), len(symbols)))
    for symbol, weight in weights.items():
        if symbol not in symbols:
            hint = nearest(symbol, symbols)
            raise InputError(f"policy.weights: {symbol} is not in the universe{hint}")
        target[:, symbols.index(symbol)] = weight
    return Schedule(target, monthly)


def month_ends(dataset: Dataset, rows: slice) -> BoolArray:
    """Return (T,) True at the first row and at the last session of each month.

    The calendar is known ahead, so the date of the next session is no look into the future. The
    last session of the data has none and decides nothing.
    """
    month = dataset.bars.dates.astype("datetime64[M]")
    last = np.append(month[1:] != month[:-1], False)[rows]
    last[0] = True
    return last


def equal_weight(dataset: Dataset, rows: slice) -> FloatArray:
    """Return (T, N) the same weight for every investable name."""
    return _shares(dataset.investable[rows].astype(np.float64))


def _inverse_volatility(dataset: Dataset, rows: slice) -> FloatArray:
    """Return (T, N) weights inverse to the 252-day volatility; equal ones while none is known."""
    volatility = dataset.volatility[rows]
    known = dataset.investable[rows] & (volatility > 0.0)
    inverse = np.divide(1.0, volatility, out=np.zeros_like(volatility), where=known)
    return _or_equal_weight(inverse, dataset, rows)


def _momentum(dataset: Dataset, rows: slice) -> FloatArray:
    """Return (T, N) equal weights of the third with the highest 12-1 month return.

    Source:
        Jegadeesh & Titman, "Returns to Buying Winners and Selling Losers", 1993.
    """
    momentum = dataset.momentum[rows]
    known = dataset.investable[rows] & np.isfinite(momentum)
    descending = np.argsort(np.where(known, -momentum, np.inf), axis=1, kind="stable")
    rank = np.argsort(descending, axis=1, kind="stable")
    winners = np.ceil(known.sum(axis=1, keepdims=True) * MOMENTUM_SHARE)
    return _or_equal_weight((known & (rank < winners)).astype(np.float64), dataset, rows)


def _volatility_target(dataset: Dataset, rows: slice, target: float) -> Schedule:
    """Return equal weights at exposure min(1, target / market volatility), moved every day."""
    exposure = np.minimum(1.0, target / dataset.market_volatility[rows])
    weights = equal_weight(dataset, rows) * exposure[:, None]
    return Schedule(weights, np.ones(len(weights), dtype=bool), VOLATILITY_TARGET_BAND)


def _shares(amounts: FloatArray) -> FloatArray:
    """Return (T, N) amounts as fractions of their sum; rows without any stay in cash."""
    total = amounts.sum(axis=1, keepdims=True)
    return amounts / np.where(total > 0.0, total, 1.0)


def _or_equal_weight(amounts: FloatArray, dataset: Dataset, rows: slice) -> FloatArray:
    """Return shares, with equal weights in the rows in which nothing is known yet."""
    some = amounts.any(axis=1, keepdims=True)
    return np.where(some, _shares(amounts), equal_weight(dataset, rows))


_MONTHLY: dict[str, Callable[[Dataset, slice], FloatArray]] = {
    "equal_weight": equal_weight,
    "inverse_volatility": _inverse_volatility,
    "momentum": _momentum,
}
