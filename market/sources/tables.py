"""Read CSV and Parquet tables by column, and say in one line what is wrong with one."""

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from market.bars import DateArray, FloatArray
from market.calendar import iso_date
from market.errors import InputError
from market.suggest import nearest

SUFFIXES = (".csv", ".parquet")

TEXT = pa.dictionary(pa.int32(), pa.string())
NUMBER = pa.float64()


class Table:
    """One file: its header at once, its columns when they are asked for.

    Args:
        path: a .csv or .parquet file.

    Raises:
        InputError: if it cannot be read or has no header; names the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        if path.suffix.lower() not in SUFFIXES:
            raise InputError(f"{path}: neither .csv nor .parquet")
        try:
            self.header = _header(path)
        except (OSError, UnicodeDecodeError, pa.ArrowException, csv.Error) as error:
            raise InputError(f"{path}: {_one_line(error)}") from None
        if not self.header:
            raise InputError(f"{path}: the file is empty")
        if len(set(self.header)) < len(self.header):
            twice = next(name for name in self.header if self.header.count(name) > 1)
            raise InputError(f"{path}: more than one column is called {twice!r}")
        self._columns: Any = None

    def load(self, texts: list[str], numbers: list[str]) -> None:
        """Read these columns, in one pass.

        Raises:
            InputError: if a row is malformed or a value is no number; names file, line and column.
        """
        try:
            if self.path.suffix.lower() == ".csv":
                self._columns = self._load_csv(texts, numbers)
            else:
                self._columns = pyarrow.parquet.read_table(self.path, columns=[*texts, *numbers])
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{self.path}: {self._named(_one_line(error))}") from None
        if self._columns.num_rows == 0:
            raise InputError(f"{self.path}: the file has no rows")

    def numbers(self, name: str) -> FloatArray:
        """Return (R,) a column of numbers; NaN where it is empty."""
        try:
            values: FloatArray = self._columns.column(name).cast(NUMBER).to_numpy()
        except pa.ArrowException as error:
            raise InputError(f"{self.path}: column {name}: {_one_line(error)}") from None
        return values

    def texts(self, name: str) -> tuple[list[str], NDArray[np.int32]]:
        """Return the distinct texts of a column, and (R,) the index of each row's.

        Raises:
            InputError: if a row has none.
        """
        values, codes = self._encoded(name)
        texts = [str(value) for value in values]
        if "" in texts:
            row = int(np.flatnonzero(codes == texts.index(""))[0])
            raise InputError(f"{self._line(row)}: column {name} is empty")
        return texts, codes

    def dates(
        self, name: str, blank: np.datetime64 | None = None
    ) -> tuple[DateArray, NDArray[np.int32]]:
        """Return (U,) the days of a column, and (R,) the index of each row's.

        The clock time is dropped; a zoned time stays on the day of its zone.

        Args:
            name: the column.
            blank: what an empty text means; None refuses it.

        Raises:
            InputError: if a row has no date like 2012-11-30, 20121130 or a stamp that begins so.
        """
        values, codes = self._encoded(name)
        days = np.empty(len(values), dtype="datetime64[D]")
        for index, value in enumerate(values):
            try:
                days[index] = blank if value == "" and blank is not None else _day(str(value))
            except ValueError:
                row = int(np.flatnonzero(codes == index)[0])
                message = f"{name} {str(value)!r} is not a date like 2012-11-30"
                raise InputError(f"{self._line(row)}: {message}") from None
        return days, codes

    def column(self, name: str, *others: str) -> str:
        """Return the header's spelling of the first of these names that it has, in any case.

        Raises:
            InputError: if it has none of them; names the nearest.
        """
        for candidate in (name, *others):
            found = self.find(candidate)
            if found is not None:
                return found
        if len(self.header) == 1 and (other := re.search("[;\\t|]", self.header[0])):
            raise InputError(f"{self.path}: columns must be separated by ',', not by {other[0]!r}")
        raise InputError(f"{self.path}: no column {name!r}{nearest(name, self.header)}")

    def find(self, name: str) -> str | None:
        """Return the header's spelling of a name, or None."""
        if name in self.header:
            return name
        folded = (column for column in self.header if column.casefold() == name.casefold())
        return next(folded, None)

    def _load_csv(self, texts: list[str], numbers: list[str]) -> Any:
        types = dict.fromkeys(texts, TEXT) | dict.fromkeys(numbers, NUMBER)
        convert = pyarrow.csv.ConvertOptions(column_types=types, include_columns=list(types))
        try:
            return pyarrow.csv.read_csv(self.path, convert_options=convert)
        except pa.ArrowInvalid:
            # Only the reader of a single thread knows the number of the bad row.
            single = pyarrow.csv.ReadOptions(use_threads=False)
            return pyarrow.csv.read_csv(self.path, single, convert_options=convert)

    def _encoded(self, name: str) -> tuple[list[Any], NDArray[np.int32]]:
        column = self._columns.column(name)
        if column.null_count:
            row = int(np.flatnonzero(column.is_null().to_numpy())[0])
            raise InputError(f"{self._line(row)}: column {name} is empty")
        if not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        array = column.unify_dictionaries().combine_chunks()
        return array.dictionary.to_pylist(), array.indices.to_numpy().astype(np.int32, copy=False)

    def _line(self, row: int) -> str:
        unit, first = ("line", 2) if self.path.suffix.lower() == ".csv" else ("row", 0)
        return f"{self.path}, {unit} {row + first}"

    def _named(self, message: str) -> str:
        """Put a column's name beside the number by which the CSV reader calls it."""

        def name(match: re.Match[str]) -> str:
            return f"column {self.header[int(match[1])]!r}"

        return re.sub(r"CSV column #(\d+)", name, message).replace("Row #", "line ")


def _header(path: Path) -> list[str]:
    if path.suffix.lower() == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            return next(csv.reader(file), [])
    return [str(name) for name in pyarrow.parquet.read_schema(path).names]


def _day(text: str) -> np.datetime64:
    """Return the day of a stamp; raise ValueError for anything ambiguous."""
    if re.fullmatch(r"\d{8}", text):
        text = f"{text[:4]}-{text[4:6]}-{text[6:]}"
    if len(text) > 10 and text[10] not in " T":
        raise ValueError(text)
    return iso_date(text[:10])


def _one_line(error: Exception) -> str:
    """Return an error's first line, the part a user can act on."""
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
