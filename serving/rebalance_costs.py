"""What a rebalance has cost beside what the configured cost model expects of it: pure functions.

A cost is > 0 where the account lost by it. Three parts are kept apart: what prices did between the
decision and the sending (delay), what fills cost beside the price as they were sent (trading), and
commissions. The cost model says something of the last two.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import sqrt
from typing import Any

from envs.costs import BASIS_POINT, CostModel

ZERO, CENT, TENTH = Decimal(0), Decimal("0.01"), Decimal("0.1")
Order = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Execution:
    """One order against what it was planned at.

    Args:
        order: as the gateway answered it.
        slippage: account currency, paid beyond the reference price, > 0 is a loss; None where
            nothing was filled.
        slippage_bp: of the reference price.
    """

    order: Order
    slippage: Decimal | None
    slippage_bp: Decimal | None


@dataclass(frozen=True, slots=True)
class LegCost:
    """One side of a name: all its slices together.

    Args:
        symbol: of the name.
        side: buy or sell.
        notional: account currency, as filled.
        delay: account currency, from the decision's price to that of the sending.
        trading: account currency, beyond the price as it was sent.
        commission: account currency.
        expected: of trading and commission, by the cost model; None where it cannot say.
    """

    symbol: str
    side: str
    notional: Decimal
    delay: Decimal
    trading: Decimal
    commission: Decimal
    expected: Decimal | None

    @property
    def paid(self) -> Decimal:
        """Return what the cost model is about: trading and commission."""
        return self.trading + self.commission


@dataclass(frozen=True, slots=True)
class Costs:
    """What a rebalance has cost.

    Args:
        legs: that were filled and of which the price at the sending is known.
        unknown: orders with fills of which it is not.
        filled_share: of what was planned, by its reference prices; None where nothing was.
    """

    legs: tuple[LegCost, ...]
    unknown: int
    filled_share: Decimal | None

    @property
    def delay(self) -> Decimal:
        """Return the cost of waiting, account currency."""
        return sum((leg.delay for leg in self.legs), ZERO)

    @property
    def trading(self) -> Decimal:
        """Return the cost of trading beside commissions, account currency."""
        return sum((leg.trading for leg in self.legs), ZERO)

    @property
    def commission(self) -> Decimal:
        """Return the commissions, account currency."""
        return sum((leg.commission for leg in self.legs), ZERO)

    @property
    def paid(self) -> Decimal:
        """Return trading and commissions, account currency."""
        return self.trading + self.commission

    @property
    def expected(self) -> Decimal | None:
        """Return what the cost model says of trading and commissions; None where it cannot."""
        known = [leg.expected for leg in self.legs if leg.expected is not None]
        return sum(known, ZERO) if known and len(known) == len(self.legs) else None


def executions(orders: Iterable[Order]) -> list[Execution]:
    """Return what each order's fills cost beside its reference price.

    >>> order = {"side": "buy", "filled": "10", "average_price": "100.5", "reference_price": "100"}
    >>> (found,) = executions([order])
    >>> found.slippage, found.slippage_bp
    (Decimal('5.00'), Decimal('50.0'))
    """
    return [_execution(order) for order in orders]


def costs(orders: Sequence[Order], model: CostModel) -> Costs:
    """Return what orders have cost.

    Args:
        orders: as the gateway answers them.
        model: what the configuration expects.
    """
    filled = [order for order in orders if _is_filled(order)]
    known = [order for order in filled if order["arrival_price"] is not None]
    by_leg: dict[tuple[str, str], list[Order]] = {}
    for order in known:
        by_leg.setdefault((order["symbol"], order["side"]), []).append(order)
    planned = sum((_at_reference(order, "quantity") for order in orders), ZERO)
    done = sum((_at_reference(order, "filled") for order in orders), ZERO)
    return Costs(
        legs=tuple(_leg(slices, model) for slices in by_leg.values()),
        unknown=len(filled) - len(known),
        filled_share=done / planned if planned else None,
    )


def _leg(slices: Sequence[Order], model: CostModel) -> LegCost:
    first = slices[0]
    sign = 1 if first["side"] == "buy" else -1
    delay = trading = notional = commission = ZERO
    for order in slices:
        shares, at = Decimal(order["filled"]), Decimal(order["average_price"])
        sent = Decimal(order["arrival_price"])
        delay += sign * (sent - Decimal(order["reference_price"])) * shares
        trading += sign * (at - sent) * shares
        notional += at * shares
        commission += Decimal(order["commission"])
    return LegCost(
        symbol=first["symbol"],
        side=first["side"],
        notional=notional.quantize(CENT),
        delay=delay.quantize(CENT),
        trading=trading.quantize(CENT),
        commission=commission,
        expected=_expected(slices, float(notional), model),
    )


def _expected(slices: Sequence[Order], notional: float, model: CostModel) -> Decimal | None:
    """Return what the cost model says of one leg, account currency."""
    rate = model.linear_rate
    if model.needs_adv:
        if any(one["participation"] is None or one["volatility"] is None for one in slices):
            return None
        participation = sum(float(one["participation"]) for one in slices)
        rate += model.impact * float(slices[0]["volatility"]) * sqrt(participation)
    return Decimal(str(rate * notional)).quantize(CENT)


def rates_in_words(model: CostModel) -> str:
    """Return a cost model as a half-sentence.

    >>> rates_in_words(CostModel(commission_bp=1.0, spread_bp=10.0, impact=0.0, borrow_rate=0.02))
    '6 bp of what is traded'
    >>> rates_in_words(CostModel(commission_bp=1.0, spread_bp=5.0, impact=0.7, borrow_rate=0.02))
    '3.5 bp of what is traded and an impact of 0.7 x volatility x root of participation'
    """
    linear = f"{model.linear_rate / BASIS_POINT:.4g} bp of what is traded"
    if not model.needs_adv:
        return linear
    return f"{linear} and an impact of {model.impact:.4g} x volatility x root of participation"


def _execution(order: Order) -> Execution:
    if not _is_filled(order):
        return Execution(order, None, None)
    filled, average = Decimal(order["filled"]), Decimal(order["average_price"])
    reference = Decimal(order["reference_price"])
    worse = average - reference if order["side"] == "buy" else reference - average
    slippage = (worse * filled).quantize(CENT)
    return Execution(order, slippage, (worse / reference * 10_000).quantize(TENTH))


def _is_filled(order: Order) -> bool:
    return order["average_price"] is not None and Decimal(order["filled"]) > 0


def _at_reference(order: Order, what: str) -> Decimal:
    return Decimal(order[what]) * Decimal(order["reference_price"])
