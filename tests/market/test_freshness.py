from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from market.bars import Bars
from market.calendar import iso_date, sessions
from market.errors import InputError
from market.freshness import data_age, require_complete
from market.sources.embedded import EmbeddedMarket


@pytest.fixture
def bars() -> Bars:
    """Return ten sessions of six listed names with every field."""
    dates = sessions("XNYS", iso_date("2024-07-01"), iso_date("2024-07-15"))
    close = 50.0 + np.arange(len(dates) * 6, dtype=np.float64).reshape(len(dates), 6)
    there = np.ones(close.shape, dtype=bool)
    return Bars(
        dates=dates,
        symbols=("AAA", "BBB", "CCC", "DDD", "EEE", "FFF"),
        close=close,
        open=close - 0.5,
        high=close + 1.0,
        low=close - 1.0,
        volume=np.full(close.shape, 1000.0),
        tradable=there,
        listed=there,
        series={"VIX": np.full(len(dates), 13.0)},
    )


def changed(bars: Bars, field: str, row: int, column: int, value: float) -> Bars:
    array = getattr(bars, field).copy()
    array[row, column] = value
    return replace(bars, **{field: array})


@pytest.mark.parametrize(
    ("last", "now", "age"),
    [
        ("2024-07-01", datetime(2024, 7, 2, 19, 59, tzinfo=UTC), 0),
        ("2024-07-01", datetime(2024, 7, 2, 20, 0, tzinfo=UTC), 1),
        ("2024-07-03", datetime(2024, 7, 5, 12, 0, tzinfo=UTC), 0),  # a holiday makes nothing stale
        ("2024-06-28", datetime(2024, 7, 5, 21, 0, tzinfo=UTC), 4),
        ("2022-12-28", datetime(2024, 1, 2, 22, 0, tzinfo=UTC), 253),
        ("2024-07-02", datetime(2024, 7, 2, 15, 0, tzinfo=UTC), -1),
    ],
)
def test_the_age_counts_completed_sessions_since_the_last_bar(last: str, now: datetime, age: int):
    assert data_age(iso_date(last), "XNYS", now) == age


def test_a_whole_session_is_complete(bars: Bars):
    for row in range(len(bars.dates)):
        require_complete(bars, row)


@pytest.mark.parametrize("field", ["open", "high", "low", "close"])
@pytest.mark.parametrize("value", [np.nan, 0.0, -1.0, np.inf, -np.inf])
def test_a_price_that_is_none_is_refused_by_name_and_session(bars: Bars, field: str, value: float):
    broken = changed(bars, field, 3, 1, value)
    with pytest.raises(InputError, match=f"2024-07-05: no usable {field} of BBB$"):
        require_complete(broken, 3)
    require_complete(broken, 2)


@pytest.mark.parametrize("value", [np.nan, -1.0, np.inf])
def test_a_volume_that_is_none_is_refused(bars: Bars, value: float):
    with pytest.raises(InputError, match="no usable volume of CCC"):
        require_complete(changed(bars, "volume", -1, 2, value), -1)


def test_a_session_without_trades_has_a_volume(bars: Bars):
    require_complete(changed(bars, "volume", -1, 2, 0.0), -1)


def test_only_the_first_few_of_many_names_are_named(bars: Bars):
    broken = replace(bars, close=np.full(bars.close.shape, np.nan))
    with pytest.raises(InputError, match=r"AAA, BBB, CCC, DDD, EEE and 1 more$"):
        require_complete(broken, 4)


def test_a_name_that_is_not_listed_needs_no_price(bars: Bars):
    listed = bars.listed.copy()
    listed[:, 4] = False
    require_complete(replace(changed(bars, "close", -1, 4, np.nan), listed=listed), -1)


def test_a_session_of_no_name_is_refused(bars: Bars):
    with pytest.raises(InputError, match="no name is listed"):
        require_complete(replace(bars, listed=np.zeros_like(bars.listed)), -1)


def test_a_series_that_lacks_its_value_is_refused(bars: Bars):
    vix = bars.series["VIX"].copy()
    vix[-1] = np.nan
    with pytest.raises(InputError, match="VIX has no value"):
        require_complete(replace(bars, series={"VIX": vix}), -1)


def test_a_series_that_has_not_begun_is_not_missed(bars: Bars):
    require_complete(replace(bars, series={"VIX": np.full(len(bars.dates), np.nan)}), -1)


def test_a_session_that_repeats_every_close_is_refused(bars: Bars):
    close = bars.close.copy()
    close[-1] = close[-2]
    with pytest.raises(InputError, match="2024-07-15: all 6 closes repeat those of 2024-07-12"):
        require_complete(replace(bars, close=close), -1)
    close[-1, 3] += 0.01
    require_complete(replace(bars, close=close), -1)


@pytest.mark.parametrize("sessions_ago", [1, 5])
def test_a_name_whose_prices_have_just_broken_off_is_refused(bars: Bars, sessions_ago: int):
    listed, close = bars.listed.copy(), bars.close.copy()
    listed[-sessions_ago:, 2], close[-sessions_ago:, 2] = False, np.nan
    with pytest.raises(InputError, match="2024-07-15: the prices of CCC broke off"):
        require_complete(replace(bars, listed=listed, close=close), -1)
    require_complete(replace(bars, listed=listed, close=close), -1 - sessions_ago)


def test_an_earlier_question_does_not_hide_that_prices_broke_off(bars: Bars):
    listed, close = bars.listed.copy(), bars.close.copy()
    listed[-3:, 2], close[-3:, 2] = False, np.nan
    with pytest.raises(InputError, match="2024-07-12: the prices of CCC broke off"):
        require_complete(replace(bars, listed=listed, close=close), -2)


def test_a_name_that_came_back_has_not_broken_off(bars: Bars):
    listed, close = bars.listed.copy(), bars.close.copy()
    listed[-3:-1, 2], close[-3:-1, 2] = False, np.nan
    require_complete(replace(bars, listed=listed, close=close), -2)


def test_a_name_that_ended_earlier_is_taken_as_delisted(bars: Bars):
    listed, close = bars.listed.copy(), bars.close.copy()
    listed[-6:, 2], close[-6:, 2] = False, np.nan
    require_complete(replace(bars, listed=listed, close=close), -1)


def test_a_name_that_left_the_membership_and_still_trades_is_not_missed(bars: Bars):
    listed = bars.listed.copy()
    listed[-1, 2] = False
    require_complete(replace(bars, listed=listed), -1)


def test_every_embedded_session_of_the_sealed_window_is_complete():
    bars = EmbeddedMarket(None, None, None, 21, None, 0.0, "XNYS", None).load()
    rows = bars.rows(iso_date("2013-01-02"), iso_date("2022-12-28"))
    for row in range(rows.start, rows.stop):
        require_complete(bars, row)
