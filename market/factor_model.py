"""The single-index model: every name against the equal-weight portfolio of the listed names.

One beta and one residual variance a name describe a covariance matrix with 2N + 1 numbers, so that
everything built on it (ex-ante volatility, turbulence, idiosyncratic momentum) is linear in N.
Row t knows the closes up to and including session t. Volatilities are annualised with 252
sessions; returns are simple, per session.

Source:
    Sharpe, "A Simplified Model for Portfolio Analysis", Management Science, 1963.
"""

from dataclasses import dataclass, replace

import numpy as np

from market.bars import TRADING_DAYS, Bars, BoolArray, FloatArray
from market.rolling import enough, lagged, window_count, window_mean, window_std, window_sum
from market.threads import NAMES_PER_BLOCK, blocks, each

WINDOW = 252  # sessions of beta, volatility and idiosyncratic volatility
HALF_LIFE = 21  # sessions of the market's EWMA volatility
PRIOR_VOLATILITY = 0.16  # annual; what the EWMA starts from, its weight halves every half-life
TURBULENCE_SHRINKAGE = 0.1  # of residual variances towards their mean across names


@dataclass(frozen=True, slots=True, eq=False)
class FactorModel:
    """The estimates of every session.

    Args:
        returns: (T, N) simple return of the session; NaN without a price or an earlier one.
        market_return: (T,) equal-weight mean of the returns; NaN where no name has one.
        market_volatility: (T,) annualised EWMA; always positive and finite.
        volatility: (T, N) annualised standard deviation; NaN while unknown.
        beta: (T, N) to `market_return`; 1 while unknown.
        idiosyncratic_volatility: (T, N) annualised; `market_volatility` while unknown.
        known: (T, N) beta and idiosyncratic volatility are estimates, not stand-ins.
    """

    returns: FloatArray
    market_return: FloatArray
    market_volatility: FloatArray
    volatility: FloatArray
    beta: FloatArray
    idiosyncratic_volatility: FloatArray
    known: BoolArray

    def names(self, part: slice) -> "FactorModel":
        """Return the estimates of some of the names, beside those of the market."""
        cut = {
            name: np.ascontiguousarray(getattr(self, name)[:, part])
            for name in ("returns", "volatility", "beta", "idiosyncratic_volatility", "known")
        }
        return replace(self, **cut)


def simple_returns(bars: Bars) -> FloatArray:
    """Return the (T, N) simple return of each session over the last close known before it.

    The move across a gap falls on the session that has a price again. NaN where the session has
    no price or the symbol is not listed.
    """
    close = np.where(bars.listed, bars.close, np.nan)
    result: FloatArray = close / lagged(bars.known_close(), 1) - 1.0
    return result


def row_mean(values: FloatArray, mask: BoolArray) -> FloatArray:
    """Return the (T,) mean over the names in `mask`; NaN for a row that has none."""
    count = mask.sum(axis=1)
    total = np.where(mask, values, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def ewma_volatility(returns: FloatArray, half_life: int) -> FloatArray:
    """Return the annualised exponentially weighted volatility about zero.

    Args:
        returns: (T,) simple returns; a NaN leaves the estimate as it was.
        half_life: sessions, >= 1.

    Returns:
        (T,) annualised, > 0 from the first row on: the recursion starts at PRIOR_VOLATILITY, whose
        weight is 2 ** -(sessions / half_life).

    Source:
        J.P. Morgan/Reuters, "RiskMetrics Technical Document", 1996, section 5.2.
    """
    decay = 0.5 ** (1.0 / half_life)
    variance = PRIOR_VOLATILITY**2 / TRADING_DAYS
    result = np.empty(len(returns))
    for t, value in enumerate(returns.tolist()):
        if np.isfinite(value):
            variance = decay * variance + (1.0 - decay) * value * value
        result[t] = variance
    annual: FloatArray = np.sqrt(result * TRADING_DAYS)
    return annual


def fit(bars: Bars) -> FactorModel:
    """Estimate the model at every close from the WINDOW sessions that end there.

    A name's covariance with the market uses the sessions in which both have a return.
    """
    parts = blocks(len(bars.symbols), NAMES_PER_BLOCK)
    returns = np.empty(bars.close.shape)

    def measure(names: slice) -> None:
        returns[:, names] = simple_returns(bars.names(names))

    each(measure, parts)
    market_return = row_mean(returns, np.isfinite(returns))
    market_volatility = ewma_volatility(market_return, HALF_LIFE)
    volatility, beta, idiosyncratic = (np.empty_like(returns) for _ in range(3))
    known = np.empty(returns.shape, dtype=bool)

    def estimate(names: slice) -> None:
        own = np.ascontiguousarray(returns[:, names])
        volatility[:, names] = window_std(own, WINDOW) * np.sqrt(TRADING_DAYS)
        slope, residual, estimated = _regress(own, market_return)
        beta[:, names] = np.where(estimated, slope, 1.0)
        idiosyncratic[:, names] = np.where(estimated, residual, market_volatility[:, None])
        known[:, names] = estimated

    each(estimate, parts)
    return FactorModel(
        returns, market_return, market_volatility, volatility, beta, idiosyncratic, known
    )


def _regress(
    returns: FloatArray, market_return: FloatArray
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Regress (T, N) returns on (T,) the market's over the WINDOW sessions that end in each row.

    Returns:
        (T, N) slope, annualised standard deviation of the residual, and where they are known.
    """
    known = np.isfinite(returns)
    market = np.where(known, market_return[:, None], np.nan)
    count = np.maximum(window_count(known, WINDOW), 2.0)
    own_sum, market_sum = window_sum(returns, WINDOW), window_sum(market, WINDOW)
    covariance = window_sum(returns * market, WINDOW) - own_sum * market_sum / count
    market_square = window_sum(market * market, WINDOW) - market_sum * market_sum / count
    own_square = window_sum(returns * returns, WINDOW) - own_sum * own_sum / count

    estimated = enough(known, WINDOW) & (market_square > 0.0)
    slope = covariance / np.where(estimated, market_square, 1.0)
    residual_square = np.maximum(own_square - slope * covariance, 0.0)
    annual = TRADING_DAYS / np.maximum(count - 2.0, 1.0)  # two fitted numbers a name
    return slope, np.sqrt(residual_square * annual), estimated


def turbulence(model: FactorModel) -> FloatArray:
    """Return how unusual each session's returns were, given what was known the session before.

    The squared Mahalanobis distance of the returns from their mean, divided by the number of
    names, under the covariance of the single-index model at t - 1 with residual variances shrunk
    towards their mean: the inverse is a diagonal plus one rank (Sherman-Morrison), so the cost is
    linear in N and the matrix can never be singular.

    Returns:
        (T,) >= 0, about 1 on an ordinary session; NaN until a model is known.

    Source:
        Kritzman & Li, "Skulls, Financial Turbulence, and Risk Management", FAJ, 2010.
    """
    mean = lagged(window_mean(model.returns, WINDOW), 1)
    beta = lagged(model.beta, 1)
    market_variance = lagged(model.market_volatility, 1) ** 2 / TRADING_DAYS
    residual_variance = lagged(model.idiosyncratic_volatility, 1) ** 2 / TRADING_DAYS
    estimated = lagged(model.known.astype(np.float64), 1) == 1.0
    mask = estimated & np.isfinite(model.returns) & np.isfinite(mean)

    average = row_mean(residual_variance, mask)[:, None]
    residual_variance = (
        1.0 - TURBULENCE_SHRINKAGE
    ) * residual_variance + TURBULENCE_SHRINKAGE * average
    mask &= residual_variance > 0.0
    precision = np.where(mask, 1.0 / np.where(mask, residual_variance, 1.0), 0.0)
    surprise = np.where(mask, model.returns - mean, 0.0)
    loading = np.where(mask, beta, 0.0)

    own = (surprise * surprise * precision).sum(axis=1)
    cross = (loading * surprise * precision).sum(axis=1)
    strength = (loading * loading * precision).sum(axis=1)
    names = mask.sum(axis=1)
    distance = own - market_variance * cross * cross / (1.0 + market_variance * strength)
    return np.where(names > 0, distance / np.maximum(names, 1), np.nan)


def mean_correlation(model: FactorModel, window: int) -> FloatArray:
    """Return the mean correlation over all pairs of names in the last `window` sessions.

    Each return is divided by its name's volatility of the session before; the mean product over
    pairs is then a difference of two sums over names, linear in N.

    Returns:
        (T,) in [-1, 1]; NaN with fewer than two names or too short a history.
    """
    scaled = model.returns / lagged(model.volatility, 1)
    mask = np.isfinite(scaled)
    scaled = np.where(mask, scaled, 0.0)
    count = mask.sum(axis=1)
    squares = (scaled * scaled).sum(axis=1)
    total = scaled.sum(axis=1)
    pairs = np.where(count > 1, count * (count - 1.0), np.nan)
    product = (total * total - squares) / pairs
    square = np.where(count > 1, squares / np.maximum(count, 1), np.nan)
    spread = window_mean(square, window)
    return window_mean(product, window) / np.where(spread > 0.0, spread, np.nan)
