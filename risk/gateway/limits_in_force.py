"""The limits in force, and what changes them: at once where they tighten."""

from datetime import datetime

from risk.checks.judge import judge_limits
from risk.gateway.canonical import canonical
from risk.gateway.ledger import Ledger
from risk.gateway.limits import GatewayLimits
from risk.gateway.verdict import Verdict
from risk.gateway.writer import Writer


class LimitsInForce:
    """The one place that says which limits hold now.

    Args:
        ledger: that keeps every version.
        epoch: of the gateway.
        limits: in force at the start; the ledger has them.
    """

    def __init__(self, ledger: Ledger, epoch: int, limits: GatewayLimits) -> None:
        self._ledger, self._epoch = ledger, epoch
        self._now = limits

    @property
    def now(self) -> GatewayLimits:
        """Return the limits in force."""
        return self._now

    def tighten(self, limits: GatewayLimits, actor: str, at: datetime) -> Verdict:
        """Put limits in force that allow nothing more than those before, at once and durably.

        Raises:
            LedgerFailed, StaleEpoch: if they could not be made durable; the old ones hold.
        """
        verdict = judge_limits(self._now, limits, frozenset(), at.date(), at.date())
        if verdict.allowed and limits != self._now:
            with self._ledger.writing(self._epoch) as writer:
                keep_limits(writer, limits, actor, at)
            self._now = limits
        return verdict


def keep_limits(writer: Writer, limits: GatewayLimits, actor: str, at: datetime) -> None:
    """Keep limits as the next version."""
    last = writer.limits()
    version = 1 if last is None else last.version + 1
    writer.put_limits(version, canonical(limits.record()), actor, at)
