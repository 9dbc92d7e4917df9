"""Daily, weekly and monthly bars, and when a period's bar may be known.

A week (Monday to Sunday) or a month counts as complete from the first session of a later week or
month: the sessions seen so far say so by themselves. A holiday calendar would let the week be
used one session earlier, but it also knows, years ahead, of closures that nobody could foresee.
"""

from collections.abc import Mapping
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from market.bars import DateArray, FloatArray

IntArray = NDArray[np.int64]


class Timeframe(Enum):
    """The length of a bar that an indicator reads."""

    daily = "daily"
    weekly = "weekly"
    monthly = "monthly"


def period_of(dates: DateArray, timeframe: Timeframe) -> IntArray:
    """Return the number of the period that each session belongs to.

    Args:
        dates: (T,) sessions.
        timeframe: of the periods.

    Returns:
        (T,) never decreasing; days, weeks or months since 1970.

    >>> friday_to_tuesday = np.arange("2019-05-31", "2019-06-05", dtype="datetime64[D]")
    >>> np.diff(period_of(friday_to_tuesday, Timeframe.weekly)).tolist()
    [0, 0, 1, 0]
    >>> np.diff(period_of(friday_to_tuesday, Timeframe.monthly)).tolist()
    [1, 0, 0, 0]
    """
    days = dates.astype("datetime64[D]")
    if timeframe is Timeframe.monthly:
        return days.astype("datetime64[M]").astype(np.int64)
    number = days.astype(np.int64)
    # Day 0 of the epoch was a Thursday: three days earlier is the Monday of its week.
    return (number + 3) // 7 if timeframe is Timeframe.weekly else number


def period_bars(fields: Mapping[str, FloatArray], period: IntArray) -> dict[str, FloatArray]:
    """Aggregate one symbol's sessions into one bar a period.

    Args:
        fields: arrays (S,) by name; "open" keeps the first of a period, "high" the highest, "low"
            the lowest, "volume" the sum, anything else the last.
        period: (S,) number of the period of each session, never decreasing, S >= 1.

    Returns:
        Arrays (P,) under the same names, one entry per distinct period.
    """
    first = np.flatnonzero(np.diff(period, prepend=period[0] - 1))
    last = np.append(first[1:], len(period)) - 1
    result = {}
    for name, values in fields.items():
        if name == "open":
            result[name] = values[first]
        elif name == "high":
            result[name] = np.maximum.reduceat(values, first)
        elif name == "low":
            result[name] = np.minimum.reduceat(values, first)
        elif name == "volume":
            result[name] = np.add.reduceat(values, first)
        else:
            result[name] = values[last]
    return result


def last_complete(period: IntArray, own_periods: IntArray) -> IntArray:
    """Return, for each session, which of a symbol's period bars is the newest complete one.

    Args:
        period: (T,) number of the period that each session lies in.
        own_periods: (P,) increasing numbers of the periods in which the symbol has a bar.

    Returns:
        (T,) index into `own_periods`; -1 while none is complete.

    >>> last_complete(np.array([7, 7, 8, 9]), np.array([7, 9])).tolist()
    [-1, -1, 0, 0]
    """
    return np.searchsorted(own_periods, period, side="left").astype(np.int64) - 1
