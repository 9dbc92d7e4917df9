"""The strategy's own rules, beyond the controls: data, and pure functions on a decision's weights.

They make a target smaller and say so; they never make one larger, and what they take is cash. The
exits and breakers are those of training (`risk.exits`, `risk.breakers`), on floats: they only say
yes or no. Weights are exact.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from typing import Any

from risk.breakers import BreakerRules, breaker_exposure
from risk.checks.arithmetic import ZERO, exactly
from risk.exits import (
    ExitRules,
    stop_loss_hit,
    take_profit_hit,
    time_stop_hit,
    trailing_stop_hit,
)
from risk.gateway.limits import Exact, exact
from risk.gateway.state import NameFacts

_GRAIN = Decimal("1e-9")  # of weights


@dataclass(slots=True)
class StrategyRules:
    """Rules of a strategy; what they bind is the target, before anything is planned."""

    exits: Any  # ExitRules
    breakers: Any  # BreakerRules
    max_sector: Exact  # of the names of one sector, fraction of NAV, in (0, 1]
    max_top3: Exact  # of the three largest names, fraction of NAV, in (0, 1]
    max_correlation: Exact  # of daily returns: names above it are one bet, in (0, 1)
    max_correlated: Exact  # of a name and all that are one bet with it, fraction, in (0, 1]
    ramp: list[Any]  # Decimal: share of NAV that a young policy has, by stage, up to 1
    ramp_sessions: int  # sessions that each stage but the last takes, >= 1
    exits_before_close_s: int  # when exits are looked for in a session without a decision, >= 1

    def __post_init__(self) -> None:
        for name in ("max_sector", "max_top3", "max_correlation", "max_correlated"):
            value = exact(name, getattr(self, name))
            setattr(self, name, value)
            if not 0 < value <= 1:
                raise ValueError(f"{name} must be in (0, 1], was {value}")
        self.ramp = [exact("ramp", share) for share in self.ramp]
        rising = all(one < other for one, other in zip(self.ramp, self.ramp[1:], strict=False))
        if not (self.ramp and self.ramp[0] > 0 and rising and self.ramp[-1] == 1):
            raise ValueError(f"ramp must rise from above 0 to 1, was {self.ramp}")
        for name in ("ramp_sessions", "exits_before_close_s"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, was {getattr(self, name)}")

    def share(self, stage: int) -> Decimal:
        """Return the share of NAV that a policy has in a stage of its ramp."""
        found: Decimal = self.ramp[min(max(stage, 0), len(self.ramp) - 1)]
        return found


@dataclass(frozen=True, slots=True)
class Holding:
    """What the exits look at.

    Args:
        entry: average cost, account currency per share.
        price: account currency per share.
        peak: highest price since entry, account currency per share.
        age: sessions since entry.
    """

    entry: Decimal
    price: Decimal
    peak: Decimal
    age: int


@dataclass(frozen=True, slots=True)
class Standing:
    """What the breakers look at.

    Args:
        drawdown: fall from the peak of NAV, fraction.
        nav_over_initial: NAV / starting capital.
        losing_days: losing sessions in a row.
        volatility: of the market, annualised: a volatility index over 100, or its stand-in.
    """

    drawdown: Decimal
    nav_over_initial: Decimal
    losing_days: int
    volatility: Decimal


@dataclass(frozen=True, slots=True)
class Change:
    """A target that a rule made smaller.

    Args:
        symbol: of the name.
        rule: the field of the rules.
        before: fraction of NAV.
        after: fraction of NAV, < before.
    """

    symbol: str
    rule: str
    before: Decimal
    after: Decimal


@dataclass(frozen=True, slots=True)
class Adjusted:
    """Weights after the rules, and every change in the order in which it was made."""

    weights: dict[str, Decimal]
    changes: tuple[Change, ...]


def adjusted(
    weights: Mapping[str, Decimal],
    holdings: Mapping[str, Holding],
    exposure: Decimal,
    barred: Collection[str],
    facts: Mapping[str, NameFacts],
    rules: StrategyRules,
) -> Adjusted:
    """Return a decision's weights as the strategy's rules leave them.

    Args:
        weights: fractions of NAV, >= 0.
        holdings: what is held, by symbol.
        exposure: what the breakers leave, see `exposure_of`.
        barred: names that were left a short while ago.
        facts: sectors and correlated names; a name without them is one bet with every other.
        rules: of the strategy.
    """
    with exactly():
        current = dict(weights)
        changes: list[Change] = []
        for symbol, rule in exits_of(holdings, rules.exits).items():
            _lower(current, symbol, ZERO, rule, changes)
        for symbol in sorted(set(barred) & set(current)):
            _lower(current, symbol, ZERO, "cooldown", changes)
        for symbol in sorted(current):
            _lower(current, symbol, current[symbol] * exposure, "breakers", changes)
        _cap_sectors(current, facts, rules.max_sector, changes)
        _cap_correlated(current, facts, rules.max_correlated, changes)
        cap = top3_cap(list(current.values()), rules.max_top3)
        for symbol in sorted(current):
            _lower(current, symbol, min(current[symbol], cap), "max_top3", changes)
        return Adjusted(current, tuple(changes))


def exits_of(holdings: Mapping[str, Holding], rules: ExitRules) -> dict[str, str]:
    """Return the names to leave and the first rule that says so."""
    found: dict[str, str] = {}
    for symbol, held in sorted(holdings.items()):
        entry, price, peak = float(held.entry), float(held.price), float(held.peak)
        hits = {
            "stop_loss": rules.stop_loss is not None
            and stop_loss_hit(entry, price, rules.stop_loss),
            "take_profit": rules.take_profit is not None
            and take_profit_hit(entry, price, rules.take_profit),
            "trailing_stop": rules.trailing_stop is not None
            and trailing_stop_hit(peak, price, rules.trailing_stop),
            "time_stop": rules.time_stop is not None
            and time_stop_hit(entry, price, held.age, rules.time_stop),
        }
        rule = next((name for name, hit in hits.items() if hit), None)
        if rule is not None:
            found[symbol] = rule
    return found


def exposure_of(standing: Standing, rules: BreakerRules) -> Decimal:
    """Return how much of the exposure the breakers leave: 0, 0.5 or 1."""
    factor = breaker_exposure(
        float(standing.drawdown),
        float(standing.nav_over_initial),
        standing.losing_days,
        float(standing.volatility),
        rules,
    )
    return Decimal(str(factor))


def top3_cap(weights: list[Decimal], most: Decimal) -> Decimal:
    """Return the largest weight of a name at which the three largest stay within a sum.

    >>> top3_cap([Decimal("0.3"), Decimal("0.2"), Decimal("0.05")], Decimal("0.4"))
    Decimal('0.175')
    """
    first, second, third = sorted([*weights, ZERO, ZERO, ZERO], reverse=True)[:3]
    if first + second + third <= most:
        return first
    if (most - second - third) >= second:  # only the largest has to give way
        return most - second - third
    if (most - third) / 2 >= third:  # the two largest
        return (most - third) / 2
    return most / 3


def _cap_sectors(
    current: dict[str, Decimal],
    facts: Mapping[str, NameFacts],
    most: Decimal,
    changes: list[Change],
) -> None:
    """Scale the names of each sector down to what it may have."""
    sectors = {symbol: facts[symbol].sector if symbol in facts else None for symbol in current}
    for sector in sorted({str(name) for name in sectors.values()}):
        names = sorted(symbol for symbol in current if str(sectors[symbol]) == sector)
        _scale(current, names, most, "max_sector", changes)


def _cap_correlated(
    current: dict[str, Decimal],
    facts: Mapping[str, NameFacts],
    most: Decimal,
    changes: list[Change],
) -> None:
    """Scale every name and what is one bet with it down to what they may have together."""
    for symbol in sorted(current):
        known = facts[symbol].correlated if symbol in facts else None
        bets = set(current) if known is None else {symbol, *known} & set(current)
        _scale(current, sorted(bets), most, "max_correlated", changes)


def _scale(
    current: dict[str, Decimal],
    names: list[str],
    most: Decimal,
    rule: str,
    changes: list[Change],
) -> None:
    total = sum((current[symbol] for symbol in names), ZERO)
    if total <= most:
        return
    for symbol in names:
        _lower(current, symbol, current[symbol] * (most / total), rule, changes)


def _lower(
    current: dict[str, Decimal], symbol: str, after: Decimal, rule: str, changes: list[Change]
) -> None:
    before = current.get(symbol, ZERO)
    after = after.quantize(_GRAIN, rounding=ROUND_FLOOR)  # a sum of these never passes its cap
    if not after >= before:
        changes.append(Change(symbol, rule, before, after))
        current[symbol] = after
