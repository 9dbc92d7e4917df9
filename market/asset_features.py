"""The features of one name at one close, before they are compared across names.

Row t knows the closes up to and including session t; NaN while unknown. A return spans calendar
sessions between closes known at both ends, so a gap inside a listing leaves no hole.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from market.bars import TRADING_DAYS, FloatArray
from market.factor_model import WINDOW
from market.indicator_arrays import indicator_arrays
from market.regimes import Market
from market.rolling import enough, lagged, window_max, window_mean, window_std, window_sum
from market.timeframes import Timeframe


def log_return(market: Market, sessions: int, skip: int) -> FloatArray:
    """Return the (T, N) log change from `sessions` ago to `skip` sessions ago."""
    change: FloatArray = np.log(lagged(market.close, skip) / lagged(market.close, sessions))
    return change


def log_volatility(market: Market, window: int) -> FloatArray:
    """Return the (T, N) log of the daily returns' standard deviation over `window` sessions."""
    spread = window_std(market.model.returns, window)
    return np.log(np.where(spread > 0.0, spread, np.nan))


def log_volatility_ratio(market: Market, short: int, long: int) -> FloatArray:
    """Return the (T, N) log ratio of the volatilities over two windows."""
    return log_volatility(market, short) - log_volatility(market, long)


def beta(market: Market) -> FloatArray:
    """Return the (T, N) beta to the equal-weight portfolio; NaN while unknown."""
    return np.where(market.model.known, market.model.beta, np.nan)


def drawdown(market: Market, window: int) -> FloatArray:
    """Return the (T, N) fall from the highest close of `window` sessions, a fraction >= 0."""
    fall = 1.0 - market.close / window_max(market.close, window)
    return np.where(enough(np.isfinite(market.close), window), fall, np.nan)


def rsi(market: Market) -> FloatArray:
    """Return the (T, N) relative strength index of the indicator table, in [0, 1]."""
    out = np.empty((*market.close.shape, 1), np.float32)
    indicator_arrays(market.bars, ("rsi",), Timeframe.daily, market.level, out)
    return out[:, :, 0].astype(np.float64)


def average_gap(market: Market, window: int) -> FloatArray:
    """Return the (T, N) close over its own moving average, minus 1."""
    gap: FloatArray = market.close / window_mean(market.close, window) - 1.0
    return gap


def largest_return(market: Market, window: int) -> FloatArray:
    """Return the (T, N) largest daily return of `window` sessions.

    Source:
        Bali, Cakici & Whitelaw, "Maxing out", Journal of Financial Economics, 2011.
    """
    returns = market.model.returns
    return np.where(enough(np.isfinite(returns), window), window_max(returns, window), np.nan)


def idiosyncratic_momentum(market: Market, sessions: int, skip: int) -> FloatArray:
    """Return the (T, N) sum of the returns that today's beta leaves, over their spread.

    The sum runs from `sessions` ago to `skip` sessions ago; the unit is standard deviations.

    Source:
        Blitz, Huij & Martens, "Residual Momentum", Journal of Empirical Finance, 2011.
    """
    model, length = market.model, sessions - skip
    known = np.isfinite(model.returns)
    shared = np.where(known, model.market_return[:, None], np.nan)
    own = lagged(window_sum(model.returns, length), skip)
    common = lagged(window_sum(shared, length), skip)
    spread = model.idiosyncratic_volatility * np.sqrt(length / TRADING_DAYS)
    summed = lagged(enough(known, length).astype(np.float64), skip) == 1.0
    defined = model.known & summed & (spread > 0.0)
    return np.where(defined, own - model.beta * common, np.nan) / np.where(defined, spread, 1.0)


def log_volume_ratio(market: Market, short: int, long: int) -> FloatArray:
    """Return the (T, N) log ratio of the mean volumes over two windows."""
    assert market.bars.volume is not None  # the table's `needs` sees to it
    volume = np.where(market.bars.listed, market.bars.volume, np.nan)
    ratio = window_mean(volume, short) / window_mean(volume, long)
    return np.log(np.where(ratio > 0.0, ratio, np.nan))


@dataclass(frozen=True, slots=True)
class AssetFeature:
    """One feature a name.

    Args:
        function: of the market and the parameters to (T, N).
        parameters: sessions, in the order of the function's arguments.
        needs: fields that the source must declare, beside the close.
    """

    function: Callable[..., FloatArray]
    parameters: tuple[int, ...] = ()
    needs: tuple[str, ...] = ()


ASSET_FEATURES: dict[str, AssetFeature] = {
    "log_return_1": AssetFeature(log_return, (1, 0)),
    "log_return_5": AssetFeature(log_return, (5, 0)),
    "log_return_21": AssetFeature(log_return, (21, 0)),
    "log_return_63": AssetFeature(log_return, (63, 0)),
    "momentum_6_1": AssetFeature(log_return, (126, 21)),
    "momentum_12_1": AssetFeature(log_return, (252, 21)),
    "log_volatility_21": AssetFeature(log_volatility, (21,)),
    "log_volatility_252": AssetFeature(log_volatility, (252,)),
    "log_volatility_ratio": AssetFeature(log_volatility_ratio, (21, 252)),
    f"beta_{WINDOW}": AssetFeature(beta),
    "drawdown_252": AssetFeature(drawdown, (252,)),
    "rsi_14": AssetFeature(rsi),
    "gap_200": AssetFeature(average_gap, (200,)),
    "largest_return_21": AssetFeature(largest_return, (21,)),
    "idiosyncratic_momentum": AssetFeature(idiosyncratic_momentum, (252, 21)),
    "log_return_3y_1y": AssetFeature(log_return, (756, 252)),
    "log_volume_ratio": AssetFeature(log_volume_ratio, (21, 252), ("volume",)),
}
