"""The state of the market, one number a session, and its name.

Everything is a property of the universe: the equal-weight index of its listed names stands for
the market. Row t knows the closes up to and including session t.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from market.bars import Bars, FloatArray
from market.factor_model import (
    HALF_LIFE,
    FactorModel,
    ewma_volatility,
    mean_correlation,
    row_mean,
    turbulence,
)
from market.rolling import lagged, window_max, window_mean
from market.threads import NAMES_PER_BLOCK, blocks, each

PERCENTILE_WINDOW, PERCENTILE_MINIMUM = 1260, 252  # sessions
TRENDS = ("bull", "bear", "sideways")
VOLATILITIES = ("low", "normal", "high", "extreme")
VOLATILITY_EDGES = (0.25, 0.75, 0.95)  # percentiles at which the next name begins
REGIME_NAMES = tuple(f"{trend}/{volatility}" for trend in TRENDS for volatility in VOLATILITIES)


@dataclass(frozen=True, slots=True, eq=False)
class Market:
    """What the state is computed from.

    Args:
        bars: the universe.
        model: its single-index model.
        level: (T,) equal-weight index, rebalanced every session, 1 before the first return.
        close: (T, N) last close known while listed, else NaN.
    """

    bars: Bars
    model: FactorModel
    level: FloatArray
    close: FloatArray

    @classmethod
    def of(cls, bars: Bars, model: FactorModel) -> "Market":
        """Derive the index and the known closes."""
        growth = np.where(np.isnan(model.market_return), 0.0, model.market_return)
        close = np.empty_like(bars.close)

        def fill(names: slice) -> None:
            part = bars.names(names)
            close[:, names] = np.where(part.listed, part.known_close(), np.nan)

        each(fill, blocks(len(bars.symbols), NAMES_PER_BLOCK))
        level: FloatArray = np.multiply.accumulate(1.0 + growth)
        return cls(bars, model, level, close)

    def names(self, part: slice) -> "Market":
        """Return what concerns some of the names, beside the index of all of them."""
        close = np.ascontiguousarray(self.close[:, part])
        return Market(self.bars.names(part), self.model.names(part), self.level, close)


def index_gap(market: Market, window: int) -> FloatArray:
    """Return the (T,) index over its own moving average, minus 1."""
    gap: FloatArray = market.level / window_mean(market.level, window) - 1.0
    return gap


def index_return(market: Market, window: int) -> FloatArray:
    """Return the (T,) log change of the index over `window` sessions."""
    change: FloatArray = np.log(market.level / lagged(market.level, window))
    return change


def index_drawdown(market: Market, window: int) -> FloatArray:
    """Return the (T,) fall of the index from its highest close of `window` sessions, >= 0."""
    fall: FloatArray = 1.0 - market.level / window_max(market.level, window)
    return fall


def breadth(market: Market, window: int) -> FloatArray:
    """Return the (T,) share of names above their own moving average."""
    average = window_mean(market.close, window)
    return row_mean(np.where(market.close > average, 1.0, 0.0), np.isfinite(average))


def dispersion(market: Market, window: int) -> FloatArray:
    """Return the (T,) log standard deviation across names of their `window`-session returns."""
    change = market.close / lagged(market.close, window) - 1.0
    known = np.isfinite(change)
    mean = row_mean(change, known)
    variance = row_mean((change - mean[:, None]) ** 2, known)
    return np.log(np.sqrt(np.where(variance > 0.0, variance, np.nan)))


def volatility_percentile(market: Market, window: int) -> FloatArray:
    """Return where today's EWMA volatility stands among those of the last `window` sessions.

    Returns:
        (T,) in (0, 1], 1 when none was higher; NaN before PERCENTILE_MINIMUM sessions.
    """
    started = np.maximum.accumulate(np.isfinite(market.model.market_return))
    volatility = np.where(started, market.model.market_volatility, np.nan)
    history = sliding_window_view(np.r_[np.full(window - 1, np.nan), volatility], window)
    count = np.isfinite(history).sum(axis=1)
    not_higher = (history <= volatility[:, None]).sum(axis=1)
    return np.where(count >= PERCENTILE_MINIMUM, not_higher / np.maximum(count, 1), np.nan)


def log_turbulence(market: Market, window: int) -> FloatArray:
    """Return the (T,) log of the mean turbulence of `window` sessions."""
    mean = window_mean(turbulence(market.model), window)
    return np.log(np.where(mean > 0.0, mean, np.nan))


def correlation(market: Market, window: int) -> FloatArray:
    """Return the (T,) mean correlation between names over `window` sessions."""
    return mean_correlation(market.model, window)


def log_volatility(market: Market, half_life: int) -> FloatArray:
    """Return the (T,) log of the index's annualised EWMA volatility."""
    return np.log(ewma_volatility(market.model.market_return, half_life))


def log_vix(market: Market, window: int) -> FloatArray:
    """Return the (T,) log of the VIX, averaged over `window` sessions, as a fraction."""
    vix = market.bars.series["VIX"]
    return np.log(window_mean(np.where(vix > 0.0, vix, np.nan), window) / 100.0)


@dataclass(frozen=True, slots=True)
class MarketFeature:
    """One market-state input.

    Args:
        function: of the market and a number of sessions to a (T,) series; NaN while unknown.
        window: sessions; a half-life where the function says so.
        needs: series that the source must carry.
    """

    function: Callable[[Market, int], FloatArray]
    window: int
    needs: tuple[str, ...] = ()


MARKET_FEATURES: dict[str, MarketFeature] = {
    "market_log_return_21": MarketFeature(index_return, 21),
    "market_log_return_252": MarketFeature(index_return, 252),
    "market_log_volatility": MarketFeature(log_volatility, HALF_LIFE),
    "volatility_percentile": MarketFeature(volatility_percentile, PERCENTILE_WINDOW),
    "trend_50": MarketFeature(index_gap, 50),
    "trend_200": MarketFeature(index_gap, 200),
    "market_drawdown_252": MarketFeature(index_drawdown, 252),
    "breadth_200": MarketFeature(breadth, 200),
    "log_turbulence_21": MarketFeature(log_turbulence, 21),
    "mean_correlation_63": MarketFeature(correlation, 63),
    "log_dispersion_21": MarketFeature(dispersion, 21),
    "log_vix": MarketFeature(log_vix, 1, ("VIX",)),
}


def regimes(market: Market) -> NDArray[np.int64]:
    """Name every session by trend and volatility.

    bull: the index is above its 200-session average and so is its 50-session average; bear: both
    are below; sideways: they disagree or are not known yet. The volatility name follows from
    `volatility_percentile` and VOLATILITY_EDGES; normal while unknown.

    Returns:
        (T,) index into REGIME_NAMES.
    """
    level = market.level
    slow, fast = window_mean(level, 200), window_mean(level, 50)
    trend = np.full(len(level), TRENDS.index("sideways"))
    trend[(level > slow) & (fast > slow)] = TRENDS.index("bull")
    trend[(level < slow) & (fast < slow)] = TRENDS.index("bear")
    percentile = volatility_percentile(market, PERCENTILE_WINDOW)
    name = np.searchsorted(VOLATILITY_EDGES, percentile, side="right")
    name[np.isnan(percentile)] = VOLATILITIES.index("normal")
    result: NDArray[np.int64] = (trend * len(VOLATILITIES) + name).astype(np.int64)
    return result
