"""What the ledger says to one look: one state of it, read at once, and what it adds up to."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

from risk.gateway.ledger import Ledger
from risk.gateway.reads import traded_notional
from risk.gateway.records import OrderState
from risk.gateway.rows import session_of
from risk.gateway.stored import (
    DRY_RUN,
    EXITS,
    DayTotals,
    DecisionState,
    Latch,
    StoredAccount,
    StoredDecision,
    StoredOrder,
)

READS_KEPT = 10  # snapshots of the account
DECISIONS_BACK = timedelta(days=9)  # for the last decision that was followed, holidays included
WEEK = timedelta(days=6)
FOLLOWED = frozenset({DecisionState.accepted, DecisionState.done})
BAD = frozenset({DecisionState.refused, DecisionState.failed})


@dataclass(frozen=True, slots=True)
class Totals:
    """One state of the ledger.

    Args:
        orders: of the last eight days, oldest first.
        decision: the one that was asked for, where it is known.
        accounts: the last snapshots, newest first.
        positions: signed shares by symbol, as our fills explain them.
        day: totals of the session.
        week_notional: of the seven days that end with the session, account currency.
        failures: refused or failed decisions in a row since the latch was last changed.
        last_weights: of the last decision that was accepted to be followed; empty before the first.
    """

    orders: Sequence[StoredOrder]
    decision: StoredDecision | None
    accounts: Sequence[StoredAccount]
    positions: Mapping[str, Decimal]
    day: DayTotals
    week_notional: Decimal
    failures: int
    last_weights: Mapping[str, Decimal]


def read_totals(ledger: Ledger, now: datetime, session: date, decision_id: str | None) -> Totals:
    """Read one state of the ledger.

    Args:
        ledger: of the account.
        now: UTC.
        session: whose totals are wanted.
        decision_id: that is looked for; None where there is none.

    Raises:
        LedgerFailed: if it cannot be read.
    """
    with ledger.at_once() as reads:
        orders = reads.recent_orders(now)
        decisions = reads.decisions_between(session - DECISIONS_BACK, session)
        return Totals(
            orders=orders,
            decision=None if decision_id is None else reads.decision(decision_id),
            accounts=reads.accounts(READS_KEPT),
            positions=reads.positions(),
            day=day_totals(orders, decisions, session),
            week_notional=week_notional(orders, session),
            failures=failures(decisions, session, reads.latch()),
            last_weights=last_weights(decisions),
        )


def day_totals(
    orders: Iterable[StoredOrder], decisions: Iterable[StoredDecision], session: date
) -> DayTotals:
    """Return what a session has seen; orders that were dropped do not count.

    Args:
        orders: all of the session, and perhaps others.
        decisions: likewise.
        session: New York's date.
    """
    today = [
        order
        for order in orders
        if order.state is not OrderState.dropped and session_of(order.created_at) == session
    ]
    return DayTotals(
        orders=len({(order.decision_id, order.symbol, order.side) for order in today}),
        slices=len(today),
        notional=sum(map(traded_notional, today), Decimal(0)),
        refused_decisions=sum(one.state in BAD for one in decisions if one.session == session),
    )


def week_notional(orders: Iterable[StoredOrder], session: date) -> Decimal:
    """Return the notional of the seven days that end with a session."""
    return sum(
        (
            traded_notional(order)
            for order in orders
            if session - WEEK <= session_of(order.created_at) <= session
        ),
        Decimal(0),
    )


def failures(decisions: Sequence[StoredDecision], session: date, latch: Latch) -> int:
    """Return the refused or failed decisions of a session in a row, since the latch was changed.

    Args:
        decisions: oldest first.
        session: New York's date.
        latch: as it was last changed.
    """
    count = 0
    for stored in reversed(decisions):
        if stored.session != session or (latch.at is not None and stored.received_at <= latch.at):
            break
        if stored.mode in (DRY_RUN, EXITS):  # nobody wanted anything of it
            continue
        if stored.state not in BAD:
            break
        count += 1
    return count


def last_weights(decisions: Sequence[StoredDecision]) -> Mapping[str, Decimal]:
    """Return the weights of the last decision that was followed; a rehearsal moves nothing."""
    for stored in reversed(decisions):
        if stored.state in FOLLOWED and stored.mode not in (DRY_RUN, EXITS):
            return stored.decision.weights
    return {}
