"""What can be asked of the ledger, outside a transaction or inside one."""

from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

from sqlalchemy import CursorResult, Executable, Select, func, select
from sqlalchemy.sql.elements import ColumnElement

from risk.gateway import schema
from risk.gateway.canonical import moment
from risk.gateway.records import Activity, Fill, OrderState
from risk.gateway.rows import (
    NEVER,
    to_account,
    to_activity,
    to_arrival,
    to_decision,
    to_fill,
    to_latch,
    to_limits,
    to_order,
    to_performance,
    to_position,
    to_rebalance,
)
from risk.gateway.storage import LedgerFailed
from risk.gateway.stored import (
    Arrival,
    DecisionState,
    Latch,
    Performance,
    PermitRow,
    Rebalance,
    StoredAccount,
    StoredDecision,
    StoredLimits,
    StoredOrder,
)

_NOTHING = Decimal(0)


T = TypeVar("T")
Found = dict[str, Any]  # a row as the database gives it


RECENT = timedelta(days=8)


def rows_of(result: CursorResult[Any]) -> list[Found]:
    """Return the rows of a result by the names of their columns."""
    names = tuple(result.keys())
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


class Reads:
    """The questions; who inherits says on which connection they are asked."""

    def _rows(self, statement: Executable) -> list[Found]:
        raise NotImplementedError

    def _first(self, statement: Executable) -> Found | None:
        rows = self._rows(statement)
        return rows[0] if rows else None

    def _one(self, convert: Callable[[Found], T], statement: Executable) -> T | None:
        """Return the first row as a record."""
        found = self._all(convert, statement)
        return found[0] if found else None

    def _all(self, convert: Callable[[Found], T], statement: Executable) -> list[T]:
        """Return rows as records.

        Raises:
            LedgerFailed: if the database fails, or holds what nobody wrote.
        """
        rows = self._rows(statement)
        try:
            return [convert(row) for row in rows]
        except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
            raise LedgerFailed(f"the ledger holds a damaged row: {error!r}") from error

    def decision(self, decision_id: str) -> StoredDecision | None:
        """Return a decision."""
        table = schema.decisions
        return self._one(to_decision, select(table).where(table.c.id == decision_id))

    def decisions(self, session: date) -> list[StoredDecision]:
        """Return the decisions that were received in a session, oldest first."""
        return self.decisions_between(session, session)

    def decisions_between(self, first: date, last: date) -> list[StoredDecision]:
        """Return the decisions that were received in the sessions [first, last], oldest first."""
        table = schema.decisions
        asked = select(table).where(_between(table.c.session, first, last))
        return self._all(to_decision, asked.order_by(table.c.received_at))

    def accepted(self) -> list[StoredDecision]:
        """Return the decisions whose orders have not all ended, of any age, oldest first."""
        table = schema.decisions
        asked = select(table).where(table.c.state == DecisionState.accepted.value)
        return self._all(to_decision, asked.order_by(table.c.received_at))

    def order(self, client_order_id: str) -> StoredOrder | None:
        """Return an order."""
        table = schema.orders
        return self._one(to_order, select(table).where(table.c.client_order_id == client_order_id))

    def orders(
        self, decision_id: str | None = None, states: Iterable[OrderState] | None = None
    ) -> list[StoredOrder]:
        """Return orders of a decision, or in some states, or both, oldest first."""
        table = schema.orders
        asked = select(table)
        if decision_id is not None:
            asked = asked.where(table.c.decision_id == decision_id)
        if states is not None:
            asked = asked.where(table.c.state.in_([state.value for state in states]))
        return self._orders(asked)

    def orders_between(self, first: date, last: date) -> list[StoredOrder]:
        """Return the orders that were created in the sessions [first, last], oldest first."""
        session = schema.orders.c.session
        return self._orders(select(schema.orders).where(_between(session, first, last)))

    def last_session(self) -> date | None:
        """Return the last session in which an order was created."""
        found = self._first(select(func.max(schema.orders.c.session).label("session")))
        last = None if found is None else found["session"]
        return None if last is None else date.fromisoformat(last)

    def recent_orders(self, now: datetime) -> list[StoredOrder]:
        """Return the orders of the last eight days, oldest first: all that can matter today.

        Every order ends with its session, a week is counted by its trades, and broker and ledger
        are compared over five days.
        """
        return self.orders_between(now.date() - RECENT, now.date() + timedelta(days=1))

    def recent_ids(self, now: datetime) -> set[str]:
        """Return the ids of the recent orders."""
        table = schema.orders
        first, last = now.date() - RECENT, now.date() + timedelta(days=1)
        asked = select(table.c.client_order_id).where(_between(table.c.session, first, last))
        return {row["client_order_id"] for row in self._rows(asked)}

    def _orders(self, asked: Select[Any]) -> list[StoredOrder]:
        table = schema.orders
        ordered = asked.order_by(table.c.created_at, table.c.client_order_id)
        return self._all(to_order, ordered)

    def arrivals(self, client_order_ids: Iterable[str]) -> dict[str, Arrival]:
        """Return what the market was as orders were sent, by their ids; unsent ones are missing."""
        table = schema.arrivals
        asked = select(table).where(table.c.client_order_id.in_(list(client_order_ids)))
        return {found.client_order_id: found for found in self._all(to_arrival, asked)}

    def fills_of(self, client_order_ids: Iterable[str]) -> list[Fill]:
        """Return the fills of orders, oldest first."""
        table = schema.fills
        asked = select(table).where(table.c.client_order_id.in_(list(client_order_ids)))
        return self._all(to_fill, asked.order_by(table.c.at, table.c.execution_id))

    def fills(self, after: datetime | None = None) -> list[Fill]:
        """Return the fills after a time, oldest first."""
        table = schema.fills
        asked = select(table).order_by(table.c.at, table.c.execution_id)
        if after is not None:
            asked = asked.where(table.c.at > moment(after))
        return self._all(to_fill, asked)

    def positions(self) -> dict[str, Decimal]:
        """Return signed shares by symbol; a name that is not held is missing."""
        table = schema.positions
        return dict(self._all(to_position, select(table).order_by(table.c.symbol)))

    def cash(self) -> Decimal | None:
        """Return the cash as fills and activities explain it; None before the first comparison."""
        row = self._first(select(schema.cash.c.amount))
        return None if row is None else Decimal(row["amount"])

    def activities(self, after: date) -> list[Activity]:
        """Return what changed the account beside fills, after a day, oldest first."""
        table = schema.activities
        asked = select(table).where(table.c.day > after.isoformat())
        return self._all(to_activity, asked.order_by(table.c.day, table.c.id))

    def last_account(self) -> StoredAccount | None:
        """Return the last snapshot of the account."""
        found = self.accounts(1)
        return found[0] if found else None

    def accounts(self, count: int) -> list[StoredAccount]:
        """Return the last snapshots of the account, newest first."""
        table = schema.accounts
        asked = select(table).order_by(table.c.id.desc()).limit(count)
        return self._all(to_account, asked)

    def latch(self) -> Latch:
        """Return the last change of the latch; a ledger that was never started is not armed."""
        table = schema.latch
        found = self._one(to_latch, select(table).order_by(table.c.id.desc()).limit(1))
        return NEVER if found is None else found

    def latch_history(self) -> list[Latch]:
        """Return every change of the latch, oldest first."""
        table = schema.latch
        return self._all(to_latch, select(table).order_by(table.c.id))

    def permit(self) -> PermitRow | None:
        """Return the permit that is kept here, expired or not."""
        table = schema.permits
        columns = (table.c.epoch, table.c.boot, table.c.expires_ns, table.c.ttl_ms)
        return self._one(lambda row: PermitRow(**row), select(*columns))

    def limits(self) -> StoredLimits | None:
        """Return the newest version of the limits."""
        table = schema.limits
        return self._one(to_limits, select(table).order_by(table.c.version.desc()).limit(1))

    def limits_history(self) -> list[StoredLimits]:
        """Return every version of the limits, oldest first."""
        table = schema.limits
        return self._all(to_limits, select(table).order_by(table.c.version))

    def rebalances(self, session: date) -> list[Rebalance]:
        """Return the rebalancing log of a session, oldest first."""
        table = schema.rebalances
        asked = select(table).where(table.c.session == session.isoformat()).order_by(table.c.id)
        return self._all(to_rebalance, asked)

    def rebalance_of(self, decision_id: str) -> Rebalance | None:
        """Return the entry of the rebalancing log that was made with a decision."""
        table = schema.rebalances
        asked = select(table).where(table.c.decision_id == decision_id).order_by(table.c.id)
        return self._one(to_rebalance, asked.limit(1))

    def regime(self, day: date) -> str | None:
        """Return the market's regime of a day."""
        table = schema.regimes
        row = self._first(select(table).where(table.c.day == day.isoformat()))
        return None if row is None else str(row["name"])

    def performance(self, strategy: str) -> list[Performance]:
        """Return the days of a strategy, oldest first."""
        table = schema.performance
        asked = select(table).where(table.c.strategy == strategy).order_by(table.c.day)
        return self._all(to_performance, asked)


def traded_notional(order: StoredOrder) -> Decimal:
    """Return what an order has traded, or may still trade: account currency, >= 0.

    A fill may be reported later than the end of its order: where the two disagree, the larger
    counts.
    """
    price = order.limit_price if order.limit_price is not None else order.reference_price
    if order.state in (OrderState.dropped, OrderState.refused):
        return _NOTHING
    paid = order.average_price if order.average_price is not None else price
    if order.state in (OrderState.cancelled, OrderState.expired):
        return order.filled * paid
    if order.state is OrderState.partly_done:
        return order.filled * paid if order.filled else order.quantity * price
    rest = max(order.quantity - order.filled, _NOTHING)
    return order.filled * paid + rest * price


def _between(column: ColumnElement[str], first: date, last: date) -> ColumnElement[bool]:
    return column.between(first.isoformat(), last.isoformat())
