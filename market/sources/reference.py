"""What stands beside the bars in files of its own: sectors, index membership, further series."""

from pathlib import Path

import numpy as np

from market.bars import BoolArray, DateArray, FloatArray
from market.errors import InputError
from market.sources.tables import Table

SYMBOL_NAMES = ("symbol", "ticker", "tic")


def read_sectors(path: Path, symbols: tuple[str, ...]) -> tuple[str, ...]:
    """Return the sector of each symbol; "unknown" where the file has none.

    Args:
        path: columns symbol (or ticker, tic) and sector (or gics_sector).
        symbols: N names.
    """
    table = Table(path)
    name, sector = table.column(*SYMBOL_NAMES), table.column("sector", "gics_sector")
    table.load([name, sector], [])
    names, name_of = table.texts(name)
    sectors, sector_of = table.texts(sector)
    by_name = {
        names[row_name]: sectors[row_sector]
        for row_name, row_sector in zip(name_of, sector_of, strict=True)
    }
    return tuple(by_name.get(symbol, "unknown") for symbol in symbols)


def read_membership(path: Path, dates: DateArray, symbols: tuple[str, ...]) -> BoolArray:
    """Return the (T, N) sessions in which each symbol is a member, from start up to before end.

    Args:
        path: columns symbol (or ticker, tic), start_date, end_date; a blank end is a member still.
        dates: (T,) sessions.
        symbols: N names.

    Raises:
        InputError: if none of the symbols is ever a member.
    """
    table = Table(path)
    name = table.column(*SYMBOL_NAMES)
    start, end = table.column("start_date", "start"), table.column("end_date", "end")
    table.load([name, start, end], [])
    names, name_of = table.texts(name)
    starts, start_of = table.dates(start)
    ends, end_of = table.dates(end, blank=np.datetime64("9999-12-31"))
    position = {symbol: index for index, symbol in enumerate(symbols)}
    member = np.zeros((len(dates), len(symbols)), dtype=bool)
    for row, code in enumerate(name_of):
        column = position.get(names[code])
        if column is not None:
            first, stop = np.searchsorted(dates, [starts[start_of[row]], ends[end_of[row]]])
            member[first:stop, column] = True
    if not member.any():
        raise InputError(f"{path}: none of {len(symbols)} symbols is a member in these sessions")
    return member


def read_series(path: Path, dates: DateArray) -> FloatArray:
    """Return (T,) a daily value from a file with date and close; NaN where it has no row.

    Raises:
        InputError: if a day stands in it twice.
    """
    table = Table(path)
    date, close = table.column("date"), table.column("close")
    table.load([date], [close])
    days, day_of = table.dates(date)
    row_days = days[day_of]
    ordered, count = np.unique(row_days, return_counts=True)
    if len(ordered) < len(row_days):
        raise InputError(f"{path}: {ordered[count > 1][0]}: duplicate: the day has two rows")
    values = np.full(len(dates), np.nan)
    known = np.isin(row_days, dates)
    values[np.searchsorted(dates, row_days[known])] = table.numbers(close)[known]
    return values
