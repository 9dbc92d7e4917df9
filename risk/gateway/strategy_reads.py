"""What the ledger keeps of the strategy: its days, holdings and ramps, and proposals of limits."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import select

from risk.gateway import schema
from risk.gateway.reads import Reads
from risk.gateway.rows import parse_moment, to_account


@dataclass(frozen=True, slots=True)
class DayEnd:
    """The account at the close of a session, and what the breakers leave of the next one.

    Args:
        session: of the calendar.
        starting_equity: the capital that the capital floor is a share of, > 0.
        equity: account currency.
        cash: account currency.
        peak: highest equity since the last stop ended, from the starting capital on.
        losing_days: losing sessions in a row.
        stopped: sessions that a stop still lasts.
        exposure: what the breakers leave of a target: 0, 0.5 or 1.
        volatility: of the market, annualised.
        model: sha256 of the artefact that was followed last; None before the first.
    """

    session: date
    starting_equity: Decimal
    equity: Decimal
    cash: Decimal
    peak: Decimal
    losing_days: int
    stopped: int
    exposure: Decimal
    volatility: Decimal
    model: str | None


@dataclass(frozen=True, slots=True)
class Tracked:
    """What the exits remember of a name.

    Args:
        symbol: of the name.
        shares: held at the last close, signed.
        entry: average cost, account currency per share.
        peak: highest close since entry, account currency per share.
        age: sessions since entry.
        barred: sessions without a new entry that are left, after an exit.
    """

    symbol: str
    shares: Decimal
    entry: Decimal
    peak: Decimal
    age: int
    barred: int


@dataclass(frozen=True, slots=True)
class Ramp:
    """How far a policy has come.

    Args:
        model: sha256 of its artefact.
        stage: index into the shares of `StrategyRules.ramp`.
        sessions: in which it was followed in this stage, without a trip.
        actor: who set it there.
        at: UTC.
    """

    model: str
    stage: int
    sessions: int
    actor: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Proposal:
    """Limits that somebody wants to loosen.

    Args:
        id: sha256 of what is signed.
        base: version of the limits that they would replace.
        limits: as `GatewayLimits.record` gives them.
        actor: who proposed them.
        at: UTC.
        signatures: person -> signature, hexadecimal.
        signed_in: session in which enough had signed; the next one has the limits. None before.
        state: open, signed, in_force or void.
    """

    id: str
    base: str
    limits: Mapping[str, str | int]
    actor: str
    at: datetime
    signatures: Mapping[str, str]
    signed_in: date | None
    state: str


class StrategyReads(Reads):
    """The questions about the strategy, beside those about orders and the account."""

    def days(self, count: int) -> list[DayEnd]:
        """Return the last days, newest first."""
        table = schema.days
        return self._all(_to_day, select(table).order_by(table.c.session.desc()).limit(count))

    def starting_equity(self) -> Decimal | None:
        """Return the equity of the first snapshot of the account; None before it."""
        table = schema.accounts
        found = self._one(to_account, select(table).order_by(table.c.id).limit(1))
        return None if found is None else found.account.equity

    def tracked(self) -> dict[str, Tracked]:
        """Return what the exits remember, by symbol."""
        found = self._all(_to_tracked, select(schema.holdings))
        return {one.symbol: one for one in found}

    def ramp(self, model: str) -> Ramp | None:
        """Return how far a policy has come; None for one that was never followed."""
        table = schema.ramps
        return self._one(_to_ramp, select(table).where(table.c.model == model))

    def ramps(self) -> list[Ramp]:
        """Return how far every policy has come."""
        return self._all(_to_ramp, select(schema.ramps).order_by(schema.ramps.c.model))

    def proposal(self, proposal_id: str) -> Proposal | None:
        """Return a proposal of limits."""
        table = schema.proposals
        return self._one(_to_proposal, select(table).where(table.c.id == proposal_id))

    def proposals(self, *states: str) -> list[Proposal]:
        """Return the proposals in some states, oldest first."""
        table = schema.proposals
        asked = select(table).where(table.c.state.in_(states))
        return self._all(_to_proposal, asked.order_by(table.c.at, table.c.id))


def _to_day(row: Mapping[str, Any]) -> DayEnd:
    return DayEnd(
        session=date.fromisoformat(row["session"]),
        starting_equity=Decimal(row["starting_equity"]),
        equity=Decimal(row["equity"]),
        cash=Decimal(row["cash"]),
        peak=Decimal(row["peak"]),
        losing_days=row["losing_days"],
        stopped=row["stopped"],
        exposure=Decimal(row["exposure"]),
        volatility=Decimal(row["volatility"]),
        model=row["model"],
    )


def _to_tracked(row: Mapping[str, Any]) -> Tracked:
    return Tracked(
        symbol=row["symbol"],
        shares=Decimal(row["shares"]),
        entry=Decimal(row["entry"]),
        peak=Decimal(row["peak"]),
        age=row["age"],
        barred=row["barred"],
    )


def _to_ramp(row: Mapping[str, Any]) -> Ramp:
    return Ramp(**{**row, "at": parse_moment(row["at"])})


def _to_proposal(row: Mapping[str, Any]) -> Proposal:
    signed_in = row["signed_in"]
    return Proposal(
        id=row["id"],
        base=row["base"],
        limits=json.loads(row["limits"]),
        actor=row["actor"],
        at=parse_moment(row["at"]),
        signatures=json.loads(row["signatures"]),
        signed_in=None if signed_in is None else date.fromisoformat(signed_in),
        state=row["state"],
    )
