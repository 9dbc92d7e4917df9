"""Detectors of degenerate policies: results that look fine and hold nothing worth trusting.

Each detector compares one number with one threshold. A number that is undefined is flagged: what
cannot be measured is not fine. The thresholds come from policies that were seen to degenerate on
daily bars of 20 to 100 large stocks.
"""

import math
from dataclasses import dataclass

import numpy as np

from market.bars import FloatArray
from risk import measures

MIN_ACTIVE_SHARE = 0.02  # beyond the drift of a 1/N book that does nothing
MIN_BETA, MAX_BETA = 0.3, 1.1  # to monthly 1/N of the same universe
MIN_EFFECTIVE_NAMES = 5.0
MAX_SINGLE_WEIGHT = 0.35
MAX_MEAN_CASH = 0.9
MAX_TURNOVER = 10.0  # buys + sells, NAVs a year
MIN_TURNOVER = 0.02  # likewise, once the book is built
MIN_TIME_DEVIATION = 0.05
MAX_TRAIN_TEST_GAP = 1.0  # in annual information ratio
CASH_DIGITS = 9  # of a fraction of NAV; what is smaller is rounding error


@dataclass(frozen=True, slots=True)
class Finding:
    """What one detector saw."""

    name: str
    value: float
    threshold: float
    flagged: bool
    sentence: str


@dataclass(frozen=True, slots=True, eq=False)
class Behaviour:
    """What a policy did over T sessions.

    Args:
        weights: (T, N) held at each close, fraction of NAV.
        cash: (T,) fraction of NAV.
        turnover: (T,) buys + sells in each session, fraction of NAV.
        returns: (T,) net of cost.
        reference_weights: (T, N) held by monthly 1/N of the same universe, which drifts between
            its rebalances.
        reference_returns: (T,) of that book.
        equal_weights: (T, N) exactly 1/N of the names that could be held in each session.
        periods_per_year: of the sessions.
    """

    weights: FloatArray
    cash: FloatArray
    turnover: FloatArray
    returns: FloatArray
    reference_weights: FloatArray
    reference_returns: FloatArray
    equal_weights: FloatArray
    periods_per_year: float


def degeneracy(behaviour: Behaviour) -> list[Finding]:
    """Return what every detector saw, in the order of this module's table, flagged or not."""
    return [
        equal_weight_clone(behaviour),
        *beta_drift(behaviour),
        *concentration(behaviour),
        *cash_extremes(behaviour),
        *trading_extremes(behaviour),
        state_blindness(behaviour),
    ]


def equal_weight_clone(behaviour: Behaviour) -> Finding:
    """Look for a book that differs from 1/N by no more than 1/N drifts by itself."""
    share = measures.active_share(behaviour.weights, behaviour.equal_weights)
    drift = measures.active_share(behaviour.reference_weights, behaviour.equal_weights)
    return _at_least(
        "equal_weight_clone",
        share - drift,
        MIN_ACTIVE_SHARE,
        "active share beyond the drift of 1/N",
        "the policy is a clone of 1/N",
    )


def beta_drift(behaviour: Behaviour) -> tuple[Finding, Finding]:
    """Look for a result that is bought or shunned market risk."""
    value = measures.beta(behaviour.returns, behaviour.reference_returns)
    what = "beta to 1/N"
    return (
        _at_least("beta_low", value, MIN_BETA, what, "the book barely takes part in its market"),
        _at_most("beta_high", value, MAX_BETA, what, "the result is bought market risk"),
    )


def concentration(behaviour: Behaviour) -> tuple[Finding, Finding]:
    """Look for a book of one or two stocks; small universes have proportionate thresholds."""
    names = behaviour.weights.shape[1]
    return (
        _at_least(
            "few_names",
            measures.effective_positions(behaviour.weights),
            min(MIN_EFFECTIVE_NAMES, names / 2.0),
            "mean effective number of names",
            "the result hangs on a few stocks",
        ),
        _at_most(
            "single_name",
            float(behaviour.weights.max()),
            max(MAX_SINGLE_WEIGHT, 2.0 / names),
            "largest weight",
            "one stock can sink the book",
        ),
    )


def cash_extremes(behaviour: Behaviour) -> tuple[Finding, Finding]:
    """Look for a book that hides in cash, and for one that borrows by accident."""
    lowest = float(behaviour.cash.min().round(CASH_DIGITS)) + 0.0  # never shown as -0
    return (
        _at_most(
            "all_cash",
            float(behaviour.cash.mean()),
            MAX_MEAN_CASH,
            "mean cash",
            "the policy hides in cash",
        ),
        _at_least("leverage", lowest, 0.0, "lowest cash", "the book borrowed"),
    )


def trading_extremes(behaviour: Behaviour) -> tuple[Finding, Finding]:
    """Look for churn, and for a book that is bought once and then left alone."""
    annual = measures.annual_turnover(behaviour.turnover, behaviour.periods_per_year)
    traded = np.flatnonzero(behaviour.turnover)
    later = behaviour.turnover[traded[0] + 1 :] if len(traded) else behaviour.turnover
    upkeep = measures.annual_turnover(later, behaviour.periods_per_year)
    return (
        _at_most(
            "churn", annual, MAX_TURNOVER, "turnover a year", "costs decide what this policy earns"
        ),
        _at_least(
            "buy_and_hold",
            upkeep,
            MIN_TURNOVER,
            "turnover a year once the book is built",
            "the policy buys and then does nothing",
        ),
    )


def state_blindness(behaviour: Behaviour) -> Finding:
    """Look for relative weights that hardly move: the policy does not read its inputs.

    The measure is half the L1 distance of the relative weights from their own average, a mean over
    the sessions with anything invested.
    """
    invested = behaviour.weights.sum(axis=1, keepdims=True)
    held = invested[:, 0] > measures.CONSTANT
    deviation = math.nan
    if held.any():
        relative = behaviour.weights[held] / invested[held]
        deviation = float(np.abs(relative - relative.mean(axis=0)).sum(axis=1).mean() / 2.0)
    return _at_least(
        "state_blind",
        deviation,
        MIN_TIME_DEVIATION,
        "deviation of the relative weights over time",
        "the policy hardly reacts to its inputs",
    )


def train_test_gap(train: float, test: float) -> Finding:
    """Look for an active information ratio that does not survive the training window."""
    return _at_most(
        "train_test_gap",
        train - test,
        MAX_TRAIN_TEST_GAP,
        "active information ratio in training less that out of sample",
        "the policy memorised its training data",
    )


def _at_least(name: str, value: float, threshold: float, what: str, verdict: str) -> Finding:
    return _finding(name, value, threshold, not value >= threshold, "at least", what, verdict)


def _at_most(name: str, value: float, threshold: float, what: str, verdict: str) -> Finding:
    return _finding(name, value, threshold, not value <= threshold, "at most", what, verdict)


def _finding(
    name: str, value: float, threshold: float, flagged: bool, bound: str, what: str, verdict: str
) -> Finding:
    seen = "undefined" if math.isnan(value) else f"{value:.3f}"
    ending = f": {verdict}" if flagged else ""
    sentence = (
        f"{what[0].upper()}{what[1:]} is {seen}, {bound} {threshold:.2f} is expected{ending}."
    )
    return Finding(name, value, threshold, flagged, sentence)
