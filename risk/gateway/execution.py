"""How a trade is carried out: where its limit lies, what is too small, how it is cut in slices."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from enum import Enum

from risk.checks.arithmetic import ONE, ZERO, gap, seconds
from risk.checks.order import tick
from risk.gateway.limits import Exact, exact
from risk.gateway.records import SessionHours, Side


class Schedule(Enum):
    """How the slices of a large order share it."""

    twap = "twap"  # alike
    vwap = "vwap"  # as the day's volume usually runs: more near its ends


@dataclass(slots=True)
class ExecutionSettings:
    """How orders are placed."""

    limit_offset: Exact  # of a limit price beyond the reference, fraction, in [0, 0.05]
    drift_band: Exact  # fraction of NAV: a smaller difference is left alone, in [0, 0.5]
    headroom: Exact  # share of every limit left free for prices that move on, in [0, 0.5]
    min_notional: Exact  # account currency: a smaller order is not worth it, > 0
    slice_adv: Exact  # share of the daily volume above which an order is cut, in (0, 1]
    slice_interval_s: int  # seconds between slices, >= 1
    schedule: Schedule
    max_trades_day: int  # parent orders that are planned for a session, >= 1

    def __post_init__(self) -> None:
        for name in ("limit_offset", "drift_band", "headroom", "min_notional", "slice_adv"):
            setattr(self, name, exact(name, getattr(self, name)))
        if not 0 <= self.limit_offset <= Decimal("0.05"):
            raise ValueError(f"limit_offset must be in [0, 0.05], was {self.limit_offset}")
        for name in ("drift_band", "headroom"):
            if not 0 <= getattr(self, name) <= Decimal("0.5"):
                raise ValueError(f"{name} must be in [0, 0.5], was {getattr(self, name)}")
        if not self.min_notional > 0:
            raise ValueError(f"min_notional must be positive, was {self.min_notional}")
        if not 0 < self.slice_adv <= 1:
            raise ValueError(f"slice_adv must be in (0, 1], was {self.slice_adv}")
        for name in ("slice_interval_s", "max_trades_day"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, was {getattr(self, name)}")


def limit_price(side: Side, reference: Decimal, offset: Decimal, collar: Decimal) -> Decimal | None:
    """Return a price on the tick grid that is likely to trade and lies inside the collar.

    Args:
        side: a buy may pay a little more than the reference, a sell take a little less.
        reference: account currency per share, > 0.
        offset: how much, fraction.
        collar: largest distance from the reference, fraction.

    Returns:
        None where no tick lies inside the collar.

    >>> limit_price(Side.buy, Decimal("100.003"), Decimal("0.002"), Decimal("0.015"))
    Decimal('100.20')
    """
    away = min(offset, collar)
    buying = side is Side.buy
    wanted = reference * (ONE + away if buying else ONE - away)
    inward, outward = (ROUND_FLOOR, ROUND_CEILING) if buying else (ROUND_CEILING, ROUND_FLOOR)
    candidates = [_on_grid(wanted, inward), _on_grid(wanted, outward)]
    if candidates[0] < reference if buying else candidates[0] > reference:
        candidates.reverse()  # a tick worse than wanted still trades, one on this side does not
    for price in candidates:
        if price > 0 and gap(price, reference) <= collar:
            return price
    return None


def _on_grid(price: Decimal, rounding: str) -> Decimal:
    return price.quantize(tick(price), rounding=rounding)


def floored(quantity: Decimal, step: Decimal) -> Decimal:
    """Return the largest multiple of a step that is not above a quantity, 0 at the least.

    >>> floored(Decimal("1.2399"), Decimal("0.01")), floored(Decimal("50"), Decimal("0.01"))
    (Decimal('1.23'), Decimal('50'))
    """
    shares = max(ZERO, (quantity / step).to_integral_value(ROUND_FLOOR) * step)
    whole = shares.to_integral_value()
    return whole if whole == shares else shares.normalize()


def sizes_of_slices(schedule: Schedule, count: int) -> tuple[Decimal, ...]:
    """Return how large each slice is beside the others.

    >>> sizes_of_slices(Schedule.twap, 3), sizes_of_slices(Schedule.vwap, 3)
    ((Decimal('1'), Decimal('1'), Decimal('1')), (Decimal('2'), Decimal('1'), Decimal('2')))
    """
    if schedule is Schedule.twap or count < 3:
        return (ONE,) * count
    # Volume over a day is U-shaped (Admati & Pfleiderer, "A Theory of Intraday Patterns", Review
    # of Financial Studies, 1988): a parabola that is twice as high at the ends as in the middle.
    middle = Decimal(count - 1) / 2
    return tuple(ONE + ((Decimal(row) - middle) / middle) ** 2 for row in range(count))


def cut(
    quantity: Decimal,
    step: Decimal,
    preferred: Decimal,
    largest: Decimal,
    schedule: Schedule,
    most: int,
) -> tuple[Decimal, ...]:
    """Return the quantities of the fewest slices that are as small as preferred.

    Args:
        quantity: of the parent, a multiple of the step.
        step: smallest difference of two quantities.
        preferred: shares of a slice; they are larger where `most` of these are too few.
        largest: shares that no slice may exceed.
        schedule: how the slices share the parent.
        most: slices there may be.

    Returns:
        Quantities > 0 that sum to the parent's, or to what can be held of it.
    """
    preferred = min(max(floored(preferred, step), step), largest)
    slices: list[Decimal] = []
    for count in range(1, most + 1):
        slices = _dealt(quantity, step, sizes_of_slices(schedule, count))
        if max(slices) <= preferred:
            break
    whole = floored(largest, step)
    return tuple(item for item in (min(slice, whole) for slice in slices) if item > 0)


def _dealt(quantity: Decimal, step: Decimal, sizes: tuple[Decimal, ...]) -> list[Decimal]:
    """Return a quantity dealt out by sizes, all of it, in whole steps."""
    total = sum(sizes, ZERO)
    dealt: list[Decimal] = []
    before = reached = ZERO
    for size in sizes:
        reached += size
        until = floored(quantity * reached / total, step)
        dealt.append(until - before)
        before = until
    dealt[-1] += quantity - before
    return dealt


def slices_until(now: datetime, end: datetime | None, interval_s: int, most: int) -> int:
    """Return how many slices, one at once and one after each interval, start before an end."""
    if end is None:
        return most
    left = seconds(end - now)
    if not left >= 0:
        return 1
    return min(most, 1 + int(left // interval_s))


def last_slice_at(hours: SessionHours | None, buffer_s: Decimal) -> datetime | None:
    """Return until when a slice may be sent; None where no session is known."""
    if hours is None:
        return None
    return hours.close - timedelta(seconds=float(buffer_s))
