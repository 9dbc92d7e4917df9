"""Blindness: change every bar after t, or cut them off, and nothing up to t moves by one bit."""

import re
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from market.asset_features import ASSET_FEATURES
from market.bars import Bars
from market.factor_model import fit, mean_correlation, turbulence
from market.features import FeatureConfig
from market.indicator_arrays import indicator_arrays
from market.indicators import TABLE
from market.prepare import prepare
from market.regimes import MARKET_FEATURES, Market, regimes
from market.timeframes import Timeframe

BAR_FIELDS = ("open", "high", "low", "close", "volume")
Outputs = dict[str, NDArray[np.generic]]

EVERYTHING = FeatureConfig(
    asset=list(ASSET_FEATURES),
    ranks=["momentum_12_1"],
    indicators=list(TABLE),
    timeframes=list(Timeframe),
    market=list(MARKET_FEATURES),
    clip=3.0,
)


def everything(bars: Bars) -> Outputs:
    """Return each derived array under its own name, time first."""
    model = fit(bars)
    market = Market.of(bars, model)
    outputs: Outputs = {f"model.{f.name}": getattr(model, f.name) for f in fields(model)}
    outputs["turbulence"] = turbulence(model)
    outputs["mean correlation"] = mean_correlation(model, 63)
    outputs["regime"] = regimes(market)
    for name, feature in ASSET_FEATURES.items():
        outputs[f"asset.{name}"] = feature.function(market, *feature.parameters)
    for name, state in MARKET_FEATURES.items():
        outputs[f"market.{name}"] = state.function(market, state.window)
    for timeframe in Timeframe:
        out = np.empty((*bars.close.shape, len(TABLE)), np.float32)
        indicator_arrays(bars, list(TABLE), timeframe, market.level, out)
        outputs |= {f"{timeframe.name}.{name}": out[:, :, k] for k, name in enumerate(TABLE)}
    return outputs


def prepared(bars: Bars) -> Outputs:
    """Return the arrays of the dataset; its normaliser is fitted on the first 400 rows."""
    data = prepare(bars, slice(0, 400), slice(450, len(bars.dates)), EVERYTHING)
    arrays = {
        f.name: value
        for f in fields(data)
        if isinstance(value := getattr(data, f.name), np.ndarray)
    }
    return {**arrays, "investable": data.investable}


def moved(before: Outputs, after: Outputs, stop: int) -> list[str]:
    """Return the names of the arrays whose first `stop` rows differ in any bit."""
    return [
        name
        for name, array in before.items()
        if np.ascontiguousarray(array[:stop]).tobytes()
        != np.ascontiguousarray(after[name][:stop]).tobytes()
    ]


def with_other_future(bars: Bars, stop: int, generator: np.random.Generator) -> Bars:
    """Replace everything from row `stop` on: prices, volume, gaps, listings, series."""
    shape = bars.close[stop:].shape
    scale = np.exp(generator.normal(0.0, 2.0)) * np.exp(generator.normal(0.0, 0.3, shape))
    hole = generator.random(shape) < generator.choice([0.0, 0.1, 0.9])
    changed = {}
    for name in BAR_FIELDS:
        array = getattr(bars, name).copy()
        fresh = np.where(np.isnan(array[stop:]), 20.0, array[stop:]) * scale
        array[stop:] = np.where(hole, np.nan, fresh)
        changed[name] = array
    listed = bars.listed.copy()
    listed[stop:] = generator.random((1, shape[1])) < 0.7
    vix = bars.series["VIX"].copy()
    vix[stop:] *= scale[:, 0]
    return replace(bars, listed=listed, series={"VIX": vix}, **changed)


@pytest.mark.parametrize("derive", [everything, prepared])
def test_no_output_up_to_t_moves_when_every_bar_after_t_changes(
    ragged_bars: Bars, derive: Callable[[Bars], Outputs]
) -> None:
    generator = np.random.default_rng(5)
    before = derive(ragged_bars)
    for stop in sorted(generator.integers(410, len(ragged_bars.dates), 12).tolist()):
        after = derive(with_other_future(ragged_bars, stop, generator))
        assert moved(before, after, stop) == [], f"changed from row {stop} on"


@pytest.mark.parametrize("derive", [everything, prepared])
def test_the_last_row_of_a_truncated_history_equals_that_row_of_the_full_one(
    ragged_bars: Bars, derive: Callable[[Bars], Outputs]
) -> None:
    full = derive(ragged_bars)
    generator = np.random.default_rng(6)
    for stop in sorted(generator.integers(470, len(ragged_bars.dates), 12).tolist()):
        cut = derive(ragged_bars.select(slice(0, stop)))
        assert moved(cut, full, stop) == [], f"cut before row {stop}"


def test_the_fuzz_catches_an_output_that_sees_one_session_ahead(ragged_bars: Bars) -> None:
    generator = np.random.default_rng(7)
    stop = 600
    other = with_other_future(ragged_bars, stop, generator)

    def leaky(bars: Bars) -> Outputs:
        return {"leak": np.roll(bars.close, -1, axis=0), "honest": bars.close}

    assert moved(leaky(ragged_bars), leaky(other), stop) == ["leak"]


def test_every_output_that_is_known_reacts_to_its_bars(ragged_bars: Bars) -> None:
    """A column that never moves would pass the fuzz."""
    generator = np.random.default_rng(8)
    before = everything(ragged_bars)
    after = everything(with_other_future(ragged_bars, 500, generator))
    still = set(before) - set(moved(before, after, len(ragged_bars.dates)))
    # 220 weeks and 52 months are too few for the longest windows on such bars.
    long_bars = ("weekly.", "monthly.")
    assert all(name.startswith(long_bars) and np.isnan(before[name]).all() for name in still)
    assert len(still) < 20


def test_nothing_in_the_program_fills_backwards() -> None:
    """A later price in the place of an earlier one would pass as history."""
    root = Path(__file__).parents[2]
    layers = ("agents", "benchmarks", "cli", "envs", "evaluation", "market", "risk", "training")
    sources = [path for layer in layers for path in (root / layer).rglob("*.py")]
    assert len(sources) > 90
    for path in sources:
        assert not re.search(r"bfill|backfill|fill_null", path.read_text()), path
