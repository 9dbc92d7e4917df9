"""Exit rules of a position, the same in training, backtest and live.

Only operators that floats, NumPy arrays and torch tensors share are used here, so one definition
serves all three. Conditions are written so that a NaN triggers the exit. Long positions only:
every result means something only where shares are held, and the caller masks the rest.
"""

from dataclasses import dataclass
from typing import Any

Quantity = Any  # float, FloatArray or Tensor, all of one kind and of broadcastable shapes
Condition = Any  # bool, BoolArray or bool Tensor, of the same kind


@dataclass(slots=True)
class ExitRules:
    """When a position is closed whatever the policy wants; None means that the rule is absent."""

    stop_loss: float | None  # fraction below the entry price, in (0, 1)
    take_profit: float | None  # fraction above the entry price, > 0
    trailing_stop: float | None  # fraction below the highest price since entry, in (0, 1)
    time_stop: int | None  # sessions held without a profit, >= 1
    cooldown: int | None  # sessions after an exit without a new entry, >= 0

    def __post_init__(self) -> None:
        for name in ("stop_loss", "trailing_stop"):
            value = getattr(self, name)
            if value is not None and not 0.0 < value < 1.0:
                raise ValueError(f"{name} must be in (0, 1), was {value}")
        if self.take_profit is not None and not self.take_profit > 0.0:
            raise ValueError(f"take_profit must be positive, was {self.take_profit}")
        if self.time_stop is not None and not self.time_stop >= 1:
            raise ValueError(f"time_stop must be at least 1 session, was {self.time_stop}")
        if self.cooldown is not None and not self.cooldown >= 0:
            raise ValueError(f"cooldown must not be negative, was {self.cooldown}")

    @property
    def active(self) -> bool:
        """Return whether any rule can close a position."""
        rules = (self.stop_loss, self.take_profit, self.trailing_stop, self.time_stop)
        return any(rule is not None for rule in rules)


def exit_now(
    entry: Quantity, price: Quantity, peak: Quantity, age: Quantity, rules: ExitRules
) -> Condition:
    """Return whether a position must be closed.

    Args:
        entry: average cost per share, account currency.
        price: per share, known at the decision.
        peak: highest price since entry, account currency.
        age: sessions since entry, >= 0.
        rules: those that are not None apply.

    >>> exit_now(100.0, 91.0, 105.0, 3, ExitRules(0.08, None, None, None, None))
    True
    """
    leave = age < 0  # nothing yet, in the kind and shape of the arguments
    if rules.stop_loss is not None:
        leave = leave | stop_loss_hit(entry, price, rules.stop_loss)
    if rules.take_profit is not None:
        leave = leave | take_profit_hit(entry, price, rules.take_profit)
    if rules.trailing_stop is not None:
        leave = leave | trailing_stop_hit(peak, price, rules.trailing_stop)
    if rules.time_stop is not None:
        leave = leave | time_stop_hit(entry, price, age, rules.time_stop)
    return leave


def stop_loss_hit(entry: Quantity, price: Quantity, fraction: Quantity) -> Condition:
    """Return whether the price has fallen to `fraction` below the entry."""
    return negate(price > entry * (1.0 - fraction))


def take_profit_hit(entry: Quantity, price: Quantity, fraction: Quantity) -> Condition:
    """Return whether the price has risen to `fraction` above the entry."""
    return negate(price < entry * (1.0 + fraction))


def trailing_stop_hit(peak: Quantity, price: Quantity, fraction: Quantity) -> Condition:
    """Return whether the price has fallen to `fraction` below its peak since entry."""
    return negate(price > peak * (1.0 - fraction))


def time_stop_hit(entry: Quantity, price: Quantity, age: Quantity, sessions: Quantity) -> Condition:
    """Return whether the position is `sessions` old and shows no profit."""
    return negate(age < sessions) & negate(price > entry)


def next_entry(entry: Quantity, before: Quantity, after: Quantity, price: Quantity) -> Quantity:
    """Return the average cost per share after a trade; 0 where nothing is held.

    Args:
        entry: average cost before the trade; 0 where nothing was held.
        before: shares held before the trade, >= 0.
        after: shares held after it, >= 0.
        price: of the fill, finite.

    >>> next_entry(100.0, 10.0, 30.0, 130.0)
    120.0
    """
    bought = (after - before) * (after > before)
    largest = before + bought
    cost = (entry * before + price * bought) / (largest + (largest == 0))
    return cost * (after > 0)


def next_peak(peak: Quantity, before: Quantity, after: Quantity, price: Quantity) -> Quantity:
    """Return the highest price since entry at this close; 0 where nothing is held.

    >>> next_peak(120.0, 10.0, 10.0, 110.0)
    120.0
    """
    old = (before > 0) & (peak > price)
    return (old * peak + negate(old) * price) * (after > 0)


def next_age(age: Quantity, before: Quantity, after: Quantity) -> Quantity:
    """Return the sessions since entry at this close; 0 in the session of the entry."""
    return (age + 1) * ((before > 0) & (after > 0))


def next_cooldown(left: Quantity, exited: Condition, sessions: Quantity) -> Quantity:
    """Return the sessions that stay barred from a new entry: `sessions` after an exit."""
    return exited * sessions + negate(exited) * (left - 1) * (left > 0)


def negate(condition: Condition) -> Condition:
    """Return the logical opposite (`~True` is -2, and `not` refuses arrays)."""
    return condition ^ True
