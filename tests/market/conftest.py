"""Markets that every test of this folder may use."""

import numpy as np
import pytest

from market.bars import Bars


def ragged(symbols: int, sessions: int, seed: int) -> Bars:
    """Return OHLCV random walks with gaps, a late listing, a delisting and a VIX."""
    generator = np.random.default_rng(seed)
    shape = (sessions, symbols)
    common = generator.normal(0.0003, 0.008, (sessions, 1))
    close = 50.0 * np.exp(np.cumsum(common + generator.normal(0.0, 0.012, shape), axis=0))
    opening = close * np.exp(generator.normal(0.0, 0.006, shape))
    high = np.maximum(opening, close) * np.exp(np.abs(generator.normal(0.0, 0.005, shape)))
    low = np.minimum(opening, close) * np.exp(-np.abs(generator.normal(0.0, 0.005, shape)))
    volume = generator.lognormal(14.0, 0.5, shape)
    listed = np.ones(shape, dtype=bool)
    listed[: sessions // 4, 1] = False
    listed[-sessions // 6 :, 2] = False
    gap = ~listed | (generator.random(shape) < 0.01)
    gap[sessions // 2 : sessions // 2 + 30, 0] = True
    for array in (close, opening, high, low, volume):
        array[gap] = np.nan
    days = np.arange(np.datetime64("2001-01-02"), np.datetime64("2031-01-01"))
    dates = days[np.is_busday(days)][:sessions]
    return Bars(
        dates=dates,
        symbols=tuple(f"S{i}" for i in range(symbols)),
        close=close,
        tradable=~gap,
        listed=listed,
        open=opening,
        high=high,
        low=low,
        volume=volume,
        series={"VIX": 15.0 * np.exp(generator.normal(0.0, 0.2, sessions))},
        source="random walk",
    )


@pytest.fixture(scope="session")
def ragged_bars() -> Bars:
    """Return 1,100 sessions of 6 symbols."""
    return ragged(6, 1100, seed=11)
