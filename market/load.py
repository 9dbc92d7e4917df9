"""From configuration to checked bars and the rows of the train and test windows."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import numpy as np

from market.bars import Bars, DateArray
from market.cache import check_where
from market.calendar import iso_date, sessions
from market.errors import InputError
from market.quality import QualityRules, apply
from market.suggest import nearest

TRAIN_SHARE = 0.7
"""The share of the sessions that is learned from where no train window is configured."""

EDGE_SESSIONS = 5
"""A window may reach this many sessions past the data: a year's end rounds the last quote."""


@dataclass(slots=True)
class MarketConfig(ABC):
    """What every source is configured with; a source adds its own fields and `load`.

    Args:
        symbols: the universe, in order; None is every symbol of the source.
        train: [first, last] day that may be learned from, ISO dates; None is the first 70 % of the
            sessions.
        test: [first, last] sealed day; None is everything after train and embargo.
        embargo: sessions that the first test session lies after the last train session, >= 0.
        assumed_adv: account currency a day, one value or one per symbol, for a source without
            volume; None where nothing is assumed.
        cash_rate: annual rate that cash earns, fraction.
        exchange: calendar name of exchange_calendars.
        cache: folder of the disk cache, or the URL of a Redis (redis://, rediss://, unix://); None
            is no cache.
    """

    symbols: list[str] | None
    train: list[str] | None
    test: list[str] | None
    embargo: int
    assumed_adv: Any  # float | dict[str, float] | None
    cash_rate: float
    exchange: str
    cache: str | None

    def __post_init__(self) -> None:
        for name in ("train", "test"):
            _check_window(name, getattr(self, name))
        if self.embargo < 0:
            raise ValueError(f"market.embargo must be at least 0 sessions, was {self.embargo}")
        if not (isfinite(self.cash_rate) and self.cash_rate > -1.0):
            raise ValueError(f"market.cash_rate must be above -1, was {self.cash_rate}")
        _check_assumed_adv(self.assumed_adv)
        if self.cache is not None:
            check_where(self.cache)
        if self.symbols is not None and len(set(self.symbols)) != len(self.symbols):
            twice = next(name for name in self.symbols if self.symbols.count(name) > 1)
            raise ValueError(f"market.symbols names {twice} more than once")

    @abstractmethod
    def load(self) -> Bars:
        """Return everything the source has, before selection of symbols and the quality gate."""

    @abstractmethod
    def version(self) -> str:
        """Return words that change with what `load` would read; cheap enough for every second.

        Nothing is read but the state of the files, and one that is absent or cannot be looked at
        is part of the version: only `load` refuses.
        """

    @property
    @abstractmethod
    def origin(self) -> str:
        """Return the words that name the source in an error, such as its path."""


def load_bars(config: MarketConfig, quality: QualityRules) -> Bars:
    """Return the bars of the configured universe after the quality gate.

    Raises:
        InputError: if the source cannot be read, a symbol is unknown, fewer than two symbols
            remain, or the gate refuses; names file or symbol, date and rule.
    """
    bars = config.load()
    if config.symbols is not None:
        bars = _select_symbols(bars, config.symbols, config.origin)
    if len(bars.symbols) < 2:
        names = ", ".join(bars.symbols) or "none"
        raise InputError(f"{config.origin}: a universe needs at least 2 assets, has {names}")
    if isinstance(config.assumed_adv, Mapping):
        for symbol in config.assumed_adv:
            if symbol not in bars.symbols:
                hint = nearest(symbol, bars.symbols)
                raise InputError(f"market.assumed_adv: {symbol} is not in the universe{hint}")
    calendar = sessions(config.exchange, bars.dates.min(), bars.dates.max())
    try:
        return apply(bars, quality, calendar)[0]
    except InputError as error:
        raise InputError(f"{config.origin}: {error}") from None


def windows(bars: Bars, config: MarketConfig) -> tuple[slice, slice]:
    """Return the rows of the train and of the test window.

    Raises:
        InputError: if a window lies outside the data, holds fewer than 2 sessions or fewer than 2
            priced assets, or test does not begin at least `embargo` sessions after train ends.
    """
    count = len(bars.dates)
    if config.train is None:
        train = slice(0, int(count * TRAIN_SHARE))
    else:
        train = _rows("train", config.train, bars, config.exchange)
    if config.test is None:
        test = slice(min(train.stop - 1 + max(config.embargo, 1), count), count)
    else:
        test = _rows("test", config.test, bars, config.exchange)
    _check_populated("train", train, bars)
    _check_populated("test", test, bars)
    distance = test.start - (train.stop - 1)
    if distance < max(config.embargo, 1):
        raise InputError(
            f"market.test must begin at least {max(config.embargo, 1)} sessions (market.embargo)"
            f" after market.train ends: train is {_span(bars, train)}, test is {_span(bars, test)}"
        )
    return train, test


def _select_symbols(bars: Bars, symbols: list[str], origin: str) -> Bars:
    position = {name: index for index, name in enumerate(bars.symbols)}
    for name in symbols:
        if name not in position:
            raise InputError(f"market.symbols: {origin} has no {name}{nearest(name, position)}")
    columns = [position[name] for name in symbols]
    cut: dict[str, Any] = {
        name: None if (array := getattr(bars, name)) is None else array[:, columns]
        for name in ("close", "tradable", "listed", "open", "high", "low", "volume")
    }
    return replace(
        bars,
        symbols=tuple(symbols),
        sectors=tuple(bars.sectors[column] for column in columns),
        terminal_return=bars.terminal_return[columns],
        **cut,
    )


def _rows(name: str, window: list[str], bars: Bars, exchange: str) -> slice:
    """Return the rows of a window whose ends lie within the data, or just past them."""
    first, last = iso_date(window[0]), iso_date(window[1])
    start, end = bars.dates[0], bars.dates[-1]
    day = np.timedelta64(1, "D")
    early = _count_sessions(exchange, first, start - day)
    late = _count_sessions(exchange, end + day, last)
    if first > end or last < start or early > EDGE_SESSIONS or late > EDGE_SESSIONS:
        raise InputError(f"market.{name} is {first} to {last}, but the data are {start} to {end}")
    return bars.rows(first, last)


def _span(bars: Bars, rows: slice) -> str:
    return f"{bars.dates[rows.start]} to {bars.dates[rows.stop - 1]}"


def _count_sessions(exchange: str, first: np.datetime64, last: np.datetime64) -> int:
    return len(sessions(exchange, first, last)) if first <= last else 0


def _check_populated(name: str, rows: slice, bars: Bars) -> None:
    dates: DateArray = bars.dates[rows]
    if len(dates) < 2:
        raise InputError(f"market.{name} holds {len(dates)} sessions, needs at least 2")
    priced = int((np.isfinite(bars.close[rows]) & bars.listed[rows]).any(axis=0).sum())
    if priced < 2:
        raise InputError(
            f"market.{name} ({dates[0]} to {dates[-1]}) has prices of {priced} assets, needs 2"
        )


def _check_window(name: str, window: list[str] | None) -> None:
    if window is None:
        return
    if len(window) != 2:
        raise ValueError(f"market.{name} must be [first, last], was {window}")
    for text in window:
        try:
            iso_date(text)
        except ValueError as error:
            raise ValueError(f"market.{name}: {error}") from None
    if not window[0] < window[1]:
        raise ValueError(f"market.{name} must run forward, was {window[0]} to {window[1]}")


def _check_assumed_adv(assumed_adv: Any) -> None:
    values = assumed_adv if isinstance(assumed_adv, Mapping) else {"": assumed_adv}
    for symbol, value in values.items():
        if value is None and not symbol:
            continue
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (is_number and isfinite(value) and value > 0.0):
            where = f" of {symbol}" if symbol else ""
            raise ValueError(f"market.assumed_adv{where} must be above 0 a day, was {value!r}")
