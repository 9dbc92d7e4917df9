"""A decision comes in: judged, planned, and made durable with all its orders or not at all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import Enum

from risk.checks.judge import judge_basket, judge_decision, judge_gate
from risk.gateway.execution import ExecutionSettings
from risk.gateway.ledger import Ledger
from risk.gateway.limits import GatewayLimits
from risk.gateway.limits_in_force import LimitsInForce
from risk.gateway.observer import Observer
from risk.gateway.planner import Carried, plan
from risk.gateway.records import Decision, OrderState
from risk.gateway.replay import order_record, state_record
from risk.gateway.state import GatewayState, ProposedOrder
from risk.gateway.stored import DecisionState, StoredDecision, StoredOrder
from risk.gateway.verdict import ReasonCode, Scope, Verdict, Violation
from risk.gateway.writer import Conflict, Writer


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
class Judged:
    """A decision and what was made of it, before anything is durable.

    Args:
        decision: as it was asked.
        mode: as it was asked.
        received: UTC.
        state: that it was judged with.
        verdict: on it and on its basket.
        orders: towards it.
        carried: what they leave.
    """

    decision: Decision
    mode: Mode
    received: datetime
    state: GatewayState
    verdict: Verdict
    orders: tuple[ProposedOrder, ...]
    carried: tuple[Carried, ...]


class Submission:
    """Takes decisions in.

    Args:
        ledger: which this process has taken over.
        epoch: of that.
        observer: of broker, ledger and market.
        limits: in force.
        execution: how orders are placed.
        clock: UTC, the one that sessions follow.
    """

    def __init__(
        self,
        ledger: Ledger,
        epoch: int,
        observer: Observer,
        limits: LimitsInForce,
        execution: ExecutionSettings,
        clock: Callable[[], datetime],
    ) -> None:
        self._ledger, self._epoch, self._observer = ledger, epoch, observer
        self._limits, self._execution, self._clock = limits, execution, clock

    def known(self, decision: Decision, mode: Mode) -> Answer | None:
        """Return what came of a decision that was taken before; None for a new one.

        Raises:
            Conflict: if another body is known under its id, or it was asked for in another mode.
        """
        known = self._ledger.decision(decision.id)
        if known is None:
            return None
        if known.decision.body_sha256 != decision.body_sha256 or known.mode != mode.value:
            raise Conflict(f"decision {decision.id} is known with another body or mode")
        return self._answer(known)

    def take(self, decision: Decision, mode: Mode, received: datetime) -> Answer:
        """Judge a new decision, and make it and its orders durable.

        Raises:
            LedgerFailed, StaleEpoch: if it could not be made durable; then nothing is sent.
        """
        judged = self._judged(decision, mode, received)
        with self._ledger.writing(self._epoch) as writer:
            self._keep(writer, judged)
        stored = self._ledger.decision(decision.id)
        assert stored is not None, "it was recorded a moment ago"
        answer = self._answer(stored)
        answer = replace(answer, verdict=judged.verdict, carried=judged.carried)
        if mode is Mode.dry_run and judged.verdict.allowed:  # shown once, and kept nowhere
            intents = tuple(self._intent(order, decision) for order in judged.orders)
            answer = replace(answer, orders=intents)
        return answer

    def answer(self, decision_id: str) -> Answer | None:
        """Return what came of a decision so far; None for an unknown one."""
        stored = self._ledger.decision(decision_id)
        return None if stored is None else self._answer(stored)

    def _judged(self, decision: Decision, mode: Mode, received: datetime) -> Judged:
        limits = self._limits.now
        state = self._observer.look(limits, decision, received)
        verdict = _joined(
            _without_exposure(judge_gate(state, limits)),
            judge_decision(state, decision, limits),
            _mode_fits(mode, state),
        )
        if not verdict.allowed:
            return Judged(decision, mode, received, state, verdict, (), ())
        planned = plan(decision, state, limits, self._execution)
        verdict = _joined(verdict, _basket(state, decision, planned.orders, limits))
        return Judged(decision, mode, received, state, verdict, planned.orders, planned.carried)

    def _keep(self, writer: Writer, judged: Judged) -> None:
        """Write a decision, its verdict and all its intents."""
        decision, orders = judged.decision, judged.orders
        writer.insert_decision(decision, judged.mode.value, judged.received)
        writer.audit(
            "judged",
            "gateway",
            {
                "decision": decision.id,
                "limits": self._limits.now.version,
                "state": state_record(judged.state),
                "orders": [order_record(order) for order in orders],
                "verdict": judged.verdict.record(),
            },
            model=decision.model_sha256,
        )
        if not judged.verdict.allowed:
            reasons = codes(judged.verdict)
            writer.set_decision(decision.id, DecisionState.refused, reasons)
            return
        sending = judged.mode is not Mode.dry_run
        if sending:
            writer.insert_orders([self._intent(order, decision) for order in orders])
        writer.set_decision(decision.id, DecisionState.accepted)
        session = judged.received.date()
        writer.log_rebalance(session, decision.id, _entry(judged), judged.received)
        if not (sending and orders):
            writer.set_decision(decision.id, DecisionState.done)

    def _answer(self, stored: StoredDecision) -> Answer:
        orders = tuple(self._ledger.orders(decision_id=stored.decision.id))
        return Answer(stored.decision.id, stored.state, stored.reasons, None, orders, ())

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


def codes(verdict: Verdict) -> tuple[str, ...]:
    """Return the names of what speaks against something, each once."""
    return tuple(dict.fromkeys(one.code.name for one in verdict.violations))


def _basket(
    state: GatewayState,
    decision: Decision,
    orders: Sequence[ProposedOrder],
    limits: GatewayLimits,
) -> Verdict:
    if not orders:
        return Verdict(())
    names = len({*decision.weights, *(state.positions or {})})
    return judge_basket(state, orders, names, limits)


def _entry(judged: Judged) -> dict[str, object]:
    """Return what the rebalancing log says of a decision."""
    return {
        "mode": judged.mode.value,
        "orders": [order_record(order) for order in judged.orders],
        "carried": [
            {
                "symbol": one.symbol,
                "side": one.side.value,
                "notional": format(one.notional, "f"),
                "reason": one.reason,
            }
            for one in judged.carried
        ],
    }


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
