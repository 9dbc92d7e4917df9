"""What can be wrong with a cell of a record: each function marks the broken ones, (T, N).

A mark at a session depends on that session and earlier ones only. Prices that are not finite and
positive are to be masked first: ratios across them mean nothing.
"""

import numpy as np

from market.bars import PRICE_FIELDS, Bars, BoolArray, FloatArray

WHOLE_SPLITS = np.array(
    [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0, 50.0]
)
"""Factors by which a split divides, or a reverse split multiplies, a price."""

SMALL_SPLIT = 1.5
"""Three for two: only ever downwards."""


def missing(bars: Bars) -> BoolArray:
    """Mark listed sessions without any value; a record of closes alone cannot tell them apart."""
    if bars.fields == ("close",):
        return np.zeros(bars.close.shape, dtype=bool)
    empty = bars.listed.copy()
    for name in bars.fields:
        empty &= np.isnan(getattr(bars, name))
    return empty


def nan_price(bars: Bars) -> BoolArray:
    """Mark listed sessions that lack a price, but not everything."""
    lacking = np.zeros(bars.close.shape, dtype=bool)
    for name in _price_fields(bars):
        lacking |= np.isnan(getattr(bars, name))
    return lacking & bars.listed & ~missing(bars)


def non_positive(bars: Bars) -> BoolArray:
    """Mark prices of zero or below."""
    broken = np.zeros(bars.close.shape, dtype=bool)
    for name in _price_fields(bars):
        broken |= getattr(bars, name) <= 0.0
    return broken


def high_low(bars: Bars, tolerance: float) -> BoolArray:
    """Mark a low above, or a high below, another price of its session by more than a fraction."""
    lowest, highest = bars.close, bars.close
    if bars.open is not None:
        lowest, highest = np.minimum(lowest, bars.open), np.maximum(highest, bars.open)
    broken = np.zeros(bars.close.shape, dtype=bool)
    if bars.low is not None:
        broken |= bars.low > lowest * (1.0 + tolerance)
    if bars.high is not None:
        broken |= bars.high < highest * (1.0 - tolerance)
    if bars.low is not None and bars.high is not None:
        broken |= bars.low > bars.high * (1.0 + tolerance)
    return broken


def zero_volume(bars: Bars) -> BoolArray:
    """Mark priced sessions in which nothing was traded, or nobody knows how much."""
    if bars.volume is None:
        return np.zeros(bars.close.shape, dtype=bool)
    return np.isfinite(bars.close) & ~(bars.volume > 0.0)


def stale(bars: Bars, sessions: int) -> BoolArray:
    """Mark the last of `sessions` unchanged closes in a row, and what follows unchanged.

    Sessions without a trade do not count where the volume is known: their price is right.
    """
    same = np.zeros(bars.close.shape, dtype=bool)
    same[1:] = bars.close[1:] == bars.close[:-1]
    if bars.volume is not None:
        same &= bars.volume > 0.0
    row = np.arange(len(same))[:, None]
    last_change = np.maximum.accumulate(np.where(same, -1, row), axis=0)
    stale_rows: BoolArray = row - last_change >= sessions
    return stale_rows


def rescaled(bars: Bars, tolerance: float, small_tolerance: float) -> BoolArray:
    """Mark sessions whose prices are on another scale than before: an unadjusted split.

    A jump of the open (of the close, where there are no opens) whose excess over the median of the
    other symbols is a split factor within a tolerance, and which the close does not take back,
    changes the scale; a later jump by the inverse factor (a wrong tick) restores it.

    Args:
        bars: the record.
        tolerance: fraction, for the whole factors.
        small_tolerance: fraction, for 3/2: stocks do lose a third in a day.
    """
    ratio = log_ratio(bars.close, bars)
    jump = ratio if bars.open is None else log_ratio(bars.open, bars)
    log_factor = np.zeros_like(ratio)
    for row, column in np.argwhere(np.abs(jump) > np.log(SMALL_SPLIT) / 2.0):
        log_factor[row, column] = _split_factor(
            _excess(jump[row], column), _excess(ratio[row], column), tolerance, small_tolerance
        )
    off_scale: BoolArray = np.abs(np.cumsum(log_factor, axis=0)) > 1e-6
    return off_scale


def _excess(log_returns: FloatArray, column: int) -> float:
    """Return one of (N,) log returns over the median of the others."""
    others = np.delete(log_returns, column)
    others = others[np.isfinite(others)]
    return float(log_returns[column] - (np.median(others) if len(others) else 0.0))


def _split_factor(
    at_open: float, at_close: float, tolerance: float, small_tolerance: float
) -> float:
    """Return the log of the split factor that a jump shows, or 0.

    The close may have moved on from the open by as much again as the open is off.
    """
    factors = dict.fromkeys(WHOLE_SPLITS, tolerance)
    if at_open < 0.0:
        factors[SMALL_SPLIT] = small_tolerance
    for factor, allowed in factors.items():
        log_factor = float(np.copysign(np.log(factor), at_open))
        off_open = abs(np.expm1(at_open - log_factor))
        if off_open <= allowed and abs(np.expm1(at_close - log_factor)) <= 2.0 * allowed:
            return log_factor
    return 0.0


def extreme(bars: Bars, ratio: float) -> BoolArray:
    """Mark closes more than `ratio` times, or less than 1 / `ratio` of, the one before."""
    too_far: BoolArray = np.abs(log_ratio(bars.close, bars)) > np.log(ratio)
    return too_far


def log_ratio(price: FloatArray, bars: Bars) -> FloatArray:
    """Return (T, N) log of a price over the last close known the session before; NaN without."""
    ratio = np.full(price.shape, np.nan)
    ratio[1:] = np.log(price[1:] / bars.known_close()[:-1])
    return ratio


def _price_fields(bars: Bars) -> tuple[str, ...]:
    return tuple(name for name in PRICE_FIELDS if name in bars.fields)
