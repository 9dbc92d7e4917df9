"""The market, session by session: its volatility and regime, as training knows them."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from market.bars import Bars, FloatArray
from market.calendar import last_completed, sessions
from market.factor_model import fit
from market.regimes import REGIME_NAMES, Market, regimes

_SIX_PLACES = Decimal("0.000001")


@dataclass(frozen=True, slots=True)
class MarketDay:
    """A completed session.

    Args:
        session: of the calendar.
        volatility: of the market, annualised, from closes up to this one.
        regime: one of `market.regimes.REGIME_NAMES`.
    """

    session: date
    volatility: Decimal
    regime: str


class MarketDays:
    """What a market source says of its sessions; computed once for each of its versions.

    Args:
        load: reads the bars of the source.
        version: words that change with what `load` would read.
        exchange: whose calendar holds.
    """

    def __init__(self, load: Callable[[], Bars], version: Callable[[], str], exchange: str) -> None:
        self._load, self._version, self._exchange = load, version, exchange
        self._read: tuple[str, _States] | None = None

    def last(self, now: datetime) -> MarketDay | None:
        """Return the last completed session; None where the source does not have it yet."""
        day = last_completed(self._exchange, now)
        states = self._states()
        row = int(np.searchsorted(states.dates, day))
        if row == len(states.dates) or states.dates[row] != day:
            return None
        return MarketDay(
            date.fromisoformat(str(day)),
            Decimal(repr(float(states.volatility[row]))).quantize(_SIX_PLACES),
            REGIME_NAMES[int(states.regimes[row])],
        )

    def elapsed(self, first: date, last: date) -> int:
        """Return how many sessions lie in (first, last]."""
        if last <= first:
            return 0
        found = sessions(self._exchange, np.datetime64(first, "D"), np.datetime64(last, "D"))
        return int((found > np.datetime64(first, "D")).sum())

    def _states(self) -> "_States":
        version = self._version()
        if self._read is None or self._read[0] != version:
            bars = self._load()
            model = fit(bars)
            found = regimes(Market.of(bars, model))
            self._read = version, _States(bars.dates, model.market_volatility, found)
        return self._read[1]


@dataclass(frozen=True, slots=True, eq=False)
class _States:
    """Every session of a source: (T,) dates, annualised volatility, index of the regime."""

    dates: NDArray[np.datetime64]
    volatility: FloatArray
    regimes: NDArray[np.int64]
