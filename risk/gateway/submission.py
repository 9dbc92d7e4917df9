"""A decision comes in: judged, planned, and made durable with all its orders or not at all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import Enum
from hashlib import sha256

from risk.checks.judge import judge_basket, judge_decision, judge_gate
from risk.gateway import plan_log
from risk.gateway.alarms import Alarm, alarm
from risk.gateway.canonical import canonical
from risk.gateway.execution import ExecutionSettings
from risk.gateway.ledger import Ledger
from risk.gateway.limits import GatewayLimits
from risk.gateway.limits_in_force import LimitsInForce
from risk.gateway.observer import Observer
from risk.gateway.planner import Carried, plan
from risk.gateway.quality import Quality, qualities
from risk.gateway.reading import Reading
from risk.gateway.records import Decision, OrderState
from risk.gateway.replay import order_record, state_record
from risk.gateway.state import GatewayState, ProposedOrder
from risk.gateway.stored import EXITS, DecisionState, StoredDecision, StoredOrder
from risk.gateway.strategist import Strategist
from risk.gateway.strategy import Adjusted, Change
from risk.gateway.verdict import ReasonCode, Scope, Verdict, Violation
from risk.gateway.writer import Conflict, Writer

NO_MODEL = "0" * 64  # what stands for the artefact of the gateway's own decisions
_UNKNOWN_DAY = Verdict(
    (Violation(ReasonCode.state_missing, "strategy", "the last close", "missing", ""),)
)


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
        qualities: how well the orders were carried out, one each and in their order.
        carried: what the limits of its day leave for the next session.
        changes: what the strategy's rules took of its weights.
    """

    decision_id: str
    state: DecisionState
    reasons: tuple[str, ...]
    verdict: Verdict | None
    orders: tuple[StoredOrder, ...]
    qualities: tuple[Quality, ...]
    carried: tuple[Carried, ...]
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """A decision and what was made of it, before anything is durable.

    Args:
        decision: as it was asked.
        mode: as it was asked, or `stored.EXITS`.
        received: UTC.
        state: that it was judged with.
        verdict: on it and on its basket.
        orders: towards it.
        carried: what they leave.
        changes: what the strategy's rules took of its weights.
    """

    decision: Decision
    mode: str
    received: datetime
    state: GatewayState
    verdict: Verdict
    orders: tuple[ProposedOrder, ...]
    carried: tuple[Carried, ...]
    changes: tuple[Change, ...]


class Submission:
    """Takes decisions in.

    Args:
        ledger: which this process has taken over.
        epoch: of that.
        observer: of broker, ledger and market.
        limits: in force.
        execution: how orders are placed.
        clock: UTC, the one that sessions follow.
        strategist: with the strategy's rules; None leaves decisions as they come.
    """

    def __init__(
        self,
        ledger: Ledger,
        epoch: int,
        observer: Observer,
        limits: LimitsInForce,
        execution: ExecutionSettings,
        clock: Callable[[], datetime],
        strategist: Strategist | None,
    ) -> None:
        self._ledger, self._epoch, self._observer = ledger, epoch, observer
        self._limits, self._execution, self._clock = limits, execution, clock
        self._strategist = strategist

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

    def take(
        self, decision: Decision, mode: Mode, received: datetime, reading: Reading | None
    ) -> Answer:
        """Judge a new decision, and make it and its orders durable.

        Args:
            decision: that was not taken before.
            mode: that it is for.
            received: UTC.
            reading: of the broker, a moment ago; None asks it.

        Raises:
            LedgerFailed, StaleEpoch: if it could not be made durable; then nothing is sent.
        """
        judged = self._judged(decision, mode, received, reading)
        self._make_durable(judged)
        stored = self._ledger.decision(decision.id)
        assert stored is not None, "it was recorded a moment ago"
        answer = replace(self._answer(stored), verdict=judged.verdict)
        if mode is Mode.dry_run and judged.verdict.allowed:  # shown once, and kept nowhere
            intents = tuple(self._intent(order, decision) for order in judged.orders)
            shown = tuple(qualities(self._ledger, intents))
            answer = replace(answer, orders=intents, qualities=shown)
        return answer

    def answer(self, decision_id: str) -> Answer | None:
        """Return what came of a decision so far; None for an unknown one."""
        stored = self._ledger.decision(decision_id)
        return None if stored is None else self._answer(stored)

    def take_exits(self, received: datetime) -> bool:
        """Leave positions as the strategy's rules want it, in a session without a decision.

        Returns:
            True once nothing is left to be decided in this session; False to be asked again.

        Raises:
            LedgerFailed, StaleEpoch: if it could not be made durable; then nothing is sent.
        """
        if self._strategist is None:
            return True
        state = replace(self._observer.look(self._limits.now), reducing=True)
        gate = _without_exposure(judge_gate(state, self._limits.now))
        left = None if not gate.allowed else self._strategist.exits(state)
        if left is None:
            alarm(Alarm.exits_wait, "; ".join(codes(gate)) or "the last close is not known")
            return False
        if not left.changes:
            return True
        decision = exits_decision(state, left)
        known = self._ledger.decision(decision.id)
        if known is not None:  # whoever may allocate could have taken the id
            alarm(Alarm.exits_wait, f"decision {decision.id} is known already")
            return True
        judged = self._planned(decision, EXITS, received, state, gate, left)
        if not (judged.verdict.allowed and judged.orders):
            held = [f"{one.symbol}: {one.reason}" for one in judged.carried]
            alarm(Alarm.exits_wait, "; ".join([*codes(judged.verdict), *held]))
            return False
        self._make_durable(judged)
        return True

    def _judged(
        self, decision: Decision, mode: Mode, received: datetime, reading: Reading | None
    ) -> Judged:
        limits = self._limits.now
        state = self._observer.look(limits, decision, received, reading=reading)
        if self._strategist is not None:
            state = self._strategist.ramped(state, decision.model_sha256)
        verdict = _joined(
            _without_exposure(judge_gate(state, limits)),
            judge_decision(state, decision, limits),
            _mode_fits(mode, state),
        )
        if not verdict.allowed:
            return Judged(decision, mode.value, received, state, verdict, (), (), ())
        left: Adjusted | None = Adjusted(dict(decision.weights), ())
        if self._strategist is not None:
            left = self._strategist.adjust(decision.weights, state)
        if left is None:
            return Judged(decision, mode.value, received, state, _UNKNOWN_DAY, (), (), ())
        return self._planned(decision, mode.value, received, state, verdict, left)

    def _planned(
        self,
        decision: Decision,
        mode: str,
        received: datetime,
        state: GatewayState,
        verdict: Verdict,
        left: Adjusted,
    ) -> Judged:
        """Plan towards what the strategy's rules have left of a decision, and judge the basket."""
        limits = self._limits.now
        planned = plan(replace(decision, weights=left.weights), state, limits, self._execution)
        whole = _joined(verdict, _basket(state, decision, planned.orders, limits))
        return Judged(
            decision, mode, received, state, whole, planned.orders, planned.carried, left.changes
        )

    def _make_durable(self, judged: Judged) -> None:
        with self._ledger.writing(self._epoch) as writer:
            self._keep(writer, judged)
        if judged.mode == Mode.dry_run.value:
            return
        if not judged.verdict.allowed:
            alarm(Alarm.refused, f"{judged.decision.id[:12]}: {'; '.join(codes(judged.verdict))}")
        elif judged.changes:
            alarm(Alarm.rule_hit, "; ".join(f"{one.symbol}: {one.rule}" for one in judged.changes))

    def _keep(self, writer: Writer, judged: Judged) -> None:
        """Write a decision, its verdict and all its intents."""
        decision, orders = judged.decision, judged.orders
        writer.insert_decision(decision, judged.mode, judged.received)
        writer.audit(
            "judged",
            "gateway",
            {
                "decision": decision.id,
                "limits": self._limits.now.version,
                "state": state_record(judged.state),
                "changes": plan_log.change_records(judged.changes),
                "orders": [order_record(order) for order in orders],
                "verdict": judged.verdict.record(),
            },
            model=decision.model_sha256,
        )
        if not judged.verdict.allowed:
            reasons = codes(judged.verdict)
            writer.set_decision(decision.id, DecisionState.refused, reasons)
            return
        sending = judged.mode != Mode.dry_run.value
        if sending:
            writer.insert_orders([self._intent(order, decision) for order in orders])
            if self._strategist is not None:
                self._strategist.remember(writer, judged.changes)
        writer.set_decision(decision.id, DecisionState.accepted)
        session = judged.received.date()
        planned = plan_log.Planned(judged.carried, judged.changes)
        entry = plan_log.entry(judged.mode, orders, planned)
        writer.log_rebalance(session, decision.id, entry, judged.received)
        if not (sending and orders):
            writer.set_decision(decision.id, DecisionState.done)

    def _answer(self, stored: StoredDecision) -> Answer:
        orders = tuple(self._ledger.orders(decision_id=stored.decision.id))
        planned = plan_log.read(self._ledger.rebalance_of(stored.decision.id))
        return Answer(
            decision_id=stored.decision.id,
            state=stored.state,
            reasons=stored.reasons,
            verdict=None,
            orders=orders,
            qualities=tuple(qualities(self._ledger, orders)),
            carried=planned.carried,
            changes=planned.changes,
        )

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


def exits_decision(state: GatewayState, left: Adjusted) -> Decision:
    """Return the gateway's own decision of a session: what is held, less what the rules take.

    The id depends on account and session alone, so a session has one such decision at most.
    """
    assert state.account is not None and state.hours is not None, "judged to be known"
    assert state.previous_session is not None, "judged to be known"
    session = state.hours.session.isoformat()
    named = canonical({"account": state.account.id, "session": session, "for": EXITS})
    return Decision(
        id=sha256(named.encode()).hexdigest(),
        account=state.account.id,
        as_of=state.previous_session,
        expires_at=state.hours.close,
        model_sha256=NO_MODEL,
        weights=left.weights,
        agents={},
        body_sha256=sha256(canonical(left.weights).encode()).hexdigest(),
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
