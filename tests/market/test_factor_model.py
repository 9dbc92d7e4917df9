from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from market.bars import TRADING_DAYS, Bars
from market.factor_model import (
    TURBULENCE_SHRINKAGE,
    WINDOW,
    FactorModel,
    ewma_volatility,
    fit,
    mean_correlation,
    simple_returns,
    turbulence,
)

YEAR = np.sqrt(TRADING_DAYS)


def bars_of(returns: np.ndarray) -> Bars:
    close = 100.0 * np.cumprod(1.0 + returns, axis=0)
    days = np.arange(len(close)).astype("datetime64[D]")
    there = np.ones(close.shape, dtype=bool)
    return Bars(days, tuple(f"S{i}" for i in range(close.shape[1])), close, there, there)


@pytest.fixture(scope="module")
def returns() -> np.ndarray:
    generator = np.random.default_rng(2)
    common = generator.normal(0.0004, 0.01, (700, 1))
    return common * np.linspace(0.5, 1.5, 8) + generator.normal(0.0, 0.012, (700, 8))


@pytest.fixture(scope="module")
def model(returns: np.ndarray) -> FactorModel:
    return fit(bars_of(returns))


def test_estimates_equal_a_regression_on_the_window(
    model: FactorModel, returns: np.ndarray
) -> None:
    t = 600
    window = returns[t - WINDOW + 1 : t + 1]
    market = window.mean(axis=1)
    design = np.column_stack([np.ones(WINDOW), market])
    for i in range(8):
        (_, slope), residual, *_ = np.linalg.lstsq(design, window[:, i], rcond=None)
        assert model.beta[t, i] == pytest.approx(slope, rel=1e-9)
        expected = np.sqrt(residual[0] / (WINDOW - 2)) * YEAR
        assert model.idiosyncratic_volatility[t, i] == pytest.approx(expected, rel=1e-9)
        assert model.volatility[t, i] == pytest.approx(window[:, i].std(ddof=1) * YEAR, rel=1e-9)


def test_the_betas_of_a_full_universe_average_one(model: FactorModel) -> None:
    np.testing.assert_allclose(model.beta[WINDOW:].mean(axis=1), 1.0, atol=1e-12)


def test_unknown_estimates_stand_in_as_the_dataset_says(model: FactorModel) -> None:
    early = slice(0, WINDOW - 1)
    assert np.isnan(model.volatility[early]).all()
    assert (model.beta[early] == 1.0).all()
    stand_in = np.tile(model.market_volatility[early, None], (1, 8))
    np.testing.assert_array_equal(model.idiosyncratic_volatility[early], stand_in)


def test_ewma_volatility_is_that_of_pandas_once_its_start_has_faded(returns: np.ndarray) -> None:
    series = returns.mean(axis=1)
    expected = np.sqrt((pd.Series(series) ** 2).ewm(halflife=21).mean() * TRADING_DAYS)
    np.testing.assert_allclose(ewma_volatility(series, 21)[500:], expected[500:], rtol=1e-6)


def test_ewma_volatility_halves_in_a_half_life_of_silence() -> None:
    found = ewma_volatility(np.zeros(43), 21)
    assert found[21] ** 2 / found[0] ** 2 == pytest.approx(0.5)
    assert (found > 0.0).all()


def test_ewma_volatility_is_a_number_on_every_session(ragged_bars: Bars) -> None:
    volatility = fit(ragged_bars).market_volatility
    assert np.isfinite(volatility).all() and (volatility > 0.0).all()


def test_a_return_over_a_gap_falls_on_the_session_that_has_a_price_again() -> None:
    bars = bars_of(np.zeros((4, 2)))
    close = bars.close.copy()
    close[:, 0] = [100.0, np.nan, np.nan, 110.0]
    found = simple_returns(replace(bars, close=close))[:, 0]
    assert np.isnan(found[:3]).all()
    assert found[3] == pytest.approx(0.1)


def test_an_unlisted_session_has_no_return(ragged_bars: Bars) -> None:
    assert np.isnan(simple_returns(ragged_bars)[~ragged_bars.listed]).all()


def test_turbulence_is_the_mahalanobis_distance_under_the_dense_covariance(
    model: FactorModel, returns: np.ndarray
) -> None:
    t = 500
    beta = model.beta[t - 1]
    residual = model.idiosyncratic_volatility[t - 1] ** 2 / TRADING_DAYS
    residual = (1 - TURBULENCE_SHRINKAGE) * residual + TURBULENCE_SHRINKAGE * residual.mean()
    market = model.market_volatility[t - 1] ** 2 / TRADING_DAYS
    covariance = market * np.outer(beta, beta) + np.diag(residual)
    surprise = returns[t] - returns[t - WINDOW : t].mean(axis=0)
    expected = surprise @ np.linalg.solve(covariance, surprise) / 8
    assert turbulence(model)[t] == pytest.approx(expected, rel=1e-9)


def test_turbulence_is_about_one_in_ordinary_times_and_rises_in_a_crash(
    returns: np.ndarray,
) -> None:
    crash = returns.copy()
    crash[650] = -0.1
    found = turbulence(fit(bars_of(crash)))
    assert np.isnan(found[:WINDOW]).all()
    assert 0.8 < found[300:650].mean() < 1.2
    assert found[650] > 10.0


def test_turbulence_skips_a_name_without_an_estimate(ragged_bars: Bars) -> None:
    found = turbulence(fit(ragged_bars))
    assert np.isfinite(found[300:]).all()
    assert (found[300:] >= 0.0).all()


def test_mean_correlation_recovers_the_correlation_of_its_model() -> None:
    generator = np.random.default_rng(9)
    correlation = 0.4
    shape = (3000, 30)
    values = np.sqrt(correlation) * generator.normal(size=(3000, 1))
    values = 0.01 * (values + np.sqrt(1.0 - correlation) * generator.normal(size=shape))
    found = mean_correlation(fit(bars_of(values)), 1000)
    # The standard error of the common factor's variance over 1,000 sessions is 4.5 %.
    assert found[-1] == pytest.approx(correlation, abs=0.05)


def test_identical_names_correlate_perfectly_and_one_name_not_at_all() -> None:
    one = np.random.default_rng(1).normal(0.0, 0.01, (400, 1))
    same = mean_correlation(fit(bars_of(np.tile(one, (1, 5)))), 63)
    np.testing.assert_allclose(same[340:], 1.0, atol=1e-9)
    assert np.isnan(mean_correlation(fit(bars_of(one)), 63)).all()
