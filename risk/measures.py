"""The measures of a book's performance: the only definitions, used wherever one is shown.

Conventions: returns are simple, one per period; fractions, never percent; a loss, a drawdown and a
value at risk are > 0. `periods_per_year` belongs to the return series (252 for daily bars).
`cash_rate` is annual and compounds. What is undefined, such as the Sharpe ratio of a constant, is
NaN; so is every measure of returns that hold a NaN, while a NAV that is not a positive number is
refused with a ValueError.
"""

import math

import numpy as np

from market.bars import FloatArray

CONSTANT = 1e-12  # a standard deviation below this is the rounding error of a constant series


def simple_returns(nav: FloatArray) -> FloatArray:
    """Return the (T - 1,) returns of a (T,) NAV whose first entry is the starting capital.

    >>> simple_returns(np.array([100.0, 90.0, 99.0])).round(12)
    array([-0.1,  0.1])
    """
    _check_positive(nav)
    return nav[1:] / nav[:-1] - 1.0


def cagr(nav: FloatArray, periods_per_year: float) -> float:
    """Return the compound annual growth rate of a (T,) NAV, which spans T - 1 periods.

    >>> round(cagr(np.array([100.0, 110.0, 121.0]), periods_per_year=1), 12)
    0.1
    """
    _check_positive(nav)
    if len(nav) < 2:
        return math.nan
    return float((nav[-1] / nav[0]) ** (periods_per_year / (len(nav) - 1)) - 1.0)


def volatility(returns: FloatArray, periods_per_year: float) -> float:
    """Return the annualised sample standard deviation (divisor T - 1)."""
    if len(returns) < 2:
        return math.nan
    return float(returns.std(ddof=1) * math.sqrt(periods_per_year))


def sharpe(returns: FloatArray, periods_per_year: float, cash_rate: float = 0.0) -> float:
    """Return the annualised mean excess over cash per unit of its standard deviation.

    Source:
        Sharpe, "The Sharpe Ratio", Journal of Portfolio Management, 1994.

    >>> round(sharpe(np.array([0.01, 0.02, 0.03]), periods_per_year=4), 12)
    4.0
    """
    return _period_sharpe(returns, periods_per_year, cash_rate) * math.sqrt(periods_per_year)


def sharpe_standard_error(
    returns: FloatArray, periods_per_year: float, cash_rate: float = 0.0
) -> float:
    """Return the standard error of `sharpe`, allowing for skewness and fat tails.

    For returns that are independent over time; a year of daily normal returns gives 1.0.

    Source:
        Lo, "The Statistics of Sharpe Ratios", Financial Analysts Journal, 2002; with the third
        and fourth moments of Mertens, "Comments on variance of the IID estimator in Lo", 2002.
        Divisor T - 1, as Bailey & López de Prado, "The Sharpe Ratio Efficient Frontier", 2012.
    """
    ratio = _period_sharpe(returns, periods_per_year, cash_rate)
    if math.isnan(ratio):
        return math.nan
    scores = (returns - returns.mean()) / returns.std()
    skewness, kurtosis = float((scores**3).mean()), float((scores**4).mean())
    variance = 1.0 - skewness * ratio + (kurtosis - 1.0) / 4.0 * ratio**2
    return math.sqrt(max(variance, 0.0) / (len(returns) - 1) * periods_per_year)


def sortino(returns: FloatArray, periods_per_year: float, cash_rate: float = 0.0) -> float:
    """Return the annualised mean excess over cash per unit of downside deviation.

    The downside deviation is the root mean square of the shortfalls below cash over all periods,
    not only over the losing ones.

    Source:
        Sortino & Price, "Performance Measurement in a Downside Risk Framework", 1994.
    """
    excess = returns - _period_rate(cash_rate, periods_per_year)
    downside = math.sqrt(float((np.minimum(excess, 0.0) ** 2).mean())) if len(excess) else math.nan
    if not downside > CONSTANT:
        return math.nan
    return float(excess.mean() / downside * math.sqrt(periods_per_year))


def drawdown(nav: FloatArray) -> FloatArray:
    """Return the fall from the running peak, as a fraction of that peak.

    Args:
        nav: (T,) account currency, > 0; `nav[0]` is the starting capital, so a loss on
            the very first bar counts.

    Returns:
        (T,) fraction in [0, 1).

    Raises:
        ValueError: if any NAV is not a positive number.

    Source:
        Magdon-Ismail & Atiya, "Maximum Drawdown", Risk Magazine, 2004.

    >>> drawdown(np.array([100.0, 90.0, 99.0, 110.0])).round(12)
    array([0.  , 0.1 , 0.01, 0.  ])
    """
    _check_positive(nav)
    return 1.0 - nav / np.maximum.accumulate(nav)


def max_drawdown(nav: FloatArray) -> float:
    """Return the deepest fall of a (T,) NAV from its running peak, see `drawdown`."""
    return float(drawdown(nav).max()) if len(nav) else math.nan


def calmar(nav: FloatArray, periods_per_year: float) -> float:
    """Return the annual growth rate per unit of maximum drawdown, over the whole NAV.

    Source:
        Young, "Calmar Ratio: A Smoother Tool", Futures, 1991 (there over 36 months).
    """
    deepest = max_drawdown(nav)
    return cagr(nav, periods_per_year) / deepest if deepest > CONSTANT else math.nan


def var(returns: FloatArray, level: float) -> float:
    """Return the historical value at risk of one period: the loss exceeded in 1 - `level` of them.

    Linear between order statistics. Negative where even that quantile is a gain.

    Args:
        returns: (T,) fraction.
        level: confidence in (0, 1), such as 0.95.

    >>> var(np.array([-0.04, -0.02, 0.0, 0.01, 0.03]), level=0.75)
    0.02
    """
    _check_level(level)
    return float(-np.quantile(returns, 1.0 - level)) if len(returns) else math.nan


def cvar(returns: FloatArray, level: float) -> float:
    """Return the mean loss of the periods that lose at least `var`: the expected shortfall.

    Source:
        Acerbi & Tasche, "On the coherence of expected shortfall", 2002.

    >>> round(cvar(np.array([-0.04, -0.02, 0.0, 0.01, 0.03]), level=0.75), 12)
    0.03
    """
    threshold = -var(returns, level)
    if math.isnan(threshold):
        return math.nan
    return float(-returns[returns <= threshold].mean())


def win_rate(returns: FloatArray) -> float:
    """Return the share of periods with a gain; a period without change is none."""
    if not len(returns) or np.isnan(returns).any():
        return math.nan
    return float((returns > 0.0).mean())


def profit_factor(returns: FloatArray) -> float:
    """Return the sum of the gains per unit of the sum of the losses.

    >>> round(profit_factor(np.array([0.03, -0.01, 0.01, -0.01])), 12)
    2.0
    """
    losses = float(-np.minimum(returns, 0.0).sum())
    return float(np.maximum(returns, 0.0).sum()) / losses if losses > 0.0 else math.nan


def beta(returns: FloatArray, benchmark: FloatArray) -> float:
    """Return the slope of a least-squares line of the (T,) returns on the benchmark's.

    >>> round(beta(np.array([0.01, -0.01, 0.03]), np.array([0.02, -0.02, 0.06])), 12)
    0.5
    """
    if len(returns) < 2 or not benchmark.std() > CONSTANT:
        return math.nan
    centred = benchmark - benchmark.mean()
    return float(centred @ (returns - returns.mean()) / (centred @ centred))


def correlation(returns: FloatArray, benchmark: FloatArray) -> float:
    """Return the linear correlation of two (T,) series."""
    if len(returns) < 2 or not (returns.std() > CONSTANT and benchmark.std() > CONSTANT):
        return math.nan
    return float(np.corrcoef(returns, benchmark)[0, 1])


def effective_positions(weights: FloatArray) -> float:
    """Return how many equal positions would be as concentrated, on average over time.

    One per sum of squared shares of what is invested; sessions in cash do not count.

    Args:
        weights: (T, N) fraction of NAV, >= 0, cash left out.

    >>> effective_positions(np.array([[0.25, 0.25], [0.0, 0.0], [0.7, 0.0]]))
    1.5
    """
    invested = weights.sum(axis=1)
    if np.isnan(invested).any():
        return math.nan
    held = weights[invested > CONSTANT]
    shares = held / held.sum(axis=1, keepdims=True)
    return float((1.0 / (shares**2).sum(axis=1)).mean()) if len(shares) else math.nan


def active_share(weights: FloatArray, reference: FloatArray) -> float:
    """Return the share of the book that differs from the reference, on average over time.

    Args:
        weights: (T, N) fraction of NAV; what is left of 1 is cash and counts as a position.
        reference: (T, N) or (N,), likewise.

    Source:
        Cremers & Petajisto, "How Active Is Your Fund Manager?", Review of Financial Studies, 2009.

    >>> active_share(np.array([[0.5, 0.5]]), np.array([0.25, 0.25]))
    0.5
    """
    if not len(weights):
        return math.nan
    difference = weights - reference
    cash = np.abs(difference.sum(axis=1))  # weights and cash sum to 1 in both
    return float((np.abs(difference).sum(axis=1) + cash).mean() / 2.0)


def annual_turnover(turnover: FloatArray, periods_per_year: float) -> float:
    """Return buys + sells per year, in NAVs, from the (T,) fraction traded in each period."""
    return float(turnover.mean() * periods_per_year) if len(turnover) else math.nan


def annual_cost(cost: FloatArray, periods_per_year: float) -> float:
    """Return the cost per year from the (T,) cost of each period, both as a fraction of NAV."""
    return float(cost.mean() * periods_per_year) if len(cost) else math.nan


def _period_sharpe(returns: FloatArray, periods_per_year: float, cash_rate: float) -> float:
    """Return the Sharpe ratio of one period."""
    if len(returns) < 2:
        return math.nan
    deviation = returns.std(ddof=1)
    if not deviation > CONSTANT:
        return math.nan
    return float((returns.mean() - _period_rate(cash_rate, periods_per_year)) / deviation)


def _period_rate(annual: float, periods_per_year: float) -> float:
    """Return the rate of one period that compounds to the annual one."""
    return float((1.0 + annual) ** (1.0 / periods_per_year) - 1.0)


def _check_positive(nav: FloatArray) -> None:
    if not (nav > 0.0).all():
        raise ValueError(f"NAV must be positive, lowest was {nav.min()}")


def _check_level(level: float) -> None:
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must be in (0, 1), was {level}")
