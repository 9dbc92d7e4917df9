"""Tensors say what the bars say, and fill what is unknown with nothing that comes later."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from agents.market_tensors import MarketTensors
from market.bars import Bars
from market.dataset import Dataset
from market.features import FeatureConfig
from market.prepare import prepare
from market.timeframes import Timeframe

T, N = 60, 4
CONFIG = FeatureConfig(
    asset=["log_return_1"],
    ranks=[],
    indicators=[],
    timeframes=[Timeframe.daily],
    market=["market_log_volatility"],
    clip=3.0,
)


def bars_of(sessions: int = T, **changes: object) -> Bars:
    """Return four names: one plain, one with gaps, one listed late, one delisted at -40 %."""
    random = np.random.default_rng(0)
    close = 20.0 * np.exp(np.cumsum(random.normal(0.0, 0.01, (T, N)), axis=0))
    row = np.arange(T)[:, None]
    listed = (row >= [0, 0, 25, 0]) & (row < [T, T, T, 40])
    close = np.where(listed, close, np.nan)
    close[[10, 11], 1] = np.nan
    open_ = close * 1.002
    open_[30, 1] = np.nan  # a close without an open
    whole = Bars(
        dates=np.datetime64("2020-01-01") + np.arange(T),
        symbols=("A", "B", "C", "D"),
        close=close,
        open=open_,
        volume=np.where(np.isfinite(close), 1000.0, np.nan),
        tradable=listed,
        listed=listed,
        sectors=("x", "unknown", "x", "unknown"),
        terminal_return=np.array([0.0, 0.0, 0.0, -0.4]),
    )
    return replace(whole.select(slice(0, sessions)), **changes)


def dataset_of(bars: Bars) -> Dataset:
    return prepare(bars, slice(0, 30), slice(32, len(bars.dates)), CONFIG)


@pytest.fixture(scope="module")
def market() -> MarketTensors:
    return MarketTensors.build(dataset_of(bars_of()))


def test_prices_are_positive_everywhere_and_carried_over_gaps(market: MarketTensors) -> None:
    for price in (market.open, market.close):
        assert bool((price > 0.0).all()) and bool(torch.isfinite(price).all())
    assert market.close[10, 1] == market.close[11, 1] == market.close[9, 1]
    assert market.close[59, 3] == market.close[39, 3]


def test_only_what_has_both_prices_of_the_session_can_be_traded(market: MarketTensors) -> None:
    untraded = (~market.tradable).nonzero().tolist()
    gaps = [[10, 1], [11, 1], [30, 1]]
    late, gone = [[t, 2] for t in range(25)], [[t, 3] for t in range(40, T)]
    assert sorted(untraded) == sorted(gaps + late + gone)


def test_a_position_without_an_open_is_valued_at_the_last_close_not_the_coming_one(
    market: MarketTensors,
) -> None:
    assert market.open[30, 1] == market.close[29, 1] != market.close[30, 1]
    assert market.open[10, 1] == market.close[9, 1]


def test_without_opens_the_close_is_the_fill() -> None:
    market = MarketTensors.build(dataset_of(bars_of(open=None)))
    known = market.tradable
    assert torch.equal(market.open[known], market.close[known])


def test_a_delisting_is_paid_in_the_first_session_after_it_and_never_again(
    market: MarketTensors,
) -> None:
    assert market.payout.isfinite().nonzero().tolist() == [[40, 3]]
    assert market.payout[40, 3].item() == pytest.approx(0.6)


def test_unknown_sectors_are_not_one_sector(market: MarketTensors) -> None:
    assert market.sector_of.tolist() == [0, 1, 0, 2]
    assert market.n_sectors == 3


def test_the_traded_value_is_the_last_known_positive_one(market: MarketTensors) -> None:
    assert market.adv is not None
    assert bool((market.adv[market.investable] > 0.0).all())
    known = dataset_of(bars_of())
    silent = np.where(np.arange(T)[:, None] > 45, 0.0, known.adv)
    later = MarketTensors.build(replace(known, adv=silent)).adv
    assert later is not None
    assert torch.equal(later[50], later[45])


def test_no_row_knows_a_later_one() -> None:
    """Build from the first 45 sessions and from all 60: the common rows are equal to the bit."""
    short = MarketTensors.build(dataset_of(bars_of(45)))
    whole = MarketTensors.build(dataset_of(bars_of()))
    for item in fields(MarketTensors):
        one, two = getattr(short, item.name), getattr(whole, item.name)
        if isinstance(one, torch.Tensor) and item.name != "sector_of":
            assert torch.equal(one.nan_to_num(), two[:45].nan_to_num()), item.name
