"""The second opinion of the gateway: a `market` source, read whole once a day and kept.

Sessions, closes and what is known of each name come from completed sessions alone, so a driven
clock sees what was known then. Where a source has adjusted prices only, they stand in for raw ones
as long as nothing is split or paid out: the checks compare them with the broker's quote.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal

import numpy as np

from market.bars import Bars, BoolArray, FloatArray
from market.calendar import last_completed, session_times, sessions
from market.prepare import average_traded_value
from risk.gateway.records import Quote, SessionHours
from risk.gateway.state import NameFacts

SIGMA_SESSIONS = 63
CORRELATION_SESSIONS = 252
LEAST_SESSIONS = 21  # of returns, for a deviation or a correlation that means anything
SIX_PLACES = Decimal("0.000001")


class BarsSource:
    """What bars say; see `risk.gateway.observer.MarketSource`.

    Args:
        load: reads the bars of the source.
        version: words that change with what `load` would read.
        exchange: whose calendar holds.
        assumed_adv: account currency a day, one value or by symbol, where the source has no volume.
        correlation_cap: two names above it count as one risk, in (0, 1].
    """

    def __init__(
        self,
        load: Callable[[], Bars],
        version: Callable[[], str],
        exchange: str,
        assumed_adv: float | Mapping[str, float] | None,
        correlation_cap: float,
    ) -> None:
        self._load, self._version, self._exchange = load, version, exchange
        self._assumed_adv, self._cap = assumed_adv, correlation_cap
        self._read: tuple[str, Bars, FloatArray | None] | None = None
        self._facts: tuple[tuple[str, int], dict[str, NameFacts]] | None = None

    def hours(self, now: datetime) -> SessionHours | None:
        """Return the session that the calendar has on the day of a time, in UTC."""
        day = np.datetime64(now.date(), "D")
        if not len(sessions(self._exchange, day, day)):
            return None
        opens, closes = session_times(self._exchange, day)
        return SessionHours(now.date(), opens, closes)

    def previous(self, now: datetime) -> tuple[date, datetime] | None:
        """Return the last completed session and its close."""
        day = last_completed(self._exchange, now)
        _, closes = session_times(self._exchange, day)
        return date.fromisoformat(str(day)), closes

    def facts(self, symbols: Iterable[str], now: datetime) -> Mapping[str, NameFacts]:
        """Return what is known of names at the last close that the source has."""
        version, bars, adv = self._bars()
        row = self._row(bars, now)
        if row < 0:
            return {}
        if self._facts is None or self._facts[0] != (version, row):
            self._facts = (version, row), self._at(bars, adv, row)
        known = self._facts[1]
        return {symbol: known[symbol] for symbol in symbols if symbol in known}

    def quotes(self, symbols: Iterable[str], now: datetime) -> Mapping[str, Quote]:
        """Return the source's last closes as prices of that moment."""
        previous = self.previous(now)
        if previous is None:
            return {}
        return {
            symbol: Quote(symbol, None, None, fact.close, previous[1])
            for symbol, fact in self.facts(symbols, now).items()
            if fact.close is not None and fact.close_session == previous[0]
        }

    def _bars(self) -> tuple[str, Bars, FloatArray | None]:
        version = self._version()
        if self._read is None or self._read[0] != version:
            bars = self._load()
            self._read = version, bars, average_traded_value(bars, self._assumed_adv)
        return self._read

    def _row(self, bars: Bars, now: datetime) -> int:
        """Return the row of the last session that was completed at a time; -1 before the first."""
        completed = last_completed(self._exchange, now)
        return int(np.searchsorted(bars.dates, completed, side="right")) - 1

    def _at(self, bars: Bars, adv: FloatArray | None, row: int) -> dict[str, NameFacts]:
        """Return the facts of every listed name at the close of a row."""
        first = max(row - CORRELATION_SESSIONS, 0)
        closes = bars.close[first : row + 1]
        with np.errstate(invalid="ignore", divide="ignore"):
            returns = closes[1:] / closes[:-1] - 1.0
        alike = _correlated(returns, self._cap)
        day = date.fromisoformat(str(bars.dates[row]))
        found = {}
        for n, symbol in enumerate(bars.symbols):
            if not bars.listed[row, n]:
                continue
            close = _exact(bars.close[row, n])
            traded = None if adv is None else _exact(adv[row, n])
            shares = None if traded is None or close is None else traded / close
            found[symbol] = NameFacts(
                close=close,
                close_session=None if close is None else day,
                adv=None if shares is None else shares.quantize(SIX_PLACES),
                sigma=_deviation(returns[-SIGMA_SESSIONS:, n]),
                sector=bars.sectors[n],
                correlated=frozenset(bars.symbols[m] for m in np.flatnonzero(alike[n])),
            )
        return found


def _exact(value: float) -> Decimal | None:
    """Return a positive number as it is written, to six places; None for anything else."""
    number = float(value)
    if not (math.isfinite(number) and number > 0.0):
        return None
    return Decimal(repr(number)).quantize(SIX_PLACES)


def _deviation(returns: FloatArray) -> Decimal | None:
    known = returns[np.isfinite(returns)]
    return None if len(known) < LEAST_SESSIONS else _exact(known.std(ddof=1))


def _correlated(returns: FloatArray, cap: float) -> BoolArray:
    """Return (N, N) bool: which other names move with which; an unknown correlation is none."""
    names = returns.shape[1]
    whole = np.isfinite(returns).all(axis=1)
    alike: BoolArray = np.zeros((names, names), dtype=bool)
    if whole.sum() >= LEAST_SESSIONS:
        with np.errstate(invalid="ignore", divide="ignore"):
            alike |= np.nan_to_num(np.corrcoef(returns[whole], rowvar=False)) > cap
    np.fill_diagonal(alike, False)
    return alike
