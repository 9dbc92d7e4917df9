"""The gateway's engine: a decision comes in, is judged, made durable, sent, followed and booked.

Everything that may not be lost is on the disk before it is acted on, so the engine can be killed
anywhere: `recover` and `step` go on from what the ledger says. Nothing here decides what is
allowed; `risk.checks` does. One thread at a time: every method takes the same turn.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any

from pydantic import TypeAdapter

from risk.checks.judge import (
    judge_arming,
    judge_basket,
    judge_decision,
    judge_gate,
    judge_limits,
    judge_order,
    trips,
)
from risk.gateway.broker import Broker, BrokerError
from risk.gateway.canonical import canonical
from risk.gateway.courier import Courier, Sent
from risk.gateway.execution import ExecutionSettings
from risk.gateway.latch import arm
from risk.gateway.ledger import Ledger
from risk.gateway.limits import GatewayLimits
from risk.gateway.observer import Observer
from risk.gateway.planner import Carried, plan
from risk.gateway.records import TERMINAL, Decision, Fill, OrderRequest, OrderState, Side
from risk.gateway.state import GatewayState, ProposedOrder
from risk.gateway.stored import DecisionState, Latch, StoredDecision, StoredOrder
from risk.gateway.verdict import Effect, ReasonCode, Scope, Verdict, Violation
from risk.gateway.verify import VERDICT
from risk.gateway.writer import Conflict, Halted, Writer

logger = logging.getLogger(__name__)

AFTER_SESSION = timedelta(minutes=15)  # for a broker that shows an order late
FILLS_BACK = timedelta(days=5)  # executions are asked for again, and counted once
PATIENT = frozenset({Effect.wait, Effect.halt})
ALIVE = (OrderState.in_flight, OrderState.unknown, OrderState.working)
_STATE = TypeAdapter(GatewayState)
_ORDER = TypeAdapter(ProposedOrder)


class Mode(Enum):
    """What a decision is for."""

    dry_run = "dry_run"  # judged and planned; nothing is sent
    paper = "paper"  # only where the broker itself says that the account is paper
    live = "live"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a decision so far.

    Args:
        decision_id: of the decision.
        state: how far it has come.
        reasons: why it was refused, by their codes.
        verdict: with every violation; None for a decision that was answered before.
        orders: of it; of a dry run what would be sent, in its first answer alone.
        carried: what today's limits leave for the next session.
    """

    decision_id: str
    state: DecisionState
    reasons: tuple[str, ...]
    verdict: Verdict | None
    orders: tuple[StoredOrder, ...]
    carried: tuple[Carried, ...]


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """How ledger and broker compare.

    Args:
        at: UTC.
        drifted: symbol -> (shares by our fills, shares at the broker), where they differ.
        foreign: client order ids of the broker's open orders that no intent explains.
        known: the broker could be read; if not, nothing above means anything.
    """

    at: datetime
    drifted: Mapping[str, tuple[Decimal, Decimal]]
    foreign: frozenset[str]
    known: bool = True

    @property
    def clean(self) -> bool:
        """Return whether they were compared, and nothing differs."""
        return self.known and not self.drifted and not self.foreign


class Gateway:
    """One account's only way to its broker.

    Args:
        broker: of the account.
        ledger: which this process has taken over.
        epoch: of that.
        observer: of broker, ledger and market.
        limits: in force.
        execution: how orders are placed.
        clock: UTC, the one that sessions follow.
    """

    def __init__(
        self,
        broker: Broker,
        ledger: Ledger,
        epoch: int,
        observer: Observer,
        limits: GatewayLimits,
        execution: ExecutionSettings,
        clock: Callable[[], datetime],
    ) -> None:
        self._broker, self._ledger, self._epoch = broker, ledger, epoch
        self._observer, self._limits, self._execution = observer, limits, execution
        self._clock = clock
        self._courier = Courier(broker, ledger, epoch, clock)
        self._turn = threading.RLock()

    def submit(self, decision: Decision, mode: Mode) -> Answer:
        """Judge a decision and make its orders durable; the same one again gets the same answer.

        Raises:
            Conflict: if another body is known under its id, or it was asked for in another mode.
            LedgerFailed, StaleEpoch: if it could not be made durable; then nothing is sent.
        """
        with self._turn:
            known = self._ledger.decision(decision.id)
            if known is not None:
                return self._answered(known, decision, mode)
            received = self._clock()
            self.reconcile()
            state = self._observer.look(self._limits, decision, received)
            verdict = _joined(
                _without_exposure(judge_gate(state, self._limits)),
                judge_decision(state, decision, self._limits),
                _mode_fits(mode, state),
            )
            orders: tuple[ProposedOrder, ...] = ()
            carried: tuple[Carried, ...] = ()
            if verdict.allowed:
                planned = plan(decision, state, self._limits, self._execution)
                orders, carried = planned.orders, planned.carried
            if orders:
                names = len({*decision.weights, *(state.positions or {})})
                verdict = _joined(verdict, judge_basket(state, orders, names, self._limits))
            self._record(decision, mode, received, state, verdict, orders, carried)
            stored = self._ledger.decision(decision.id)
            assert stored is not None, "it was recorded a moment ago"
            answer = replace(self._answer(stored), verdict=verdict, carried=carried)
            if mode is Mode.dry_run and verdict.allowed:  # shown once, and kept nowhere
                intents = tuple(self._intent(order, decision) for order in orders)
                answer = replace(answer, orders=intents)
            return answer

    def answer(self, decision_id: str) -> Answer | None:
        """Return what came of a decision so far; None for an unknown one."""
        stored = self._ledger.decision(decision_id)
        return None if stored is None else self._answer(stored)

    def recover(self) -> Reconciliation:
        """Learn after a start what became of everything that was under way; nothing is sent.

        Calling it again, or dying in it, changes nothing that a further call would not change.
        """
        with self._turn:
            self._follow()
            for _ in range(self._limits.clean_reads):
                found = self.reconcile()
            return found

    def step(self) -> None:
        """Learn what has happened, then send what may be sent now; called again and again."""
        with self._turn:
            self._follow()
            self.reconcile()
            self._stop_if_tripped()
            for decision_id, orders in self._open_decisions():
                self._advance(decision_id, orders)

    def reconcile(self) -> Reconciliation:
        """Compare ledger and broker; what cannot be compared stays unknown, and stops trading.

        On the very first look, before any order of ours, the account is taken as it is.

        Raises:
            BrokerError: never; an unreadable broker leaves the last comparison to grow old.
        """
        with self._turn:
            memory = self._observer.memory
            try:
                first = self._ledger.last_account() is None
                new = self._courier.book_fills(self._clock() - FILLS_BACK)
                strange = [fill for fill in new if not first and not self._explained(fill)]
                account = self._broker.account()
                held = {name: one.quantity for name, one in self._broker.positions().items()}
                foreign = self._foreign()
            except BrokerError as error:
                logger.warning("not reconciled: %s", error)
                return Reconciliation(self._clock(), {}, frozenset(), known=False)
            with self._ledger.writing(self._epoch) as writer:
                if first and not writer.orders():
                    writer.set_positions(held)
                ours = writer.positions()
                writer.add_account(account, self._clock())
            names = {name for name in {*ours, *held} if ours.get(name, 0) != held.get(name, 0)}
            drifted = {
                name: (ours.get(name, Decimal(0)), held.get(name, Decimal(0)))
                for name in sorted(names)
            }
            memory.reconciled_at = self._clock()
            memory.drifted, memory.foreign = frozenset(drifted), foreign
            if strange:  # booked, so that exposures count it; whoever arms again accepts it
                seen = ", ".join(f"{one.side.value} {one.quantity} {one.symbol}" for one in strange)
                self.kill(f"executions that no decision explains: {seen}", "gateway")
            return Reconciliation(memory.reconciled_at, drifted, foreign)

    def kill(self, reason: str, actor: str) -> None:
        """Latch, then ask for the end of every open order; what was not sent never will be.

        Raises:
            LedgerFailed: if the latch could not be tripped; the orders were cancelled all the same.
        """
        try:
            self._ledger.trip(reason, actor, self._clock())
        finally:
            self._cancel_all()
        with self._turn:
            for order in self._ledger.orders(states=(OrderState.intent,)):
                self._courier.drop(order, reason)

    def _cancel_all(self) -> None:
        try:
            self._broker.cancel_all()
        except BrokerError as error:
            logger.critical("cancel-all failed: %s", error)

    @property
    def limits(self) -> GatewayLimits:
        """Return the limits in force."""
        return self._limits

    def arm(self, typed: str, seen: Latch, actor: str) -> Verdict:
        """Arm because a person wants it, if all is known, agrees, and nothing is open.

        Args:
            typed: the account's id, as the person typed it.
            seen: the latch that the person has seen.
            actor: the person.

        Raises:
            InputError: if the latch has changed since it was seen.
            LedgerFailed, StaleEpoch: if it could not be made durable.
            BrokerError: if it is armed, but the broker goes on refusing orders as a kill asked.
        """
        with self._turn:
            self.reconcile()
            state = self._observer.look(self._limits)
            verdict = judge_arming(state, typed, self._limits)
            if verdict.allowed:
                assert state.account is not None, "judged to be known"
                arm(
                    self._ledger,
                    self._epoch,
                    state.account.id,
                    typed=typed,
                    seen=seen,
                    actor=actor,
                    at=self._clock(),
                )
                if state.account.suspended:
                    self._broker.suspend(False)
            return verdict

    def tighten(self, limits: GatewayLimits, actor: str) -> Verdict:
        """Put limits in force that allow nothing more than those before, at once and durably.

        Raises:
            LedgerFailed, StaleEpoch: if they could not be made durable; the old ones hold.
        """
        with self._turn:
            today = self._clock().date()
            verdict = judge_limits(self._limits, limits, frozenset(), today, today)
            if verdict.allowed and limits != self._limits:
                with self._ledger.writing(self._epoch) as writer:
                    keep_limits(writer, limits, actor, self._clock())
                self._limits = limits
            return verdict

    def _answered(self, known: StoredDecision, decision: Decision, mode: Mode) -> Answer:
        if known.decision.body_sha256 != decision.body_sha256 or known.mode != mode.value:
            raise Conflict(f"decision {decision.id} is known with another body or mode")
        return self._answer(known)

    def _answer(self, stored: StoredDecision) -> Answer:
        orders = tuple(self._ledger.orders(decision_id=stored.decision.id))
        return Answer(stored.decision.id, stored.state, stored.reasons, None, orders, ())

    def _record(
        self,
        decision: Decision,
        mode: Mode,
        received: datetime,
        state: GatewayState,
        verdict: Verdict,
        orders: Sequence[ProposedOrder],
        carried: Sequence[Carried],
    ) -> None:
        """Make the decision, its verdict and all its intents durable in one transaction."""
        sending = verdict.allowed and mode is not Mode.dry_run
        with self._ledger.writing(self._epoch) as writer:
            writer.insert_decision(decision, mode.value, received)
            writer.audit(
                "judged",
                "gateway",
                {
                    "decision": decision.id,
                    "limits": self._limits.version,
                    "state": state_record(state),
                    "orders": [_ORDER.dump_python(order, mode="json") for order in orders],
                    "verdict": verdict.record(),
                },
                model=decision.model_sha256,
            )
            if not verdict.allowed:
                writer.set_decision(decision.id, DecisionState.refused, _codes(verdict))
                return
            if sending:
                writer.insert_orders([self._intent(order, decision) for order in orders])
            writer.set_decision(decision.id, DecisionState.accepted)
            writer.log_rebalance(
                received.date(),
                decision.id,
                {
                    "mode": mode.value,
                    "orders": [_ORDER.dump_python(order, mode="json") for order in orders],
                    "carried": [
                        {
                            "symbol": one.symbol,
                            "side": one.side.value,
                            "notional": format(one.notional, "f"),
                            "reason": one.reason,
                        }
                        for one in carried
                    ],
                },
                received,
            )
            if not (sending and orders):
                writer.set_decision(decision.id, DecisionState.done)

    def _intent(self, order: ProposedOrder, decision: Decision) -> StoredOrder:
        request = order.request
        return StoredOrder(
            client_order_id=request.client_order_id,
            decision_id=decision.id,
            account=decision.account,
            symbol=request.symbol,
            side=request.side,
            slice=order.slice,
            quantity=request.quantity,
            limit_price=request.limit_price,
            reference_price=order.reference_price,
            state=OrderState.intent,
            broker_id=None,
            filled=Decimal(0),
            average_price=None,
            created_at=self._clock(),
            sent_at=None,
            ended_at=None,
            detail=None,
        )

    def _follow(self) -> None:
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

    def _is_over(self, order: StoredOrder) -> bool:
        """Return whether the session is over in which an order had to end."""
        stored = self._ledger.decision(order.decision_id)
        return stored is None or self._clock() > self._closes(stored) + AFTER_SESSION

    def _closes(self, stored: StoredDecision) -> datetime:
        """Return the end of the session in which a decision was accepted: its slices may use it."""
        hours = self._observer.hours(stored.received_at)
        return stored.decision.expires_at if hours is None else hours.close

    def _stop_if_tripped(self) -> None:
        state = self._observer.look(self._limits)
        found = trips(state, self._limits)
        if found and state.armed:
            self.kill("; ".join(str(one) for one in found[:3]), "gateway")

    def _open_decisions(self) -> Iterable[tuple[str, list[StoredOrder]]]:
        """Return the accepted decisions with orders that have not ended."""
        by_decision: dict[str, list[StoredOrder]] = {}
        for order in self._ledger.recent_orders(self._clock()):
            by_decision.setdefault(order.decision_id, []).append(order)
        for decision_id, orders in by_decision.items():
            stored = self._ledger.decision(decision_id)
            if stored is not None and stored.state is DecisionState.accepted:
                yield decision_id, orders

    def _advance(self, decision_id: str, orders: Sequence[StoredOrder]) -> None:
        """Send what may be sent of one decision: sells first, buys once the sells have ended."""
        stored = self._ledger.decision(decision_id)
        assert stored is not None, "its orders are in the ledger"
        if all(order.state in TERMINAL for order in orders):
            with self._ledger.writing(self._epoch) as writer:
                writer.set_decision(decision_id, DecisionState.done)
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
        state = self._observer.look(self._limits, stored.decision, stored.received_at)
        if order.state is OrderState.unknown:  # it may be out already: only the same id is safe
            state = replace(
                state, used_ids=(state.used_ids or frozenset()) - {order.client_order_id}
            )
        verdict = judge_order(state, proposed, self._limits)
        self._audit_verdict(state, proposed, verdict, stored.decision.model_sha256)
        if verdict.allowed and now <= closes:
            self._observer.memory.messages.append(now)
            try:
                attempt = self._courier.send(order)
            except Halted as error:
                logger.warning("%s", error)
                return False
            return attempt.outcome is not Sent.wait
        if order.state is OrderState.unknown:
            return True  # it is asked for again until the broker says what it is
        patient = {one.code.effect for one in verdict.violations} <= PATIENT
        if now > closes or not patient:
            self._courier.drop(order, "; ".join(_codes(verdict)) or "session_ended")
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
            "order": _ORDER.dump_python(order, mode="json"),
            "limits": self._limits.record(),
        }
        with self._ledger.writing(self._epoch) as writer:
            writer.audit(
                VERDICT, "gateway", {"inputs": inputs, "verdict": verdict.record()}, model=model
            )

    def _explained(self, fill: Fill) -> bool:
        """Return whether an execution is one of an order of ours."""
        known = fill.client_order_id
        return known is not None and self._ledger.order(known) is not None

    def _foreign(self) -> frozenset[str]:
        known = {one.client_order_id for one in self._ledger.recent_orders(self._clock())}
        return frozenset(
            found.client_order_id
            for found in self._broker.open_orders()
            if found.client_order_id not in known
        )


def keep_limits(writer: Writer, limits: GatewayLimits, actor: str, at: datetime) -> None:
    """Keep limits as the next version."""
    last = writer.limits()
    version = 1 if last is None else last.version + 1
    writer.put_limits(version, canonical(limits.record()), actor, at)


def state_record(state: GatewayState) -> dict[str, Any]:
    """Return a state as JSON types; `state_from` reads it."""
    record: dict[str, Any] = _STATE.dump_python(replace(state, parents=None), mode="json")
    record["parents"] = [
        [decision, symbol, side.value, format(shares, "f")]
        for (decision, symbol, side), shares in sorted(
            (state.parents or {}).items(), key=lambda item: str(item[0])
        )
    ]
    return record


def state_from(record: Mapping[str, Any]) -> GatewayState:
    """Return what `state_record` wrote."""
    parents = {
        (decision, symbol, Side(side)): Decimal(shares)
        for decision, symbol, side, shares in record["parents"]
    }
    read: GatewayState = _STATE.validate_python({**record, "parents": None})
    return replace(read, parents=parents)


def judged_again(inputs: Mapping[str, Any]) -> dict[str, object]:
    """Return the verdict on an order from what was logged of it, for the verification."""
    state = state_from(inputs["state"])
    order: ProposedOrder = _ORDER.validate_python(inputs["order"])
    return judge_order(state, order, GatewayLimits(**inputs["limits"])).record()


def _mode_fits(mode: Mode, state: GatewayState) -> Verdict:
    """Refuse paper decisions on an account that is not paper."""
    if mode is not Mode.paper or (state.account is not None and state.account.paper is True):
        return Verdict(())
    return Verdict((Violation(ReasonCode.account_mismatch, "mode", "paper", "not paper", ""),))


def _without_exposure(verdict: Verdict) -> Verdict:
    """Leave to the basket what stops only orders that add risk: exits pass after a bad day."""
    return Verdict(tuple(one for one in verdict.violations if one.code.scope is not Scope.exposure))


def _joined(*verdicts: Verdict) -> Verdict:
    return Verdict(tuple(one for verdict in verdicts for one in verdict.violations))


def _codes(verdict: Verdict) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one.code.name for one in verdict.violations))
