"""Bars together with everything that is derived from them causally, ready for agents.

Row t of every array is known at the close of session t and depends on nothing later.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from market.bars import Bars, BoolArray, FloatArray
from market.features import FeatureSpec


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """One market, featurised.

    Args:
        bars: the record it was made from.
        features: names, parameters and the fitted normaliser of both feature blocks.
        asset_features: (T, N, F) float32, finite, in [-clip, clip]; 0 where missing.
        market_features: (T, M) float32, finite, in [-clip, clip]; 0 where missing.
        volatility: (T, N) annualised standard deviation of the last 252 daily returns; NaN while
            unknown.
        market_volatility: (T,) annualised EWMA volatility (half-life 21) of the equal-weight
            portfolio of the listed names.
        beta: (T, N) to the equal-weight portfolio over 252 sessions; 1 while unknown.
        idiosyncratic_volatility: (T, N) annualised, of what beta leaves; market_volatility while
            unknown.
        momentum: (T, N) 12-1 month return; NaN while unknown.
        adv: (T, N) mean of 21 sessions' traded value (or the assumed one), account currency; None
            where neither is known.
        regime: (T,) int64 index into `regime_names`.
        regime_names: for example "bull/low".
        train: rows that may be learned from.
        test: sealed rows, decided on out of sample.
    """

    bars: Bars
    features: FeatureSpec
    asset_features: NDArray[np.float32]
    market_features: NDArray[np.float32]
    volatility: FloatArray
    market_volatility: FloatArray
    beta: FloatArray
    idiosyncratic_volatility: FloatArray
    momentum: FloatArray
    adv: FloatArray | None
    regime: NDArray[np.int64]
    regime_names: tuple[str, ...]
    train: slice
    test: slice

    @property
    def investable(self) -> BoolArray:
        """Return the (T, N) names that are listed and have a price known at the close."""
        return self.bars.listed & np.isfinite(self.bars.known_close())
