from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from market.bars import Bars
from market.cache import Cache
from market.dataset import Dataset
from market.errors import InputError
from market.features import FeatureConfig, FeatureSpec
from market.prepare import average_traded_value, prepare, prepare_like
from market.timeframes import Timeframe

TRAIN, TEST = slice(0, 700), slice(750, 1100)
CONFIG = FeatureConfig(
    asset=["log_return_21", "momentum_12_1", "log_volume_ratio"],
    ranks=["momentum_12_1"],
    indicators=["rsi", "atr", "obv"],
    timeframes=[Timeframe.daily, Timeframe.weekly],
    market=["market_log_volatility", "trend_200", "volatility_percentile"],
    clip=3.0,
)


def arrays(data: Dataset) -> dict[str, np.ndarray]:
    values = {field.name: getattr(data, field.name) for field in fields(data)}
    return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


def assert_same(left: Dataset, right: Dataset) -> None:
    found, expected = arrays(left), arrays(right)
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        assert found[name].tobytes() == value.tobytes(), name


@pytest.fixture(scope="module")
def data(ragged_bars: Bars) -> Dataset:
    return prepare(ragged_bars, TRAIN, TEST, CONFIG)


def test_features_are_finite_float32_within_the_clip(data: Dataset) -> None:
    asset, market = data.asset_features, data.market_features
    assert asset.dtype == market.dtype == np.float32
    assert asset.shape == (1100, 6, len(data.features.asset_names)) == (1100, 6, 10)
    assert market.shape == (1100, 3)
    for block in (asset, market):
        assert np.isfinite(block).all()
        assert np.abs(block).max() <= 3.0
        assert (block.std(axis=tuple(range(block.ndim - 1))) > 0.1).all()


def test_a_name_that_is_not_investable_has_only_zeros(data: Dataset) -> None:
    assert not data.investable.all()
    assert (data.asset_features[~data.investable] == 0.0).all()


def test_the_market_is_normalised_by_the_train_window_alone(data: Dataset) -> None:
    known = data.market_features[260:700]
    assert data.features.normaliser.window.last == str(data.bars.dates[699])
    np.testing.assert_allclose(data.market_features[:700].mean(axis=0), 0.0, atol=0.1)
    assert np.abs(known).max() > 1.0


def test_another_test_window_moves_no_feature(ragged_bars: Bars, data: Dataset) -> None:
    assert_same(prepare(ragged_bars, TRAIN, slice(900, 1000), CONFIG), data)


def test_a_test_window_inside_the_train_window_is_refused(ragged_bars: Bars) -> None:
    with pytest.raises(InputError, match="begins before the end of the fitted window"):
        prepare(ragged_bars, TRAIN, slice(600, 1100), CONFIG)


def test_momentum_is_a_simple_return(data: Dataset) -> None:
    close = data.bars.known_close()
    expected = close[1000 - 21, 3] / close[1000 - 252, 3] - 1.0
    assert data.momentum[1000, 3] == pytest.approx(expected)
    assert np.isnan(data.momentum[~data.investable]).all()


def test_a_recorded_specification_gives_the_same_numbers(ragged_bars: Bars, data: Dataset) -> None:
    spec = FeatureSpec.from_json(data.features.to_json())
    assert_same(prepare_like(ragged_bars, TRAIN, TEST, spec), data)


def test_a_recorded_specification_keeps_its_moments_on_another_window(
    ragged_bars: Bars, data: Dataset
) -> None:
    later = prepare_like(ragged_bars, slice(700, 900), slice(900, 1100), data.features)
    assert_same(later, data)
    assert later.features == data.features
    refitted = prepare(ragged_bars, slice(700, 900), slice(900, 1100), CONFIG)
    assert (refitted.market_features != data.market_features).any()


def test_a_recorded_specification_is_not_judged_on_what_it_was_fitted_on(
    ragged_bars: Bars, data: Dataset
) -> None:
    with pytest.raises(InputError, match="begins before the end of the fitted window"):
        prepare_like(ragged_bars, slice(0, 100), slice(300, 600), data.features)


def test_a_policy_with_volume_is_refused_on_closes(ragged_bars: Bars, data: Dataset) -> None:
    with pytest.raises(InputError, match="log_volume_ratio cannot be made"):
        prepare_like(replace(ragged_bars, volume=None), TRAIN, TEST, data.features)


def test_the_cache_gives_the_same_bits_and_knows_bars_and_configuration(
    ragged_bars: Bars, data: Dataset, tmp_path: Path
) -> None:
    cache = Cache(tmp_path)
    for _ in range(2):
        assert_same(prepare(ragged_bars, TRAIN, TEST, CONFIG, cache=cache), data)
    assert len(list(tmp_path.iterdir())) == 1
    prepare(ragged_bars, slice(0, 600), TEST, CONFIG, cache=cache)
    assert len(list(tmp_path.iterdir())) == 1  # no window is in what is cached
    close = ragged_bars.close.copy()
    close[500, 3] *= 1.001
    moved = replace(ragged_bars, close=close)
    assert_same(
        prepare(moved, TRAIN, TEST, CONFIG, cache=cache), prepare(moved, TRAIN, TEST, CONFIG)
    )
    assert len(list(tmp_path.iterdir())) == 2
    prepare(ragged_bars, TRAIN, TEST, replace(CONFIG, clip=2.0), cache=cache)
    assert len(list(tmp_path.iterdir())) == 3


def test_traded_value_is_the_mean_of_a_month(ragged_bars: Bars, data: Dataset) -> None:
    value = (ragged_bars.close * ragged_bars.volume)[980:1001, 3]
    assert data.adv[1000, 3] == pytest.approx(np.nanmean(value))


def test_an_assumption_stands_where_there_is_no_volume(ragged_bars: Bars) -> None:
    silent = replace(ragged_bars, volume=None)
    assert average_traded_value(silent, None) is None
    assert (average_traded_value(silent, 5e6) == 5e6).all()
    by_name = average_traded_value(silent, {"S1": 2e6})
    assert (by_name[:, 1] == 2e6).all()
    assert np.isnan(by_name[:, 0]).all()
    assert average_traded_value(ragged_bars, {"S1": 2e6})[0, 1] == 2e6  # not listed yet


def test_two_names_are_enough(ragged_bars: Bars) -> None:
    close = ragged_bars.close[:, 3:5]
    there = np.isfinite(close)
    listed = np.ones(close.shape, dtype=bool)
    bars = Bars(ragged_bars.dates, ("A", "B"), close, there, listed)
    small = prepare(bars, TRAIN, TEST, CONFIG)
    assert np.isfinite(small.asset_features).all()
    assert small.adv is None


PERTURBED = {
    "asset": ["log_return_5", "momentum_12_1", "log_volume_ratio"],
    "ranks": [],
    "indicators": ["rsi", "atr", "adx"],
    "timeframes": [Timeframe.daily, Timeframe.monthly],
    "market": ["market_log_volatility", "trend_50", "volatility_percentile"],
    "clip": 2.0,
}


def test_every_value_of_the_configuration_changes_some_feature(
    ragged_bars: Bars, data: Dataset
) -> None:
    assert set(PERTURBED) == {field.name for field in fields(FeatureConfig)}
    usual = data.asset_features.tobytes() + data.market_features.tobytes()
    for name, value in PERTURBED.items():
        other = prepare(ragged_bars, TRAIN, TEST, replace(CONFIG, **{name: value}))
        assert other.asset_features.tobytes() + other.market_features.tobytes() != usual, name
