"""Time and memory of the features of a large market.

What is timed starts with the bars in memory and ends with a dataset to train on: the indicators,
the features of the recipe, the factor model, market state and regimes, everything compared across
the names of each day. Each run has a process of its own, whose peak memory is that of the
interpreter, the bars and the work.
"""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np

from benchmarks.measure import Result, Timing
from market.asset_features import ASSET_FEATURES
from market.bars import Bars
from market.features import FeatureConfig
from market.indicators import TABLE
from market.prepare import prepare
from market.regimes import MARKET_FEATURES
from market.timeframes import Timeframe

SYMBOLS, SESSIONS, INDICATORS = 1_695, 6_800, 60  # 27 years, 11.5 million bars
CLIP = 3.0
SEED = 0


class Run(NamedTuple):
    """One run."""

    seconds: float
    peak_bytes: int
    columns: int  # features a name


def run(
    repeats: int, symbols: int = SYMBOLS, sessions: int = SESSIONS, indicators: int = INDICATORS
) -> Result:
    """Featurise a synthetic market `repeats` times, one process after the other.

    Args:
        repeats: timed runs.
        symbols: names of the universe.
        sessions: days; 252 a year.
        indicators: daily columns of the table, picked evenly, so that every family has its share.
    """
    chosen = daily_indicators(indicators)
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        runs = [pool.submit(featurise, symbols, sessions, chosen).result() for _ in range(repeats)]
    timing = Timing(tuple(one.seconds for one in runs))
    peak_gb = max(one.peak_bytes for one in runs) / 1e9
    figures = {
        "seconds": timing.median,
        "peak_gb": peak_gb,
        "seconds_low": timing.low,
        "seconds_high": timing.high,
        "symbols": symbols,
        "sessions": sessions,
        "rows": symbols * sessions,
        "indicators": len(chosen),
        "columns": runs[0].columns,
        "repeats": repeats,
    }
    row = (
        f"{symbols:,} symbols x {sessions:,} days x {runs[0].columns} columns",
        f"{timing.median:.1f}",
        f"{timing.low:.1f}",
        f"{timing.high:.1f}",
        f"{peak_gb:.1f}",
    )
    return Result("features", figures, ("features", "s", "low", "high", "peak GB"), (row,))


def daily_indicators(count: int) -> list[str]:
    """Return names of the table, evenly spread over those that read whole bars."""
    whole = [name for name in TABLE if not name.endswith(("_close", "_unit"))]
    return [whole[i * len(whole) // count] for i in range(count)]


def featurise(symbols: int, sessions: int, indicators: list[str]) -> Run:
    """Featurise one synthetic market in this process."""
    bars = random_walk(symbols, sessions, SEED)
    market = [name for name, feature in MARKET_FEATURES.items() if not feature.needs]
    config = FeatureConfig(list(ASSET_FEATURES), [], indicators, [Timeframe.daily], market, CLIP)
    half = sessions // 2
    started = perf_counter()
    dataset = prepare(bars, slice(0, half), slice(half, None), config)
    seconds = perf_counter() - started
    return Run(seconds, _peak_bytes(), dataset.asset_features.shape[2])


def _peak_bytes() -> int:
    """Return the most memory that this program has held.

    `getrusage` would count the parent too: what it held at the fork is inherited.
    """
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(line for line in status if line.startswith("VmHWM:"))
    return int(peak.split()[1]) * 1024


def random_walk(symbols: int, sessions: int, seed: int) -> Bars:
    """Return independent geometric random walks with gaps of 1 % of the sessions."""
    generator = np.random.default_rng(seed)
    shape = (sessions, symbols)
    close = 50.0 * np.exp(np.cumsum(generator.normal(0.0003, 0.015, shape), axis=0))
    opening = close * np.exp(generator.normal(0.0, 0.005, shape))
    high = np.maximum(opening, close) * np.exp(np.abs(generator.normal(0.0, 0.004, shape)))
    low = np.minimum(opening, close) * np.exp(-np.abs(generator.normal(0.0, 0.004, shape)))
    volume = generator.lognormal(14.0, 0.5, shape)
    gap = generator.random(shape) < 0.01
    for array in (close, opening, high, low, volume):
        array[gap] = np.nan
    days = np.arange(np.datetime64("1993-01-04"), np.datetime64("2093-01-01"))
    dates = days[np.is_busday(days)][:sessions]
    names = tuple(f"S{i:04d}" for i in range(symbols))
    listed = np.ones(shape, dtype=bool)
    return Bars(dates, names, close, ~gap, listed, opening, high, low, volume, source="random walk")
