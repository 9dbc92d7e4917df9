"""One book's row of measures, and how surely it differs from a yardstick.

Every number is out of one NAV series of daily sessions; see `risk.measures` for signs and units.
What is undefined is NaN here and null in the files.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evaluation.books import Book
from evaluation.contest import INDEX
from evaluation.statistics import Interval, paired_bootstrap, probabilistic_sharpe
from market.bars import TRADING_DAYS, FloatArray
from risk import measures

LEVEL = 0.95  # of value at risk and of expected shortfall
BLOCK = 21  # sessions that stay together when histories are resampled

METRICS = (
    "cagr",
    "volatility",
    "sharpe",
    "sharpe_se",
    "psr",
    "sortino",
    "calmar",
    "max_drawdown",
    "var_95",
    "cvar_95",
    "turnover_annual",
    "cost_annual",
    "win_rate",
    "profit_factor",
    "beta",
    "correlation",
    "effective_positions",
    "active_share_vs_equal_weight",
)


def metrics(book: Book, equal_weight: Book, cash_rate: float) -> dict[str, float]:
    """Return every measure of a book, in the order of `METRICS`.

    Args:
        book: the book.
        equal_weight: monthly 1/N of the same universe over the same sessions.
        cash_rate: annual, what Sharpe, its error, PSR and Sortino are measured against.
    """
    returns = measures.simple_returns(book.nav)
    benchmark = measures.simple_returns(equal_weight.nav)
    values = (
        measures.cagr(book.nav, TRADING_DAYS),
        measures.volatility(returns, TRADING_DAYS),
        measures.sharpe(returns, TRADING_DAYS, cash_rate),
        measures.sharpe_standard_error(returns, TRADING_DAYS, cash_rate),
        probabilistic_sharpe(returns, TRADING_DAYS, cash_rate=cash_rate),
        measures.sortino(returns, TRADING_DAYS, cash_rate),
        measures.calmar(book.nav, TRADING_DAYS),
        measures.max_drawdown(book.nav),
        measures.var(returns, LEVEL),
        measures.cvar(returns, LEVEL),
        measures.annual_turnover(book.turnover[1:], TRADING_DAYS),
        measures.annual_cost(book.cost_fraction[1:], TRADING_DAYS),
        measures.win_rate(returns),
        measures.profit_factor(returns),
        measures.beta(returns, benchmark),
        measures.correlation(returns, benchmark),
        measures.effective_positions(book.weights[1:]),
        measures.active_share(book.weights[1:], equal_weight.weights[1:]),
    )
    return dict(zip(METRICS, values, strict=True))


def sharpe_difference(
    book: Book, yardstick: Book, cash_rate: float, generator: np.random.Generator
) -> Interval:
    """Return how much higher the book's Sharpe ratio is, with a 95 % bootstrap interval.

    Raises:
        ValueError: for the index as the yardstick: it pays no costs and leaves out dividends.
    """
    if yardstick.name == INDEX:
        raise ValueError("a price index without dividends and costs is no yardstick")
    cash = (1.0 + cash_rate) ** (1.0 / TRADING_DAYS) - 1.0
    ours = measures.simple_returns(book.nav) - cash
    theirs = measures.simple_returns(yardstick.nav) - cash
    if not (ours.std() > measures.CONSTANT and theirs.std() > measures.CONSTANT):
        return Interval(math.nan, math.nan, math.nan)
    block = min(BLOCK, len(ours))
    return paired_bootstrap(ours, theirs, TRADING_DAYS, generator, block).sharpe


def by_regime(
    book: Book, regime: NDArray[np.int64], names: Sequence[str], cash_rate: float
) -> dict[str, dict[str, float]]:
    """Return what the book did in the sessions that were decided in each regime.

    Args:
        book: over T sessions.
        regime: (T,) known at each close; the return of the next session belongs to it.
        names: of the regimes.
        cash_rate: annual.
    """
    returns = measures.simple_returns(book.nav)
    rows: dict[str, dict[str, float]] = {}
    for index, name in enumerate(names):
        chosen = returns[regime[:-1] == index]
        if len(chosen):
            rows[name] = {
                "sessions": float(len(chosen)),
                "mean_annual": float(chosen.mean() * TRADING_DAYS),
                "volatility": measures.volatility(chosen, TRADING_DAYS),
                "sharpe": measures.sharpe(chosen, TRADING_DAYS, cash_rate),
                "cvar_95": measures.cvar(chosen, LEVEL),
            }
    return rows


def monthly_returns(book: Book) -> dict[tuple[int, int], float]:
    """Return the return of each calendar month by (year, month); the first may be a part of one."""
    months = book.dates.astype("datetime64[M]")
    last = np.append(np.flatnonzero(months[1:] != months[:-1]), len(months) - 1)
    ends: FloatArray = book.nav[last]
    starts = np.concatenate([book.nav[:1], ends[:-1]])
    keys = [divmod(int(month), 12) for month in months[last].astype(np.int64)]
    changes = ends / starts - 1.0
    return {
        (1970 + year, 1 + month): float(change)
        for (year, month), change in zip(keys, changes, strict=True)
    }
