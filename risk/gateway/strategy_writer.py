"""Changes of what the ledger keeps of the strategy, each with its record in the audit chain."""

from sqlalchemy import Table, select

from risk.gateway import schema
from risk.gateway.canonical import canonical, moment, number
from risk.gateway.journal import Journal
from risk.gateway.rows import Row, words
from risk.gateway.strategy_reads import DayEnd, Proposal, Ramp, Tracked


class StrategyWriter(Journal):
    """Every method raises `LedgerFailed` where the database fails."""

    def put_day(self, day: DayEnd) -> None:
        """Keep a day, in the place of what was said of it before."""
        self._put(
            schema.days,
            {
                "session": day.session.isoformat(),
                "starting_equity": number(day.starting_equity),
                "equity": number(day.equity),
                "cash": number(day.cash),
                "peak": number(day.peak),
                "losing_days": day.losing_days,
                "stopped": day.stopped,
                "exposure": number(day.exposure),
                "volatility": number(day.volatility),
                "model": day.model,
            },
        )

    def put_tracked(self, tracked: Tracked) -> None:
        """Keep what the exits remember of a name."""
        self._put(
            schema.holdings,
            {
                "symbol": tracked.symbol,
                "shares": number(tracked.shares),
                "entry": number(tracked.entry),
                "peak": number(tracked.peak),
                "age": tracked.age,
                "barred": tracked.barred,
            },
        )

    def put_ramp(self, ramp: Ramp) -> None:
        """Keep how far a policy has come."""
        self._put(
            schema.ramps,
            {
                "model": ramp.model,
                "stage": ramp.stage,
                "sessions": ramp.sessions,
                "actor": words(ramp.actor),
                "at": moment(ramp.at),
            },
            actor=ramp.actor,
        )

    def put_proposal(self, proposal: Proposal, actor: str) -> None:
        """Keep a proposal of limits, changed by somebody."""
        signed_in = proposal.signed_in
        self._put(
            schema.proposals,
            {
                "id": proposal.id,
                "base": proposal.base,
                "limits": canonical(dict(proposal.limits)),
                "actor": words(proposal.actor),
                "at": moment(proposal.at),
                "signatures": canonical(dict(proposal.signatures)),
                "signed_in": None if signed_in is None else signed_in.isoformat(),
                "state": proposal.state,
            },
            actor=actor,
        )

    def _put(self, table: Table, row: Row, *, actor: str | None = None) -> None:
        """Insert a row, or bring the one of its key up to date; the key is the first column."""
        key = table.columns[0]
        known = self._first(select(table).where(key == row[key.name]))
        if known is None:
            self._insert(table, row, actor=actor)
        elif known != row:
            self._update(table, {key.name: row[key.name]}, row)
