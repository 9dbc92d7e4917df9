import numpy as np
import pytest
from skfolio.datasets import load_factors_dataset, load_sp500_dataset, load_sp500_index

from market.bars import Bars
from market.calendar import sessions
from market.sources.embedded import EmbeddedMarket


@pytest.fixture(scope="module")
def bars() -> Bars:
    return EmbeddedMarket(
        symbols=None,
        train=None,
        test=None,
        embargo=21,
        assumed_adv=None,
        cash_rate=0.0,
        exchange="XNYS",
        cache=None,
    ).load()


def test_closes_are_those_of_the_package(bars: Bars):
    prices = load_sp500_dataset()
    assert bars.symbols == tuple(prices.columns)
    assert (bars.dates == prices.index.to_numpy().astype("datetime64[D]")).all()
    np.testing.assert_array_equal(bars.close[bars.listed], prices.to_numpy()[bars.listed])


def test_only_rrc_starts_late_and_only_where_it_hardly_traded(bars: Bars):
    late = ~bars.listed.all(axis=0)
    assert [name for name, is_late in zip(bars.symbols, late, strict=True) if is_late] == ["RRC"]
    column = bars.symbols.index("RRC")
    begins = int(bars.listed[:, column].argmax())
    assert str(bars.dates[begins]) == "1993-01-04"
    assert bars.listed[begins:, column].all()
    raw = load_sp500_dataset()["RRC"].to_numpy()[:begins]
    assert (raw[1:] == raw[:-1]).mean() > 0.8
    assert any("RRC" in note for note in bars.notes)


def test_every_session_of_the_exchange_is_there(bars: Bars):
    assert (bars.dates == sessions("XNYS", bars.dates[0], bars.dates[-1])).all()
    assert len(bars.dates) == 8313


def test_only_closes_are_declared(bars: Bars):
    assert bars.fields == ("close",)
    np.testing.assert_array_equal(bars.tradable, np.isfinite(bars.close))


def test_index_and_factors_stand_beside_the_stocks(bars: Bars):
    assert set(bars.series) == {"SP500", "MTUM", "QUAL", "SIZE", "USMV", "VLUE"}
    index = load_sp500_index()["SP500"].to_numpy()
    np.testing.assert_array_equal(bars.series["SP500"], index)
    factors = load_factors_dataset()["MTUM"]
    begins = int(np.searchsorted(bars.dates, np.datetime64("2014-01-02")))
    assert np.isnan(bars.series["MTUM"][:begins]).all()
    np.testing.assert_array_equal(bars.series["MTUM"][begins:], factors.to_numpy())


def test_survivorship_and_the_price_index_are_said(bars: Bars):
    text = " ".join(bars.notes)
    assert "survivors only" in text
    assert "price index without dividends" in text


def test_every_stock_has_a_gics_sector(bars: Bars):
    by_name = dict(zip(bars.symbols, bars.sectors, strict=True))
    assert by_name["AAPL"] == "Information Technology"
    assert by_name["XOM"] == by_name["RRC"] == "Energy"
    assert by_name["BAC"] == "Financials"
    assert "unknown" not in bars.sectors
    assert len(set(bars.sectors)) == 7


def test_loading_twice_gives_the_same_record(bars: Bars):
    again = EmbeddedMarket(None, None, None, 0, None, 0.0, "XNYS", None).load()
    assert again.sha256 == bars.sha256
