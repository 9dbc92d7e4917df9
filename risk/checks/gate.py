"""What is checked of the account and of the gateway itself, whatever the order.

Each check is a pure function of (state, limits). `PERMISSION`, `HEALTH`, `SESSION` and `ACCOUNT`
are the lists of them.
"""

from collections.abc import Callable
from decimal import Decimal

from risk.checks.arithmetic import (
    NAN,
    ONE,
    ZERO,
    Found,
    above,
    below,
    breach,
    number,
    seconds,
    unless,
)
from risk.gateway.limits import GatewayLimits
from risk.gateway.state import GatewayState
from risk.gateway.verdict import ReasonCode

GateCheck = Callable[[GatewayState, GatewayLimits], Found]


def may_trade(state: GatewayState, _limits: GatewayLimits) -> Found:
    """Refuse unless a person armed the latch and nobody put a HALT file (25)."""
    return (
        *unless(state.armed, ReasonCode.latch, True, state.armed),
        *no_halt_file(state, _limits),
    )


def no_halt_file(state: GatewayState, _limits: GatewayLimits) -> Found:
    """Refuse while a HALT file is there, or its folder cannot be read (25)."""
    return unless(state.halted is False, ReasonCode.halt_file, False, state.halted)


def permit_is_alive(state: GatewayState, limits: GatewayLimits) -> Found:
    """Refuse without a permit that expires soon enough to matter (27, 29)."""
    left = number(state.permit_left_s)
    found = unless(left > 0, ReasonCode.permit, "more than 0", state.permit_left_s)
    return found + above(
        ReasonCode.permit_ttl, "max_permit_s", limits.max_permit_s, state.permit_left_s
    )


def broker_lets(state: GatewayState, _limits: GatewayLimits) -> Found:
    """Refuse while the broker was told to refuse, or blocks the account (25)."""
    account = state.account
    suspended = None if account is None else account.suspended
    blocked = None if account is None else account.blocked
    return (
        *unless(suspended is False, ReasonCode.suspended, False, suspended),
        *unless(blocked is False, ReasonCode.blocked, False, blocked),
    )


def limits_are_in_force(state: GatewayState, limits: GatewayLimits) -> Found:
    """Refuse to judge by other limits than those that are in force (35)."""
    version = limits.version
    same = state.limits_version == version
    return unless(same, ReasonCode.limits_version, state.limits_version, version)


def records_are_kept(state: GatewayState, _limits: GatewayLimits) -> Found:
    """Refuse to act without ledger and audit (27, 39)."""
    return (
        *unless(state.ledger_writable, ReasonCode.ledger, True, state.ledger_writable),
        *unless(state.audit_intact, ReasonCode.audit, True, state.audit_intact),
    )


def state_is_known(state: GatewayState, _limits: GatewayLimits) -> Found:
    """Refuse while anything that is counted is not known (27); unknown is never none (F21)."""
    return tuple(
        breach(ReasonCode.state_missing, name, "known", None)
        for name in ("account", "positions", "ledger_positions", "open_orders", "day", "name_day")
        if getattr(state, name) is None
    )


def books_agree(state: GatewayState, limits: GatewayLimits) -> Found:
    """Refuse unless ledger and broker were found equal a moment ago (36)."""
    at = state.reconciled_at
    age = NAN if at is None else seconds(state.now - at)
    found = above(
        ReasonCode.reconcile_stale, "max_reconcile_age_s", limits.max_reconcile_age_s, age
    )
    found += unless(age >= -limits.max_clock_skew_s, ReasonCode.reconcile_stale, "the past", at)
    for name in ("drifted", "foreign"):
        if getattr(state, name) is None:  # never compared yet: it may agree, so that one waits
            found += (breach(ReasonCode.reconcile_stale, name, "known", None),)
    for symbol in sorted(state.drifted or ()):
        found += (breach(ReasonCode.drift, "", "none", symbol, symbol),)
    for client_order_id in sorted(state.foreign or ()):
        found += (breach(ReasonCode.foreign_order, "", "none", client_order_id),)
    return found


def clocks_agree(state: GatewayState, limits: GatewayLimits) -> Found:
    """Refuse, or warn, when the own clock runs away from the broker's (38)."""
    skew = abs(number(state.skew_s))
    found = above(ReasonCode.clock_skew, "max_clock_skew_s", limits.max_clock_skew_s, skew)
    return found + above(ReasonCode.clock_alert, "clock_alert_s", limits.clock_alert_s, skew)


def failures_are_few(state: GatewayState, limits: GatewayLimits) -> Found:
    """Refuse after repeated failures, and while too many outcomes are unknown (14)."""
    return (
        *above(
            ReasonCode.repeated_failures, "max_failures", limits.max_failures - 1, state.failures
        ),
        *above(
            ReasonCode.unknown_orders,
            "max_unknown_orders",
            limits.max_unknown_orders,
            state.unknown_orders,
        ),
    )


def messages_are_few(state: GatewayState, limits: GatewayLimits) -> Found:
    """Refuse to send faster than the throttle; the present message counts (13)."""
    return (
        *above(
            ReasonCode.throttle_second,
            "max_messages_second",
            limits.max_messages_second - 1,
            state.messages_second,
        ),
        *above(
            ReasonCode.throttle_minute,
            "max_messages_minute",
            limits.max_messages_minute - 1,
            state.messages_minute,
        ),
    )


def market_is_open(state: GatewayState, limits: GatewayLimits) -> Found:
    """Refuse outside the session, near its ends, or when broker and calendar differ (21)."""
    clock, hours = state.clock, state.hours
    if clock is None:
        return (breach(ReasonCode.clock_missing, "", "broker's clock", None),)
    found = unless(clock.is_open, ReasonCode.market_closed, "open at the broker", clock.is_open)
    if hours is None:
        return (*found, breach(ReasonCode.market_closed, "", "a session of the calendar", None))
    if not hours.open <= state.now < hours.close:
        found += (breach(ReasonCode.market_closed, "", f"{hours.open} on", state.now),)
    apart = abs(seconds(clock.next_close - hours.close))
    since_open, to_close = seconds(state.now - hours.open), seconds(hours.close - state.now)
    return (
        *found,
        *above(
            ReasonCode.calendar_disagrees, "max_calendar_gap_s", limits.max_calendar_gap_s, apart
        ),
        *below(ReasonCode.opening_buffer, "open_buffer_s", limits.open_buffer_s, since_open),
        *below(ReasonCode.closing_buffer, "close_buffer_s", limits.close_buffer_s, to_close),
    )


def account_is_current(state: GatewayState, limits: GatewayLimits) -> Found:
    """Refuse on an old reading of the account (37)."""
    age = NAN if state.account_at is None else seconds(state.now - state.account_at)
    found = above(ReasonCode.snapshot_stale, "max_snapshot_age_s", limits.max_snapshot_age_s, age)
    return found + below(
        ReasonCode.snapshot_stale, "max_clock_skew_s", -limits.max_clock_skew_s, age
    )


def equity_is_plausible(state: GatewayState, limits: GatewayLimits) -> Found:
    """Refuse on equity that is not cash and positions, or that jumped (37)."""
    account, positions = state.account, state.positions
    if account is None or positions is None:
        return (breach(ReasonCode.snapshot_implausible, "", "account and positions", None),)
    worth = sum((item.quantity * item.price for item in positions.values()), account.cash)
    error = abs(account.equity - worth) / account.equity if account.equity > 0 else NAN
    found = above(
        ReasonCode.snapshot_implausible, "max_equity_error", limits.max_equity_error, error
    )
    last = clean_reads(state, limits.clean_reads)
    jump = max(last) / min(last) - ONE if last and last[-1] == account.equity else NAN
    return found + above(ReasonCode.snapshot_jump, "max_equity_jump", limits.max_equity_jump, jump)


def clean_reads(state: GatewayState, count: int) -> tuple[Decimal, ...]:
    """Return the last readings of equity; nothing unless there are enough and all are positive."""
    last = (state.equity_reads or ())[-count:]
    return last if len(last) == count and all(read > 0 for read in last) else ()


def losses_are_bearable(state: GatewayState, limits: GatewayLimits) -> Found:
    """Refuse to add risk after a bad day or far below the peak (24)."""
    equity = state.account.equity if state.account is not None else NAN
    last = state.account.last_equity if state.account is not None else NAN
    return (
        *above(ReasonCode.daily_loss, "max_day_loss", limits.max_day_loss, _fall(equity, last)),
        *above(
            ReasonCode.drawdown,
            "max_drawdown",
            limits.max_drawdown,
            _fall(equity, number(state.peak_equity)),
        ),
    )


def account_is_ours(state: GatewayState, limits: GatewayLimits) -> Found:
    """Refuse to add risk with borrowed money, or with shorts open to be sold (7, 19)."""
    account = state.account
    if account is None:
        return (breach(ReasonCode.multiplier, "max_multiplier", limits.max_multiplier, None),)
    found = above(
        ReasonCode.multiplier, "max_multiplier", limits.max_multiplier, account.multiplier
    )
    if limits.max_short_weight > 0:
        return found
    return found + unless(account.no_shorting, ReasonCode.short_barred, True, account.no_shorting)


def policy_is_grown(state: GatewayState, _limits: GatewayLimits) -> Found:
    """Refuse to add risk when the share that the ramp leaves to the policy is not known (41)."""
    share = number(state.ramp)
    return unless(ZERO < share <= ONE, ReasonCode.ramp, "a share in (0, 1]", state.ramp)


def confirmed_losses(state: GatewayState, limits: GatewayLimits) -> Found:
    """Return the losses that the last clean readings all show: what trips the latch (24)."""
    reads = clean_reads(state, limits.clean_reads)
    if not reads or state.account is None:
        return ()
    best = max(reads)
    return (
        *above(
            ReasonCode.daily_loss,
            "max_day_loss",
            limits.max_day_loss,
            _fall(best, state.account.last_equity),
        ),
        *above(
            ReasonCode.drawdown,
            "max_drawdown",
            limits.max_drawdown,
            _fall(best, number(state.peak_equity)),
        ),
    )


def _fall(equity: Decimal, reference: Decimal) -> Decimal:
    """Return the fall from a reference as a fraction of it, a gain < 0; NaN where not known."""
    return ONE - equity / reference if reference > 0 else NAN


PERMISSION: tuple[GateCheck, ...] = (may_trade, permit_is_alive, broker_lets, limits_are_in_force)
HEALTH: tuple[GateCheck, ...] = (
    records_are_kept,
    state_is_known,
    books_agree,
    clocks_agree,
    failures_are_few,
    account_is_current,
    equity_is_plausible,
)
SESSION: tuple[GateCheck, ...] = (market_is_open,)
ACCOUNT: tuple[GateCheck, ...] = (losses_are_bearable, account_is_ours, policy_is_grown)
SENDING: tuple[GateCheck, ...] = (messages_are_few,)
