"""Durable orders on their way: followed at the broker, judged once more, sent, ended."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from risk.checks.judge import judge_order
from risk.gateway.broker import BrokerError
from risk.gateway.courier import Courier, Sent
from risk.gateway.execution import ExecutionSettings
from risk.gateway.ledger import Ledger
from risk.gateway.limits_in_force import LimitsInForce
from risk.gateway.observer import Observer
from risk.gateway.quality import arrival_of
from risk.gateway.records import TERMINAL, OrderRequest, OrderState, Side
from risk.gateway.replay import order_record, state_record
from risk.gateway.state import GatewayState, ProposedOrder
from risk.gateway.stored import EXITS, DecisionState, StoredDecision, StoredOrder
from risk.gateway.strategist import Strategist
from risk.gateway.submission import codes
from risk.gateway.verdict import Effect, Verdict
from risk.gateway.verify import VERDICT
from risk.gateway.writer import Halted

logger = logging.getLogger(__name__)

AFTER_SESSION = timedelta(minutes=15)  # for a broker that shows an order late
PATIENT = frozenset({Effect.wait, Effect.halt})
ALIVE = (OrderState.in_flight, OrderState.unknown, OrderState.working)


class Sender:
    """Moves the orders of accepted decisions on.

    Args:
        ledger: which this process has taken over.
        epoch: of that.
        observer: of broker, ledger and market.
        courier: to the broker.
        limits: in force.
        execution: how orders are placed.
        clock: UTC, the one that sessions follow.
        strategist: with the ramp of each policy; None where nothing is ramped.
    """

    def __init__(
        self,
        ledger: Ledger,
        epoch: int,
        observer: Observer,
        courier: Courier,
        limits: LimitsInForce,
        execution: ExecutionSettings,
        clock: Callable[[], datetime],
        strategist: Strategist | None,
    ) -> None:
        self._ledger, self._epoch, self._observer = ledger, epoch, observer
        self._courier, self._limits = courier, limits
        self._execution, self._clock, self._strategist = execution, clock, strategist

    def follow(self) -> None:
        """Ask the broker about every order that it has or may have."""
        for order in self._ledger.orders(states=ALIVE):
            try:
                if order.state in (OrderState.in_flight, OrderState.unknown):
                    if self._is_over(order):
                        self._courier.give_up(order)
                    else:
                        self._courier.resolve(order)
                elif order.state is OrderState.working:
                    self._courier.refresh(order)
            except BrokerError as error:
                logger.warning("order %s: %s", order.client_order_id, error)

    def advance(self) -> None:
        """Send what may be sent now of every accepted decision."""
        for stored in self._ledger.accepted():
            self._advance(stored, self._ledger.orders(decision_id=stored.decision.id))

    def withdraw(self, why: str) -> None:
        """Drop what was not sent, and ask for the end of every order of ours that the broker has.

        An order that was on its way while all were cancelled arrives after that, and whoever arms
        again wants none of the decisions from before.
        """
        for order in self._ledger.orders(states=(OrderState.intent, OrderState.working)):
            if order.state is OrderState.intent:
                self._courier.drop(order, why)
            else:
                self._courier.cancel(order)

    def _is_over(self, order: StoredOrder) -> bool:
        """Return whether the session is over in which an order had to end."""
        stored = self._ledger.decision(order.decision_id)
        return stored is None or self._clock() > self._closes(stored) + AFTER_SESSION

    def _closes(self, stored: StoredDecision) -> datetime:
        """Return the end of the session in which a decision was accepted: its slices may use it."""
        hours = self._observer.hours(stored.received_at)
        return stored.decision.expires_at if hours is None else hours.close

    def _advance(self, stored: StoredDecision, orders: Sequence[StoredOrder]) -> None:
        """Send what may be sent of one decision: sells first, buys once the sells have ended."""
        if all(order.state in TERMINAL for order in orders):
            with self._ledger.writing(self._epoch) as writer:
                writer.set_decision(stored.decision.id, DecisionState.done)
            return
        sells_done = all(o.state in TERMINAL for o in orders if o.side is Side.sell)
        for order in orders:
            if order.state not in (OrderState.intent, OrderState.unknown):
                continue
            if order.side is Side.buy and not sells_done:
                continue
            if not self._send_one(stored, order, orders):
                return

    def _send_one(
        self, stored: StoredDecision, order: StoredOrder, orders: Sequence[StoredOrder]
    ) -> bool:
        """Judge one order again and send it; return whether the next one may be tried now."""
        now, closes = self._clock(), self._closes(stored)
        proposed = self._proposed(order, orders)
        if now < proposed.send_after:
            return True
        state = self._observer.look(
            self._limits.now, stored.decision, stored.received_at, sending=order.symbol
        )
        if stored.mode == EXITS:
            state = replace(state, reducing=True)
        elif self._strategist is not None:
            state = self._strategist.ramped(state, stored.decision.model_sha256)
        if order.state is OrderState.unknown:  # it may be out already: only the same id is safe
            state = replace(
                state, used_ids=(state.used_ids or frozenset()) - {order.client_order_id}
            )
        verdict = judge_order(state, proposed, self._limits.now)
        self._audit_verdict(state, proposed, verdict, stored.decision.model_sha256)
        if verdict.allowed and now <= closes:
            self._observer.memory.messages.append(now)
            try:
                attempt = self._courier.send(order, arrival_of(state, order))
            except Halted as error:
                logger.warning("%s", error)
                return False
            return attempt.outcome is not Sent.wait
        if order.state is OrderState.unknown:
            return True  # it is asked for again until the broker says what it is
        patient = {one.code.effect for one in verdict.violations} <= PATIENT
        if now > closes or not patient:
            self._courier.drop(order, "; ".join(codes(verdict)) or "session_ended")
        return not patient

    def _proposed(self, order: StoredOrder, orders: Sequence[StoredOrder]) -> ProposedOrder:
        siblings = sum(o.symbol == order.symbol and o.side is order.side for o in orders)
        request = OrderRequest(
            order.client_order_id, order.symbol, order.side, order.quantity, order.limit_price
        )
        return ProposedOrder(
            request=request,
            decision_id=order.decision_id,
            slice=order.slice,
            slices=siblings,
            send_after=order.created_at
            + timedelta(seconds=order.slice * self._execution.slice_interval_s),
            reference_price=order.reference_price,
        )

    def _audit_verdict(
        self, state: GatewayState, order: ProposedOrder, verdict: Verdict, model: str
    ) -> None:
        inputs = {
            "state": state_record(state),
            "order": order_record(order),
            "limits": self._limits.now.record(),
        }
        with self._ledger.writing(self._epoch) as writer:
            writer.audit(
                VERDICT, "gateway", {"inputs": inputs, "verdict": verdict.record()}, model=model
            )
