"""What is known when something is judged: one record, gathered by the engine and then logged.

A verdict is a pure function of this record, the thing judged and the limits. None means that a
value is not known, and what is not known is refused; an empty mapping is known to be empty. NaN is
as good as None. Nothing here computes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from risk.gateway.records import (
    Account,
    Asset,
    BrokerClock,
    BrokerOrder,
    OrderRequest,
    Position,
    Quote,
    SessionHours,
    Side,
)
from risk.gateway.stored import DayTotals


@dataclass(frozen=True, slots=True)
class NameFacts:
    """What the market source knows of a name.

    Args:
        close: raw price of the last session, account currency per share.
        close_session: the session of it.
        adv: average daily volume, or the assumed one, in shares.
        sigma: standard deviation of the daily returns, fraction.
        sector: of the name.
        correlated: the names whose returns' correlation with this one is above the cap.
    """

    close: Decimal | None
    close_session: date | None
    adv: Decimal | None
    sigma: Decimal | None
    sector: str | None
    correlated: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class OpenOrder:
    """An order that may still fill.

    The broker's open ones, ours and a stranger's, and every order of the ledger that was sent and
    has not ended, also where the broker does not show it.

    Args:
        client_order_id: ours, or whatever a stranger used.
        symbol: of the order.
        side: of the order.
        remaining: shares that may still be filled.
        limit_price: None is a market order.
    """

    client_order_id: str
    symbol: str
    side: Side
    remaining: Decimal
    limit_price: Decimal | None

    @classmethod
    def of(cls, order: BrokerOrder) -> "OpenOrder":
        """Return what of a broker's order may still be filled."""
        return cls(
            order.client_order_id,
            order.symbol,
            order.side,
            order.quantity - order.filled,
            order.limit_price,
        )


@dataclass(frozen=True, slots=True)
class NameDay:
    """Shares of a name that were bought and sold in this session."""

    bought: Decimal
    sold: Decimal


@dataclass(frozen=True, slots=True)
class ProposedOrder:
    """An order that wants to be judged: what would be sent, and which leg of which decision it is.

    Args:
        request: what would be sent.
        decision_id: of the decision that it belongs to.
        slice: its number among the slices of its parent, from 0.
        slices: how many the parent has.
        send_after: UTC; not before this.
        reference_price: that it was planned with.
    """

    request: OrderRequest
    decision_id: str
    slice: int
    slices: int
    send_after: datetime
    reference_price: Decimal


@dataclass(frozen=True, slots=True)
class GatewayState:
    """Everything that checks look at.

    Args:
        now: UTC, by the clock that sessions follow.
        account: as the broker has it now.
        account_at: when it was read.
        positions: the broker's, by symbol.
        ledger_positions: shares by symbol, as our fills explain them.
        open_orders: what may still fill; an order of ours that was never sent is not among them.
        quotes: the broker's, by symbol.
        second: quotes of the market source, by symbol.
        assets: by symbol.
        facts: by symbol.
        allowed: names that may be traded.
        restricted: names that may not, whoever allows them.
        quarantined: names with an unexplained jump of price or quantity.
        clock: the broker's.
        hours: of the session that the calendar file has at `now`; None where it has none.
        previous_session: the last completed session by the calendar.
        previous_close: UTC, of that session.
        skew_s: own clock minus the broker's, seconds.
        armed: the latch of the ledger.
        permit_left_s: for how long the permit is valid, seconds by the monotonic clock.
        halted: a HALT file is there, or cannot be looked for.
        reducing: only orders that reduce are let through, and size limits do not stop them.
        ledger_writable: the last write went through.
        audit_intact: the chain is whole and its sink takes records.
        limits_version: of the limits in force.
        reconciled_at: when ledger and broker were last found equal, or not.
        drifted: names whose position differed then.
        foreign: client order ids at the broker that no intent explains.
        failures: refused or failed decisions in a row since a person armed.
        unknown_orders: orders whose outcome is unknown.
        used_ids: client order ids that were sent before, or ended without being sent.
        counted: client order ids that the three totals below include; durable intents, and so the
            order that is judged before it is sent, are among them.
        day: totals of this session.
        week_notional: of buys and sells of the seven days that end now, account currency.
        parents: shares by (decision id, symbol, side), all slices together.
        name_day: by symbol, shares filled in this session; a name not in it did not trade.
        messages_second: sent to the broker in the last second.
        messages_minute: sent to the broker in the last minute.
        equity_reads: the last readings of equity, the newest last.
        peak_equity: highest accepted equity, from the starting capital on.
        models: sha256 of the artefacts that may be followed.
        last_weights: of the last decision that was accepted; empty before the first.
        recorded_body: sha256 of the request under this decision's id; None where there is none.
        received_at: when the decision came in.
        ramp: share of NAV that the policy may have invested, in (0, 1].
    """

    now: datetime
    account: Account | None
    account_at: datetime | None
    positions: Mapping[str, Position] | None
    ledger_positions: Mapping[str, Decimal] | None
    open_orders: tuple[OpenOrder, ...] | None
    quotes: Mapping[str, Quote]
    second: Mapping[str, Quote]
    assets: Mapping[str, Asset]
    facts: Mapping[str, NameFacts]
    allowed: frozenset[str] | None
    restricted: frozenset[str] | None
    quarantined: frozenset[str] | None
    clock: BrokerClock | None
    hours: SessionHours | None
    previous_session: date | None
    previous_close: datetime | None
    skew_s: Decimal | None
    armed: bool | None
    permit_left_s: Decimal | None
    halted: bool | None
    reducing: bool
    ledger_writable: bool | None
    audit_intact: bool | None
    limits_version: str | None
    reconciled_at: datetime | None
    drifted: frozenset[str] | None
    foreign: frozenset[str] | None
    failures: int | None
    unknown_orders: int | None
    used_ids: frozenset[str] | None
    counted: frozenset[str] | None
    day: DayTotals | None
    week_notional: Decimal | None
    parents: Mapping[tuple[str, str, Side], Decimal] | None
    name_day: Mapping[str, NameDay] | None
    messages_second: int | None
    messages_minute: int | None
    equity_reads: tuple[Decimal, ...] | None
    peak_equity: Decimal | None
    models: frozenset[str] | None
    last_weights: Mapping[str, Decimal] | None
    recorded_body: str | None
    received_at: datetime | None
    ramp: Decimal | None
