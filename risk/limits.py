"""The limits of one book: what its weights may look like after the projection.

Every limit is always on. Weights are fractions of NAV, long only; what they leave is cash.
"""

import math
from dataclasses import dataclass


@dataclass(slots=True)
class Limits:
    """Limits of one long-only book."""

    max_weight: float  # of any one name, in (0, 1]
    max_sector: float  # summed over the names of one sector, in (0, 1]
    max_top3: float  # summed over the three largest names, in (0, 1]
    min_cash: float  # fraction of NAV that stays uninvested, in [0, 1)
    max_gross: float  # sum of weights, in (0, 1]: a long-only book never borrows
    max_turnover: float  # buys + sells of one decision as a fraction of NAV, in (0, 2]
    max_volatility: float  # ex ante, annualised, > 0

    def __post_init__(self) -> None:
        for name in ("max_weight", "max_sector", "max_top3", "max_gross"):
            value = getattr(self, name)
            if not 0.0 < value <= 1.0:
                raise ValueError(f"{name} must be in (0, 1], was {value}")
        if not 0.0 <= self.min_cash < 1.0:
            raise ValueError(f"min_cash must be in [0, 1), was {self.min_cash}")
        if not 0.0 < self.max_turnover <= 2.0:
            raise ValueError(f"max_turnover must be in (0, 2], was {self.max_turnover}")
        if not 0.0 < self.max_volatility < math.inf:
            raise ValueError(f"max_volatility must be a positive number, was {self.max_volatility}")

    @property
    def max_invested(self) -> float:
        """Return the largest sum of weights that gross limit and cash floor both allow."""
        return min(self.max_gross, 1.0 - self.min_cash)
