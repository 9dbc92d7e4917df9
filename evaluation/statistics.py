"""How much of a result may be luck: standard errors, probabilities and bootstrap intervals.

Conventions of `risk.measures` hold. Nothing here draws from a global generator: every bootstrap
takes its own. Series that are compared are paired, period by period, and both are in excess of
cash where cash earns something.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from market.bars import FloatArray
from risk import measures


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with the standard error of its estimation."""

    value: float
    standard_error: float


@dataclass(frozen=True, slots=True)
class Interval:
    """A number with the ends of its bootstrap interval."""

    value: float
    low: float
    high: float


def probabilistic_sharpe(
    returns: FloatArray,
    periods_per_year: float,
    benchmark_sharpe: float = 0.0,
    cash_rate: float = 0.0,
) -> float:
    """Return the probability that the true Sharpe ratio exceeds the benchmark's.

    Args:
        returns: (T,) of one period each.
        periods_per_year: of the returns.
        benchmark_sharpe: annualised.
        cash_rate: annual.

    Returns:
        Probability in [0, 1]; NaN where the Sharpe ratio is undefined.

    Source:
        Bailey & López de Prado, "The Sharpe Ratio Efficient Frontier", Journal of Risk, 2012.
    """
    error = measures.sharpe_standard_error(returns, periods_per_year, cash_rate)
    if not error > 0.0:
        return math.nan
    excess = measures.sharpe(returns, periods_per_year, cash_rate) - benchmark_sharpe
    return NormalDist().cdf(excess / error)


def newey_west_lags(periods: int) -> int:
    """Return the usual number of lags for a series of that many periods.

    Source:
        Newey & West, "Automatic Lag Selection in Covariance Matrix Estimation", 1994.

    >>> newey_west_lags(100), newey_west_lags(2520)
    (4, 8)
    """
    return int(4.0 * (periods / 100.0) ** (2.0 / 9.0))


def newey_west_standard_error(values: FloatArray, lags: int) -> float:
    """Return the standard error of the mean of a (T,) series that is correlated over time.

    Source:
        Newey & West, "A Simple, Positive Semi-Definite, Heteroskedasticity and Autocorrelation
        Consistent Covariance Matrix", Econometrica, 1987 (Bartlett weights).
    """
    periods = len(values)
    if not 0 <= lags < periods:
        raise ValueError(f"lags must be in [0, {periods}), was {lags}")
    centred = values - values.mean()
    variance = float(centred @ centred)
    for lag in range(1, lags + 1):
        weight = 1.0 - lag / (lags + 1.0)
        variance += 2.0 * weight * float(centred[lag:] @ centred[:-lag])
    return math.sqrt(max(variance, 0.0)) / periods


def active_information_ratio(
    returns: FloatArray, reference: FloatArray, periods_per_year: float
) -> Estimate:
    """Return the information ratio of what beta to the reference does not explain.

    The plain information ratio rewards buying beta; this one does not. Its standard error allows
    for fat tails, skewness and correlation over time; the estimation of beta, whose share is of
    the order of the squared daily Sharpe ratio, is left out.

    Args:
        returns: (T,) of the book.
        reference: (T,) of the same periods, usually monthly 1/N of the same universe.
        periods_per_year: of both.

    Returns:
        Annualised; both NaN where either series does not vary or nothing is left of the book.

    Source:
        Treynor & Black, "How to Use Security Analysis to Improve Portfolio Selection", 1973; the
        standard error is the GMM one of Lo, "The Statistics of Sharpe Ratios", 2002.
    """
    slope = measures.beta(returns, reference)
    active = returns - slope * reference
    deviation = float(active.std(ddof=1)) if len(active) > 1 else math.nan
    if not deviation > measures.CONSTANT:
        return Estimate(math.nan, math.nan)
    scores = (active - active.mean()) / deviation
    ratio = float(active.mean()) / deviation
    influence = scores - ratio / 2.0 * (scores**2 - 1.0)
    error = newey_west_standard_error(influence, newey_west_lags(len(active)))
    annual = math.sqrt(periods_per_year)
    return Estimate(ratio * annual, error * annual)


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """A book less its reference, annualised, with bootstrap intervals."""

    sharpe: Interval
    mean: Interval


def paired_bootstrap(
    returns: FloatArray,
    reference: FloatArray,
    periods_per_year: float,
    generator: np.random.Generator,
    block: int = 21,
    draws: int = 1000,
    level: float = 0.95,
) -> PairedDifference:
    """Return the differences in Sharpe ratio and mean, resampled in blocks of paired periods.

    Args:
        returns: (T,) of the book.
        reference: (T,) of the same periods.
        periods_per_year: of both.
        generator: the only source of randomness.
        block: periods in a block; about as long as the memory of the series.
        draws: number of resampled histories.
        level: that the two-sided percentile interval is to cover; with two years of independent
            daily returns a 95 % interval covers about 94 % (simulated).

    Source:
        Politis & Romano, "A Circular Block-Resampling Procedure for Stationary Data", 1992;
        Ledoit & Wolf, "Robust Performance Hypothesis Testing with the Sharpe Ratio", 2008.
    """
    if len(returns) != len(reference) or not 1 <= block <= len(returns):
        raise ValueError(f"{len(returns)} and {len(reference)} periods in blocks of {block}")
    rows = _circular_blocks(len(returns), block, draws, generator)
    ours, theirs = returns[rows], reference[rows]  # (draws, T)
    annual = math.sqrt(periods_per_year)
    sharpes = (_ratios(ours) - _ratios(theirs)) * annual
    means = (ours.mean(axis=1) - theirs.mean(axis=1)) * periods_per_year
    sharpe = measures.sharpe(returns, periods_per_year)
    difference = sharpe - measures.sharpe(reference, periods_per_year)
    mean = float((returns - reference).mean()) * periods_per_year
    return PairedDifference(
        _percentiles(difference, sharpes, level), _percentiles(mean, means, level)
    )


def interquartile_mean(values: FloatArray) -> float:
    """Return the mean of the middle half: a quarter, rounded down, is left out at each end.

    Source:
        Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice",
        NeurIPS 2021.

    >>> interquartile_mean(np.array([9.0, 1.0, 2.0, 3.0, -50.0]))
    2.0
    """
    if not len(values):
        return math.nan
    return float(_interquartile_means(values[None])[0])


def interquartile_mean_interval(
    values: FloatArray, generator: np.random.Generator, draws: int = 2000, level: float = 0.95
) -> Interval:
    """Return the interquartile mean over (S,) seeds with its percentile bootstrap interval.

    With ten seeds a 95 % interval covers about 94 % (simulated, normal scores).
    """
    if not len(values):
        return Interval(math.nan, math.nan, math.nan)
    rows = generator.integers(len(values), size=(draws, len(values)))
    resampled = _interquartile_means(values[rows])
    return _percentiles(interquartile_mean(values), resampled, level)


def _circular_blocks(
    periods: int, block: int, draws: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Return (draws, T) rows made of blocks that wrap around the end of the series."""
    starts = generator.integers(periods, size=(draws, -(-periods // block)))
    rows = (starts[:, :, None] + np.arange(block)) % periods
    return rows.reshape(draws, -1)[:, :periods]


def _ratios(returns: FloatArray) -> FloatArray:
    """Return the (draws,) Sharpe ratios of one period; NaN for a constant."""
    deviation = returns.std(axis=1, ddof=1)
    deviation[~(deviation > measures.CONSTANT)] = np.nan
    ratios: FloatArray = returns.mean(axis=1) / deviation
    return ratios


def _interquartile_means(values: FloatArray) -> FloatArray:
    """Return the (draws,) interquartile means of (draws, S) values."""
    cut = values.shape[1] // 4
    middle = np.sort(values, axis=1)[:, cut : values.shape[1] - cut]
    means: FloatArray = middle.mean(axis=1)
    return means


def _percentiles(value: float, draws: FloatArray, level: float) -> Interval:
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(draws, [tail, 1.0 - tail])
    return Interval(value, float(low), float(high))
