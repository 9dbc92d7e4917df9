"""The limits in force, and what changes them: at once where they tighten, else by two persons.

A proposal that allows more waits for the signatures of as many persons as the limits in force
demand, and then for the next session. Limits that have changed meanwhile void it.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from market.errors import InputError
from risk.checks.judge import judge_limits
from risk.gateway.alarms import Alarm, alarm
from risk.gateway.canonical import canonical
from risk.gateway.ledger import Ledger
from risk.gateway.limits import GatewayLimits, limits_from_record, loosened
from risk.gateway.records import SessionHours
from risk.gateway.rows import session_of
from risk.gateway.signing import Persons, id_of, signers, text_to_sign
from risk.gateway.strategy_reads import Proposal
from risk.gateway.verdict import Verdict
from risk.gateway.writer import Writer

OPEN, SIGNED, IN_FORCE, VOID = "open", "signed", "in_force", "void"
MOST_OPEN = 20  # proposals that wait; more are a mistake


class LimitsInForce:
    """The one place that says which limits hold now.

    Args:
        ledger: that keeps every version.
        epoch: of the gateway.
        limits: in force at the start; the ledger has them.
        persons: who may sign.
    """

    def __init__(self, ledger: Ledger, epoch: int, limits: GatewayLimits, persons: Persons) -> None:
        self._ledger, self._epoch = ledger, epoch
        self._now, self._persons = limits, persons

    @property
    def now(self) -> GatewayLimits:
        """Return the limits in force."""
        return self._now

    def tighten(self, limits: GatewayLimits, actor: str, at: datetime) -> Verdict:
        """Put limits in force that allow nothing more than those before, at once and durably.

        Raises:
            LedgerFailed, StaleEpoch: if they could not be made durable; the old ones hold.
        """
        session = session_of(at)
        verdict = judge_limits(self._now, limits, frozenset(), session, session)
        if verdict.allowed and limits != self._now:
            with self._ledger.writing(self._epoch) as writer:
                keep_limits(writer, limits, actor, at)
            self._now = limits
            alarm(Alarm.limits_changed, f"tightened by {actor}: {limits.version[:12]}")
        return verdict

    def propose(self, limits: GatewayLimits, actor: str, at: datetime) -> Proposal:
        """Keep limits that allow more, for persons to sign.

        Raises:
            InputError: if they allow nothing more, too few could sign, or too many wait.
            LedgerFailed, StaleEpoch: if it could not be made durable.
        """
        if len(self._persons) < self._now.loosening_persons:
            raise InputError(f"service.persons must name {self._now.loosening_persons} or more")
        looser = loosened(self._now, limits)
        if not looser:
            raise InputError("these limits loosen nothing: put them in force, nobody has to sign")
        if len(self._ledger.proposals(OPEN, SIGNED)) >= MOST_OPEN:
            raise InputError(f"{MOST_OPEN} proposals wait already")
        record, base = limits.record(), self._now.version
        text = text_to_sign(self._account(), base, record, at)
        proposal = Proposal(id_of(text), base, record, actor, at, {}, None, OPEN)
        with self._ledger.writing(self._epoch) as writer:
            writer.put_proposal(proposal, actor)
        alarm(Alarm.limits_changed, f"{actor} proposes to loosen {', '.join(looser)}")
        return proposal

    def text(self, proposal: Proposal) -> str:
        """Return what persons sign of a proposal."""
        return text_to_sign(self._account(), proposal.base, proposal.limits, proposal.at)

    def sign(self, proposal_id: str, person: str, signature: str, at: datetime) -> Proposal:
        """Add a person's signature; with enough of them the next session has the new limits.

        Raises:
            InputError: if proposal or person is not known, the signature does not hold, or the
                proposal is void.
            LedgerFailed, StaleEpoch: if it could not be made durable.
        """
        proposal = self._ledger.proposal(proposal_id)
        if proposal is None:
            raise InputError(f"there is no proposal {proposal_id}")
        if proposal.state not in (OPEN, SIGNED) or proposal.base != self._now.version:
            raise InputError("the proposal is void or in force: the limits have changed since")
        text = self.text(proposal)
        if person not in self._persons or not signers(text, {person: signature}, self._persons):
            raise InputError(f"this is no signature of {person!r} under this proposal")
        signed = replace(proposal, signatures={**proposal.signatures, person: signature})
        enough = len(self._signers(signed)) >= self._now.loosening_persons
        if enough and proposal.signed_in is None:
            signed = replace(signed, signed_in=session_of(at), state=SIGNED)
        with self._ledger.writing(self._epoch) as writer:
            writer.put_proposal(signed, person)
        alarm(Alarm.limits_changed, f"{person} has signed proposal {proposal_id[:12]}")
        return signed

    def begin_session(self, at: datetime, hours: SessionHours | None) -> None:
        """Put what was signed in an earlier session in force; void what does not fit any more.

        Args:
            at: UTC.
            hours: of the session that the calendar has today; None where it has none.

        Raises:
            LedgerFailed, StaleEpoch: if it could not be made durable; the old ones hold.
        """
        for proposal in self._ledger.proposals(OPEN, SIGNED):
            if proposal.base != self._now.version:
                self._void(proposal, "the limits have changed since")
            elif hours is not None and _earlier(proposal, hours):
                self._begin(proposal, at, hours)

    def _account(self) -> str:
        """Return the broker's id of the account, as it was read last.

        Raises:
            InputError: if it was never read.
        """
        last = self._ledger.last_account()
        if last is None:
            raise InputError("the account is not known yet")
        return last.account.id

    def _begin(self, proposal: Proposal, at: datetime, hours: SessionHours) -> None:
        assert proposal.signed_in is not None, "asked for before"
        limits = limits_from_record(proposal.limits)
        signed = self._signers(proposal)
        verdict = judge_limits(self._now, limits, signed, hours.session, proposal.signed_in)
        if not verdict.allowed:  # somebody who has signed is not among the persons any more
            self._void(proposal, "; ".join(map(str, verdict.violations)))
            return
        names = ", ".join(sorted(signed))
        with self._ledger.writing(self._epoch) as writer:
            keep_limits(writer, limits, f"signed by {names}", at)
            writer.put_proposal(replace(proposal, state=IN_FORCE), "gateway")
        self._now = limits
        alarm(Alarm.limits_changed, f"loosened, signed by {names}: {limits.version[:12]}")

    def _void(self, proposal: Proposal, why: str) -> None:
        with self._ledger.writing(self._epoch) as writer:
            writer.put_proposal(replace(proposal, state=VOID), "gateway")
        alarm(Alarm.limits_changed, f"proposal {proposal.id[:12]} is void: {why}")

    def _signers(self, proposal: Proposal) -> frozenset[str]:
        return signers(self.text(proposal), proposal.signatures, self._persons)


def _earlier(proposal: Proposal, hours: SessionHours) -> bool:
    """Return whether enough persons had signed in an earlier session."""
    return proposal.signed_in is not None and hours.session > proposal.signed_in


def differences(
    now: Mapping[str, str | int], wanted: Mapping[str, str | int]
) -> dict[str, tuple[str | int | None, str | int]]:
    """Return what a proposal changes: limit -> (now, then)."""
    return {
        name: (now.get(name), value) for name, value in wanted.items() if now.get(name) != value
    }


def keep_limits(writer: Writer, limits: GatewayLimits, actor: str, at: datetime) -> None:
    """Keep limits as the next version."""
    last = writer.limits()
    version = 1 if last is None else last.version + 1
    writer.put_limits(version, canonical(limits.record()), actor, at)
