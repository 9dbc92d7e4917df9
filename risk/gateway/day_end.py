"""From one session's close to the next: what the strategy's rules remember. Pure functions.

The same bookkeeping as in training (`envs.rules`), for one book and in decimals.
"""

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal

from risk.breakers import BreakerRules
from risk.exits import next_cooldown
from risk.gateway.market_days import MarketDay
from risk.gateway.records import Account, Activity, Position
from risk.gateway.strategy import Standing, exposure_of
from risk.gateway.strategy_reads import DayEnd, Tracked

ZERO = Decimal(0)
TRANSFERS = frozenset({"CSD", "CSW", "JNLC", "ACATC"})  # of cash: deposits, withdrawals, journals
CENTS = Decimal("0.0001")
SAME_COST = Decimal("0.001")  # relative; a split keeps what was paid, to the broker's rounding


def next_day(
    before: DayEnd | None,
    first_equity: Decimal,
    account: Account,
    equity: Decimal,
    market: MarketDay,
    elapsed: int,
    rules: BreakerRules,
    model: str | None,
) -> DayEnd:
    """Return the account's day, and what the breakers leave of the next session's target.

    Args:
        before: the last day that was kept; None of the first.
        first_equity: starting capital where there is no day before, account currency, > 0.
        account: as it is now.
        equity: at the close, account currency.
        market: of the session that ends.
        elapsed: sessions since `before`, >= 1.
        rules: of the strategy.
        model: that was followed last.
    """
    start = first_equity if before is None else before.starting_equity
    last = start if before is None else before.equity
    losing = 0 if before is None else before.losing_days
    losing = losing + 1 if equity < last else 0
    peak = max(start if before is None else before.peak, equity)
    stopped = 0 if before is None else before.stopped
    standing = standing_of(equity, peak, start, losing, market.volatility)
    exposure = exposure_of(standing, rules)
    # A stop that is already running counts down; it is not prolonged by its own drawdown.
    running = stopped > 0
    trips = exposure == 0 and not running
    left = stopped
    for _ in range(elapsed):
        left = next_cooldown(left, trips and left == stopped, rules.cooldown or 0)
    # Without a cooldown a stop lasts as long as its cause.
    over = (trips or running) and left == 0 and rules.cooldown is not None
    return DayEnd(
        session=market.session,
        starting_equity=start,
        equity=equity,
        cash=account.cash,
        peak=equity if over else peak,
        losing_days=0 if over else losing,
        stopped=left,
        exposure=ZERO if running else exposure,
        volatility=market.volatility,
        model=model,
    )


def transferred(activities: Iterable[Activity]) -> Decimal:
    """Return the cash that somebody has put into the account, less what was taken out of it."""
    return sum((one.cash for one in activities if one.kind in TRANSFERS), ZERO)


def with_transfers(day: DayEnd, cash: Decimal) -> DayEnd:
    """Return a day as if the account had been larger by a transfer: that is no gain and no loss.

    >>> from datetime import date
    >>> one, half = Decimal(1), Decimal("0.5")
    >>> day = DayEnd(date(2024, 1, 2), *[Decimal(100)] * 4, 0, 0, one, half, None)
    >>> with_transfers(day, Decimal(-40)).peak
    Decimal('60.0000')
    """
    ratio = (day.equity + cash) / day.equity
    if not ratio > 0:
        return day
    return replace(
        day,
        starting_equity=(day.starting_equity * ratio).quantize(CENTS),
        equity=(day.equity * ratio).quantize(CENTS),
        peak=(day.peak * ratio).quantize(CENTS),
    )


def standing_of(
    equity: Decimal,
    peak: Decimal,
    starting_equity: Decimal,
    losing_days: int,
    volatility: Decimal,
) -> Standing:
    """Return what the breakers look at; money in account currency, > 0."""
    return Standing(
        drawdown=1 - equity / max(peak, equity),
        nav_over_initial=equity / starting_equity,
        losing_days=losing_days,
        volatility=volatility,
    )


def next_tracked(
    before: Tracked | None, symbol: str, position: Position | None, elapsed: int
) -> Tracked:
    """Return what the exits remember of a name at a close.

    Args:
        before: at the last close; None of a name that is new.
        symbol: of the name.
        position: now; None where nothing is held.
        elapsed: sessions since `before`, >= 1.
    """
    barred = 0 if before is None else max(before.barred - elapsed, 0)
    if position is None or not position.quantity > 0:
        return Tracked(symbol, ZERO, ZERO, ZERO, 0, barred)
    held = before is not None and before.shares > 0
    old = seen(before, position) if before is not None and held else None
    return Tracked(
        symbol=symbol,
        shares=position.quantity,
        entry=position.average_price,
        peak=position.price if old is None else max(old.peak, position.price),
        age=0 if old is None else old.age + elapsed,
        barred=barred,
    )


def seen(before: Tracked, position: Position) -> Tracked:
    """Return what is remembered in the shares of today: a split changes their number, not the cost.

    >>> from decimal import Decimal as D
    >>> before = Tracked("X", D(10), D(500), D(600), 3, 0)
    >>> seen(before, Position("X", D(100), D(50), D(58))).peak
    Decimal('60')
    """
    paid, pays = before.shares * before.entry, position.quantity * position.average_price
    if position.quantity == before.shares or not paid > 0:
        return before
    if abs(pays / paid - 1) > SAME_COST:
        return before
    ratio = position.quantity / before.shares
    return replace(
        before, shares=position.quantity, entry=before.entry / ratio, peak=before.peak / ratio
    )
