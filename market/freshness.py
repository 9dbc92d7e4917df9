"""Whether data are good enough to decide on: how old they are, and whether a session is whole.

The quality gate judges the history and may mask what is bad in it. A decision of today has no use
for a masked price: here every listed name must have its own, and nothing is ever filled.
"""

from datetime import datetime

import numpy as np

from market.bars import PRICE_FIELDS, Bars, BoolArray
from market.calendar import last_completed, sessions
from market.errors import InputError

NAMES_SHOWN = 5
REPEATED_NAMES = 5  # as many names do not all close unchanged; a vendor's repeated file does
GONE_SESSIONS = 5  # a name that ended no longer ago is taken for a gap of the feed


def data_age(last: np.datetime64, exchange: str, now: datetime) -> int:
    """Return how many sessions have been completed since the last bar.

    Args:
        last: session of the last bar, datetime64[D].
        exchange: a name that exchange_calendars knows, such as XNYS.
        now: with its time zone.

    Returns:
        0 where the last completed session is there; negative where the last bar is of a session
        that is not over.

    Raises:
        InputError: if the exchange is unknown or its calendar does not reach that far.

    >>> from datetime import UTC
    >>> data_age(np.datetime64("2024-11-27"), "XNYS", datetime(2024, 12, 3, tzinfo=UTC))
    2
    """
    completed, day = last_completed(exchange, now), np.timedelta64(1, "D")
    if last > completed:
        return -len(sessions(exchange, completed + day, last))
    return len(sessions(exchange, last + day, completed)) if last < completed else 0


def require_complete(bars: Bars, row: int) -> None:
    """Refuse a session in which a listed name or a series lacks its value.

    Args:
        bars: the record; every field that it declares must be there.
        row: of the session; -1 is the last.

    Raises:
        InputError: if nothing is listed; if a listed name has no price, or one that is not
            positive, or no volume; if a series that had begun has no value; if all of at least
            `REPEATED_NAMES` closes repeat the session before; or, if a name has no price
            any more whose listing ended in the record's last `GONE_SESSIONS`: no source without
            delisting dates can tell it from a feed that broke off. Names the session and the first
            few names.
    """
    row = range(len(bars.dates))[row]
    session, listed = bars.dates[row], bars.listed[row]
    if not listed.any():
        raise InputError(f"{session}: no name is listed")
    for name in bars.fields:
        values = getattr(bars, name)[row]
        floor = values > 0.0 if name in PRICE_FIELDS else values >= 0.0
        bad = listed & ~(floor & np.isfinite(values))
        if bad.any():
            raise InputError(f"{session}: no usable {name} of {_first(bars, bad)}")
    for name, series in bars.series.items():
        if not np.isfinite(series[row]) and np.isfinite(series[:row]).any():
            raise InputError(f"{session}: the series {name} has no value, was {series[row]}")
    if row > 0:
        _require_change(bars, row)
    _require_presence(bars, row)


def _require_change(bars: Bars, row: int) -> None:
    """Refuse a session whose closes are all those of the session before."""
    both = bars.listed[row] & np.isfinite(bars.close[row - 1])
    unchanged = bars.close[row, both] == bars.close[row - 1, both]
    if len(unchanged) >= REPEATED_NAMES and unchanged.all():
        before = bars.dates[row - 1]
        raise InputError(f"{bars.dates[row]}: all {len(unchanged)} closes repeat those of {before}")


def _require_presence(bars: Bars, row: int) -> None:
    """Refuse a session that a name did not reach whose prices ended just now."""
    last = len(bars.dates) - 1
    recent = bars.listed[max(last - GONE_SESSIONS, 0) : row].any(axis=0)
    gone = recent & ~bars.listed[row:].any(axis=0) & ~np.isfinite(bars.close[row])
    if gone.any():
        raise InputError(
            f"{bars.dates[row]}: the prices of {_first(bars, gone)} broke off in the last"
            f" {GONE_SESSIONS} sessions; leave a delisted name out of market.symbols"
        )


def _first(bars: Bars, bad: BoolArray) -> str:
    names = [bars.symbols[column] for column in np.flatnonzero(bad)]
    rest = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + rest
