"""The gateway's engine: a decision comes in, is judged, made durable, sent, followed and booked.

Everything that may not be lost is on the disk before it is acted on, so the engine can be killed
anywhere: `recover` and `step` go on from what the ledger says. Nothing here decides what is
allowed; `risk.checks` does. One thread at a time: every method takes the same turn.
"""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from market.errors import InputError
from risk.checks.judge import judge_arming, trips
from risk.gateway.alarms import Alarm, alarm
from risk.gateway.broker import Broker, BrokerError
from risk.gateway.courier import Courier, seen_fills
from risk.gateway.execution import ExecutionSettings
from risk.gateway.latch import arm
from risk.gateway.ledger import Ledger
from risk.gateway.limits import GatewayLimits
from risk.gateway.limits_in_force import LimitsInForce
from risk.gateway.observer import Observer
from risk.gateway.reading import Reading
from risk.gateway.reconciling import Reconciler, Reconciliation
from risk.gateway.records import Decision, OrderState
from risk.gateway.sending import ALIVE, Sender
from risk.gateway.signing import Persons
from risk.gateway.stored import Latch
from risk.gateway.strategist import Strategist
from risk.gateway.strategy_reads import Proposal, Ramp
from risk.gateway.submission import Answer, Mode, Submission
from risk.gateway.verdict import Verdict

EXITS_AGAIN = timedelta(minutes=1)  # after exits that were not possible


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
        strategist: with the strategy's rules; None where only the controls hold.
        persons: who may sign for looser limits.
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
        strategist: Strategist | None = None,
        persons: Persons | None = None,
    ) -> None:
        self._broker, self._ledger, self._epoch = broker, ledger, epoch
        self._observer, self._clock = observer, clock
        self._limits = LimitsInForce(ledger, epoch, limits, persons or {})
        self._courier = courier = Courier(broker, ledger, epoch, clock)
        self._reconciler = Reconciler(broker, ledger, epoch, courier, observer.memory, clock)
        self._submission = Submission(
            ledger, epoch, observer, self._limits, execution, clock, strategist
        )
        self._sender = Sender(
            ledger, epoch, observer, courier, self._limits, execution, clock, strategist
        )
        self._strategist = strategist
        self._told = 0  # id of the last trip that was told
        self._exits_at: datetime | None = None  # when exits are looked for again; None is now
        self._turn = threading.RLock()

    def submit(self, decision: Decision, mode: Mode) -> Answer:
        """Judge a decision and make its orders durable; the same one again gets the same answer.

        Raises:
            Conflict: if another body is known under its id, or it was asked for in another mode.
            LedgerFailed, StaleEpoch: if it could not be made durable; then nothing is sent.
        """
        with self._turn:
            known = self._submission.known(decision, mode)
            if known is not None:
                return known
            received = self._clock()
            found = self.reconcile()
            self._roll()
            return self._submission.take(decision, mode, received, found.reading)

    def answer(self, decision_id: str) -> Answer | None:
        """Return what came of a decision so far; None for an unknown one."""
        return self._submission.answer(decision_id)

    def recover(self) -> Reconciliation:
        """Learn after a start what became of everything that was under way; nothing is sent.

        Calling it again, or dying in it, changes nothing that a further call would not change.
        """
        with self._turn:
            self._sender.follow()
            for _ in range(self._limits.now.clean_reads):
                found = self.reconcile()
            return found

    def step(self) -> None:
        """Learn what has happened, then send what may be sent now; called again and again."""
        with self._turn:
            self._sender.follow()
            found = self.reconcile()
            self._roll()
            now = self._clock()
            self._limits.begin_session(now, self._observer.hours(now))
            self._stop_if_tripped(found.reading)
            if self._tell_of_trip():
                self._sender.withdraw("the latch has tripped")
            self._leave_positions()
            self._sender.advance()

    def reconcile(self) -> Reconciliation:
        """Compare ledger and broker; what cannot be compared stays unknown, and stops trading.

        On the very first look, before any order of ours, the account is taken as it is.

        Raises:
            LedgerFailed, StaleEpoch: if what was found could not be made durable. An unreadable
                broker raises nothing: the last comparison grows old.
        """
        with self._turn:
            found = self._reconciler.compare()
            if found.strange:  # booked, so that exposures count it; whoever arms again accepts it
                seen = seen_fills(found.strange)
                alarm(Alarm.strange_fills, seen)
                self.kill(f"executions that no decision explains: {seen}", "gateway")
            return found

    def kill(self, reason: str, actor: str) -> None:
        """Latch, then ask for the end of every open order; what was not sent never will be.

        A ledger that makes the latch wait keeps the broker waiting no longer than `max_cancel_s`.

        Raises:
            LedgerFailed: if the latch could not be tripped; the orders were cancelled all the same.
        """
        overdue = threading.Timer(float(self.limits.max_cancel_s), self._cancel_all)
        overdue.daemon = True
        overdue.start()
        try:
            self._ledger.trip(reason, actor, self._clock())
        finally:
            overdue.cancel()
            self._cancel_all()  # once more where it was overdue: orders may have come since
        with self._turn:
            for order in self._ledger.orders(states=(OrderState.intent,)):
                self._courier.drop(order, reason)

    @property
    def limits(self) -> GatewayLimits:
        """Return the limits in force."""
        return self._limits.now

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
            reading = self.reconcile().reading
            state = self._observer.look(self.limits, reading=reading)
            verdict = judge_arming(state, typed, self.limits)
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

    def accept(self, typed: str, actor: str, reason: str) -> Reconciliation:
        """Take what the broker has for the beginning of our books, because a person has looked.

        Args:
            typed: the account's id, as the person typed it.
            actor: the person.
            reason: in words; kept in the audit.

        Raises:
            InputError: if trading is armed, an order has not ended, or the account is another one.
            BrokerError: if the broker cannot be read.
            LedgerFailed, StaleEpoch: if it could not be made durable; the old books stand then.
        """
        with self._turn:
            self._sender.follow()
            if typed != self._broker.account().id:
                raise InputError(f"this is not the gateway's account: {typed!r}")
            if self._ledger.latch().armed:
                raise InputError("the broker's books are taken over while trading is halted only")
            if left := len(self._ledger.orders(states=ALIVE)):
                raise InputError(f"{left} orders have not ended: wait, or cancel them")
            self._reconciler.take_over(actor, reason)
            return self.reconcile()

    def tighten(self, limits: GatewayLimits, actor: str) -> Verdict:
        """Put limits in force that allow nothing more than those before, at once and durably.

        Raises:
            LedgerFailed, StaleEpoch: if they could not be made durable; the old ones hold.
        """
        with self._turn:
            return self._limits.tighten(limits, actor, self._clock())

    def propose(self, limits: GatewayLimits, actor: str) -> Proposal:
        """Keep limits that allow more than those in force, for persons to sign.

        Raises:
            InputError: if they allow nothing more, or too many proposals wait.
            LedgerFailed, StaleEpoch: if it could not be made durable.
        """
        with self._turn:
            return self._limits.propose(limits, actor, self._clock())

    def sign(self, proposal_id: str, person: str, signature: str) -> Proposal:
        """Add a person's signature; with enough of them the next session has the new limits.

        Raises:
            InputError: if proposal or person is not known, the signature does not hold, or the
                proposal is void.
            LedgerFailed, StaleEpoch: if it could not be made durable.
        """
        with self._turn:
            return self._limits.sign(proposal_id, person, signature, self._clock())

    def text_of(self, proposal: Proposal) -> str:
        """Return what persons sign of a proposal."""
        return self._limits.text(proposal)

    def set_stage(self, model: str, stage: int, actor: str) -> Ramp:
        """Move a policy to a stage of the capital ramp because a person wants it.

        Raises:
            InputError: if there is no such stage, or it is more than one up.
            LedgerFailed, StaleEpoch: if it could not be made durable.
        """
        if self._strategist is None:
            raise InputError("this gateway has no strategy, and so no ramp")
        with self._turn:
            return self._strategist.set_stage(model, stage, actor)

    def _cancel_all(self) -> None:
        try:
            self._broker.cancel_all()
        except BrokerError as error:
            alarm(Alarm.cancel_failed, str(error))

    def _tell_of_trip(self) -> bool:
        """Return whether the latch has tripped; the alarm is raised once for every trip."""
        latch = self._ledger.latch()
        if latch.tripped and latch.id != self._told:
            self._told = latch.id
            alarm(Alarm.tripped, f"{latch.reason} ({latch.actor})")
        return latch.tripped

    def _roll(self) -> None:
        """Keep the last close, if it is not kept yet; a broker that fails is asked again."""
        if self._strategist is None:
            return
        now = self._clock()
        try:
            self._strategist.roll(self._observer.hours(now), self._observer.previous(now))
        except BrokerError as error:
            alarm(Alarm.not_reconciled, f"the last close: {error}")

    def _leave_positions(self) -> None:
        """Let the strategy's rules exit late in a session that has seen no decision."""
        now = self._clock()
        if self._strategist is None or (self._exits_at is not None and now < self._exits_at):
            return
        hours = self._observer.hours(now)
        if hours is None or not self._strategist.exits_are_due(now, hours):
            return
        settled = self._submission.take_exits(now)
        self._exits_at = hours.close if settled else now + EXITS_AGAIN

    def _stop_if_tripped(self, reading: Reading | None) -> None:
        state = self._observer.look(self.limits, reading=reading)
        found = trips(state, self.limits)
        if found and state.armed:
            self.kill("; ".join(str(one) for one in found[:3]), "gateway")
