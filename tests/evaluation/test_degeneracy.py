"""Each degenerate end is flagged by its own detector, and a sound policy by none."""

import dataclasses
import math

import numpy as np
import pytest

from evaluation.degeneracy import (
    Behaviour,
    degeneracy,
    train_test_gap,
)
from market.bars import FloatArray

SESSIONS, NAMES = 504, 10
EQUAL = np.full((SESSIONS, NAMES), 1.0 / NAMES)


def drifting(generator: np.random.Generator, spread: float) -> FloatArray:
    """Return weights around 1/N that wander by about `spread` of their size."""
    logits = np.cumsum(generator.normal(0.0, spread / 10.0, (SESSIONS, NAMES)), axis=0)
    weights = np.exp(logits)
    shares: FloatArray = weights / weights.sum(axis=1, keepdims=True)
    return shares


def sound() -> Behaviour:
    """Return a tilted book at 80 % exposure that trades twice its NAV a year."""
    generator = np.random.default_rng(0)
    market = generator.normal(0.0004, 0.01, SESSIONS)
    weights = 0.8 * drifting(generator, 0.4)
    return Behaviour(
        weights=weights,
        cash=1.0 - weights.sum(axis=1),
        turnover=np.full(SESSIONS, 2.0 / 252),
        returns=0.8 * market + generator.normal(0.0, 0.001, SESSIONS),
        reference_weights=EQUAL * (1.0 + 0.06 * np.sign(np.arange(NAMES) - 4.5)),
        reference_returns=market,
        equal_weights=EQUAL,
        periods_per_year=252,
    )


def flagged(behaviour: Behaviour) -> set[str]:
    return {finding.name for finding in degeneracy(behaviour) if finding.flagged}


def held(weights: FloatArray) -> Behaviour:
    return dataclasses.replace(sound(), weights=weights, cash=1.0 - weights.sum(axis=1))


def test_a_sound_policy_is_flagged_by_nothing() -> None:
    assert flagged(sound()) == set()


def test_a_book_that_only_drifts_is_a_clone_of_equal_weight_and_blind() -> None:
    behaviour = held(sound().reference_weights)
    assert flagged(behaviour) == {"equal_weight_clone", "state_blind"}


@pytest.mark.parametrize(("scale", "name"), [(0.2, "beta_low"), (1.2, "beta_high")])
def test_bought_and_shunned_market_risk_are_flagged(scale: float, name: str) -> None:
    behaviour = sound()
    returns = scale * behaviour.reference_returns
    assert flagged(dataclasses.replace(behaviour, returns=returns)) == {name}


def test_a_book_of_two_stocks_is_concentrated() -> None:
    weights = np.zeros((SESSIONS, NAMES))
    weights[::2, :2] = weights[1::2, 2:4] = 0.5
    assert flagged(held(weights)) == {"few_names", "single_name"}


def test_one_session_with_one_heavy_name_is_enough() -> None:
    weights = sound().weights.copy()
    weights[100] = 0.0
    weights[100, 3] = 0.36
    assert flagged(held(weights)) == {"single_name"}


def test_a_universe_of_three_may_hold_a_third_in_each() -> None:
    weights = np.full((SESSIONS, 3), 1.0 / 3.0)
    names = {
        finding.name
        for finding in degeneracy(
            dataclasses.replace(held(weights), reference_weights=weights, equal_weights=weights)
        )
        if finding.flagged
    }
    assert names == {"equal_weight_clone", "state_blind"}


def test_hiding_in_cash_is_flagged() -> None:
    assert flagged(held(0.1 * sound().weights)) == {"all_cash"}


def test_a_book_that_never_invests_is_flagged_although_nothing_can_be_measured() -> None:
    behaviour = dataclasses.replace(
        held(np.zeros((SESSIONS, NAMES))),
        turnover=np.zeros(SESSIONS),
        returns=np.zeros(SESSIONS),
    )
    assert flagged(behaviour) == {
        "all_cash",
        "beta_low",
        "few_names",
        "buy_and_hold",
        "state_blind",
    }
    sentences = {finding.name: finding.sentence for finding in degeneracy(behaviour)}
    assert "is undefined" in sentences["few_names"]


def test_accidental_leverage_is_flagged_and_rounding_is_not() -> None:
    behaviour = sound()
    cash = behaviour.cash.copy()
    cash[7] = -1e-12
    assert flagged(dataclasses.replace(behaviour, cash=cash)) == set()
    cash[7] = -1e-4
    assert flagged(dataclasses.replace(behaviour, cash=cash)) == {"leverage"}


def test_churn_is_flagged() -> None:
    turnover = np.full(SESSIONS, 10.5 / 252)
    assert flagged(dataclasses.replace(sound(), turnover=turnover)) == {"churn"}


def test_buying_once_and_holding_is_flagged_whatever_the_first_purchase() -> None:
    turnover = np.zeros(SESSIONS)
    turnover[3] = 1.0
    assert flagged(dataclasses.replace(sound(), turnover=turnover)) == {"buy_and_hold"}


def test_moving_only_the_exposure_is_blind_to_the_names() -> None:
    exposure = 0.5 + 0.4 * np.sin(np.arange(SESSIONS) / 20.0)
    tilt = np.linspace(0.05, 0.15, NAMES)
    assert flagged(held(exposure[:, None] * tilt)) == {"state_blind"}


@pytest.mark.parametrize(
    ("train", "test", "overfitted"),
    [(1.2, 0.4, False), (1.3, -0.5, True), (math.nan, 0.1, True)],
)
def test_a_result_that_stays_in_the_training_window_is_flagged(
    train: float, test: float, overfitted: bool
) -> None:
    assert train_test_gap(train, test).flagged is overfitted


def test_a_finding_reads_as_a_sentence_with_value_and_threshold() -> None:
    sentence = train_test_gap(1.3, -0.5).sentence
    assert sentence == (
        "Active information ratio in training less that out of sample is 1.800, at most 1.00 is "
        "expected: the policy memorised its training data."
    )
    assert train_test_gap(0.5, 0.5).sentence.endswith("at most 1.00 is expected.")
