"""The default data: what skfolio's wheel carries, real and without a network."""

from dataclasses import dataclass
from importlib.resources import files

import numpy as np
import pandas as pd

from market.bars import Bars, FloatArray
from market.load import MarketConfig

FIRST_SESSION = {"RRC": "1993-01-04"}
"""Before it RRC hardly traded: its price is unchanged on four days of five, for up to 68 sessions
in a row, and falls to a third in one day (1990-04-10)."""

NOTES = (
    "survivors only: the 20 stocks are large in 2022; compare with equal weight of the same stocks",
    "SP500 is a price index without dividends: never the yardstick of a claim",
    "close only: fills are at the close, and prices are rounded to 0.001",
    "RRC starts on 1993-01-04: it hardly traded before",
)


@dataclass(slots=True)
class EmbeddedMarket(MarketConfig):
    """20 US stocks, adjusted closes 1990-2022, with the S&P 500 index and five factor ETFs."""

    @property
    def origin(self) -> str:
        """Return the choice of the group."""
        return "market=embedded"

    def version(self) -> str:
        """Return one constant: a wheel does not change while it runs."""
        return "embedded"

    def load(self) -> Bars:
        """Return the stocks as assets and SP500, MTUM, QUAL, SIZE, USMV, VLUE as series."""
        from skfolio.datasets import (  # a second of imports, for this source only
            load_factors_dataset,
            load_sp500_dataset,
            load_sp500_index,
        )

        prices: pd.DataFrame = load_sp500_dataset()
        dates = prices.index.to_numpy().astype("datetime64[D]")
        close: FloatArray = prices.to_numpy(dtype=np.float64, copy=True)
        symbols = tuple(str(name) for name in prices.columns)
        for symbol, first in FIRST_SESSION.items():
            close[dates < np.datetime64(first), symbols.index(symbol)] = np.nan
        priced = np.isfinite(close)
        others = pd.concat([load_sp500_index(), load_factors_dataset()], axis=1)
        others = others.reindex(prices.index)
        return Bars(
            dates=dates,
            symbols=symbols,
            close=close,
            tradable=priced,
            listed=priced,
            sectors=_sectors(symbols),
            series={str(name): others[name].to_numpy(np.float64) for name in others.columns},
            source="embedded",
            notes=NOTES,
        )


def _sectors(symbols: tuple[str, ...]) -> tuple[str, ...]:
    """Return the GICS sectors (2022) of the embedded stocks."""
    with (files("market") / "data" / "sectors_embedded.csv").open() as file:
        table = pd.read_csv(file, index_col="symbol")
    return tuple(str(sector) for sector in table.loc[list(symbols), "sector"])
