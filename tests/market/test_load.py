import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from hypothesis import given
from hypothesis import strategies as st
from omegaconf.errors import OmegaConfBaseException

from market.bars import Bars
from market.config import register
from market.errors import InputError
from market.load import MarketConfig, load_bars, windows
from market.quality import QualityAction, QualityRules
from market.sources.synthetic import SyntheticMarket, World

CONF = Path(__file__).parents[2] / "conf"


def composed(*overrides: str) -> tuple[MarketConfig, QualityRules]:
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = instantiate(compose(overrides=list(overrides)), _convert_="object")
    return config["market"], config["quality"]


@pytest.fixture(scope="module")
def market() -> SyntheticMarket:
    config, _ = composed("+market=synthetic", "+quality=refuse", "market.sessions=600")
    assert isinstance(config, SyntheticMarket)
    return replace(config, assets=4)


@pytest.fixture(scope="module")
def quality() -> QualityRules:
    return composed("+market=synthetic", "+quality=refuse")[1]


@pytest.fixture(scope="module")
def bars(market: SyntheticMarket, quality: QualityRules) -> Bars:
    return load_bars(market, quality)


def day(bars: Bars, row: int) -> str:
    return str(bars.dates[row])


# -- configuration --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["redis://localhost:6379/0", "rediss://:word@cache.internal:6380", "unix:///run/r.sock"]
)
def test_a_redis_is_named_on_the_command_line(url: str):
    market, _ = composed("+market=embedded", "+quality=refuse", f"market.cache={url}")
    assert market.cache == url


@pytest.mark.parametrize("source", ["embedded", "synthetic", "files"])
@pytest.mark.parametrize("quality", ["refuse", "mask"])
def test_every_choice_of_the_groups_composes(source: str, quality: str):
    path = ["market.path=somewhere.csv"] if source == "files" else []
    market, rules = composed(f"+market={source}", f"+quality={quality}", *path)
    assert isinstance(market, MarketConfig)
    assert rules.action is QualityAction[quality]


def test_the_command_line_reaches_symbols_windows_and_embargo():
    market, _ = composed(
        "+market=embedded",
        "+quality=mask",
        "market.symbols=[MSFT,AAPL]",
        "market.train=[2000-01-03,2009-12-31]",
        "market.test=[2010-02-01,2012-12-31]",
        "market.embargo=5",
        "market.assumed_adv={AAPL:1e9,MSFT:5e8}",
    )
    assert market.symbols == ["MSFT", "AAPL"]
    assert market.train == ["2000-01-03", "2009-12-31"]
    assert market.embargo == 5
    assert market.assumed_adv == {"AAPL": 1e9, "MSFT": 5e8}


def test_files_without_a_path_do_not_compose():
    with pytest.raises(OmegaConfBaseException, match="path"):
        composed("+market=files", "+quality=refuse")


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("train", ["2000-01-03"], "market.train must be [first, last]"),
        (
            "train",
            ["2000-13-03", "2001-01-01"],
            "market.train: '2000-13-03' is no date: month must be in 1..12",
        ),
        ("test", ["2000", "2001-01-01"], "market.test: '2000' is not a date"),
        ("test", ["2001-01-01", "2000-01-01"], "market.test must run forward"),
        ("embargo", -1, "market.embargo must be at least 0"),
        ("cash_rate", float("nan"), "market.cash_rate"),
        ("assumed_adv", 0.0, "market.assumed_adv must be above 0"),
        ("assumed_adv", {"S000": -1.0}, "market.assumed_adv of S000"),
        ("assumed_adv", "much", "market.assumed_adv"),
        ("assumed_adv", True, "market.assumed_adv"),
        ("symbols", ["S000", "S001", "S000"], "market.symbols names S000 more than once"),
    ],
)
def test_a_value_without_meaning_is_refused_by_key_and_value(
    market: SyntheticMarket, key: str, value: object, shown: str
):
    with pytest.raises(ValueError, match=re.escape(shown)):
        replace(market, **{key: value})


# -- the universe ---------------------------------------------------------------------------------


def test_symbols_are_selected_in_the_order_asked_for(
    market: SyntheticMarket, quality: QualityRules, bars: Bars
):
    chosen = load_bars(replace(market, symbols=["S002", "S000"]), quality)
    assert chosen.symbols == ("S002", "S000")
    for name in ("close", "open", "volume", "tradable", "listed"):
        np.testing.assert_array_equal(getattr(chosen, name), getattr(bars, name)[:, [2, 0]])
    assert chosen.sectors == (bars.sectors[2], bars.sectors[0])


def test_an_unknown_symbol_is_refused_with_the_nearest(quality: QualityRules):
    market, _ = composed("+market=embedded", "+quality=refuse", "market.symbols=[APPL,MSFT]")
    with pytest.raises(InputError, match=r"market\.symbols: .*APPL \(nearest: AAPL\)"):
        load_bars(market, quality)


def test_a_universe_of_one_asset_is_refused(market: SyntheticMarket, quality: QualityRules):
    with pytest.raises(InputError, match="at least 2 assets, has S001"):
        load_bars(replace(market, symbols=["S001"]), quality)


def test_an_assumed_adv_of_a_symbol_outside_the_universe_is_refused(
    market: SyntheticMarket, quality: QualityRules
):
    with pytest.raises(InputError, match=r"market\.assumed_adv: S01 is not in the universe"):
        load_bars(replace(market, assumed_adv={"S01": 1e6}), quality)


def test_the_gate_sees_only_the_chosen_symbols(quality: QualityRules):
    market, _ = composed("+market=synthetic", "+quality=refuse", "market.splits=1")
    with pytest.raises(InputError, match="split") as caught:
        load_bars(market, quality)
    broken = re.search(r"S\d{3}", str(caught.value))
    assert broken is not None
    others = [f"S{index:03d}" for index in range(20) if f"S{index:03d}" != broken.group()]
    load_bars(replace(market, symbols=others), quality)


# -- windows --------------------------------------------------------------------------------------


def test_windows_are_the_rows_of_their_dates(market: SyntheticMarket, bars: Bars):
    config = replace(
        market, train=[day(bars, 3), day(bars, 400)], test=[day(bars, 430), day(bars, 599)]
    )
    assert windows(bars, config) == (slice(3, 401), slice(430, 600))


def test_the_default_windows_of_the_embedded_data_are_one_embargo_apart(quality: QualityRules):
    config, _ = composed("+market=embedded", "+quality=refuse")
    bars = load_bars(config, quality)
    train, test = windows(bars, config)
    assert bars.dates[train][[0, -1]].astype(str).tolist() == ["1990-01-02", "2012-11-30"]
    assert bars.dates[test][[0, -1]].astype(str).tolist() == ["2013-01-02", "2022-12-28"]
    assert test.start - (train.stop - 1) == config.embargo == 21


@given(
    embargo=st.integers(0, 60),
    train_last=st.integers(10, 500),
    distance=st.integers(-80, 80).filter(lambda value: value != 0),
)
def test_test_begins_at_least_an_embargo_after_train_or_is_refused(
    market: SyntheticMarket, bars: Bars, embargo: int, train_last: int, distance: int
):
    first = train_last + distance
    if not 0 <= first < 590:
        return
    config = replace(
        market,
        embargo=embargo,
        train=[day(bars, 0), day(bars, train_last)],
        test=[day(bars, first), day(bars, 595)],
    )
    if distance >= max(embargo, 1):
        train, test = windows(bars, config)
        assert test.start - train.stop + 1 == distance
    else:
        with pytest.raises(InputError, match=r"market\.test must begin") as caught:
            windows(bars, config)
        for row in (0, train_last, first, 595):
            assert day(bars, row) in str(caught.value)


@pytest.mark.parametrize("embargo", [0, 21, 100])
def test_windows_left_to_the_default_use_all_sessions_but_the_embargo(
    market: SyntheticMarket, bars: Bars, embargo: int
):
    train, test = windows(bars, replace(market, train=None, test=None, embargo=embargo))
    assert train == slice(0, 420)
    assert test == slice(419 + max(embargo, 1), 600)


def test_an_embargo_that_leaves_no_test_is_refused(market: SyntheticMarket, bars: Bars):
    with pytest.raises(InputError, match=r"market\.test holds 0 sessions"):
        windows(bars, replace(market, train=None, test=None, embargo=500))


@pytest.mark.parametrize(
    ("name", "window"),
    [
        ("train", ["1980-01-02", "2000-12-29"]),
        ("test", ["2001-06-01", "2030-12-31"]),
        ("test", ["2030-01-02", "2031-12-31"]),
        ("train", ["1980-01-02", "1985-12-31"]),
    ],
)
def test_a_window_outside_the_data_is_refused_with_the_dates_of_both(
    market: SyntheticMarket, bars: Bars, name: str, window: list[str]
):
    with pytest.raises(InputError) as caught:
        windows(bars, replace(market, **{name: window}))
    for text in (f"market.{name}", *window, day(bars, 0), day(bars, -1)):
        assert text in str(caught.value)


def test_a_window_may_begin_on_the_holiday_before_the_data(market: SyntheticMarket, bars: Bars):
    config = replace(market, train=["2000-01-01", day(bars, 300)], test=None)
    assert windows(bars, config)[0] == slice(0, 301)


def test_a_window_of_one_session_is_refused(market: SyntheticMarket, bars: Bars):
    saturday_to_monday = ["2001-06-02", "2001-06-04"]
    with pytest.raises(InputError, match=r"market\.test holds 1 sessions"):
        windows(bars, replace(market, test=saturday_to_monday))


def test_a_window_with_prices_of_one_asset_is_refused(market: SyntheticMarket, bars: Bars):
    close = bars.close.copy()
    close[450:, 1:] = np.nan
    with pytest.raises(InputError, match=r"market\.test .* has prices of 1 assets"):
        windows(replace(bars, close=close), replace(market, train=None, test=None, embargo=31))


def test_a_world_is_chosen_by_name():
    market, _ = composed("+market=synthetic", "+quality=refuse", "market.world=zero_alpha")
    assert isinstance(market, SyntheticMarket)
    assert market.world is World.zero_alpha
