"""Evaluate the indicator table over a universe.

TA-Lib carries a NaN on for ever, so each symbol is computed on its own sessions alone (listed, and
every field that the indicator needs has a number) and scattered back; the other sessions stay
NaN. Blocks of symbols are computed in threads (TA-Lib releases the interpreter lock) into a small
buffer and written time-major into the caller's array.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from market.bars import Bars, BoolArray, FloatArray
from market.indicators import TABLE, Indicator
from market.threads import blocks, each
from market.timeframes import IntArray, Timeframe, last_complete, period_bars, period_of

Float32Array = NDArray[np.float32]
SYMBOLS_PER_BLOCK = 8  # their columns stay in a processor's cache until they are turned round


def indicator_arrays(
    bars: Bars,
    names: Sequence[str],
    timeframe: Timeframe,
    market_level: FloatArray,
    out: Float32Array,
) -> None:
    """Write the indicators of every symbol and session into `out`.

    Args:
        bars: must declare every field that the indicators need.
        names: K indicators of the table.
        timeframe: of the bars that they read; a value of a longer one stays until the next period
            is complete.
        market_level: (T,) level of the equal-weight index, > 0.
        out: (T, N, K) float32, overwritten; NaN while unknown, on a session without the symbol's
            price (daily) and while it is not listed.
    """
    period = period_of(bars.dates, timeframe)
    order = sorted(range(len(names)), key=lambda k: (TABLE[names[k]].needs, TABLE[names[k]].call))
    groups = [
        (needs, list(columns))
        for needs, columns in groupby(order, key=lambda k: TABLE[names[k]].needs)
    ]

    def work(block: slice) -> None:
        buffer = np.full((len(names), *bars.close[:, block].T.shape), np.nan, np.float32)
        for needs, columns in groups:
            rows = [TABLE[names[k]] for k in columns]
            fields = {name: np.ascontiguousarray(getattr(bars, name)[:, block].T) for name in needs}
            usable = _usable(bars.listed[:, block].T, fields)
            for i in range(buffer.shape[1]):
                own = {name: values[i] for name, values in fields.items()}
                own["market"] = market_level
                sessions = np.flatnonzero(usable[i])
                if timeframe is Timeframe.daily:
                    _fill_daily(rows, own, sessions, columns, buffer[:, i])
                else:
                    _fill_periods(rows, own, sessions, columns, buffer[:, i], period)
        if timeframe is not Timeframe.daily:
            buffer[:, ~bars.listed[:, block].T] = np.nan
        out[:, block] = buffer.transpose(2, 1, 0)

    each(work, blocks(len(bars.symbols), SYMBOLS_PER_BLOCK))


def _usable(listed: BoolArray, fields: Mapping[str, FloatArray]) -> BoolArray:
    usable = listed.copy()
    for values in fields.values():
        usable &= np.isfinite(values)
    return usable


def _fill_daily(
    rows: Sequence[Indicator],
    own: Mapping[str, FloatArray],
    sessions: IntArray,
    columns: Sequence[int],
    out: Float32Array,
) -> None:
    if len(sessions) == 0:
        return
    fields = {name: values[sessions] for name, values in own.items()}
    for k, values in zip(columns, symbol_values(rows, fields), strict=True):
        out[k, sessions] = values


def _fill_periods(
    rows: Sequence[Indicator],
    own: Mapping[str, FloatArray],
    sessions: IntArray,
    columns: Sequence[int],
    out: Float32Array,
    period: IntArray,
) -> None:
    if len(sessions) == 0:
        return
    own_period = period[sessions]
    fields = period_bars({name: values[sessions] for name, values in own.items()}, own_period)
    newest = last_complete(period, np.unique(own_period))
    known = np.flatnonzero(newest >= 0)
    for k, values in zip(columns, symbol_values(rows, fields), strict=True):
        out[k, known] = values[newest[known]]


def symbol_values(
    rows: Sequence[Indicator], fields: Mapping[str, FloatArray]
) -> list[Float32Array]:
    """Compute indicators of one symbol on consecutive bars without a gap.

    Args:
        rows: K indicators; neighbours that share a call are computed once.
        fields: (S,) float64 arrays by name, every number finite, S >= 1.

    Returns:
        K arrays (S,), dimensionless; NaN while unknown or undefined (a division by zero).
    """
    close = fields["close"]
    previous = np.concatenate((close[:1], close[:-1]))
    series = {
        **fields,
        "pair_high": np.maximum(close, previous),
        "pair_low": np.minimum(close, previous),
        "unit": np.ones(len(close)),
    }
    result = []
    for _, same_call in groupby(rows, key=lambda row: row.call):
        shared = list(same_call)
        first = shared[0]
        raw = first.compute(*(series[name] for name in first.inputs), **first.parameters)
        outputs = raw if isinstance(raw, (tuple, list)) else (raw,)
        volume = series["unit" if "unit" in first.inputs else "volume"] if _flows(first) else None
        for row in shared:
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                values = row.scale.apply(outputs[row.output], close, volume).astype(np.float32)
            values[np.isinf(values)] = np.nan
            result.append(values)
    return result


def _flows(row: Indicator) -> bool:
    return "unit" in row.inputs or "volume" in row.inputs
