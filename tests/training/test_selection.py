"""Inner validation: windows, the hedge, and what is kept."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.errors import InputError
from training.selection import Decision, hedged_mean, inner_windows
from training.settings import SelectionSettings


@given(st.integers(0, 500), st.integers(900, 9000), st.floats(0.1, 0.5), st.integers(0, 60))
def test_inner_training_ends_an_embargo_before_the_validation(
    start: int, length: int, fraction: float, embargo: int
) -> None:
    train = slice(start, start + length)
    inner, validation = inner_windows(train, SelectionSettings(fraction, embargo))
    assert inner.start == train.start
    assert validation.stop == train.stop
    assert validation.start - inner.stop == embargo
    assert validation.stop - validation.start == round(length * fraction)


def test_a_window_too_short_to_validate_is_refused() -> None:
    with pytest.raises(InputError, match=r"market.train: 200 sessions are too few"):
        inner_windows(slice(0, 200), SelectionSettings(0.2, 21))


def test_beta_is_no_excess() -> None:
    random = np.random.default_rng(0)
    reference = random.normal(4e-4, 0.01, 2000)
    noise = random.normal(0.0, 1e-3, 2000)
    excess, error = hedged_mean(0.3 * reference + noise, reference)
    assert abs(excess) < 2.0 * error
    assert error == pytest.approx(252 * 1e-3 / math.sqrt(2000), rel=0.1)
    better, _ = hedged_mean(0.3 * reference + noise + 1e-4, reference)
    assert better == pytest.approx(excess + 0.0252)


def test_correlated_days_raise_the_standard_error() -> None:
    random = np.random.default_rng(0)
    shocks = random.normal(0.0, 1e-3, 2004)
    moving = np.convolve(shocks, np.ones(5) / 5.0, mode="valid")
    _, error = hedged_mean(moving, random.normal(0.0, 0.01, 2000))
    naive = 252 * moving.std() / math.sqrt(2000)
    assert error > 1.7 * naive  # the truth is sqrt(5)


@pytest.mark.parametrize(
    ("excess", "error", "threshold", "kept"),
    [
        (0.021, 0.02, 1.0, True),
        (0.020, 0.02, 1.0, False),
        (-0.01, 0.02, -1.0, True),
        (-5.0, 0.02, -math.inf, True),
        (math.nan, math.nan, -math.inf, False),  # the same as before: nothing to keep
    ],
)
def test_a_stage_is_kept_above_its_threshold_of_standard_errors(
    excess: float, error: float, threshold: float, kept: bool
) -> None:
    assert Decision("rl", "rule", excess, error, threshold, 500).kept is kept


def test_a_decision_reads_as_a_sentence() -> None:
    decision = Decision("rl", "warm_start", 0.0123, 0.01, 1.0, 500)
    assert str(decision) == (
        "kept: +1.23% a year over warm_start in 500 sessions of inner validation, "
        "standard error 1.00%, threshold 1 standard errors"
    )


def test_a_stage_that_changes_nothing_has_no_excess() -> None:
    excess, error = hedged_mean(np.zeros(100), np.random.default_rng(0).normal(size=100))
    assert math.isnan(excess)
    assert math.isnan(error)


def test_by_default_a_stage_must_exceed_at_least_one_standard_error(
    compose: Callable[..., Any],
) -> None:
    assert compose("pretrain=ranker")["pretrain"].keep_if >= 1.0
    assert compose("algorithm=ppo")["algorithm"].keep_if >= 1.0
