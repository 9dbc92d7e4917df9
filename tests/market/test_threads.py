"""Names are worked on in blocks; no number may depend on who shares a block with whom."""

import numpy as np
import pytest

from market.asset_features import ASSET_FEATURES
from market.bars import Bars
from market.factor_model import fit
from market.regimes import Market
from market.threads import NAMES_PER_BLOCK, blocks, each

PART = slice(1, 4)


@pytest.fixture(scope="module")
def market(ragged_bars: Bars) -> Market:
    return Market.of(ragged_bars, fit(ragged_bars))


@pytest.mark.parametrize("name", ASSET_FEATURES)
def test_a_feature_is_the_same_computed_for_some_of_the_names(market: Market, name: str) -> None:
    feature = ASSET_FEATURES[name]
    whole = feature.function(market, *feature.parameters)
    some = feature.function(market.names(PART), *feature.parameters)
    np.testing.assert_array_equal(some, whole[:, PART])


def test_twins_in_different_blocks_have_the_same_model() -> None:
    generator = np.random.default_rng(7)
    names = 2 * NAMES_PER_BLOCK + 3
    close = np.exp(np.cumsum(generator.normal(0.0, 0.01, (400, names)), axis=0))
    close[generator.random(close.shape) < 0.01] = np.nan
    close[:, -1] = close[:, 0]
    days = np.arange(len(close)).astype("datetime64[D]")
    known = np.isfinite(close)
    model = fit(Bars(days, tuple(map(str, range(names))), close, known, np.ones_like(known)))
    for name in ("returns", "volatility", "beta", "idiosyncratic_volatility", "known"):
        found = getattr(model, name)
        np.testing.assert_array_equal(found[:, -1], found[:, 0])
    assert model.known[-1].all()


def test_blocks_cover_an_axis_once() -> None:
    covered = [i for part in blocks(10, 4) for i in range(part.start, part.stop)]
    assert covered == list(range(10))


def test_what_a_thread_raises_is_raised() -> None:
    def fail(part: slice) -> None:
        raise ValueError(f"at {part.start}")

    with pytest.raises(ValueError, match="at 0"):
        each(fail, blocks(10, 4))
