import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.rolling import enough, lagged, window_count, window_max, window_mean, window_std
from market.rolling import window_sum as total


def holey(rows: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(rows, 2))
    values[generator.random((rows, 2)) < 0.2] = np.nan
    return values


sizes = st.tuples(st.integers(1, 60), st.integers(1, 25), st.integers(0, 9))


@given(sizes)
def test_windows_equal_those_of_pandas(size: tuple[int, int, int]) -> None:
    rows, window, seed = size
    values = holey(rows, seed)
    rolling = pd.DataFrame(values).rolling(window, min_periods=1)
    np.testing.assert_allclose(total(values, window), rolling.sum().fillna(0.0), atol=1e-12)
    np.testing.assert_array_equal(window_max(values, window), rolling.max().fillna(-np.inf))
    known = np.isfinite(values)
    np.testing.assert_array_equal(window_count(known, window), rolling.count().to_numpy())


@given(sizes)
def test_a_statistic_is_defined_once_its_first_value_is_a_window_old_and_half_is_known(
    size: tuple[int, int, int],
) -> None:
    rows, window, seed = size
    known = np.isfinite(holey(rows, seed))
    found = enough(known, window)
    for t in range(rows):
        for i in range(2):
            past = known[: t + 1, i]
            old = past.any() and t - int(np.argmax(past)) + 1 >= window
            assert found[t, i] == (
                old and known[max(t - window + 1, 0) : t + 1, i].sum() * 2 >= window
            )


def test_mean_and_deviation_are_those_of_pandas() -> None:
    values = holey(300, 4)
    rolling = pd.DataFrame(values).rolling(21, min_periods=11)
    after = slice(25, None)
    np.testing.assert_allclose(window_mean(values, 21)[after], rolling.mean()[after], rtol=1e-11)
    np.testing.assert_allclose(window_std(values, 21)[after], rolling.std()[after], rtol=1e-9)


def test_a_huge_number_leaves_no_trace_behind() -> None:
    """A running sum that adds and subtracts would keep its rounding for ever."""
    values = np.full(100, 1e-3)
    values[30] = 1e17
    assert total(values, 10)[60] == pytest.approx(1e-2, rel=1e-14)


def test_a_lag_longer_than_the_history_is_unknown() -> None:
    assert np.isnan(lagged(np.ones(3), 5)).all()
