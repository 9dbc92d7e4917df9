"""Time the features of a market: `python -m benchmarks.features symbols=509 sessions=2516`.

`path=` reads a long Parquet table (date, symbol, open, high, low, close, volume) in place of the
synthetic random walk. `timeframes=daily,weekly` adds columns. The last line of stdout is JSON.
"""

import json
import resource
import sys
import time
from collections.abc import Sequence

import numpy as np
import pandas as pd

from market.asset_features import ASSET_FEATURES
from market.bars import Bars
from market.features import FeatureConfig
from market.indicators import TABLE
from market.prepare import prepare
from market.timeframes import Timeframe

MARKET = ["market_log_volatility", "trend_200", "breadth_200", "log_turbulence_21"]


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


def from_parquet(path: str) -> Bars:
    """Return the bars of a long table."""
    table = pd.read_parquet(path)
    wide = {
        name: table.pivot_table(index="date", columns="symbol", values=name).astype(np.float64)
        for name in ("open", "high", "low", "close", "volume")
    }
    close = wide["close"]
    present = np.isfinite(close.to_numpy())
    return Bars(
        dates=close.index.to_numpy().astype("datetime64[D]"),
        symbols=tuple(close.columns),
        tradable=present,
        listed=np.maximum.accumulate(present, axis=0),
        source=path,
        **{name: np.ascontiguousarray(frame.to_numpy()) for name, frame in wide.items()},
    )


def main(arguments: Sequence[str]) -> None:
    """Prepare one market and print the time and the peak memory."""
    settings = dict(argument.split("=", 1) for argument in arguments)
    if "path" in settings:
        bars = from_parquet(settings["path"])
    else:
        size = int(settings.get("symbols", "509")), int(settings.get("sessions", "2516"))
        bars = random_walk(*size, seed=int(settings.get("seed", "0")))
    timeframes = [Timeframe[name] for name in settings.get("timeframes", "daily").split(",")]
    indicators = [name for name in TABLE if not name.endswith(("_close", "_unit"))]
    config = FeatureConfig(list(ASSET_FEATURES), [], indicators, timeframes, MARKET, 3.0)
    half = len(bars.dates) // 2
    start = time.perf_counter()
    dataset = prepare(bars, slice(0, half), slice(half, None), config)
    seconds = time.perf_counter() - start
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    symbols, sessions = len(bars.symbols), len(bars.dates)
    columns = dataset.asset_features.shape[2]
    print(f"{columns} columns x {symbols} symbols x {sessions} sessions: {seconds:.2f} s")
    record = {
        "seconds": round(seconds, 3),
        "peak_gb": round(peak_gb, 3),
        "symbols": symbols,
        "sessions": sessions,
        "indicators": len(indicators) * len(timeframes),
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main(sys.argv[1:])
