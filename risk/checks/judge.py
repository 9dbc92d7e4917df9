"""Verdicts: every check that applies, in one order, with all that they find.

A verdict is a pure function of its arguments, which are what the audit holds. A check that fails
to compute raises, and whoever asked sends nothing.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import date

from risk.checks.arithmetic import Found, breach, exactly, unless
from risk.checks.decision import DECISION_CHECKS
from risk.checks.gate import (
    ACCOUNT,
    HEALTH,
    PERMISSION,
    SENDING,
    SESSION,
    GateCheck,
    account_is_current,
    books_agree,
    clocks_agree,
    confirmed_losses,
    equity_is_plausible,
    failures_are_few,
    no_halt_file,
    records_are_kept,
    state_is_known,
)
from risk.checks.order import ORDER_CHECKS, reduces
from risk.checks.portfolio import (
    BOOK_CHECKS,
    as_open,
    basket_is_consistent,
    book_after,
    decision_is_short,
    orders_are_few,
)
from risk.gateway.limits import GatewayLimits, loosened
from risk.gateway.records import Decision, Side
from risk.gateway.state import GatewayState, OpenOrder, ProposedOrder
from risk.gateway.verdict import Effect, ReasonCode, Scope, Verdict, Violation

_GATE = PERMISSION + HEALTH + SESSION + ACCOUNT


def judge_order(state: GatewayState, order: ProposedOrder, limits: GatewayLimits) -> Verdict:
    """Return whether an order may be sent now, every open order counted at its worst."""
    with exactly():
        found = _all(_GATE + SENDING, state, limits)
        for check in ORDER_CHECKS:
            found += check(state, order, limits)
        reducing = reduces(state, order)
        book = book_after(state, (order,), frozenset({order.request.symbol}), limits)
        for book_check in BOOK_CHECKS:
            found += book_check(state, book, limits)
        found += orders_are_few(state, (order,), limits)
        return Verdict(_stopping(found, state, reducing))


def judge_basket(
    state: GatewayState, orders: Sequence[ProposedOrder], names: int, limits: GatewayLimits
) -> Verdict:
    """Return whether a basket may be made durable: sells first, then buys, all at once or none.

    Args:
        state: before any of it.
        orders: not empty.
        names: in the decision's weights or held.
        limits: in force.
    """
    with exactly():
        found: Found = ()
        adding: set[str] = set()
        for order, seen in _in_turn(state, orders):
            own: Found = ()
            for check in ORDER_CHECKS:
                own += check(seen, order, limits)
            reducing = reduces(seen, order)
            found += _stopping(own, state, reducing)
            if not reducing:
                adding.add(order.request.symbol)
        book = book_after(state, orders, frozenset(adding), limits)
        whole = _all(_GATE, state, limits)
        for book_check in BOOK_CHECKS:
            whole += book_check(state, book, limits)
        whole += basket_is_consistent(state, orders, limits)
        whole += orders_are_few(state, orders, limits)
        whole += decision_is_short(orders, names, limits)
        return Verdict(_stopping(whole, state, not adding) + found)


def judge_decision(state: GatewayState, decision: Decision, limits: GatewayLimits) -> Verdict:
    """Return whether a decision may be accepted; the gate is judged apart."""
    with exactly():
        found: Found = ()
        for check in DECISION_CHECKS:
            found += check(state, decision, limits)
        return Verdict(found)


def judge_gate(state: GatewayState, limits: GatewayLimits) -> Verdict:
    """Return whether risk may be added now; exits pass what is of the scope `exposure`."""
    with exactly():
        return Verdict(_all(_GATE, state, limits))


def judge_arming(state: GatewayState, account_typed: str, limits: GatewayLimits) -> Verdict:
    """Return whether the latch may be armed: all is known, agrees, and nothing is open (25, 26)."""
    checks: tuple[GateCheck, ...] = (
        no_halt_file,
        records_are_kept,
        state_is_known,
        books_agree,
        clocks_agree,
        account_is_current,
        equity_is_plausible,
    )
    with exactly():
        account = state.account.id if state.account is not None else None
        same = account is not None and account_typed == account
        empty = state.open_orders is not None and not state.open_orders
        shown = None if state.open_orders is None else len(state.open_orders)
        return Verdict(
            (
                *_all(checks, state, limits),
                *unless(same, ReasonCode.account_mismatch, account, account_typed),
                *unless(empty, ReasonCode.kill_unverified, 0, shown),
            )
        )


def judge_limits(
    old: GatewayLimits,
    new: GatewayLimits,
    signers: frozenset[str],
    effective: date,
    session: date,
) -> Verdict:
    """Return whether limits may change: tighter at once, looser by two persons and tomorrow (35).

    Args:
        old: in force.
        new: proposed.
        signers: different persons whose signatures were verified.
        effective: session from which the new ones hold.
        session: the present or last one.
    """
    looser = loosened(old, new)
    if not looser:
        return Verdict(())
    found: Found = ()
    if not len(signers) >= old.loosening_persons:
        found += (
            breach(
                ReasonCode.limits_signatures,
                "loosening_persons",
                old.loosening_persons,
                f"{len(signers)} for {', '.join(looser)}",
            ),
        )
    found += unless(effective > session, ReasonCode.limits_effective, f"after {session}", effective)
    return Verdict(found)


def judge_caller(roles: frozenset[str] | None, needed: str) -> Verdict:
    """Return whether a caller may do what needs a role; None is a caller that is not known (34)."""
    if roles is None:
        return Verdict((breach(ReasonCode.unauthenticated, "", "a known caller", None),))
    return Verdict(unless(needed in roles, ReasonCode.role_missing, needed, sorted(roles)))


def trips(state: GatewayState, limits: GatewayLimits) -> tuple[Violation, ...]:
    """Return what must trip the latch now; a loss, only once the last readings confirm it (24).

    A clock that the broker did not tell refuses every order (21, 38) and trips nothing: one answer
    that was lost needs no person.
    """
    checks: tuple[GateCheck, ...] = (
        records_are_kept,
        books_agree,
        clocks_agree,
        failures_are_few,
        confirmed_losses,
    )
    told = state.skew_s is not None
    with exactly():
        return tuple(
            item
            for item in _all(checks, state, limits)
            if item.code.effect is Effect.trip and (told or item.code is not ReasonCode.clock_skew)
        )


def _all(checks: Iterable[GateCheck], state: GatewayState, limits: GatewayLimits) -> Found:
    found: Found = ()
    for check in checks:
        found += check(state, limits)
    return found


def _in_turn(
    state: GatewayState, orders: Sequence[ProposedOrder]
) -> Iterator[tuple[ProposedOrder, GatewayState]]:
    """Yield each order with the state in which earlier slices of its name and side are open.

    Without them each of two sells of a whole position would seem to reduce it.
    """
    earlier: dict[tuple[str, Side], tuple[OpenOrder, ...]] = {}
    for order in orders:
        leg = (order.request.symbol, order.request.side)
        before = earlier.get(leg, ())
        seen = state
        if before and state.open_orders is not None:
            seen = replace(state, open_orders=state.open_orders + before)
        yield order, seen
        earlier[leg] = (*before, as_open(order))


def _stopping(found: Found, state: GatewayState, reducing: bool) -> Found:
    """Return the violations that stop an order; size and exposure do not stop all reducing ones.

    The identity, the price and the permission of an order stop it always.
    """
    if not reducing:
        return found
    passed = {Scope.exposure, Scope.size} if state.reducing is True else {Scope.exposure}
    return tuple(item for item in found if item.code.scope not in passed)
