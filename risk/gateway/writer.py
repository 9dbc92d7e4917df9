"""One transaction of the ledger: every change, with its record in the audit chain."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import Table, delete, insert, select

from risk.gateway import schema
from risk.gateway.canonical import canonical, moment, number
from risk.gateway.records import TERMINAL, Account, Activity, Decision, Fill, OrderState, Side
from risk.gateway.rows import (
    ARMED,
    STARTED,
    TRIPPED,
    Row,
    account_body,
    activity_row,
    arrival_row,
    decision_row,
    fill_row,
    order_row,
    to_fill,
    to_order,
    words,
)
from risk.gateway.stored import (
    LEGAL,
    LEGAL_DECISION,
    Arrival,
    DecisionState,
    PermitRow,
    StoredOrder,
)
from risk.gateway.strategy_writer import StrategyWriter


class Halted(Exception):
    """The latch is not armed, so no order may be put in flight."""


class Conflict(ValueError):
    """Something is known under the same id with other contents."""


class Writer(StrategyWriter):
    """The changes of one transaction, and the questions as it sees them.

    Every method raises `LedgerFailed` where the database fails; nothing of the transaction is kept
    then, nor after any other exception.
    """

    def insert_decision(self, decision: Decision, mode: str, received_at: datetime) -> bool:
        """Keep a decision; False if it is known already.

        Raises:
            Conflict: if another body is known under its id.
        """
        known = self.decision(decision.id)
        if known is not None:
            if known.decision.body_sha256 != decision.body_sha256 or known.mode != mode:
                raise Conflict(f"decision {decision.id} is known with another body")
            return False
        row = decision_row(decision, mode, received_at)
        self._insert(schema.decisions, row, model=decision.model_sha256)
        return True

    def set_decision(
        self, decision_id: str, state: DecisionState, reasons: Sequence[str] = ()
    ) -> None:
        """Move a decision on.

        Raises:
            ValueError: if it is unknown, or may not go there from where it is.
        """
        known = self.decision(decision_id)
        if known is None:
            raise ValueError(f"decision {decision_id} is unknown")
        if state not in LEGAL_DECISION[known.state]:
            raise ValueError(f"decision {decision_id} cannot go {known.state.value}->{state.value}")
        changed: Row = {"state": state.value, "reasons": canonical([words(r) for r in reasons])}
        model = known.decision.model_sha256
        self._update(schema.decisions, {"id": decision_id}, changed, model=model)

    def insert_orders(self, orders: Sequence[StoredOrder]) -> None:
        """Keep new intents.

        Raises:
            ValueError: if one is no fresh intent, is there already, or has no decision.
        """
        for order in orders:
            fresh = order.state is OrderState.intent and order.filled == 0
            if not fresh or not order.quantity > 0:
                raise ValueError(f"order {order.client_order_id} is no fresh intent")
            self._insert(schema.orders, order_row(order))

    def set_order(
        self,
        client_order_id: str,
        state: OrderState,
        *,
        at: datetime,
        broker_id: str | None = None,
        detail: str | None = None,
    ) -> None:
        """Move an order on.

        From in_flight back to intent goes only an order whose every answer so far was a proven
        refusal: one that was ever unknown may be at the broker.

        Raises:
            ValueError: if the order is unknown, may not go there, or has another broker id.
            Halted: if it should go in flight and the latch is not armed. The latch is read in the
                transaction that makes the order in_flight: after a trip has been committed, no
                order begins.
        """
        order, unsure = self._order_with_doubt(client_order_id)
        self._check_move(order, state, unsure=unsure)
        if broker_id is not None and order.broker_id not in {None, broker_id}:
            raise ValueError(f"order {client_order_id} is {order.broker_id}, not {broker_id}")
        changed: Row = {"state": state.value}
        if broker_id is not None:
            changed["broker_id"] = broker_id
        if detail is not None:
            changed["detail"] = words(detail)
        if state is OrderState.in_flight and order.sent_at is None:
            changed["sent_at"] = moment(at)
        if state is OrderState.unknown:
            changed["unsure"] = 1
        if order.state not in TERMINAL or state not in TERMINAL:
            changed["ended_at"] = moment(at) if state in TERMINAL else None
        self._update(schema.orders, {"client_order_id": client_order_id}, changed)

    def _check_move(self, order: StoredOrder, state: OrderState, *, unsure: bool) -> None:
        legal = state in LEGAL[order.state]
        if order.state is OrderState.in_flight and state is OrderState.intent:
            legal = legal and not unsure
        if not legal:
            move = f"{order.state.value}->{state.value}"
            raise ValueError(f"order {order.client_order_id} cannot go {move}")
        if state is OrderState.in_flight and not self.latch().armed:
            raise Halted(f"order {order.client_order_id} is not sent: the latch is not armed")

    def set_arrival(self, arrival: Arrival) -> None:
        """Keep what the market is as an order is sent, in the place of what was kept before.

        Raises:
            ValueError: if the price is impossible.
        """
        if not arrival.price > 0:
            raise ValueError(f"order {arrival.client_order_id} cannot arrive at {arrival.price}")
        row = arrival_row(arrival)
        key: Row = {"client_order_id": arrival.client_order_id}
        if self.arrivals([arrival.client_order_id]):
            changed = {name: value for name, value in row.items() if name not in key}
            self._update(schema.arrivals, key, changed)
        else:
            self._insert(schema.arrivals, row)

    def set_accepted(self, client_order_id: str, at: datetime, ack_ms: int | None) -> None:
        """Keep when the broker took an order, once; one that never was sent from here has none.

        Args:
            client_order_id: of the order.
            at: by the broker.
            ack_ms: see `Arrival`.
        """
        known = self.arrivals([client_order_id]).get(client_order_id)
        if known is not None and known.accepted_at is None:
            changed: Row = {"ack_ms": ack_ms, "accepted_at": moment(at)}
            self._update(schema.arrivals, {"client_order_id": client_order_id}, changed)

    def add_fill(self, fill: Fill) -> bool:
        """Book a fill on its order; False if it is known already.

        A fill of an order that is not ours is kept too: the account has it.

        Raises:
            Conflict: if another fill is known under its id, or its order is of another symbol or
                side.
            ValueError: if quantity, price or commission are impossible.
        """
        table = schema.fills
        row = fill_row(fill)
        if not (fill.quantity > 0 and fill.price > 0 and fill.commission >= 0):
            raise ValueError(f"fill {fill.execution_id} is impossible: {fill}")
        same = select(table).where(table.c.execution_id == fill.execution_id)
        known = self._one(to_fill, same)
        if known is not None:
            if known != fill:
                raise Conflict(f"fill {fill.execution_id} is known with other contents")
            return False
        self._insert(table, row)
        if fill.client_order_id is not None:
            self._book(fill.client_order_id, fill.symbol, fill.side)
        return True

    def _book(self, client_order_id: str, symbol: str, side: Side) -> None:
        """Sum up the fills of an order that is ours."""
        order = self.order(client_order_id)
        if order is None:
            return
        if (order.symbol, order.side) != (symbol, side):
            raise Conflict(f"a fill of {side.value} {symbol} on order {client_order_id}")
        table = schema.fills
        fills = self._all(to_fill, select(table).where(table.c.client_order_id == client_order_id))
        filled = sum((fill.quantity for fill in fills), Decimal(0))
        paid = sum((fill.quantity * fill.price for fill in fills), Decimal(0))
        average = round(paid / filled, 8)
        changed: Row = {"filled": number(filled), "average_price": number(average)}
        self._update(schema.orders, {"client_order_id": client_order_id}, changed)

    def set_positions(self, positions: Mapping[str, Decimal]) -> None:
        """Put signed shares by symbol in the place of all before; zeros are left out."""
        table = schema.positions
        held = {name: number(shares) for name, shares in positions.items() if shares != 0}
        self._connection.execute(delete(table))
        if held:
            rows = [{"symbol": name, "quantity": shares} for name, shares in held.items()]
            self._connection.execute(insert(table), rows)
        self._record("positions.replace", self._owner, held, None)

    def set_cash(self, amount: Decimal) -> None:
        """Keep the cash as our books have it."""
        row: Row = {"id": 1, "amount": number(amount)}
        if self.cash() is None:
            self._insert(schema.cash, row)
        else:
            self._update(schema.cash, {"id": 1}, {"amount": row["amount"]})

    def add_activity(self, activity: Activity) -> bool:
        """Keep what changed the account beside fills; False if it is known already.

        What a broker says of it later is not taken: it shows as a difference of shares or cash.
        """
        table = schema.activities
        if self._first(select(table.c.id).where(table.c.id == activity.id)) is not None:
            return False
        self._insert(table, activity_row(activity))
        return True

    def add_account(self, account: Account, at: datetime) -> None:
        """Keep a snapshot of the account."""
        last = self.last_account()
        peak = account.equity if last is None else max(last.peak_equity, account.equity)
        self._insert(
            schema.accounts,
            {
                "id": self._next(schema.accounts),
                "at": moment(at),
                "body": account_body(account),
                "peak_equity": number(peak),
            },
        )

    def set_latch(self, armed: bool, reason: str, actor: str, at: datetime) -> None:
        """Arm or trip; who may arm is decided in `latch`."""
        self._latch(ARMED if armed else TRIPPED, reason, actor, at)

    def start_latch(self, at: datetime) -> None:
        """Leave the latch as a start does: not armed; a trip from before stays one."""
        if not self.latch().tripped:
            self._latch(STARTED, "the gateway has started", self._owner, at)

    def _latch(self, state: str, reason: str, actor: str, at: datetime) -> None:
        row: Row = {
            "id": self._next(schema.latch),
            "state": state,
            "reason": words(reason),
            "actor": words(actor),
            "at": moment(at),
        }
        self._insert(schema.latch, row, actor=actor)

    def put_limits(self, version: int, body: str, actor: str, at: datetime) -> None:
        """Keep a version of the limits.

        Raises:
            ValueError: if its number does not follow the last one, or the body is no JSON.
        """
        if version != self._limits_version + 1:
            last = self._limits_version
            raise ValueError(f"the limits are at version {last}, {version} does not follow")
        json.loads(body)
        row: Row = {"version": version, "body": body, "actor": words(actor), "at": moment(at)}
        self._insert(schema.limits, row, actor=actor)
        self._limits_version = version

    def log_rebalance(
        self, session: date, decision_id: str | None, payload: object, at: datetime
    ) -> None:
        """Keep an entry of the rebalancing log."""
        self._insert(
            schema.rebalances,
            {
                "id": self._next(schema.rebalances),
                "session": session.isoformat(),
                "decision_id": decision_id,
                "body": canonical(payload),
                "at": moment(at),
            },
        )

    def set_regime(self, day: date, name: str) -> None:
        """Keep the market's regime of a day, in the place of one that is there."""
        if self.regime(day) is None:
            self._insert(schema.regimes, {"day": day.isoformat(), "name": name})
        else:
            self._update(schema.regimes, {"day": day.isoformat()}, {"name": name})

    def add_performance(self, strategy: str, day: date, regime: str, returns: Decimal) -> None:
        """Keep what a strategy made of a day, as a fraction.

        Raises:
            ValueError: if that day of it is known.
        """
        row: Row = {
            "strategy": strategy,
            "day": day.isoformat(),
            "regime": regime,
            "returns": number(returns),
        }
        self._insert(schema.performance, row)

    def set_permit(self, row: PermitRow | None) -> None:
        """Put a permit in the place of the one before, or none; the one change without a record."""
        self._connection.execute(delete(schema.permits))
        if row is not None:
            self._connection.execute(insert(schema.permits), {"id": 1, **asdict(row)})

    def set_epoch(self, epoch: int, owner: str, at: datetime) -> None:
        """Take the ledger over."""
        self._epoch, self._owner = epoch, owner
        changed: Row = {"epoch": epoch, "owner": words(owner), "at": moment(at)}
        self._update(schema.fence, {"id": 1}, changed)

    def _order_with_doubt(self, client_order_id: str) -> tuple[StoredOrder, bool]:
        """Return an order, and whether it was ever unknown."""
        table = schema.orders
        asked = select(table).where(table.c.client_order_id == client_order_id)
        found = self._one(lambda row: (to_order(row), bool(row["unsure"])), asked)
        if found is None:
            raise ValueError(f"order {client_order_id} is unknown")
        return found

    def _next(self, table: Table) -> int:
        row = self._first(select(table.c.id).order_by(table.c.id.desc()).limit(1))
        return 1 if row is None else int(row["id"]) + 1
