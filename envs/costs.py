"""What trading costs: commission, half the spread, market impact and borrowing.

Every component is >= 0 by construction and is paid by the book that trades. Rates in basis points
apply to traded notional; the borrowing rate is annual and applies to what is owed.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from market.bars import TRADING_DAYS
from market.errors import InputError

if TYPE_CHECKING:
    from market.dataset import Dataset

BASIS_POINT = 1e-4


@dataclass(slots=True)
class CostModel:
    """The parameters of one cost model; all zero means free trading.

    Impact is the square-root law: a trade in the direction of the summed flow of all agents of its
    environment pays `impact` x daily volatility x sqrt(|summed flow| / ADV) of its notional; a
    trade against that flow pays none.

    Source:
        Almgren et al., "Direct Estimation of Equity Market Impact", Risk, 2005.
    """

    commission_bp: float  # of traded notional, >= 0
    spread_bp: float  # full quoted spread, half of it is paid, >= 0
    impact: float  # multiple of daily volatility at 100 % participation, >= 0
    borrow_rate: float  # annual, on short notional and negative cash, >= 0

    def __post_init__(self) -> None:
        for name in ("commission_bp", "spread_bp", "impact", "borrow_rate"):
            value = getattr(self, name)
            if not 0.0 <= value < float("inf"):
                raise ValueError(f"{name} must be a number >= 0, was {value}")

    @property
    def needs_adv(self) -> bool:
        """Return whether the model needs the average daily traded value."""
        return self.impact > 0.0

    @property
    def linear_rate(self) -> float:
        """Return commission plus half the spread, a fraction of traded notional."""
        return (self.commission_bp + 0.5 * self.spread_bp) * BASIS_POINT


def require_traded_value(model: CostModel, data: "Dataset") -> None:
    """Refuse a cost model with impact where a name can be bought whose traded value is unknown.

    Raises:
        InputError: naming the symbol and the first such session of the train or test window.
    """
    if not model.needs_adv:
        return
    if data.adv is None:
        raise InputError(
            f"env.costs.impact={model.impact} needs volume, which {data.bars.source} has not, or "
            "market.assumed_adv"
        )
    visited = np.zeros(len(data.bars.dates), dtype=bool)
    visited[data.train] = visited[data.test] = True
    unknown = data.investable & ~(data.adv > 0.0) & visited[:, None]
    if unknown.any():
        row, column = np.argwhere(unknown)[0]
        raise InputError(
            f"env.costs.impact={model.impact} needs the traded value of {data.bars.symbols[column]}"
            f", unknown on {data.bars.dates[row]}: set market.assumed_adv"
        )


@dataclass(frozen=True, slots=True)
class CostBreakdown:
    """The cost of one step by cause, each (E, A) in account currency and >= 0."""

    commission: Tensor
    spread: Tensor
    impact: Tensor
    borrow: Tensor

    @property
    def total(self) -> Tensor:
        """Return the sum of all components, (E, A)."""
        return self.commission + self.spread + self.impact + self.borrow


def borrow_cost(owed: Tensor, model: CostModel, scale: Tensor) -> Tensor:
    """Return the (E, A) cost of one session's borrowing of `owed` (>= 0, account currency)."""
    return owed * (model.borrow_rate / TRADING_DAYS) * scale


def unit_impact(model: CostModel, daily_volatility: Tensor, adv: Tensor | None) -> Tensor | None:
    """Return the impact rate of a flow of one unit of currency, None if impact is free.

    Args:
        model: the rates.
        daily_volatility: (...) fraction.
        adv: (...) account currency a day, needed where the model has impact.

    Raises:
        ValueError: if the model has impact and there is no traded value.
    """
    if not model.needs_adv:
        return None
    if adv is None:
        raise ValueError("impact needs the average daily traded value of every asset")
    return model.impact * daily_volatility / adv.sqrt()


def impact_rate(trade: Tensor, unit: Tensor) -> Tensor:
    """Return the (E, 1, N) impact per unit of notional of a trade with the flow.

    Args:
        trade: (E, A, N) signed notional; all agents of one environment trade into one market.
        unit: (E, 1, N) as from `unit_impact`.

    Returns:
        The sign of the summed flow times the rate: what buys of a name pay where it is positive,
        and its sells where it is negative.
    """
    flow = trade.sum(1, keepdim=True)
    # A name that nobody trades may have no known traded value.
    return torch.where(flow == 0.0, 0.0, flow.sign() * flow.abs().sqrt() * unit)


def trading_cost(
    traded: Tensor, impact: Tensor | None, model: CostModel, scale: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return commission, half spread and impact of a basket, each (E, A).

    Args:
        traded: (E, A) buys plus sells.
        impact: (E, A) notional times `impact_rate`, of the trades with the flow; None if free.
        model: the rates.
        scale: (E, 1) multiple of the whole model, for cost sensitivity in one pass.
    """
    scaled = traded * scale
    commission = scaled * (model.commission_bp * BASIS_POINT)
    spread = scaled * (0.5 * model.spread_bp * BASIS_POINT)
    return commission, spread, torch.zeros_like(scaled) if impact is None else impact * scale
