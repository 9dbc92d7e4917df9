"""Bars from the user's own files: CSV or Parquet, one file or a folder, long or wide.

Long: one row per session and symbol, with date, symbol, close and any of open, high, low, volume.
Wide: one row per session, a date and one column of closes per symbol.
Folder: parts of one long table, or one file per symbol, which then gives the symbol its name.
"""

import hashlib
import json
import logging
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from market.bars import PRICE_FIELDS, Bars, BoolArray, DateArray, FloatArray
from market.cache import Arrays, open_cache
from market.errors import InputError
from market.load import MarketConfig
from market.sources.reference import read_membership, read_sectors, read_series
from market.sources.tables import SUFFIXES, Table
from market.suggest import nearest

logger = logging.getLogger(__name__)

FIELDS = (*PRICE_FIELDS, "volume")
COLUMNS = ("date", "symbol", *FIELDS)
UNNAMED = ("", "__index_level_0__")  # how CSV and Parquet call an index without a name
FORMAT = 2  # of the cached arrays: a change of this module's results raises it


@dataclass(slots=True)
class FilesMarket(MarketConfig):
    """Bars from files; all prices adjusted alike, or the quality gate refuses them.

    Args:
        path: a .csv or .parquet file, or a folder of such files.
        columns: the files' names of date, symbol, open, high, low, close, volume, where they are
            called differently (case does not matter), or None.
        series: further daily values by name, each a file with date and close, such as the VIX, or
            None.
        sectors: a file with symbol and sector, or None.
        membership: a file with symbol, start_date and end_date (exclusive; blank: still), which
            limits each listing to the sessions of membership, or None.
    """

    path: str
    columns: Any  # dict[str, str] | None; OmegaConf would refuse every new name in a typed field
    series: Any  # likewise
    sectors: str | None
    membership: str | None

    def __post_init__(self) -> None:
        MarketConfig.__post_init__(self)  # zero-argument super() fails in a class with slots
        self.columns = _names_by_name("columns", self.columns)
        self.series = _names_by_name("series", self.series)
        for name in self.columns:
            if name not in COLUMNS:
                raise ValueError(f"market.columns has no {name!r}{nearest(name, COLUMNS)}")

    @property
    def origin(self) -> str:
        """Return the path."""
        return self.path

    def version(self) -> str:
        """Return a hash of name, size, times and inode of every file and of the configuration.

        A file that replaces another, with its time of change copied, has another inode or time of
        status change.
        """
        try:
            files = self._inputs()
        except (InputError, OSError) as error:  # a folder that is empty, or cannot be listed
            files = []
            logger.debug("no version of each file: %s", error)
        states = [_state(path) for path in [Path(self.path), *files]]
        content = json.dumps([states, self._how()], sort_keys=True)
        return f"files {hashlib.sha256(content.encode()).hexdigest()}"

    def load(self) -> Bars:
        """Return the bars of all files, from the cache where nothing has changed.

        Raises:
            InputError: if the files cannot be used, or change while they are read.
        """
        cache, version = open_cache(self.cache), self.version()
        if cache is None:
            return self._read(version)
        key = self._key(by_content=cache.shared)
        return _from_arrays(cache.array_group(key, lambda: _to_arrays(self._read(version))))

    def _key(self, by_content: bool) -> str:
        """Return a hash of what is read and of how."""
        stats = [
            _content(path) if by_content else _place(path)
            for path in self._inputs()
            if path.is_file()
        ]
        content = json.dumps([FORMAT, stats, self._how()], sort_keys=True)
        return f"files-{hashlib.sha256(content.encode()).hexdigest()}"

    def _inputs(self) -> list[Path]:
        """Return every file that is read."""
        others = [*self.series.values(), self.sectors, self.membership]
        named = [Path(path) for path in others if path is not None]
        return [*_data_files(Path(self.path)), *named]

    def _how(self) -> dict[str, Any]:
        """Return the configuration that decides what is read from the files."""
        names = ("path", "columns", "series", "sectors", "membership")
        return {name: getattr(self, name) for name in names}

    def _read(self, version: str) -> Bars:
        """Return the bars, all from files of one version: half an update is no data."""
        bars = self._parsed()
        if self.version() != version:
            raise InputError(
                f"{self.path}: the files changed while they were read; read them again"
            )
        return bars

    def _parsed(self) -> Bars:
        bars = read_bars(Path(self.path), self.columns)
        if self.membership is not None:
            bars = _within_membership(bars, Path(self.membership))
        else:
            note = "the universe is what the files hold: survivors only, if they hold only those"
            bars = replace(bars, notes=(note,))
        if self.sectors is not None:
            bars = replace(bars, sectors=read_sectors(Path(self.sectors), bars.symbols))
        series = {name: read_series(Path(path), bars.dates) for name, path in self.series.items()}
        return replace(bars, series=series)


def _content(path: Path) -> list[str]:
    with path.open("rb") as file:
        return [path.name, hashlib.file_digest(file, "sha256").hexdigest()]


def _place(path: Path) -> list[str | int]:
    return [str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns]


def _state(path: Path) -> tuple[str, int, int, int, int] | tuple[str, str]:
    """Return what changes with a file's content, or which error says that it cannot be seen."""
    try:
        found = path.stat()
    except OSError as error:
        return str(path), type(error).__name__
    if stat.S_ISDIR(found.st_mode):  # its own times change with every file that is none of ours
        return str(path), "folder"
    return str(path), found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _names_by_name(key: str, value: Any) -> dict[str, str]:
    """Return a configured mapping of text to text.

    Raises:
        ValueError: if it is anything else; names the key.
    """
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise ValueError(f"market.{key} must map names to names, was {value!r}")
    return value


def read_bars(path: Path, columns: dict[str, str]) -> Bars:
    """Return the bars of a file or of the files in a folder.

    A symbol is listed from its first to its last row (wide: price), and tradable where it has its
    prices.

    Args:
        path: the file or folder.
        columns: the file's name of a column of ours, where it differs.

    Raises:
        InputError: naming file and column, line, symbol or date.
    """
    files = _data_files(path)
    tables = [(table := Table(file), _match_columns(table, columns)) for file in files]
    if len(tables) == 1 and _is_wide(*tables[0]):
        return _read_wide(*tables[0])
    return _assemble([_read_part(table, found, path.is_dir()) for table, found in tables])


def _data_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
    if not files:
        raise InputError(f"{path}: the folder holds no .csv or .parquet file")
    return files


def _match_columns(table: Table, columns: dict[str, str]) -> dict[str, str]:
    """Return the file's name of each of our columns that it has.

    Raises:
        InputError: if it has no date, or lacks a column that was named in the configuration.
    """
    for ours, theirs in columns.items():
        if theirs not in table.header:
            hint = nearest(theirs, table.header)
            raise InputError(f"{table.path}: no column {theirs!r} for market.columns.{ours}{hint}")
    found = {ours: columns.get(ours) or table.find(ours) for ours in COLUMNS}
    matched = {ours: theirs for ours, theirs in found.items() if theirs is not None}
    if "date" not in matched:
        unnamed = next((name for name in UNNAMED if name in table.header), None)
        matched["date"] = table.column("date") if unnamed is None else unnamed
    return matched


def _is_wide(table: Table, found: dict[str, str]) -> bool:
    """Return whether the columns are symbols: Lowe's is one called LOW, so most must be unknown."""
    known = len(found) - 1
    return "close" not in found and "symbol" not in found and 2 * known < len(table.header) - 1


def _read_wide(table: Table, found: dict[str, str]) -> Bars:
    names = [name for name in table.header if name != found["date"]]
    table.load([found["date"]], names)
    days, day_of = table.dates(found["date"])
    dates = days[day_of]
    step = np.diff(dates).astype(np.int64)
    for rule, broken in (("unsorted", step < 0), ("duplicate", step == 0)):
        if broken.any():
            raise InputError(f"{table.path}: {dates[1:][broken][0]}: {rule}: rows must run forward")
    close = np.column_stack([table.numbers(name) for name in names])
    priced = np.isfinite(close)
    if not priced.any(axis=0).all():
        empty = names[int(np.flatnonzero(~priced.any(axis=0))[0])]
        raise InputError(f"{table.path}: column {empty} has no price at all")
    begun = np.logical_or.accumulate(priced, axis=0)
    ended = ~np.logical_or.accumulate(priced[::-1], axis=0)[::-1]
    return Bars(
        dates=dates,
        symbols=tuple(names),
        close=close,
        tradable=priced,
        listed=begun & ~ended,
        source="files",
    )


@dataclass(frozen=True, slots=True)
class _Part:
    """One long file: (R,) rows by the index of their day and symbol, the values still in Arrow."""

    table: Table
    days: DateArray
    day_of: NDArray[np.int32]
    symbols: list[str]
    symbol_of: NDArray[np.int32]
    columns: dict[str, str]  # our fields -> the file's columns


def _read_part(table: Table, found: dict[str, str], in_folder: bool) -> _Part:
    """Read one long file, or the file of one symbol, which only a folder may hold."""
    if "close" not in found:
        table.column("close")  # raises: names the nearest
    if "symbol" not in found and not in_folder:
        table.column("symbol")
    texts = [found[name] for name in ("date", "symbol") if name in found]
    fields = {name: found[name] for name in FIELDS if name in found}
    table.load(texts, list(fields.values()))
    days, day_of = table.dates(found["date"])
    if "symbol" in found:
        symbols, symbol_of = table.texts(found["symbol"])
    else:
        symbols, symbol_of = [table.path.stem], np.zeros(len(day_of), dtype=np.int32)
    return _Part(table, days, day_of, symbols, symbol_of, fields)


def _assemble(parts: list[_Part]) -> Bars:
    """Scatter the rows of all parts into (T, N) arrays, one field at a time."""
    dates = np.unique(np.concatenate([part.days for part in parts]))
    symbols = sorted({symbol for part in parts for symbol in part.symbols})
    position = {symbol: index for index, symbol in enumerate(symbols)}
    shape = (len(dates), len(symbols))
    names = [name for name in FIELDS if all(name in part.columns for part in parts)]
    for name in {name for part in parts for name in part.columns} - set(names):
        logger.warning("%s is left out: not every file has it", name)
    arrays: dict[str, Any] = {name: np.full(shape, np.nan) for name in names}
    present = np.zeros(shape, dtype=bool)
    for part in parts:
        row = np.searchsorted(dates, part.days)[part.day_of]
        column = np.array([position[symbol] for symbol in part.symbols])[part.symbol_of]
        _refuse_disorder(part.table.path, row, column, present, dates, symbols)
        present[row, column] = True
        for name in names:
            arrays[name][row, column] = part.table.numbers(part.columns[name])
    priced = np.isfinite(arrays["close"])
    if "open" in arrays:
        priced &= np.isfinite(arrays["open"])
    begun = np.logical_or.accumulate(present, axis=0)
    ended = ~np.logical_or.accumulate(present[::-1], axis=0)[::-1]
    return Bars(
        dates=dates,
        symbols=tuple(symbols),
        tradable=priced,
        listed=begun & ~ended,
        source="files",
        **arrays,
    )


def _refuse_disorder(
    path: Path,
    row: NDArray[np.intp],
    column: NDArray[np.intp],
    present: BoolArray,
    dates: DateArray,
    symbols: list[str],
) -> None:
    """Refuse a symbol whose rows run backwards within a file, or that has a session twice."""
    own = np.zeros_like(present)
    own[row, column] = True
    runs_forward = bool((np.diff(row) >= 0).all())
    if not runs_forward or np.count_nonzero(own) < len(row):  # else sorting would find nothing
        order = np.argsort(column, kind="stable")  # keeps the file's order within a symbol
        step = np.where(np.diff(column[order]) == 0, np.diff(row[order]), 1)
        for rule, broken in (("unsorted", step < 0), ("duplicate", step == 0)):
            if broken.any():
                bad = order[1:][broken][0]
                where = f"{path}: {symbols[column[bad]]} {dates[row[bad]]}"
                raise InputError(f"{where}: {rule}: a symbol's sessions must strictly increase")
    again = present[row, column]
    if again.any():
        bad = int(np.flatnonzero(again)[0])
        where = f"{symbols[column[bad]]} {dates[row[bad]]}"
        raise InputError(f"{path}: {where}: duplicate: another file has this session")


def _within_membership(bars: Bars, path: Path) -> Bars:
    """Limit listings to membership; a price outside it only gives the first day its return."""
    member = read_membership(path, bars.dates, bars.symbols)
    listed = bars.listed & member
    absent = [bars.symbols[column] for column in np.flatnonzero(~listed.any(axis=0))]
    if absent:
        logger.info("never listed under %s: %s", path, ", ".join(absent))
    note = "listings follow the membership file; members without prices in the files are missing"
    return replace(bars, listed=listed, tradable=bars.tradable & listed, notes=(note,))


# -- the record as arrays, for the cache ----------------------------------------------------------


def _to_arrays(bars: Bars) -> Arrays:
    named = ("dates", "tradable", "listed", "terminal_return", *bars.fields)
    arrays: Arrays = {name: getattr(bars, name) for name in named}
    for name in ("symbols", "sectors", "notes"):
        arrays[name] = np.array(getattr(bars, name), dtype=str)
    return arrays | {f"series.{name}": values for name, values in bars.series.items()}


def _from_arrays(arrays: Arrays) -> Bars:
    values: dict[str, Any] = {
        name: array for name, array in arrays.items() if not name.startswith("series.")
    }
    for name in ("symbols", "sectors", "notes"):
        values[name] = tuple(str(text) for text in arrays[name])
    series: dict[str, FloatArray] = {
        name.removeprefix("series."): array
        for name, array in arrays.items()
        if name.startswith("series.")
    }
    return Bars(**values, series=series, source="files")
