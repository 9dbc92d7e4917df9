"""Breakers of a whole book: how much of its exposure is still allowed.

Only operators that floats, NumPy arrays and torch tensors share are used here. Conditions are
written so that a NaN trips the breaker. A book exactly at a limit passes; `losing_days` is a count
that trips when it is reached.
"""

from dataclasses import dataclass

from risk.exits import Quantity, negate

REDUCED = 0.5  # share of the exposure that is left where volatility only calls for caution


@dataclass(slots=True)
class BreakerRules:
    """When a book reduces or stops whatever its policy wants; None means the rule is absent."""

    max_drawdown: float | None  # fraction of peak NAV, in (0, 1): above it the book stops
    capital_floor: float | None  # fraction of the starting capital, in (0, 1): below it, stop
    losing_days: int | None  # losing sessions in a row at which the book stops, >= 1
    volatility_reduce: float | None  # annualised, > 0: above it half the exposure is left
    volatility_stop: float | None  # annualised, > volatility_reduce: above it the book stops
    cooldown: int | None  # sessions that a stop lasts, >= 0

    def __post_init__(self) -> None:
        for name in ("max_drawdown", "capital_floor"):
            value = getattr(self, name)
            if value is not None and not 0.0 < value < 1.0:
                raise ValueError(f"{name} must be in (0, 1), was {value}")
        for name in ("volatility_reduce", "volatility_stop"):
            value = getattr(self, name)
            if value is not None and not value > 0.0:
                raise ValueError(f"{name} must be positive, was {value}")
        if self.losing_days is not None and not self.losing_days >= 1:
            raise ValueError(f"losing_days must be at least 1, was {self.losing_days}")
        if self.cooldown is not None and not self.cooldown >= 0:
            raise ValueError(f"cooldown must not be negative, was {self.cooldown}")
        if (
            self.volatility_reduce is not None
            and self.volatility_stop is not None
            and not self.volatility_reduce < self.volatility_stop
        ):
            raise ValueError(
                f"volatility_reduce must be below volatility_stop {self.volatility_stop}, "
                f"was {self.volatility_reduce}"
            )

    @property
    def active(self) -> bool:
        """Return whether any rule can change the exposure."""
        rules = (
            self.max_drawdown,
            self.capital_floor,
            self.losing_days,
            self.volatility_reduce,
            self.volatility_stop,
        )
        return any(rule is not None for rule in rules)


def breaker_exposure(
    drawdown: Quantity,
    nav_over_initial: Quantity,
    losing_days: Quantity,
    proxy_volatility: Quantity,
    rules: BreakerRules,
) -> Quantity:
    """Return the factor on a book's exposure: 0 (stop), 0.5 (reduce) or 1.

    A stopped book is all cash and its drawdown cannot heal: the caller measures it from a peak
    that starts anew when the cooldown has passed. The capital floor is measured from the starting
    capital and stops for good.

    Args:
        drawdown: fraction of peak NAV, a fall is > 0.
        nav_over_initial: NAV / starting capital.
        losing_days: losing sessions in a row up to now.
        proxy_volatility: annualised volatility of the market, a stand-in for a volatility index.
        rules: those that are not None apply.

    >>> rules = BreakerRules(0.2, 0.6, 8, 0.3, 0.5, 21)
    >>> breaker_exposure(0.1, 1.0, 2, 0.35, rules), breaker_exposure(0.21, 1.0, 2, 0.1, rules)
    (0.5, 0.0)
    """
    stop = losing_days < 0  # nothing yet, in the kind and shape of the arguments
    reduce = stop
    if rules.max_drawdown is not None:
        stop = stop | negate(drawdown <= rules.max_drawdown)
    if rules.capital_floor is not None:
        stop = stop | negate(nav_over_initial >= rules.capital_floor)
    if rules.losing_days is not None:
        stop = stop | negate(losing_days < rules.losing_days)
    if rules.volatility_stop is not None:
        stop = stop | negate(proxy_volatility <= rules.volatility_stop)
    if rules.volatility_reduce is not None:
        reduce = reduce | negate(proxy_volatility <= rules.volatility_reduce)
    return negate(stop) * (1.0 - (1.0 - REDUCED) * reduce)
