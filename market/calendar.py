"""Exchange sessions, from exchange_calendars."""

import re
import warnings
from datetime import date
from functools import lru_cache

import exchange_calendars
import numpy as np
from exchange_calendars.errors import CalendarError, InvalidCalendarName

from market.bars import DateArray
from market.errors import InputError
from market.suggest import nearest


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
    try:
        with warnings.catch_warnings():
            # exchange_calendars takes the bare values of pandas' zoned times: not ours to change.
            warnings.filterwarnings("ignore", "Series.values", DeprecationWarning)
            calendar = exchange_calendars.get_calendar(
                exchange, start=f"{first_year}-01-01", end=f"{last_year}-12-31"
            )
    except InvalidCalendarName:
        hint = nearest(exchange, exchange_calendars.get_calendar_names())
        raise InputError(f"market.exchange: no calendar is called {exchange!r}{hint}") from None
    except (CalendarError, ValueError) as error:
        years = f"{first_year} to {last_year}"
        raise InputError(
            f"market.exchange: {exchange} has no calendar for {years}: {error}"
        ) from None
    found: DateArray = calendar.sessions.to_numpy().astype("datetime64[D]")
    return found
