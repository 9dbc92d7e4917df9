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

EULER = 0.5772156649015329  # the Euler-Mascheroni constant


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


def expected_maximum(count: int) -> float:
    """Return about what the largest of so many independent standard normal numbers is.

    Source:
        Bailey & López de Prado, "The Deflated Sharpe Ratio", Journal of Portfolio Management, 2014.

    >>> round(expected_maximum(10), 2), expected_maximum(1)
    (1.57, 0.0)
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, was {count}")
    if count == 1:
        return 0.0
    normal = NormalDist()
    far = normal.inv_cdf(1.0 - 1.0 / (count * math.e))
    return (1.0 - EULER) * normal.inv_cdf(1.0 - 1.0 / count) + EULER * far


def deflated_sharpe(best: Estimate, scores: FloatArray, trials: int) -> float:
    """Return the probability that the best of several trials is better than the luckiest of them.

    The benchmark is the ratio that the best of `trials` strategies would show if none had any skill
    and their ratios differed as much as the scores do.

    Args:
        best: Sharpe or information ratio of the chosen trial, with its standard error.
        scores: (S,) ratios of the trials, in the same unit.
        trials: how many there were, S or more.

    Returns:
        Probability in [0, 1]; NaN where the standard error is undefined.

    Source:
        Bailey & López de Prado, "The Deflated Sharpe Ratio", Journal of Portfolio Management, 2014.
    """
    if not best.standard_error > 0.0:
        return math.nan
    deviation = float(scores.std(ddof=1)) if len(scores) > 1 else 0.0
    benchmark = deviation * expected_maximum(trials)
    return NormalDist().cdf((best.value - benchmark) / best.standard_error)


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
    starts = generator.integers(len(returns), size=(draws, -(-len(returns) // block)))
    ours, theirs = (_resampled(series, starts, block) for series in (returns, reference))
    annual = math.sqrt(periods_per_year)
    sharpes = (ours.ratios - theirs.ratios) * annual
    means = (ours.means - theirs.means) * periods_per_year
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


@dataclass(frozen=True, slots=True, eq=False)
class _Histories:
    """Moments of resampled histories, each (draws,)."""

    means: FloatArray
    deviations: FloatArray  # sample standard deviations, divisor T - 1

    @property
    def ratios(self) -> FloatArray:
        """Return the Sharpe ratios of one period; NaN for a constant."""
        varies = self.deviations > measures.CONSTANT
        return np.divide(
            self.means, self.deviations, out=np.full_like(self.means, np.nan), where=varies
        )


def _resampled(values: FloatArray, starts: NDArray[np.int64], block: int) -> _Histories:
    """Return the moments of histories made of blocks that wrap around the end of the series.

    They follow from those of the blocks, a T-th as many numbers as the histories have.

    Args:
        values: (T,) of each period.
        starts: (draws, B) first period of each block; the last block is cut so that T periods are
            left.
        block: periods in a block.

    Source:
        Chan, Golub & LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample
        Variances", 1979.
    """
    periods, count = len(values), starts.shape[1]
    last = periods - (count - 1) * block
    means, squares = (
        np.concatenate([whole[starts[:, :-1]], cut[starts[:, -1:]]], axis=1)
        for whole, cut in zip(
            _block_moments(values, block), _block_moments(values, last), strict=True
        )
    )
    sizes = np.append(np.full(count - 1, block), last)
    mean = means @ sizes / periods
    total = squares.sum(axis=1) + (means - mean[:, None]) ** 2 @ sizes
    return _Histories(mean, np.sqrt(total / (periods - 1)))


def _block_moments(values: FloatArray, block: int) -> tuple[FloatArray, FloatArray]:
    """Return the (T,) means and sums of squared deviations of the block from each period on."""
    wrapped = np.concatenate([values, values[: block - 1]])
    blocks = np.lib.stride_tricks.sliding_window_view(wrapped, block)
    means = blocks.mean(axis=1)
    return means, ((blocks - means[:, None]) ** 2).sum(axis=1)


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
