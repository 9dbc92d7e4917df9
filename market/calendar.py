"""Exchange sessions and their hours, from exchange_calendars.

A session is a day, datetime64[D], by the exchange's own clock; a time is a datetime in UTC.
"""

import re
import warnings
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from threading import Lock
from typing import Any, NamedTuple

import exchange_calendars
import numpy as np
from exchange_calendars.errors import CalendarError, InvalidCalendarName
from numpy.typing import NDArray

from market.bars import DateArray
from market.errors import InputError
from market.suggest import nearest

_BUILDING = Lock()


def sessions(exchange: str, first: np.datetime64, last: np.datetime64) -> DateArray:
    """Return the (T,) datetime64[D] sessions of an exchange in [first, last].

    Args:
        exchange: a name that exchange_calendars knows, such as XNYS.
        first: the first day that may be a session.
        last: the last day that may be one.

    Raises:
        InputError: if the exchange is unknown or its calendar does not reach that far.

    >>> sessions("XNYS", np.datetime64("2001-09-10"), np.datetime64("2001-09-17"))
    array(['2001-09-10', '2001-09-17'], dtype='datetime64[D]')
    """
    first_year, last_year = (int(np.datetime_as_string(day, unit="Y")) for day in (first, last))
    found = _sessions_of_years(exchange, first_year, last_year)
    return found[(found >= first) & (found <= last)]


def next_session(exchange: str, day: np.datetime64) -> np.datetime64:
    """Return the first session after a day, which need not be one itself.

    Raises:
        InputError: if the exchange is unknown or its calendar ends before.

    >>> next_session("XNYS", np.datetime64("2024-03-28"))
    np.datetime64('2024-04-01')
    """
    year = _year(day)
    found = _hours(exchange, year).sessions
    row = int(np.searchsorted(found, day, side="right"))
    if row == len(found):
        found, row = _hours(exchange, year + 1).sessions, 0
    session: np.datetime64 = found[row]
    return session


def last_completed(exchange: str, now: datetime) -> np.datetime64:
    """Return the last session whose close, an early one too, lies at or before `now`.

    Args:
        exchange: a name that exchange_calendars knows, such as XNYS.
        now: with its time zone.

    Raises:
        InputError: if the exchange is unknown or its calendar does not reach that far.
        ValueError: if `now` has no time zone.

    >>> last_completed("XNYS", datetime(2024, 11, 29, 18, 0, tzinfo=UTC))
    np.datetime64('2024-11-29')
    >>> last_completed("XNYS", datetime(2024, 11, 29, 17, 59, tzinfo=UTC))
    np.datetime64('2024-11-27')
    """
    if now.tzinfo is None:
        raise ValueError(f"a time without a zone names no instant: {now.isoformat()}")
    instant = np.datetime64(now.astimezone(UTC).replace(tzinfo=None), "us")
    year = now.astimezone(UTC).year
    for hours in (_hours(exchange, year), _hours(exchange, year - 1)):
        count = int(np.searchsorted(hours.close, instant, side="right"))
        if count:
            found: np.datetime64 = hours.sessions[count - 1]
            return found
    raise InputError(f"market.exchange: {exchange} had no session in the year before {now}")


def session_times(exchange: str, day: np.datetime64) -> tuple[datetime, datetime]:
    """Return when a session opens and closes.

    Raises:
        InputError: if the exchange has no session on that day, or is unknown.
    """
    hours = _hours(exchange, _year(day))
    row = int(np.searchsorted(hours.sessions, day))
    if row == len(hours.sessions) or hours.sessions[row] != day:
        raise InputError(f"{day} is no session of {exchange}")
    return _utc(hours.open[row]), _utc(hours.close[row])


def execution_window_end(exchange: str, day: np.datetime64, minutes: int) -> datetime:
    """Return until when what was decided at the close of a day may be traded.

    Args:
        exchange: a name that exchange_calendars knows, such as XNYS.
        day: the session that was decided on.
        minutes: that the window stays open from the open of the next session on, > 0; it ends at
            that session's close at the latest.

    Raises:
        InputError: if the exchange is unknown or its calendar ends before.

    >>> str(execution_window_end("XNYS", np.datetime64("2024-11-27"), 60))
    '2024-11-29 15:30:00+00:00'
    """
    opening, close = session_times(exchange, next_session(exchange, day))
    return min(opening + timedelta(minutes=minutes), close)


def iso_date(text: str) -> np.datetime64:
    """Return the day of a text like 2012-11-30; other forms differ from country to country.

    Raises:
        ValueError: if it is anything else.
    """
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
        raise ValueError(f"{text!r} is not a date like 2012-11-30")
    try:
        return np.datetime64(date.fromisoformat(text), "D")
    except ValueError as error:
        raise ValueError(f"{text!r} is no date: {error}") from None


@lru_cache(maxsize=16)
def _sessions_of_years(exchange: str, first_year: int, last_year: int) -> DateArray:
    """Return all sessions of whole years; without bounds a calendar reaches back 20 years only."""
    return _days(_calendar(exchange, first_year, last_year))


class _Hours(NamedTuple):
    """The S sessions of a year, with (S,) datetime64[us] UTC times."""

    sessions: DateArray
    open: NDArray[np.datetime64]
    close: NDArray[np.datetime64]


@lru_cache(maxsize=64)
def _hours(exchange: str, year: int) -> _Hours:
    """Return a year's sessions; year by year, because some calendars end with the current one."""
    calendar = _calendar(exchange, year, year)
    opens, closes = (
        column.dt.tz_localize(None).to_numpy().astype("datetime64[us]")
        for column in (calendar.schedule["open"], calendar.schedule["close"])
    )
    return _Hours(_days(calendar), opens, closes)


def _calendar(exchange: str, first_year: int, last_year: int) -> Any:
    """Return the calendar of whole years.

    Raises:
        InputError: if the exchange is unknown or its calendar does not reach that far.
    """
    try:
        # One thread at a time: the filter of warnings below belongs to the whole process, and
        # threads that want the same calendar at once would each build it.
        with _BUILDING:
            return _built(exchange, first_year, last_year)
    except InvalidCalendarName:
        hint = nearest(exchange, exchange_calendars.get_calendar_names())
        raise InputError(f"market.exchange: no calendar is called {exchange!r}{hint}") from None
    except (CalendarError, ValueError) as error:
        years = f"{first_year} to {last_year}"
        raise InputError(
            f"market.exchange: {exchange} has no calendar for {years}: {error}"
        ) from None


@lru_cache(maxsize=16)
def _built(exchange: str, first_year: int, last_year: int) -> Any:
    with warnings.catch_warnings():
        # exchange_calendars takes the bare values of pandas' zoned times: not ours to change.
        warnings.filterwarnings("ignore", "Series.values", DeprecationWarning)
        return exchange_calendars.get_calendar(
            exchange, start=f"{first_year}-01-01", end=f"{last_year}-12-31"
        )


def _days(calendar: Any) -> DateArray:
    found: DateArray = calendar.sessions.to_numpy().astype("datetime64[D]")
    return found


def _year(day: np.datetime64) -> int:
    return int(day.astype("datetime64[Y]").astype(np.int64)) + 1970


def _utc(time: np.datetime64) -> datetime:
    naive: datetime = time.astype("datetime64[us]").item()
    return naive.replace(tzinfo=UTC)
