"""The entries of the summary that question a result: luck, beta, timing, one stock, degeneracy.

Everything is at cost scale 1; what is undefined is NaN here and null in the file.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from evaluation.books import ENSEMBLE, EQUAL_WEIGHT, Book
from evaluation.contest import Contest
from evaluation.degeneracy import Behaviour, degeneracy, train_test_gap
from evaluation.metrics import sharpe_difference
from evaluation.statistics import Estimate, Interval, active_information_ratio
from market.bars import TRADING_DAYS
from risk import measures

TARGETED = "volatility_target"  # how the names of the volatility-targeted baselines begin
TOP = 5  # names shown of the largest over- and underweights


def comparisons(
    contest: Contest, baselines: Mapping[str, Mapping[str, float]], seed: int | None
) -> dict[str, dict[str, dict[str, float]]]:
    """Return policy -> yardstick -> difference of Sharpe ratios with its interval."""
    yardsticks = [EQUAL_WEIGHT]
    targeted = [name for name in contest.baselines if name.startswith(TARGETED)]
    if targeted:
        yardsticks.append(max(targeted, key=lambda name: _or_lowest(baselines[name]["sharpe"])))
    generator = _generator(seed)
    return {
        name: {
            against: _difference(
                sharpe_difference(
                    contest.book(name),
                    contest.book(against),
                    contest.window.cash_rate,
                    generator,
                )
            )
            for against in yardsticks
            if against != name
        }
        for name in contest.policies
    }


def _difference(interval: Interval) -> dict[str, float]:
    return {"difference": interval.value, "low": interval.low, "high": interval.high}


def active_information_ratios(contest: Contest) -> dict[str, dict[str, float]]:
    """Return each policy's ratio to monthly 1/N with its standard error, and that in training."""
    found = {}
    for name in contest.policies:
        ratio = _active_information_ratio(contest, contest.book(name), contest.book(EQUAL_WEIGHT))
        found[name] = {**asdict(ratio), "in_training": _ratio_in_training(contest, name)}
    return found


def average_weights(contest: Contest, seed: int | None) -> dict[str, dict[str, float]]:
    """Return the Sharpe ratio of each policy's average weights, and what the policy has over it."""
    generator = _generator(seed)
    rate = contest.window.cash_rate
    return {
        name: {
            "sharpe": _sharpe(contest, still),
            **_difference(sharpe_difference(contest.book(name), still, rate, generator)),
        }
        for name, still in contest.doubts.constant.items()
    }


def without_best_stock(contest: Contest) -> dict[str, Any] | None:
    """Return the stock that added most to the ensemble, and Sharpe ratios with and without it."""
    best = contest.doubts.best
    if best is None:
        return None
    return {
        "symbol": contest.symbols[best.column],
        "share_of_gain": best.share,
        "sharpe": {
            name: {
                "with": _sharpe(contest, contest.book(name)),
                "without": _sharpe(contest, contest.doubts.without_best[name]),
            }
            for name in dict.fromkeys((*contest.policies, EQUAL_WEIGHT))
        },
    }


def findings(contest: Contest, name: str) -> list[dict[str, Any]]:
    """Return what every detector of degenerate policies saw; the last needs a trained policy."""
    book, reference = contest.book(name), contest.book(EQUAL_WEIGHT)
    behaviour = Behaviour(
        weights=book.weights[1:],
        cash=1.0 - book.weights[1:].sum(axis=1),
        turnover=book.turnover[1:],
        returns=measures.simple_returns(book.nav),
        reference_weights=reference.weights[1:],
        reference_returns=measures.simple_returns(reference.nav),
        equal_weights=contest.base[ENSEMBLE][1:],
        periods_per_year=TRADING_DAYS,
    )
    found = degeneracy(behaviour)
    if name in contest.doubts.in_training:
        test = _active_information_ratio(contest, book, reference)
        found.append(train_test_gap(_ratio_in_training(contest, name), test.value))
    return [asdict(finding) for finding in found]


def holdings(contest: Contest, name: str) -> dict[str, Any]:
    """Return mean cash and the names that differ most from the book's base portfolio.

    Weights here are shares of what is invested, averaged over the sessions with anything invested.
    """
    weights = contest.book(name).weights[1:]
    invested = weights.sum(axis=1)
    held = invested > measures.CONSTANT
    base = contest.base[name][1:]
    if not held.any():
        return {"mean_cash": 1.0, "over": [], "under": []}
    own = (weights[held] / invested[held, None]).mean(axis=0)
    difference = own - base[held].mean(axis=0)
    order = np.argsort(-difference, kind="stable")

    def shown(columns: Sequence[int]) -> list[dict[str, Any]]:
        return [
            {
                "symbol": contest.symbols[column],
                "weight": float(own[column]),
                "difference": float(difference[column]),
            }
            for column in columns
        ]

    return {
        "mean_cash": float(1.0 - invested.mean()),
        "over": shown([c for c in order[:TOP] if difference[c] > 0.0]),
        "under": shown([c for c in order[::-1][:TOP] if difference[c] < 0.0]),
    }


def _ratio_in_training(contest: Contest, name: str) -> float:
    """Return the active information ratio over the end of the train window; NaN for a rule."""
    books = contest.doubts.in_training
    if name not in books:
        return math.nan
    return _active_information_ratio(contest, books[name], books[EQUAL_WEIGHT]).value


def _active_information_ratio(contest: Contest, book: Book, reference: Book) -> Estimate:
    cash = (1.0 + contest.window.cash_rate) ** (1.0 / TRADING_DAYS) - 1.0
    ours, theirs = (measures.simple_returns(one.nav) - cash for one in (book, reference))
    return active_information_ratio(ours, theirs, TRADING_DAYS)


def _sharpe(contest: Contest, book: Book) -> float:
    returns = measures.simple_returns(book.nav)
    return measures.sharpe(returns, TRADING_DAYS, contest.window.cash_rate)


def _generator(seed: int | None) -> np.random.Generator:
    return np.random.default_rng(0 if seed is None else seed)


def _or_lowest(value: float) -> float:
    return -math.inf if math.isnan(value) else value
