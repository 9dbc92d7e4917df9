"""Statistics over the last `window` rows of a (T, ...) array, in linear time and causally.

A window is the sum of a suffix of one block and a prefix of the next (van Herk, Pattern
Recognition Letters, 1992), so nothing is ever subtracted: no cancellation, no drift, and a NaN or
an infinity leaves with its row. Rows before the first full window see what there is.
"""

import numpy as np

from market.bars import BoolArray, FloatArray


def _combine(
    values: FloatArray, window: int, operation: np.ufunc, neutral: float, idempotent: bool
) -> FloatArray:
    rows = len(values)
    blocks = -(-rows // window)
    padded = np.full((blocks * window, *values.shape[1:]), neutral)
    padded[:rows] = values
    blocked = padded.reshape(blocks, window, *values.shape[1:])
    prefix = operation.accumulate(blocked, axis=1).reshape(padded.shape)[:rows]
    if rows < window:
        return prefix
    backwards = operation.accumulate(blocked[:, ::-1], axis=1)[:, ::-1]
    suffix = backwards.reshape(padded.shape)[: rows - window + 1]
    if not idempotent:
        suffix[::window] = neutral  # these windows are exactly one block: the prefix has it all
    operation(prefix[window - 1 :], suffix, out=prefix[window - 1 :])
    return prefix


def window_sum(values: FloatArray, window: int) -> FloatArray:
    """Return the sum of the last `window` rows; NaN counts as 0.

    Args:
        values: (T, ...) any unit.
        window: rows, >= 1.

    Returns:
        (T, ...) in the unit of `values`; a shorter sum before row `window - 1`.

    >>> window_sum(np.array([1.0, 2.0, np.nan, 4.0]), 2)
    array([1., 3., 2., 4.])
    """
    return _combine(np.where(np.isnan(values), 0.0, values), window, np.add, 0.0, idempotent=False)


def window_max(values: FloatArray, window: int) -> FloatArray:
    """Return the maximum of the last `window` rows; NaN is skipped, -inf where all are NaN.

    >>> window_max(np.array([3.0, 1.0, np.nan, 2.0]), 2)
    array([3., 3., 1., 2.])
    """
    known = np.where(np.isnan(values), -np.inf, values)
    return _combine(known, window, np.maximum, -np.inf, idempotent=True)


def window_count(known: BoolArray, window: int) -> FloatArray:
    """Return how many of the last `window` rows are true, as a float."""
    count = np.cumsum(known, axis=0, dtype=np.int32)  # whole numbers: subtracting loses nothing
    count[window:] -= count[:-window].copy()
    return count.astype(np.float64)


def enough(known: BoolArray, window: int) -> BoolArray:
    """Return where a statistic over `window` rows is defined.

    The first known value must be at least `window` rows old (today's row counts as one), and half
    of the window's rows must be known, so that a gap weakens a statistic and does not end it.
    """
    result: BoolArray = window_count(known, window) >= window / 2
    result[: window - 1] = False
    result[window - 1 :] &= np.maximum.accumulate(known, axis=0)[: max(len(known) - window + 1, 0)]
    return result


def window_mean(values: FloatArray, window: int) -> FloatArray:
    """Return the mean of the known values in the last `window` rows; NaN unless `enough`."""
    known = np.isfinite(values)
    count = np.maximum(window_count(known, window), 1.0)
    return np.where(enough(known, window), window_sum(values, window) / count, np.nan)


def lagged(values: FloatArray, rows: int) -> FloatArray:
    """Return the value `rows` rows earlier; NaN before there is one.

    >>> lagged(np.array([1.0, 2.0, 3.0]), 1)
    array([nan,  1.,  2.])
    """
    result = np.full(values.shape, np.nan)
    result[rows:] = values[: max(len(values) - rows, 0)]
    return result


def window_std(values: FloatArray, window: int) -> FloatArray:
    """Return the sample standard deviation (n - 1) of the last `window` rows.

    Meant for returns: their mean is small beside their spread, so that the sum of squares less
    the squared sum loses no digits that matter.

    Returns:
        (T, ...) in the unit of `values`; NaN unless `enough`.
    """
    known = np.isfinite(values)
    count = np.maximum(window_count(known, window), 2.0)
    total = window_sum(values, window)
    squares = window_sum(values * values, window)
    variance = np.maximum(squares - total * total / count, 0.0) / (count - 1.0)
    return np.where(enough(known, window), np.sqrt(variance), np.nan)
