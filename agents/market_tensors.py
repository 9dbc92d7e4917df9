"""The market as tensors: built once from a dataset, shared by every environment and policy.

An environment is a row of time indices into these arrays; nothing here is copied per environment.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from risk.projection import sector_index

if TYPE_CHECKING:
    from market.dataset import Dataset


@dataclass(frozen=True, slots=True, eq=False)
class MarketTensors:
    """T sessions of N assets on one device.

    Args:
        open: (T, N) float64, the fill price of a trade in session t: the open where the source has
            it, else the close. Finite and positive everywhere; meaningless where not `tradable`.
        close: (T, N) float64, the last known close (1 before the first one).
        tradable: (T, N) bool, an order can be filled in session t.
        investable: (T, N) bool, listed with a price known at the close of t.
        payout: (T, N) float64, fraction of the last close paid out in the session after delisting;
            NaN where nothing is paid.
        reference_return: (T,) float64, close-to-close return of the equal-weight portfolio of what
            was investable at the last close; a delisting counts with its payout.
        reference_night: (T,) float64, what it earned up to the session's fill; all of it where
            fills are closes.
        volatility: (T, N) float64, annualised; the median of the day where unknown.
        market_volatility: (T,) float64, annualised.
        beta: (T, N) float64.
        idiosyncratic_volatility: (T, N) float64, annualised.
        momentum: (T, N) float64, 12-1 month return; 0 where unknown.
        adv: (T, N) float64 account currency a day, > 0, the last known one; NaN before the first,
            or None.
        asset_features: (T, N, F) float32.
        market_features: (T, M) float32.
        sector_of: (N,) int64 index of each asset's sector.
        n_sectors: number of sectors.
    """

    open: Tensor
    close: Tensor
    tradable: Tensor
    investable: Tensor
    payout: Tensor
    reference_return: Tensor
    reference_night: Tensor
    volatility: Tensor
    market_volatility: Tensor
    beta: Tensor
    idiosyncratic_volatility: Tensor
    momentum: Tensor
    adv: Tensor | None
    asset_features: Tensor
    market_features: Tensor
    sector_of: Tensor
    n_sectors: int

    @property
    def n_sessions(self) -> int:
        """Return T."""
        return self.close.shape[0]

    @property
    def n_assets(self) -> int:
        """Return N."""
        return self.close.shape[1]

    @property
    def device(self) -> torch.device:
        """Return where the tensors live."""
        return self.close.device

    @classmethod
    def build(cls, data: "Dataset", device: str | torch.device = "cpu") -> "MarketTensors":
        """Move a dataset to a device, with every unknown replaced as the fields above say."""
        bars = data.bars
        known = bars.known_close()
        investable = data.investable
        close = np.where(np.isfinite(known), known, 1.0)
        first_price = bars.close if bars.open is None else bars.open
        # A frozen position is valued at the fill with what is known by then, not at that close.
        before = np.vstack((close[:1], close[:-1]))
        filled_open = np.where(np.isfinite(first_price), first_price, before)
        tradable = bars.tradable & np.isfinite(first_price) & np.isfinite(bars.close)

        payout = np.full_like(close, np.nan)
        delisted = bars.listed[:-1] & ~bars.listed[1:]
        payout[1:] = np.where(delisted, 1.0 + bars.terminal_return, np.nan)

        volatility = _fill_with_median(data.volatility, investable, data.market_volatility)
        sector_of, n_sectors = sector_index(bars.sectors)

        def tensor(array: np.ndarray, dtype: torch.dtype = torch.float64) -> Tensor:
            return torch.as_tensor(np.ascontiguousarray(array)).to(device=device, dtype=dtype)

        return cls(
            open=tensor(filled_open),
            close=tensor(close),
            tradable=tensor(tradable, torch.bool),
            investable=tensor(investable, torch.bool),
            payout=tensor(payout),
            reference_return=tensor(_equal_weight_return(close, close, payout, investable)),
            reference_night=tensor(_equal_weight_return(close, filled_open, payout, investable)),
            volatility=tensor(volatility),
            market_volatility=tensor(data.market_volatility),
            beta=tensor(data.beta),
            idiosyncratic_volatility=tensor(data.idiosyncratic_volatility),
            momentum=tensor(np.nan_to_num(data.momentum, nan=0.0)),
            adv=None if data.adv is None else tensor(_last_positive(data.adv)),
            asset_features=tensor(data.asset_features, torch.float32),
            market_features=tensor(data.market_features, torch.float32),
            sector_of=sector_of.to(device),
            n_sectors=n_sectors,
        )


def _equal_weight_return(
    close: np.ndarray, later: np.ndarray, payout: np.ndarray, investable: np.ndarray
) -> np.ndarray:
    """Return (T,) the mean return from each close to a price of the next session, 0 at first."""
    ratio = np.where(np.isfinite(payout[1:]), payout[1:], later[1:] / close[:-1])
    held = investable[:-1]
    mean = np.zeros(len(close))
    mean[1:] = np.where(held, ratio - 1.0, 0.0).sum(1) / np.maximum(held.sum(1), 1)
    return mean


def _fill_with_median(
    values: np.ndarray, investable: np.ndarray, fallback: np.ndarray
) -> np.ndarray:
    """Replace unknown volatilities by the day's median, and days without any by the fallback."""
    known = np.isfinite(values) & (values > 0.0) & investable
    usable = np.where(known, values, np.nan)
    some = known.any(axis=1)
    median = fallback.copy()
    median[some] = np.nanmedian(usable[some], axis=1)
    return np.where(known, values, median[:, None])


def _last_positive(values: np.ndarray) -> np.ndarray:
    """Carry each (T, N) column's last positive value forward; NaN before the first."""
    known = np.isfinite(values) & (values > 0.0)
    row = np.maximum.accumulate(np.where(known, np.arange(len(values))[:, None], -1), axis=0)
    return np.where(row >= 0, np.take_along_axis(values, np.maximum(row, 0), axis=0), np.nan)
