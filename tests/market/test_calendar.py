import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.calendar import (
    execution_window_end,
    iso_date,
    last_completed,
    next_session,
    session_times,
    sessions,
)
from market.errors import InputError


def days(*texts: str) -> np.ndarray:
    return np.array(texts, dtype="datetime64[D]")


def test_the_exchange_was_closed_for_four_sessions_in_september_2001():
    found = sessions("XNYS", iso_date("2001-09-10"), iso_date("2001-09-18"))
    assert (found == days("2001-09-10", "2001-09-17", "2001-09-18")).all()


def test_the_calendar_reaches_back_beyond_twenty_years():
    assert len(sessions("XNYS", iso_date("1990-01-01"), iso_date("1990-12-31"))) == 253


def test_a_holiday_has_no_session():
    assert len(sessions("XNYS", iso_date("2020-12-25"), iso_date("2020-12-27"))) == 0


def test_another_exchange_has_other_sessions():
    boxing_day = iso_date("2019-12-26")
    assert len(sessions("XNYS", boxing_day, boxing_day)) == 1
    assert len(sessions("XLON", boxing_day, boxing_day)) == 0


def test_an_unknown_exchange_is_refused_with_the_nearest_name():
    with pytest.raises(InputError, match=r"market\.exchange.*'XNYSE'.*nearest: XNYS"):
        sessions("XNYSE", iso_date("2020-01-01"), iso_date("2020-01-31"))


def test_a_year_beyond_every_calendar_is_refused():
    with pytest.raises(InputError, match=r"market\.exchange: XNYS"):
        sessions("XNYS", iso_date("1500-01-01"), iso_date("1500-02-01"))


@pytest.mark.parametrize(
    "text", ["2012-11-31", "11/30/2012", "20121130", "2012-11", "2012-W48-5", ""]
)
def test_a_date_in_any_other_form_is_refused(text: str):
    with pytest.raises(ValueError):
        iso_date(text)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        ("2024-03-28", "2024-04-01"),  # Good Friday and a weekend
        ("2024-12-31", "2025-01-02"),  # the next year
        ("2025-01-08", "2025-01-10"),  # a day of mourning
        ("2024-07-06", "2024-07-08"),  # a Saturday is no session, and has a next one all the same
    ],
)
def test_the_next_session_skips_every_closure(day: str, expected: str):
    assert next_session("XNYS", iso_date(day)) == iso_date(expected)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2024-07-02T19:59:59", "2024-07-01"),
        ("2024-07-02T20:00:00", "2024-07-02"),  # summer time: 16:00 in New York
        ("2024-12-02T20:59:59", "2024-11-29"),
        ("2024-12-02T21:00:00", "2024-12-02"),  # winter time
        ("2024-07-03T16:59:59", "2024-07-02"),
        ("2024-07-03T17:00:00", "2024-07-03"),  # a half day closes at 13:00
        ("2024-07-04T23:00:00", "2024-07-03"),  # a holiday
        ("2025-01-01T00:00:00", "2024-12-31"),
        ("2025-01-02T20:59:00", "2024-12-31"),
    ],
)
def test_a_session_is_complete_at_its_close_and_not_a_second_before(now: str, expected: str):
    assert last_completed("XNYS", utc(now)) == iso_date(expected)


def test_a_time_of_another_zone_is_the_same_instant():
    tokyo = datetime(2024, 7, 3, 2, 0, tzinfo=timezone(timedelta(hours=9)))
    assert last_completed("XNYS", tokyo) == last_completed("XNYS", utc("2024-07-02T17:00:00"))


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="zone"):
        last_completed("XNYS", datetime(2024, 7, 2, 12, 0))


def test_an_exchange_around_the_clock_completes_a_day_at_midnight():
    assert last_completed("24/7", utc("2024-01-01T00:00:00")) == iso_date("2023-12-31")
    assert last_completed("24/7", utc("2024-01-01T23:59:59")) == iso_date("2023-12-31")


def test_a_session_of_tokyo_is_over_before_its_day_begins_in_new_york():
    assert last_completed("XTKS", utc("2024-07-02T06:00:00")) == iso_date("2024-07-02")


def test_a_half_day_closes_early():
    opening, close = session_times("XNYS", iso_date("2024-11-29"))
    assert (opening, close) == (utc("2024-11-29T14:30:00"), utc("2024-11-29T18:00:00"))


@pytest.mark.parametrize("day", ["2024-12-25", "2024-12-28", "2024-01-01", "2023-12-31"])
def test_a_day_without_a_session_has_no_hours(day: str):
    with pytest.raises(InputError, match=f"{day} is no session of XNYS"):
        session_times("XNYS", iso_date(day))


@pytest.mark.parametrize(
    ("day", "minutes", "end"),
    [
        ("2024-07-01", 60, "2024-07-02T14:30:00"),
        ("2024-07-02", 390, "2024-07-03T17:00:00"),  # a half day ends the window
        ("2024-12-31", 30, "2025-01-02T15:00:00"),
        ("2024-07-06", 1, "2024-07-08T13:31:00"),
    ],
)
def test_the_window_ends_minutes_after_the_next_open_or_with_the_session(
    day: str, minutes: int, end: str
):
    assert execution_window_end("XNYS", iso_date(day), minutes) == utc(end)


@given(
    seconds=st.integers(0, 20 * 365 * 86400),
    exchange=st.sampled_from(["XNYS", "XTKS", "24/7", "CMES"]),
)
def test_the_last_completed_session_has_closed_and_the_next_one_has_not(
    seconds: int, exchange: str
):
    now = utc("2006-01-05T00:00:00") + timedelta(seconds=seconds)
    found = last_completed(exchange, now)
    assert session_times(exchange, found)[1] <= now
    assert session_times(exchange, next_session(exchange, found))[1] > now


def test_a_thousand_questions_take_no_noticeable_time():
    execution_window_end("XNYS", iso_date("2024-07-01"), 30)
    last_completed("XNYS", utc("2024-07-02"))
    start = time.process_time()
    for _ in range(1000):
        execution_window_end("XNYS", iso_date("2024-07-01"), 30)
        last_completed("XNYS", utc("2024-07-02T20:00:00"))
    assert time.process_time() - start < 0.3


def test_threads_that_ask_at_once_get_one_calendar_and_no_warning() -> None:
    with warnings.catch_warnings(record=True) as heard, ThreadPoolExecutor(8) as pool:
        warnings.simplefilter("always")
        found = list(
            pool.map(lambda _: session_times("XLON", np.datetime64("1999-03-01")), range(8))
        )
    assert len(set(found)) == 1
    assert not heard
