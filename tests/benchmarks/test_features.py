import numpy as np

from benchmarks.features import daily_indicators, random_walk, run
from market.indicators import TABLE


def test_the_features_of_a_small_market_are_timed_in_a_process_of_their_own() -> None:
    result = run(repeats=2, symbols=3, sessions=300, indicators=6)
    figures = result.figures
    assert figures["seconds_low"] <= figures["seconds"] <= figures["seconds_high"]
    assert 0.05 < figures["peak_gb"] < 2.0
    assert (figures["rows"], figures["indicators"], figures["columns"]) == (900, 6, 23)


def test_the_indicators_are_distinct_and_read_whole_bars() -> None:
    chosen = daily_indicators(60)
    assert len(set(chosen)) == 60
    assert not any(TABLE[name].name.endswith(("_close", "_unit")) for name in chosen)
    assert {"cdl_hammer", "mfi", "ht_trendmode"} <= set(chosen)


def test_the_market_has_gaps_and_whole_bars() -> None:
    bars = random_walk(20, 400, seed=1)
    known = np.isfinite(bars.close)
    assert 0.98 < known.mean() < 1.0
    assert (bars.low[known] <= np.minimum(bars.open, bars.close)[known]).all()
    assert (bars.high[known] >= np.maximum(bars.open, bars.close)[known]).all()
