"""Prices of a day's minutes from its bar, so that limits and stops can be reached in between.

Within a session the price runs in straight lines: from the open to the low, the high and the
close on a day that rises, to the high first on one that falls, each third of the session one line;
without high and low straight from open to close, without an open from the close before. Bars are
adjusted for splits and dividends, and are traded here as if they were what was quoted. After the
last bar prices stand still.
"""

from bisect import bisect_right
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

import numpy as np

from brokers.exchange.records import Market
from market.bars import Bars, FloatArray
from market.calendar import next_session, session_times, sessions

PENNY = Decimal("0.01")
SUB_PENNY = Decimal("0.0001")
BASIS = Decimal(10_000)


class Hours:
    """The sessions of an exchange around any time."""

    def __init__(self, exchange: str) -> None:
        self._exchange = exchange
        self._times: dict[date, tuple[datetime, datetime]] = {}
        self._until: dict[date, list[date]] = {}
        self._closed: set[date] = set()

    def close(self, days: Iterable[date]) -> None:
        """Let sessions that the calendar has not take place, as on a day of national mourning."""
        self._closed.update(days)
        self._until.clear()

    def between(self, first: date, last: date) -> list[date]:
        """Return the sessions in [first, last]."""
        found: list[date] = sessions(self._exchange, _day(first), _day(last)).tolist()
        return [session for session in found if session not in self._closed]

    def times(self, session: date) -> tuple[datetime, datetime]:
        """Return when a session opens and closes."""
        if session not in self._times:
            self._times[session] = session_times(self._exchange, _day(session))
        return self._times[session]

    def after(self, day: date) -> date:
        """Return the first session after a day."""
        found = next_session(self._exchange, _day(day)).tolist()
        if not isinstance(found, date):
            raise TypeError(f"no date: {found!r}")
        return self.after(found) if found in self._closed else found

    def current(self, now: datetime) -> date | None:
        """Return the session that is open: from its open up to, not including, its close."""
        session = self.last_opened(now)
        return session if session is not None and now < self.times(session)[1] else None

    def coming(self, now: datetime) -> date:
        """Return the session that is open or, if none is, the next one to open."""
        day = now.astimezone(UTC).date() - timedelta(days=2)
        while True:
            day = self.after(day)
            if now < self.times(day)[1]:
                return day

    def next_to_open(self, now: datetime) -> date:
        """Return the next session to open, after the one that is open."""
        current = self.current(now)
        return self.coming(now) if current is None else self.after(current)

    def last_opened(self, now: datetime) -> date | None:
        """Return the last session that opened at or before a time, of the last month."""
        day = now.astimezone(UTC).date()
        if day not in self._until:
            self._until[day] = self.between(day - timedelta(days=31), day + timedelta(days=1))
        opened = (
            session for session in reversed(self._until[day]) if self.times(session)[0] <= now
        )
        return next(opened, None)


class PricePaths:
    """The price of every name at every time.

    Args:
        bars: prices by session.
        hours: of the exchange.
    """

    def __init__(self, bars: Bars, hours: Hours) -> None:
        self.symbols = bars.symbols
        self._hours = hours
        self._bars = bars
        self._known = bars.known_close()
        self._dates: list[date] = bars.dates.astype("datetime64[D]").tolist()
        self._column = {symbol: column for column, symbol in enumerate(bars.symbols)}

    @property
    def last_session(self) -> date:
        """Return the last session with a bar."""
        return self._dates[-1]

    def tradable(self, symbol: str, session: date) -> bool:
        """Return whether a name is traded in a session; after the last bar it stays as it was."""
        row = bisect_right(self._dates, session) - 1
        column = self._column[symbol]
        return row >= 0 and bool(
            self._bars.tradable[row, column] and np.isfinite(self._known[row, column])
        )

    def price(self, symbol: str, at: datetime) -> tuple[float, datetime] | None:
        """Return the last price of a name and its time; None before its first."""
        session = self._hours.last_opened(at)
        if session is None:
            return None
        row = bisect_right(self._dates, session) - 1
        if row < 0:
            return None
        opening, close = self._hours.times(session)
        stamp = min(at, close)
        column = self._column[symbol]
        if self._dates[row] != session:
            last = float(self._known[row, column])
        elif not np.isfinite(self._bars.close[row, column]):  # a halt: the last close stands
            last, stamp = float(self._known[row, column]), self._last_close_time(row, column)
        else:
            last = self._within(row, column, (stamp - opening) / (close - opening))
        return (last, stamp) if np.isfinite(last) else None

    def day_bar(self, symbol: str, session: date) -> tuple[float, float, float, float] | None:
        """Return open, high, low and close of a session; None where there is no bar."""
        row = bisect_right(self._dates, session) - 1
        if row < 0 or self._dates[row] != session:
            return None
        knots = self._knots(row, self._column[symbol])
        if not all(map(np.isfinite, knots)):
            return None
        return knots[0], max(knots), min(knots), knots[-1]

    def _within(self, row: int, column: int, elapsed: float) -> float:
        """Return the price when a share `elapsed` of a session is over."""
        knots = self._knots(row, column)
        return float(np.interp(elapsed, np.linspace(0.0, 1.0, len(knots)), knots))

    def _knots(self, row: int, column: int) -> list[float]:
        """Return the prices that a session's lines run through."""
        close = float(self._bars.close[row, column])
        first = _at(self._bars.open, row, column)
        if first is None and row:
            first = float(self._known[row - 1, column])
        if first is None or not np.isfinite(first):
            first = close
        high, low = (_at(array, row, column) for array in (self._bars.high, self._bars.low))
        if high is None or low is None:
            return [first, close]
        turns = [min(low, first, close), max(high, first, close)]
        return [first, *(turns if close >= first else turns[::-1]), close]

    def _last_close_time(self, row: int, column: int) -> datetime:
        """Return the close of the last session at or before a row that has a price."""
        priced = np.flatnonzero(np.isfinite(self._bars.close[: row + 1, column]))
        found = self._dates[int(priced[-1]) if len(priced) else row]
        return self._hours.times(found)[1]


def quoted(price: Decimal, at: datetime, half_spread_bp: Decimal) -> Market:
    """Return bid and ask around a price, on the ticks of Rule 612 of Regulation NMS.

    >>> from datetime import UTC
    >>> market = quoted(Decimal("100.123"), datetime(2024, 1, 2, 15, tzinfo=UTC), Decimal(2))
    >>> str(market.bid), str(market.last), str(market.ask)
    ('100.10', '100.1230', '100.15')
    """
    spread = price * half_spread_bp / BASIS
    tick = tick_of(price)
    bid = max(((price - spread) / tick).to_integral_value(ROUND_FLOOR) * tick, tick)
    ask = ((price + spread) / tick).to_integral_value(ROUND_CEILING) * tick
    return Market(bid, max(ask, bid), price.quantize(SUB_PENNY), at)


def tick_of(price: Decimal) -> Decimal:
    """Return the smallest step of a price: a cent from 1 on, a hundredth of it below."""
    return PENNY if price >= 1 else SUB_PENNY


def _at(array: FloatArray | None, row: int, column: int) -> float | None:
    """Return a finite number of an array, or None."""
    if array is None or not np.isfinite(array[row, column]):
        return None
    return float(array[row, column])


def _day(day: date) -> np.datetime64:
    return np.datetime64(day, "D")
