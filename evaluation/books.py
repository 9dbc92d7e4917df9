"""The record of one book over time, and the files that hold it.

Row t of every array is the close of session t. Decisions of row t - 1 are filled in session t, so
turnover, cost and trades of row t belong to that decision; row 0 has none.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from market.bars import DateArray, FloatArray

ENSEMBLE = "ensemble"
EQUAL_WEIGHT = "equal_weight"  # the yardstick: monthly, same universe, same kernel
CAUSES = ("commission", "spread", "impact", "borrow")


@dataclass(frozen=True, slots=True, eq=False)
class Book:
    """One account over T sessions.

    Args:
        name: of the agent, the baseline or "ensemble".
        dates: (T,) datetime64[D].
        nav: (T,) account currency, > 0; `nav[0]` is the starting capital.
        weights: (T, N) fraction of NAV held at the close, cash is the rest; NaN where the book is
            not made of the universe's assets.
        turnover: (T,) buys plus sells in the session, fraction of NAV at the fill.
        cost: (4, T) account currency, >= 0, rows in the order of `CAUSES`.
        trade: (T, N) signed notional at the fill price, account currency.
    """

    name: str
    dates: DateArray
    nav: FloatArray
    weights: FloatArray
    turnover: FloatArray
    cost: FloatArray
    trade: FloatArray

    @property
    def cost_fraction(self) -> FloatArray:
        """Return the (T,) total cost of each session as a fraction of the NAV before it."""
        before = np.concatenate([self.nav[:1], self.nav[:-1]])
        fraction: FloatArray = self.cost.sum(axis=0) / before
        return fraction


def nav_table(books: Sequence[Book], columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Return one float column of NAV per book, indexed by session under the name `date`."""
    names = [book.name for book in books] if columns is None else list(columns)
    values = np.column_stack([book.nav for book in books])
    index = pd.DatetimeIndex(books[0].dates, name="date")
    return pd.DataFrame(values, index=index, columns=names)


def trades_table(books: Sequence[Book], symbols: Sequence[str], fill: FloatArray) -> pd.DataFrame:
    """Return every trade of every book, in the order of date, book and symbol.

    A trade's share of the session's trading cost is in proportion to its notional; borrowing
    belongs to no trade.

    Args:
        books: of the same sessions and symbols.
        symbols: names of the N assets.
        fill: (T, N) price at which each session's trades were filled.

    Returns:
        Columns date, book, symbol, side ("buy" or "sell"), shares, notional (> 0), price, cost.
    """
    frames = [_trades(book, np.asarray(symbols, dtype=object), fill) for book in books]
    table = pd.concat(frames, ignore_index=True)
    return table.sort_values("date", kind="stable", ignore_index=True)


def _trades(book: Book, symbols: np.ndarray, fill: FloatArray) -> pd.DataFrame:
    row, column = np.nonzero(book.trade)
    signed = book.trade[row, column]
    notional = np.abs(signed)
    traded = np.abs(book.trade).sum(axis=1)
    paid = book.cost[: CAUSES.index("borrow")].sum(axis=0)
    price = fill[row, column]
    return pd.DataFrame(
        {
            "date": pd.DatetimeIndex(book.dates)[row],
            "book": book.name,
            "symbol": symbols[column],
            "side": np.where(signed > 0.0, "buy", "sell"),
            "shares": notional / price,
            "notional": notional,
            "price": price,
            "cost": paid[row] * notional / traded[row],
        }
    )


def write_nav(path: Path, books: Sequence[Book], columns: Sequence[str] | None = None) -> None:
    """Write `nav.parquet`: index `date`, a float column per book, from the starting capital."""
    _write_parquet(path, nav_table(books, columns))


def write_trades(
    path: Path, books: Sequence[Book], symbols: Sequence[str], fill: FloatArray
) -> None:
    """Write `trades.parquet`; see `trades_table`."""
    _write_parquet(path, trades_table(books, symbols, fill))


def _write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Write under another name first, so that a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    table.to_parquet(part)
    part.replace(path)
