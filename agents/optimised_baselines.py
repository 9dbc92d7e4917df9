"""Portfolio optimisers as baselines: skfolio's, refitted every month on two years of returns."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from skfolio.exceptions import OptimizationError
from skfolio.moments import LedoitWolf
from skfolio.optimization import HierarchicalRiskParity, MeanRisk, RiskBudgeting
from skfolio.prior import EmpiricalPrior

from market.bars import BoolArray, FloatArray
from market.dataset import Dataset

logger = logging.getLogger(__name__)

WINDOW = 504  # daily returns that an optimiser sees
SHORTEST_WINDOW = 252  # with fewer, the fallback stands


def weights(
    name: str, dataset: Dataset, rows: slice, rebalance: BoolArray, fallback: FloatArray
) -> FloatArray:
    """Return (T, N) weights of the sessions `rows`, refitted where `rebalance` (T,) is True.

    Only names whose price is known in every session of the window take part; where fewer than two
    do, or the optimiser finds no solution, the `fallback` (T, N) stands.
    """
    optimiser = _OPTIMISERS[name]
    target = fallback.copy()
    investable = dataset.investable
    closes = dataset.bars.known_close()
    returns = closes[1:] / closes[:-1] - 1.0  # row t is earned in session t + 1
    for i in np.flatnonzero(rebalance):
        row = rows.start + int(i)
        window = returns[max(row - WINDOW, 0) : row]
        if len(window) < SHORTEST_WINDOW:
            continue
        usable = investable[row] & np.isfinite(window).all(axis=0)
        usable[usable] = window[:, usable].std(axis=0) > 0.0
        if usable.sum() < 2:
            continue
        fitted = _fit(optimiser(), window[:, usable], dataset.bars.dates[row])
        if fitted is not None:
            target[i] = 0.0
            target[i, usable] = fitted
    return target


def _fit(optimiser: Any, window: FloatArray, date: np.datetime64) -> FloatArray | None:
    """Return the long-only weights of one fit, or None where the solver finds none."""
    try:
        fitted = np.asarray(optimiser.fit(window).weights_, dtype=np.float64)
    except OptimizationError as error:
        logger.warning("%s found no weights at %s: %s", type(optimiser).__name__, date, error)
        return None
    positive: FloatArray = np.maximum(fitted, 0.0)  # solvers leave -1e-12
    positive /= positive.sum()
    return positive


def _prior() -> EmpiricalPrior:
    return EmpiricalPrior(covariance_estimator=LedoitWolf())


_OPTIMISERS: dict[str, Callable[[], Any]] = {
    "minimum_variance": lambda: MeanRisk(prior_estimator=_prior()),
    "risk_parity": lambda: RiskBudgeting(prior_estimator=_prior()),
    "hrp": lambda: HierarchicalRiskParity(prior_estimator=_prior()),
}
