"""Prices within a day, by hand and for every minute."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokers.exchange.prices import Hours, PricePaths, quoted, tick_of
from market.bars import Bars

RISING, FALLING = date(2023, 1, 4), date(2023, 1, 5)
NAN = float("nan")


def at(day: date, minutes: float) -> datetime:
    """Return a time after the open, which is 14:30 UTC in winter; a session has 390 minutes."""
    return datetime(day.year, day.month, day.day, 14, 30, tzinfo=UTC) + timedelta(minutes=minutes)


def column(*values: float) -> np.ndarray:
    return np.array([values, values]).T


@pytest.fixture
def days() -> Bars:
    """Return three sessions of two names, all fields; the last but one rises, the last falls."""
    close = column(10.0, 12.0, 9.0)
    return Bars(
        dates=np.array(["2023-01-03", "2023-01-04", "2023-01-05"], dtype="datetime64[D]"),
        symbols=("A", "B"),
        close=close,
        tradable=np.ones((3, 2), dtype=bool),
        listed=np.ones((3, 2), dtype=bool),
        open=column(10.0, 11.0, 12.0),
        high=column(10.0, 13.0, 15.0),
        low=column(10.0, 10.0, 6.0),
    )


def price(bars: Bars, time: datetime) -> float | None:
    found = PricePaths(bars, Hours("XNYS")).price("A", time)
    return None if found is None else found[0]


def test_a_rising_day_runs_from_the_open_over_the_low_and_the_high_to_the_close(days: Bars):
    path = [price(days, at(RISING, minutes)) for minutes in (0, 130, 260, 389.999999, 390)]
    assert path == pytest.approx([11.0, 10.0, 13.0, 12.0, 12.0])
    assert price(days, at(RISING, 65)) == pytest.approx(10.5)


def test_a_falling_day_sees_its_high_first(days: Bars):
    assert [price(days, at(FALLING, minutes)) for minutes in (130, 260)] == [15.0, 6.0]


def test_without_high_and_low_a_day_is_one_line(days: Bars):
    assert price(replace(days, high=None), at(RISING, 195)) == pytest.approx(11.5)


def test_without_an_open_a_day_begins_at_the_close_before(days: Bars):
    plain = replace(days, open=None, high=None, low=None)
    assert price(plain, at(RISING, 0)) == 10.0
    assert price(plain, at(date(2023, 1, 3), 0)) == 10.0


def test_between_sessions_the_close_stands_with_the_close_s_time(days: Bars):
    night = at(RISING, 900)
    assert PricePaths(days, Hours("XNYS")).price("A", night) == (12.0, at(RISING, 390))


def test_before_the_first_bar_there_is_no_price(days: Bars):
    assert price(days, at(date(2022, 12, 30), 10)) is None


def test_after_the_last_bar_prices_stand_still_and_are_told_anew(days: Bars):
    later = at(date(2023, 1, 9), 60)
    assert PricePaths(days, Hours("XNYS")).price("A", later) == (9.0, later)


def test_in_a_gap_the_last_close_stands_and_its_age_is_told(days: Bars):
    gap = replace(days, close=column(10.0, NAN, 9.0), tradable=column(True, False, True))
    paths = PricePaths(gap, Hours("XNYS"))
    assert paths.price("A", at(RISING, 60)) == (10.0, at(date(2023, 1, 3), 390))
    assert not paths.tradable("A", RISING)
    assert paths.tradable("A", FALLING)


def test_half_a_session_is_half_as_long(days: Bars):
    half = replace(
        days, dates=np.array(["2023-11-21", "2023-11-22", "2023-11-24"], dtype="datetime64[D]")
    )
    assert price(half, at(date(2023, 11, 24), 70)) == 15.0  # a third of 210 minutes
    assert price(half, at(date(2023, 11, 24), 210)) == 9.0


@given(minute=st.integers(0, 390), rising=st.booleans())
def test_no_price_leaves_the_bar(minute: int, rising: bool):
    bars = Bars(
        dates=np.array(["2023-01-03", "2023-01-04"], dtype="datetime64[D]"),
        symbols=("A", "B"),
        close=np.array([[10.0, 10.0], [12.0 if rising else 11.0, 1.0]]),
        tradable=np.ones((2, 2), dtype=bool),
        listed=np.ones((2, 2), dtype=bool),
        open=np.array([[10.0, 10.0], [11.5, 1.0]]),
        high=np.array([[10.0, 10.0], [13.0, 1.0]]),
        low=np.array([[10.0, 10.0], [9.0, 1.0]]),
    )
    found = price(bars, at(RISING, minute))
    assert found is not None
    assert 9.0 <= found <= 13.0


@given(
    last=st.decimals("0.0001", "100000", places=4, allow_nan=False),
    half_spread_bp=st.decimals("0", "500", places=2, allow_nan=False),
)
def test_a_quote_lies_around_its_price_on_whole_ticks(last: Decimal, half_spread_bp: Decimal):
    market = quoted(last, at(RISING, 0), half_spread_bp)
    assert 0 < market.bid <= market.last <= market.ask
    assert market.bid % tick_of(market.last) == market.ask % tick_of(market.last) == 0


@pytest.mark.parametrize(
    ("now", "is_open", "next_open", "next_close"),
    [
        ("2023-06-02T13:29:59.999999", False, "2023-06-02T13:30", "2023-06-02T20:00"),
        ("2023-06-02T13:30:00", True, "2023-06-05T13:30", "2023-06-02T20:00"),
        ("2023-06-02T19:59:59.999999", True, "2023-06-05T13:30", "2023-06-02T20:00"),
        ("2023-06-02T20:00:00", False, "2023-06-05T13:30", "2023-06-05T20:00"),
        ("2023-03-11T12:00:00", False, "2023-03-13T13:30", "2023-03-13T20:00"),  # clocks change
        ("2023-11-23T16:00:00", False, "2023-11-24T14:30", "2023-11-24T18:00"),  # Thanksgiving
        ("2023-12-31T23:59:59", False, "2024-01-02T14:30", "2024-01-02T21:00"),
    ],
)
def test_a_session_is_open_from_its_open_and_closed_at_its_close(
    now: str, is_open: bool, next_open: str, next_close: str
):
    hours, time = Hours("XNYS"), datetime.fromisoformat(now).replace(tzinfo=UTC)
    assert (hours.current(time) is not None) == is_open
    opens, closes = (
        datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (next_open, next_close)
    )
    assert hours.times(hours.next_to_open(time))[0] == opens
    assert hours.times(hours.coming(time))[1] == closes
