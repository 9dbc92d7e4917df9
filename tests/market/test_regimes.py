import numpy as np
import pytest

from market.bars import Bars
from market.factor_model import fit
from market.regimes import (
    MARKET_FEATURES,
    PERCENTILE_MINIMUM,
    PERCENTILE_WINDOW,
    REGIME_NAMES,
    Market,
    breadth,
    dispersion,
    index_gap,
    regimes,
    volatility_percentile,
)


def market_of(returns: np.ndarray) -> Market:
    close = 100.0 * np.cumprod(1.0 + returns, axis=0)
    days = np.arange(len(close)).astype("datetime64[D]")
    there = np.ones(close.shape, dtype=bool)
    names = tuple(f"S{i}" for i in range(close.shape[1]))
    bars = Bars(days, names, close, there, there)
    return Market.of(bars, fit(bars))


def phases() -> np.ndarray:
    """Three quiet rising years, sixty wild falling sessions, then a year of nearly nothing."""
    zigzag = np.where(np.arange(1068) % 2 == 0, 1.0, -1.0)
    drift = np.repeat([0.0010, -0.0100, 0.0], [756, 60, 252])
    size = np.repeat([0.0040, 0.0350, 0.0005], [756, 60, 252])
    own = np.linspace(0.8, 1.2, 6)  # names that differ, so that each has a residual
    return np.asarray((drift + size * zigzag)[:, None] * own)


def test_a_quiet_rise_is_a_bull_market_and_a_wild_fall_an_extreme_bear_market() -> None:
    names = [REGIME_NAMES[index] for index in regimes(market_of(phases()))]
    assert {name.split("/")[0] for name in names[200:756]} == {"bull"}
    assert set(names[800:816]) == {"bear/extreme"}
    assert names[-1].endswith("/low")


def test_nothing_known_is_called_sideways_and_normal() -> None:
    assert {REGIME_NAMES[index] for index in regimes(market_of(phases()))[:199]} == {
        "sideways/normal"
    }


def test_there_are_twelve_names_and_each_index_has_one(ragged_bars: Bars) -> None:
    assert len(set(REGIME_NAMES)) == 12
    found = regimes(Market.of(ragged_bars, fit(ragged_bars)))
    assert found.dtype == np.int64
    assert set(found.tolist()) <= set(range(12))


def test_the_volatility_percentile_is_a_rank_in_its_own_past() -> None:
    market = market_of(np.random.default_rng(3).normal(0.0, 0.01, (1800, 3)))
    found = volatility_percentile(market, PERCENTILE_WINDOW)
    volatility = market.model.market_volatility
    # The first session has no return, hence no volatility of its own.
    assert np.isnan(found[:PERCENTILE_MINIMUM]).all()
    for t in (PERCENTILE_MINIMUM, 900, 1799):
        past = volatility[max(t - PERCENTILE_WINDOW + 1, 1) : t + 1]
        assert found[t] == pytest.approx((past <= volatility[t]).mean())


def test_breadth_is_the_share_of_names_above_their_average() -> None:
    drift = np.array([0.001, 0.001, 0.001, -0.001])
    found = breadth(market_of(np.tile(drift, (260, 1))), 200)
    assert np.isnan(found[:199]).all()
    np.testing.assert_array_equal(found[199:], 0.75)


def test_the_index_gap_follows_the_equal_weight_index() -> None:
    market = market_of(np.full((100, 2), 0.01))
    powers = 1.01 ** -np.arange(50.0)
    assert index_gap(market, 50)[-1] == pytest.approx(1.0 / powers.mean() - 1.0)


def test_dispersion_is_the_spread_of_returns_across_names() -> None:
    market = market_of(np.tile([0.0, 0.01], (60, 1)))
    spread = np.std([0.0, 1.01**21 - 1.0])
    assert np.exp(dispersion(market, 21)[-1]) == pytest.approx(spread)


def test_every_state_is_a_finite_series_once_known(ragged_bars: Bars) -> None:
    market = Market.of(ragged_bars, fit(ragged_bars))
    for name, feature in MARKET_FEATURES.items():
        values = feature.function(market, feature.window)
        assert values.shape == (len(ragged_bars.dates),)
        assert np.isfinite(values[600:]).all(), name


def test_log_vix_is_a_fraction(ragged_bars: Bars) -> None:
    market = Market.of(ragged_bars, fit(ragged_bars))
    feature = MARKET_FEATURES["log_vix"]
    expected = np.log(ragged_bars.series["VIX"] / 100.0)
    np.testing.assert_allclose(feature.function(market, feature.window), expected)
