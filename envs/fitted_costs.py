"""A cost model from what an account's own trades have cost; a belief where they are too few.

Two numbers explain what a trade cost beside the price as it was sent, in basis points:
half the spread, and the square-root law of `envs.costs` with the day's volatility and the share of
the day's volume. They are found by a regression that a few odd trades do not move, and drawn to the
configured model as far as that is surer than the trades.

Source:
    Huber, "Robust Estimation of a Location Parameter", Annals of Mathematical Statistics, 1964;
    Huber & Ronchetti, "Robust Statistics", 2nd ed., 2009, section 7.6 for the errors.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

from envs.costs import BASIS_POINT, CostModel
from market.bars import FloatArray
from market.errors import InputError

HUBER = 1.345  # standard deviations within which a residual counts in full
NORMAL_MAD = 1.4826  # standard deviations of a normal sample in its median deviation
LEAST_SCALE_BP = 0.05  # of the residuals: prices are on ticks, however well a model explains them
ROUNDS = 50
UNINFORMED = 0.7  # of the doubt: with a larger error, belief and trades weigh about the same
RATES = ("commission_bp", "spread_bp", "impact")


@dataclass(frozen=True, slots=True)
class Trade:
    """One leg of a decision that was filled: all its slices together.

    Args:
        notional: account currency, > 0.
        slippage_bp: paid beyond the price as it was first sent; < 0 is a gain.
        volatility: standard deviation of the name's daily returns, fraction, > 0.
        participation: traded / average daily volume, > 0.
        commission: account currency, >= 0.
    """

    notional: float
    slippage_bp: float
    volatility: float
    participation: float
    commission: float


@dataclass(slots=True)
class Doubt:
    """How sure the configured model is: one standard deviation of each rate, > 0."""

    commission_bp: float
    spread_bp: float
    impact: float

    def __post_init__(self) -> None:
        for name in RATES:
            value = getattr(self, name)
            if not 0.0 < value < float("inf"):
                raise ValueError(f"doubt.{name} must be a number > 0, was {value}")


@dataclass(frozen=True, slots=True)
class Fitted:
    """What came of a fit.

    Args:
        costs: the model; the configured one where there were too few trades.
        errors: standard error of each fitted rate, in its unit; empty where nothing was fitted.
        trades: that were looked at.
        said: what a reader must know, one sentence each.
    """

    costs: CostModel
    errors: Mapping[str, float]
    trades: int
    said: tuple[str, ...]


def fit(trades: Sequence[Trade], prior: CostModel, doubt: Doubt, least: int) -> Fitted:
    """Return the cost model that trades and the configured one make likely together.

    Args:
        trades: of one account.
        prior: the configured model; what is owed costs what it says.
        doubt: how far it may be off.
        least: trades that a fit needs, >= 3.
    """
    if len(trades) < least:
        said = f"{len(trades)} trades are too few for a fit, which needs {least}: as configured"
        return Fitted(prior, {}, len(trades), (said,))
    commission, commission_error = _commission(trades, prior.commission_bp, doubt.commission_bp)
    believed = np.array([prior.spread_bp / 2.0, prior.impact])
    surety = np.array([doubt.spread_bp / 2.0, doubt.impact]) ** -2.0
    rows, paid = _regression(trades)
    (half, impact), (half_error, impact_error) = _robust(rows, paid, believed, surety)
    costs = CostModel(commission, 2.0 * half, impact, prior.borrow_rate)
    errors = dict(zip(RATES, (commission_error, 2.0 * half_error, impact_error), strict=True))
    return Fitted(costs, errors, len(trades), tuple(_said(costs, errors, doubt)))


def read(path: str) -> CostModel:
    """Return the model that `tercet costs` has written.

    Raises:
        InputError: if there is none.
    """
    try:
        found: Any = json.loads(Path(path).read_text(encoding="utf-8"))
        rates = {name: float(value) for name, value in found["costs"].items()}
        return CostModel(**rates)
    except OSError as error:
        raise InputError(f"env.costs.path={path}: {error.strerror}; see tercet costs") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"env.costs.path={path} is no file of tercet costs: {error}") from None


def record(found: Fitted, prior: CostModel) -> dict[str, Any]:
    """Return a fit as JSON types; `read` takes its costs."""
    return {
        "costs": asdict(found.costs),
        "standard_errors": dict(found.errors),
        "configured": asdict(prior),
        "trades": found.trades,
        "said": list(found.said),
    }


def _commission(trades: Sequence[Trade], believed: float, doubt: float) -> tuple[float, float]:
    """Return the commission in basis points of what was traded, and its standard error."""
    notional = np.array([trade.notional for trade in trades])
    paid = np.array([trade.commission for trade in trades]) / BASIS_POINT
    rate = paid.sum() / notional.sum()
    count = len(trades)
    spread = ((paid - rate * notional) ** 2).sum() / notional.sum() ** 2
    variance = spread * count / (count - 1)  # of a ratio of sums
    share = doubt**2 / (doubt**2 + variance)
    return float(believed + share * (rate - believed)), sqrt(share * variance)


def _regression(trades: Sequence[Trade]) -> tuple[FloatArray, FloatArray]:
    """Return (n, 2) regressors and (n,) what they explain, in basis points of a typical name.

    Between sending and filling a price moves in proportion to its volatility: a restless name says
    less about costs.
    """
    volatility = np.array([trade.volatility for trade in trades])
    root = np.sqrt([trade.participation for trade in trades])
    paid = np.array([trade.slippage_bp for trade in trades])
    restless = volatility / np.median(volatility)
    rows = np.column_stack((np.ones_like(root), volatility * root / BASIS_POINT))
    return rows / restless[:, None], paid / restless


def _robust(
    rows: FloatArray, paid: FloatArray, believed: FloatArray, surety: FloatArray
) -> tuple[list[float], list[float]]:
    """Return coefficients >= 0 and their standard errors.

    Args:
        rows: (n, 2) regressors.
        paid: (n,) what they explain.
        believed: (2,) mean of the belief.
        surety: (2,) its precision.
    """
    weights = np.ones(len(paid))
    found = believed
    scale = _scale(paid - np.median(paid))
    for _ in range(ROUNDS):
        before = found
        found = _solved(rows, paid, weights / scale**2, believed, surety)
        residuals = paid - rows @ found
        scale = _scale(residuals)
        weights = np.minimum(1.0, HUBER * scale / np.maximum(np.abs(residuals), 1e-300))
        if np.allclose(found, before, rtol=1e-9, atol=1e-12):
            break
    return found.tolist(), _errors(rows, residuals / scale, scale, surety)


def _solved(
    rows: FloatArray,
    paid: FloatArray,
    weights: FloatArray,
    believed: FloatArray,
    surety: FloatArray,
) -> FloatArray:
    """Return the most likely coefficients that are not below 0."""
    curve = (rows * weights[:, None]).T @ rows + np.diag(surety)
    pull = (rows * weights[:, None]).T @ paid + surety * believed
    best, least = np.zeros(2), 0.0  # of curve/2 - pull, which is 0 for two zeros
    for free in product((True, False), repeat=2):
        mask = np.array(free)
        found = np.zeros(2)
        if mask.any():
            found[mask] = np.linalg.solve(curve[np.ix_(mask, mask)], pull[mask])
        loss = float(found @ curve @ found / 2.0 - pull @ found)
        if (found >= 0.0).all() and loss < least:
            best, least = found, loss
    return best


def _scale(residuals: FloatArray) -> float:
    """Return a standard deviation that a few odd residuals do not move."""
    return max(NORMAL_MAD * float(np.median(np.abs(residuals))), LEAST_SCALE_BP)


def _errors(
    rows: FloatArray, standardised: FloatArray, scale: float, surety: FloatArray
) -> list[float]:
    """Return the standard errors of robust coefficients together with the belief.

    They hold however the noise differs from trade to trade (the sandwich form).
    """
    clipped = np.clip(standardised, -HUBER, HUBER) * scale
    noise = np.maximum(clipped**2, LEAST_SCALE_BP**2) * len(rows) / (len(rows) - 2)
    within = np.abs(standardised) <= HUBER
    # The precision of the trades alone: bread, filling and bread, turned over.
    bread = rows[within].T @ rows[within]
    filling = (rows * noise[:, None]).T @ rows
    # Trades that are all alike cannot tell the two apart: then the precision has rank 1.
    precision = bread @ np.linalg.pinv(filling, hermitian=True) @ bread + np.diag(surety)
    return [float(error) for error in np.sqrt(np.diag(np.linalg.inv(precision)))]


def _said(costs: CostModel, errors: Mapping[str, float], doubt: Doubt) -> list[str]:
    """Return what a reader must know of a fit."""
    said = []
    for name in RATES:
        if errors[name] > UNINFORMED * getattr(doubt, name):
            said.append(f"{name} is little more than the configured belief: the trades do not say")
        elif name != "commission_bp" and getattr(costs, name) == 0.0:
            said.append(f"{name} is at its lower bound of 0")
    return said
