"""Known answers, and calibration on simulated noise: the nominal size holds."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation import statistics
from market.bars import FloatArray
from risk import measures


def scaled(values: FloatArray, ratio: float) -> FloatArray:
    """Shift and scale the values to a period Sharpe ratio."""
    scores: FloatArray = (values - values.mean()) / values.std(ddof=1)
    return 0.02 * (scores + ratio)


def test_the_probabilistic_sharpe_ratio_of_the_papers_hedge_fund() -> None:
    # Bailey & López de Prado (2012): 24 months, Sharpe ratio 0.458 a month, skewness -2.448 and
    # kurtosis 10.164 give 0.913. These 24 values have those moments.
    values = np.array([-8.36689161, -3.23623235] + [1.0] * 11 + [-1.0] * 11)
    scores = (values - values.mean()) / values.std()
    assert (scores**3).mean() == pytest.approx(-2.448, abs=1e-6)
    assert (scores**4).mean() == pytest.approx(10.164, abs=1e-6)
    result = statistics.probabilistic_sharpe(scaled(values, 0.458), periods_per_year=12)
    assert result == pytest.approx(0.913, abs=5e-4)


def test_the_annual_benchmark_is_the_own_sharpe_ratio_at_even_odds() -> None:
    returns = np.random.default_rng(2).normal(0.001, 0.01, 300)
    own = measures.sharpe(returns, 252)
    even = statistics.probabilistic_sharpe(returns, 252, benchmark_sharpe=own)
    assert even == pytest.approx(0.5)
    assert statistics.probabilistic_sharpe(returns, 252) > 0.5


def test_the_probability_does_not_depend_on_how_time_is_counted() -> None:
    returns = np.random.default_rng(2).normal(0.001, 0.01, 300)
    probabilities = [statistics.probabilistic_sharpe(returns, periods) for periods in (12, 252)]
    assert probabilities[0] == pytest.approx(probabilities[1])


@pytest.mark.parametrize(
    "noise",
    [
        lambda generator: generator.standard_normal(252),
        lambda generator: generator.standard_t(5, 252),
        lambda generator: 1.0 - generator.exponential(size=252),
    ],
    ids=["normal", "fat tails", "skewed"],
)
def test_the_probabilistic_sharpe_ratio_of_noise_is_uniform(
    noise: Callable[[np.random.Generator], FloatArray],
) -> None:
    generator, histories = np.random.default_rng(11), 2000
    probabilities = np.sort(
        [statistics.probabilistic_sharpe(0.01 * noise(generator), 252) for _ in range(histories)]
    )
    uniform = (np.arange(histories) + 0.5) / histories
    # Kolmogorov's distance at the 1 % level.
    assert np.abs(probabilities - uniform).max() < 1.63 / math.sqrt(histories)
    assert (probabilities > 0.95).mean() == pytest.approx(0.05, abs=0.015)


@pytest.mark.parametrize("returns", [np.zeros(10), np.zeros(0), np.array([0.1, np.nan])])
def test_what_has_no_sharpe_ratio_has_no_probability(returns: FloatArray) -> None:
    assert math.isnan(statistics.probabilistic_sharpe(returns, 252))


def test_the_newey_west_error_of_five_numbers_by_hand() -> None:
    # Centred -2 -1 0 1 2: autocovariance sums 10 and, at lag 1, 4; weight 1/2: 10 + 4 = 14.
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    expected = math.sqrt(14.0) / 5.0
    assert statistics.newey_west_standard_error(values, lags=1) == pytest.approx(expected)


def test_without_lags_the_newey_west_error_is_the_classical_one() -> None:
    values = np.random.default_rng(0).standard_normal(50)
    expected = values.std() / math.sqrt(50)
    assert statistics.newey_west_standard_error(values, lags=0) == pytest.approx(expected)


@pytest.mark.parametrize("lags", [-1, 5])
def test_more_lags_than_the_series_has_are_refused(lags: int) -> None:
    with pytest.raises(ValueError, match="lags"):
        statistics.newey_west_standard_error(np.arange(5.0), lags)


def test_the_newey_west_error_keeps_its_size_on_correlated_noise() -> None:
    generator, periods, histories = np.random.default_rng(5), 1000, 600
    lags = statistics.newey_west_lags(periods)
    shocks = generator.standard_normal((periods + 50, histories))
    series = np.zeros_like(shocks)
    for t in range(1, len(shocks)):
        series[t] = 0.3 * series[t - 1] + shocks[t]
    kept = series[50:].T
    errors = np.array([statistics.newey_west_standard_error(row, lags) for row in kept])
    naive = np.array([statistics.newey_west_standard_error(row, 0) for row in kept])
    means = np.abs(kept.mean(axis=1))
    assert 0.90 < (means < 1.96 * errors).mean() < 0.97
    assert (means < 1.96 * naive).mean() < 0.88


def test_leverage_alone_has_no_active_information() -> None:
    market = np.random.default_rng(4).normal(0.0005, 0.01, 500)
    estimate = statistics.active_information_ratio(1.4 * market, market, 252)
    assert math.isnan(estimate.value)
    assert math.isnan(estimate.standard_error)


def test_the_active_information_ratio_is_that_of_what_beta_leaves() -> None:
    market = np.array([0.01, -0.01, 0.01, -0.01] * 30)
    own = np.array([0.02, 0.02, -0.02, -0.02] * 30)  # orthogonal to the market
    estimate = statistics.active_information_ratio(0.7 * market + own + 0.001, market, 252)
    assert estimate.value == pytest.approx(0.001 / own.std(ddof=1) * math.sqrt(252))


def test_the_active_information_ratio_lies_within_its_errors() -> None:
    generator, true, inside = np.random.default_rng(6), 0.05, 0
    histories = 4000
    for _ in range(histories):
        market = generator.normal(0.0003, 0.01, 756)
        noise = generator.standard_t(5, 756) / math.sqrt(5 / 3)
        returns = 0.8 * market + 0.004 * (noise + true)
        estimate = statistics.active_information_ratio(returns, market, 252)
        inside += abs(estimate.value - true * math.sqrt(252)) < 1.96 * estimate.standard_error
    assert inside / histories == pytest.approx(0.95, abs=0.015)


def test_the_error_of_a_high_active_ratio_is_that_of_its_sharpe_ratio() -> None:
    generator = np.random.default_rng(13)
    market = generator.normal(0.0, 0.01, 4000)
    active = 0.01 * (generator.exponential(size=4000) - 0.2)  # 0.8 a day, skewed to gains
    estimate = statistics.active_information_ratio(0.5 * market + active, market, 252)
    expected = measures.sharpe_standard_error(active, 252)
    assert estimate.standard_error == pytest.approx(expected, rel=0.1)


def test_the_paired_bootstrap_covers_at_its_level() -> None:
    generator, sharpe, mean, histories = np.random.default_rng(1), 0, 0, 400
    for _ in range(histories):
        market = generator.normal(0.0, 0.01, 504)
        returns = 0.7 * market + generator.normal(0.0, 0.004, 504)
        result = statistics.paired_bootstrap(returns, market, 252, generator, draws=300)
        sharpe += result.sharpe.low <= 0.0 <= result.sharpe.high
        mean += result.mean.low <= 0.0 <= result.mean.high
    assert sharpe / histories == pytest.approx(0.94, abs=0.03)
    assert mean / histories == pytest.approx(0.94, abs=0.03)


def test_the_last_session_is_drawn_as_often_as_any_other() -> None:
    theirs = np.zeros(20)
    for session in (0, 10, 19):
        ours = np.zeros(20)
        ours[session] = 0.1
        generator = np.random.default_rng(3)
        result = statistics.paired_bootstrap(
            ours, theirs, 20, generator, block=3, draws=4000, level=0.99
        )
        # The session is drawn 0 to 3 times or so of 20, on average once.
        assert result.mean.low == 0.0
        assert result.mean.high == pytest.approx(0.3, abs=0.11)


def test_pairing_makes_the_interval_of_a_near_copy_narrow() -> None:
    generator = np.random.default_rng(9)
    market = generator.normal(0.0003, 0.01, 504)
    copy = market + generator.normal(0.0, 0.0001, 504)
    paired = statistics.paired_bootstrap(copy, market, 252, np.random.default_rng(0))
    apart = statistics.paired_bootstrap(copy, market[::-1], 252, np.random.default_rng(0))
    widths = [result.sharpe.high - result.sharpe.low for result in (paired, apart)]
    assert widths[0] < 0.05 * widths[1]


def test_the_differences_are_those_of_the_measures() -> None:
    generator = np.random.default_rng(9)
    ours, theirs = generator.normal(0.0005, 0.01, (2, 300))
    result = statistics.paired_bootstrap(ours, theirs, 252, generator)
    assert result.sharpe.value == measures.sharpe(ours, 252) - measures.sharpe(theirs, 252)
    assert result.mean.value == pytest.approx((ours.mean() - theirs.mean()) * 252)
    assert result.sharpe.low < result.sharpe.value < result.sharpe.high


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    ours, theirs = np.random.default_rng(9).normal(0.0005, 0.01, (2, 300))

    def interval(seed: int) -> statistics.PairedDifference:
        return statistics.paired_bootstrap(ours, theirs, 252, np.random.default_rng(seed))

    state = np.random.get_state()[1].copy()  # noqa: NPY002 - the global stream must stay as it is
    assert interval(1) == interval(1)
    assert interval(1) != interval(2)
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002


@pytest.mark.parametrize(("ours", "theirs", "block"), [(10, 9, 2), (10, 10, 0), (10, 10, 11)])
def test_series_that_do_not_pair_are_refused(ours: int, theirs: int, block: int) -> None:
    with pytest.raises(ValueError, match="periods"):
        statistics.paired_bootstrap(
            np.zeros(ours), np.zeros(theirs), 252, np.random.default_rng(0), block
        )


def test_the_interquartile_mean_ignores_the_lucky_and_the_broken_seed() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
    assert statistics.interquartile_mean(values) == pytest.approx(4.5)
    values[0], values[7] = -1e9, 1e9
    assert statistics.interquartile_mean(values) == pytest.approx(4.5)
    assert math.isnan(statistics.interquartile_mean(np.zeros(0)))


def test_twelve_seeds_lose_three_at_each_end() -> None:
    squares = np.arange(12.0) ** 2  # 9 to 64 are left
    assert statistics.interquartile_mean(squares) == pytest.approx(199.0 / 6.0)


def test_the_interval_over_ten_seeds_covers_at_about_its_level() -> None:
    generator, inside = np.random.default_rng(8), 0
    for _ in range(1000):
        interval = statistics.interquartile_mean_interval(
            generator.standard_normal(10), generator, draws=300
        )
        inside += interval.low <= 0.0 <= interval.high
    assert inside / 1000 == pytest.approx(0.94, abs=0.025)


def test_one_seed_shows_no_spread_and_none_shows_nothing() -> None:
    generator = np.random.default_rng(0)
    one = statistics.interquartile_mean_interval(np.array([0.7]), generator)
    assert (one.low, one.value, one.high) == (0.7, 0.7, 0.7)
    assert math.isnan(statistics.interquartile_mean_interval(np.zeros(0), generator).value)


@given(st.integers(2, 90), st.integers(1, 25), st.integers(0, 2**32 - 1))
def test_resampled_histories_have_the_moments_of_their_written_out_periods(
    periods: int, block: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    block = min(block, periods)
    values = random.normal(0.001, 0.01, periods) * (random.random(periods) > 0.3)
    starts = random.integers(periods, size=(8, -(-periods // block)))
    rows = (starts[:, :, None] + np.arange(block)) % periods
    histories = values[rows.reshape(8, -1)[:, :periods]]
    found = statistics._resampled(values, starts, block)
    np.testing.assert_allclose(found.means, histories.mean(axis=1), atol=1e-15)
    np.testing.assert_allclose(found.deviations, histories.std(axis=1, ddof=1), atol=1e-15)


def test_a_history_that_is_resampled_to_a_constant_has_no_ratio() -> None:
    values = np.full(60, 0.1)
    values[50:] = 0.2
    starts = np.array([[0, 5, 10], [0, 5, 45]])
    ratios = statistics._resampled(values, starts, 20).ratios
    assert np.isnan(ratios[0]) and ratios[1] > 0.0


def test_the_deflated_sharpe_ratio_of_the_papers_analyst() -> None:
    # Bailey & López de Prado (2014): 100 trials with a variance of 1/2 a year; the best has an
    # annual ratio of 2.5 over five years of 250 days, skewness -3 and kurtosis 10.
    ratio = 2.5 / math.sqrt(250.0)
    error = math.sqrt((1.0 + 3.0 * ratio + 9.0 / 4.0 * ratio**2) / (1250 - 1))
    scores = np.array([-1.0, 1.0] * 50)
    scores *= math.sqrt(0.5 / 250.0) / scores.std(ddof=1)
    best = statistics.Estimate(ratio, error)
    assert scores.std(ddof=1) * statistics.expected_maximum(100) == pytest.approx(0.1132, abs=5e-5)
    assert statistics.deflated_sharpe(best, scores, 100) == pytest.approx(0.9004, abs=5e-4)


def test_the_largest_of_many_normal_numbers_is_about_what_is_expected() -> None:
    random = np.random.default_rng(11)
    for count in (5, 20, 100):
        largest = random.standard_normal((20_000, count)).max(axis=1).mean()
        assert statistics.expected_maximum(count) == pytest.approx(largest, abs=0.05)


def test_more_trials_leave_less_of_the_best_and_one_trial_all_of_it() -> None:
    best, scores = statistics.Estimate(1.0, 0.5), np.array([0.0, 0.5, 1.0])
    left = [statistics.deflated_sharpe(best, scores, count) for count in (3, 30, 300)]
    assert left == sorted(left, reverse=True)
    assert left[0] > left[-1]
    alone = statistics.deflated_sharpe(best, scores[-1:], 1)
    assert alone == pytest.approx(0.9772, abs=1e-4)  # two standard errors
    assert math.isnan(statistics.deflated_sharpe(statistics.Estimate(0.0, math.nan), scores, 3))
