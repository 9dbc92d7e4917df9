"""The record of daily bars: what every source returns and everything else reads.

Conventions: prices are total-return adjusted and in account currency; a bar is stamped by the
session it closes; NaN means "no price", never zero. All arrays are (T, N) = sessions x symbols.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
DateArray = NDArray[np.datetime64]

PRICE_FIELDS = ("open", "high", "low", "close")
TRADING_DAYS = 252  # sessions of a year, wherever daily numbers become annual ones


@dataclass(frozen=True, slots=True, eq=False)
class Bars:
    """Daily bars of an ordered universe.

    Args:
        dates: (T,) datetime64[D], strictly increasing sessions.
        symbols: N names in the order of every second axis.
        close: (T, N) adjusted close; NaN where there is no price.
        tradable: (T, N) an order can be filled in that session.
        listed: (T, N) the symbol exists in that session; a gap inside a listing stays listed.
        open: (T, N), or None where the source does not declare the field; likewise below.
        high: (T, N) or None.
        low: (T, N) or None.
        volume: (T, N) shares, or None.
        sectors: N sector names; "unknown" where the source has none.
        terminal_return: (N,) return booked on the session after the last listed one, relative to
            the last close; 0 where the source knows none.
        series: further (T,) series by name, such as an index or the VIX; NaN where absent.
        source: the source's name.
        notes: sentences that must stand beside every result (survivorship, price index ...).
    """

    dates: DateArray
    symbols: tuple[str, ...]
    close: FloatArray
    tradable: BoolArray
    listed: BoolArray
    open: FloatArray | None = None
    high: FloatArray | None = None
    low: FloatArray | None = None
    volume: FloatArray | None = None
    sectors: tuple[str, ...] = ()
    terminal_return: FloatArray = field(default_factory=lambda: np.zeros(0))
    series: Mapping[str, FloatArray] = field(default_factory=dict)
    source: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shape = (len(self.dates), len(self.symbols))
        if not self.sectors:
            object.__setattr__(self, "sectors", ("unknown",) * shape[1])
        if not len(self.terminal_return):
            object.__setattr__(self, "terminal_return", np.zeros(shape[1]))
        for name in ("close", "tradable", "listed", "open", "high", "low", "volume"):
            array = getattr(self, name)
            if array is not None and array.shape != shape:
                raise ValueError(f"{name} has shape {array.shape}, dates x symbols is {shape}")
        if len(self.sectors) != shape[1] or len(self.terminal_return) != shape[1]:
            raise ValueError("sectors and terminal_return need one entry per symbol")
        if len(set(self.symbols)) != shape[1]:
            raise ValueError("symbols must be unique")

    @property
    def fields(self) -> tuple[str, ...]:
        """Return the declared fields, in the order open, high, low, close, volume."""
        names = (*PRICE_FIELDS, "volume")
        return tuple(name for name in names if getattr(self, name) is not None)

    @property
    def sha256(self) -> str:
        """Return the hash of everything in the record, the same for the same content."""
        digest = hashlib.sha256()
        for item in fields(self):
            value = getattr(self, item.name)
            digest.update(item.name.encode())
            if isinstance(value, Mapping):
                for name in sorted(value):
                    digest.update(name.encode())
                    digest.update(np.ascontiguousarray(value[name]).tobytes())
            elif isinstance(value, np.ndarray):
                digest.update(np.ascontiguousarray(value).tobytes())
            else:
                digest.update(repr(value).encode())
        return digest.hexdigest()

    def rows(self, first: np.datetime64, last: np.datetime64) -> slice:
        """Return the rows of the sessions in [first, last]."""
        start = int(np.searchsorted(self.dates, first, side="left"))
        stop = int(np.searchsorted(self.dates, last, side="right"))
        return slice(start, stop)

    def select(self, rows: slice) -> "Bars":
        """Return the same record for some sessions."""
        cut: dict[str, Any] = {
            name: None if (array := getattr(self, name)) is None else array[rows]
            for name in ("close", "tradable", "listed", "open", "high", "low", "volume")
        }
        series = {name: values[rows] for name, values in self.series.items()}
        return replace(self, dates=self.dates[rows], series=series, **cut)

    def names(self, part: slice) -> "Bars":
        """Return the same record for some symbols."""
        cut: dict[str, Any] = {
            name: None if (array := getattr(self, name)) is None else array[:, part]
            for name in ("close", "tradable", "listed", "open", "high", "low", "volume")
        }
        return replace(
            self,
            symbols=self.symbols[part],
            sectors=self.sectors[part],
            terminal_return=self.terminal_return[part],
            **cut,
        )

    def known_close(self) -> FloatArray:
        """Return the (T, N) last price known at each close; NaN before the first.

        Filling forward is causal: it values a frozen position, it never makes one tradable.
        """
        row = np.where(np.isfinite(self.close), np.arange(len(self.dates))[:, None], -1)
        row = np.maximum.accumulate(row, axis=0)
        filled = np.take_along_axis(self.close, np.maximum(row, 0), axis=0)
        return np.where(row >= 0, filled, np.nan)
