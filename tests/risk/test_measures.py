"""The measures give hand-computed answers, with the right sign, unit and frequency."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from market.bars import FloatArray
from risk import measures

RETURNS = np.array([0.02, -0.01, 0.03, 0.0, -0.02, 0.04])  # mean 0.01, sum of squares 0.0034
some_returns = arrays(np.float64, st.integers(2, 60), elements=st.floats(-0.2, 0.2))


def test_a_loss_on_the_very_first_bar_is_a_drawdown() -> None:
    assert measures.max_drawdown(np.array([100.0, 80.0, 90.0])) == pytest.approx(0.2)


def test_the_drawdown_of_a_hand_drawn_path() -> None:
    nav = np.array([100.0, 120.0, 90.0, 108.0, 130.0, 117.0])
    expected = [0.0, 0.0, 0.25, 0.1, 0.0, 0.1]
    np.testing.assert_allclose(measures.drawdown(nav), expected, atol=1e-15)
    assert measures.max_drawdown(nav) == pytest.approx(0.25)


@pytest.mark.parametrize("nav", [[100.0, 0.0], [100.0, -1.0], [100.0, math.nan]])
@pytest.mark.parametrize("measure", [measures.drawdown, measures.simple_returns])
def test_a_nav_that_is_not_positive_is_refused(
    nav: list[float], measure: Callable[[FloatArray], FloatArray]
) -> None:
    with pytest.raises(ValueError, match="NAV must be positive"):
        measure(np.array(nav))


def test_growth_is_per_year_of_the_series_own_frequency() -> None:
    nav = 100.0 * 1.01 ** np.arange(25)  # 24 periods of 1 %
    assert measures.cagr(nav, 12) == pytest.approx(1.01**12 - 1.0)
    assert measures.cagr(nav, 24) == pytest.approx(1.01**24 - 1.0)


def test_volatility_and_sharpe_are_the_hand_computed_ones() -> None:
    # Variance (0.0034 - 6 * 0.0001) / 5 = 0.00056.
    assert measures.volatility(RETURNS, 252) == pytest.approx(math.sqrt(0.00056 * 252))
    assert measures.sharpe(RETURNS, 252) == pytest.approx(0.01 * 252 / math.sqrt(0.00056 * 252))


def test_the_same_returns_annualise_by_the_root_of_their_frequency() -> None:
    daily, monthly = (measures.sharpe(RETURNS, periods) for periods in (252, 12))
    assert daily / monthly == pytest.approx(math.sqrt(21.0))
    daily, monthly = (measures.volatility(RETURNS, periods) for periods in (252, 12))
    assert daily / monthly == pytest.approx(math.sqrt(21.0))


def test_earning_the_cash_rate_is_a_sharpe_ratio_of_zero() -> None:
    rate = 1.05 ** (1 / 252) - 1.0
    returns = RETURNS - RETURNS.mean() + rate
    assert measures.sharpe(returns, 252, cash_rate=0.05) == pytest.approx(0.0, abs=1e-12)
    assert measures.sortino(returns, 252, cash_rate=0.05) == pytest.approx(0.0, abs=1e-12)
    assert measures.sharpe(returns, 252) > 0.0


def test_a_quarter_of_daily_returns_has_a_sharpe_standard_error_of_two() -> None:
    # Lo (2002): for a small normal Sharpe ratio it is sqrt(252 / T); 63 days give 2.0.
    returns = np.random.default_rng(3).normal(0.0, 0.01, 63)
    assert measures.sharpe_standard_error(returns, 252) == pytest.approx(2.0, abs=0.05)


def test_the_sharpe_standard_error_of_two_equal_outcomes() -> None:
    # Skewness 0 and kurtosis 1 cancel the ratio's own share: sqrt(ppy / (T - 1)) is left.
    returns = np.array([0.03, -0.01] * 8)
    assert measures.sharpe_standard_error(returns, 60) == pytest.approx(2.0)


def test_skew_to_losses_makes_a_good_sharpe_ratio_less_certain() -> None:
    gains = np.random.default_rng(1).exponential(size=500)
    lottery = 0.01 + (gains - gains.mean()) / 10.0
    insurer = 0.01 - (gains - gains.mean()) / 10.0  # the same mean and deviation
    assert measures.sharpe(lottery, 12) == pytest.approx(measures.sharpe(insurer, 12))
    errors = [measures.sharpe_standard_error(returns, 12) for returns in (lottery, insurer)]
    assert errors[0] < errors[1]


def test_the_sortino_ratio_counts_shortfalls_over_all_periods() -> None:
    # Downside deviation sqrt((0.01^2 + 0.02^2) / 6).
    expected = 0.01 / math.sqrt(0.0005 / 6) * math.sqrt(252)
    assert measures.sortino(RETURNS, 252) == pytest.approx(expected)


def test_calmar_is_growth_per_drawdown() -> None:
    nav = np.array([100.0, 80.0, 110.0])
    assert measures.calmar(nav, 2) == pytest.approx(0.10 / 0.20)


def test_value_at_risk_and_shortfall_of_a_hundred_known_returns() -> None:
    returns = np.arange(-50, 51) / 1000.0  # the 5 % quantile of 101 values is the sixth
    assert measures.var(returns, 0.95) == pytest.approx(0.045)
    assert measures.cvar(returns, 0.95) == pytest.approx(np.mean([50, 49, 48, 47, 46, 45]) / 1000)


@given(some_returns, st.floats(0.01, 0.99))
def test_the_shortfall_is_at_least_the_value_at_risk(returns: FloatArray, level: float) -> None:
    assert measures.cvar(returns, level) >= measures.var(returns, level) - 1e-15


@pytest.mark.parametrize("level", [0.0, 1.0, math.nan])
def test_a_confidence_level_outside_its_range_is_refused(level: float) -> None:
    with pytest.raises(ValueError, match="level"):
        measures.var(RETURNS, level)


def test_win_rate_and_profit_factor_of_known_days() -> None:
    assert measures.win_rate(RETURNS) == pytest.approx(3 / 6)  # a flat day is no gain
    assert measures.profit_factor(RETURNS) == pytest.approx(0.09 / 0.03)


def test_beta_and_correlation_of_a_known_line() -> None:
    market = np.array([0.01, -0.01, 0.01, -0.01])
    own = np.array([0.02, 0.02, -0.02, -0.02])  # uncorrelated with the market
    assert measures.beta(1.5 * market + own, market) == pytest.approx(1.5)
    expected = 0.015 / math.sqrt(0.015**2 + 0.02**2)
    assert measures.correlation(1.5 * market + own, market) == pytest.approx(expected)


@given(some_returns, st.floats(0.1, 3.0), st.floats(-0.01, 0.01))
def test_a_levered_benchmark_has_its_leverage_as_beta(
    benchmark: FloatArray, leverage: float, carry: float
) -> None:
    returns = leverage * benchmark + carry
    if benchmark.std() > 1e-6:
        assert measures.beta(returns, benchmark) == pytest.approx(leverage, rel=1e-6)
        assert measures.correlation(returns, benchmark) == pytest.approx(1.0, rel=1e-6)
    elif benchmark.std() <= measures.CONSTANT:
        assert math.isnan(measures.beta(returns, benchmark))


def test_effective_positions_ignore_how_much_is_invested() -> None:
    weights = np.array([[0.1, 0.1, 0.1, 0.1], [0.5, 0.5, 0.0, 0.0]])
    assert measures.effective_positions(weights) == pytest.approx(3.0)
    assert measures.effective_positions(np.array([[0.5, 0.25, 0.25]])) == pytest.approx(8 / 3)


def test_active_share_counts_cash_as_a_position() -> None:
    reference = np.array([0.5, 0.5])
    weights = np.array([[0.5, 0.5], [1.0, 0.0], [0.0, 0.0]])  # the same, half of it, all cash
    assert measures.active_share(weights, reference) == pytest.approx((0.0 + 0.5 + 1.0) / 3)


def test_turnover_and_cost_are_per_year() -> None:
    assert measures.annual_turnover(np.array([1.0, 0.0, 0.0, 0.0]), 252) == pytest.approx(63.0)
    assert measures.annual_cost(np.array([0.001, 0.0]), 252) == pytest.approx(0.126)


CONSTANT_NAV = 100.0 * 1.0001 ** np.arange(50)
OF_RETURNS: list[Callable[[FloatArray], float]] = [
    lambda returns: measures.volatility(returns, 252),
    lambda returns: measures.sharpe(returns, 252),
    lambda returns: measures.sharpe_standard_error(returns, 252),
    lambda returns: measures.sortino(returns, 252),
    lambda returns: measures.var(returns, 0.95),
    lambda returns: measures.cvar(returns, 0.95),
    measures.win_rate,
    measures.profit_factor,
    lambda returns: measures.beta(returns, returns),
    lambda returns: measures.correlation(returns, returns),
    lambda returns: measures.annual_turnover(returns, 252),
    lambda returns: measures.annual_cost(returns, 252),
]


@pytest.mark.parametrize("measure", OF_RETURNS)
@pytest.mark.parametrize("returns", [np.zeros(0), np.array([0.01, np.nan, -0.01])])
def test_nothing_and_the_unknown_measure_as_nan(
    measure: Callable[[FloatArray], float], returns: FloatArray
) -> None:
    assert math.isnan(measure(returns))


@pytest.mark.parametrize("measure", [OF_RETURNS[index] for index in (1, 2, 3, 7, 8, 9)])
def test_ratios_to_a_risk_that_is_only_rounding_error_are_undefined(
    measure: Callable[[FloatArray], float],
) -> None:
    returns = measures.simple_returns(CONSTANT_NAV)
    assert returns.std() > 0.0
    assert math.isnan(measure(returns))


def test_a_nav_that_never_falls_has_no_calmar_ratio_and_an_empty_one_nothing() -> None:
    assert math.isnan(measures.calmar(CONSTANT_NAV, 252))
    assert math.isnan(measures.cagr(np.array([100.0]), 252))
    assert math.isnan(measures.max_drawdown(np.zeros(0)))
    assert math.isnan(measures.effective_positions(np.zeros((3, 2))))
    assert math.isnan(measures.active_share(np.zeros((0, 2)), np.zeros(2)))


# A loss of almost everything leaves few digits of 1 + r: no test of the definition.
@given(arrays(np.float64, st.integers(2, 60), elements=st.floats(1.0, 1e3)))
def test_returns_compound_to_the_nav_and_scale_changes_nothing(nav: FloatArray) -> None:
    returns = measures.simple_returns(nav)
    np.testing.assert_allclose(nav[0] * np.cumprod(1.0 + returns), nav[1:], rtol=1e-9)
    np.testing.assert_allclose(measures.drawdown(7.0 * nav), measures.drawdown(nav), atol=1e-12)
    assert 0.0 <= measures.max_drawdown(nav) < 1.0
