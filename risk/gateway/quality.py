"""How well orders were carried out: what they cost beside the market at their decision and sending.

A cost is in basis points of a reference price, and > 0 is a loss of the account: a buy above the
price, a sell below it. Commissions are told beside it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from statistics import median
from typing import Any

from risk.checks.prices import reference_price
from risk.gateway.reads import Reads
from risk.gateway.records import Fill, Side
from risk.gateway.rows import session_of
from risk.gateway.state import GatewayState
from risk.gateway.stored import Arrival, StoredOrder

BASIS_POINTS = Decimal(10_000)
ZERO = Decimal(0)
CHUNK = 500  # orders that are asked for at once: a statement takes so many values


@dataclass(frozen=True, slots=True)
class Quality:
    """One order, from its decision to its last fill.

    Args:
        order: as the ledger has it.
        arrival: what the market was as it was sent; None where it was not, or is not known.
        commission: account currency, of its fills.
        waiting_s: from the broker's acceptance to the first fill, by the broker's clock.
        filling_s: from the broker's acceptance to the last fill so far.
    """

    order: StoredOrder
    arrival: Arrival | None
    commission: Decimal
    waiting_s: float | None
    filling_s: float | None

    @property
    def slippage_bp(self) -> Decimal | None:
        """Return what the fills cost beside the price that the order was planned with."""
        return slippage_bp(self.order, self.order.reference_price)

    @property
    def arrival_bp(self) -> Decimal | None:
        """Return what the fills cost beside the price as the order was sent."""
        return None if self.arrival is None else slippage_bp(self.order, self.arrival.price)

    @property
    def participation(self) -> Decimal | None:
        """Return what was filled as a fraction of the average daily volume."""
        adv = None if self.arrival is None else self.arrival.adv
        return None if adv is None or not adv > 0 else self.order.filled / adv


@dataclass(frozen=True, slots=True)
class Leg:
    """One leg of a decision that was filled: all its slices together.

    Args:
        session: New York's date.
        decision_id: of the decision.
        symbol: of the name.
        side: buy or sell.
        asked: shares of the slices that were sent.
        filled: shares, > 0.
        notional: account currency, > 0.
        slippage_bp: beyond the price as the first slice was sent.
        participation: filled / average daily volume; None where that was not known.
        sigma: standard deviation of the daily returns, fraction; None where it was not known.
        commission: account currency.
    """

    session: date
    decision_id: str
    symbol: str
    side: Side
    asked: Decimal
    filled: Decimal
    notional: Decimal
    slippage_bp: Decimal
    participation: Decimal | None
    sigma: Decimal | None
    commission: Decimal


def arrival_of(state: GatewayState, order: StoredOrder) -> Arrival:
    """Return what the market is to an order that was judged to be sent now.

    Args:
        state: that it was judged by.
        order: whose name has a price in it.
    """
    facts = state.facts.get(order.symbol)
    return Arrival(
        client_order_id=order.client_order_id,
        at=state.now,
        price=reference_price(state.quotes.get(order.symbol)),
        adv=None if facts is None else facts.adv,
        sigma=None if facts is None else facts.sigma,
    )


def qualities(ledger: Reads, orders: Iterable[StoredOrder]) -> list[Quality]:
    """Return how well orders were carried out, in their order.

    Raises:
        LedgerFailed: if the ledger cannot be read.
    """
    listed = list(orders)
    found: list[Quality] = []
    for start in range(0, len(listed), CHUNK):
        found += _some(ledger, listed[start : start + CHUNK])
    return found


def _some(ledger: Reads, orders: Sequence[StoredOrder]) -> list[Quality]:
    ids = [order.client_order_id for order in orders if order.sent_at is not None]
    if not ids:
        return [_quality(order, None, []) for order in orders]
    arrivals = ledger.arrivals(ids)
    fills: dict[str, list[Fill]] = {}
    for fill in ledger.fills_of(ids):
        assert fill.client_order_id is not None, "asked for by it"
        fills.setdefault(fill.client_order_id, []).append(fill)
    return [
        _quality(order, arrivals.get(order.client_order_id), fills.get(order.client_order_id, []))
        for order in orders
    ]


def legs(found: Iterable[Quality]) -> list[Leg]:
    """Return the legs that were filled, of whose every slice the price at sending is known."""
    by_leg: dict[tuple[str, str, Side], list[Quality]] = {}
    for one in found:
        order = one.order
        if order.sent_at is not None:
            by_leg.setdefault((order.decision_id, order.symbol, order.side), []).append(one)
    return [leg for slices in by_leg.values() if (leg := _leg(slices)) is not None]


def _leg(slices: Sequence[Quality]) -> Leg | None:
    arrivals = [one.arrival for one in slices if one.arrival is not None]
    filled = sum((one.order.filled for one in slices), ZERO)
    if len(arrivals) < len(slices) or not filled > 0:
        return None
    first = min(arrivals, key=lambda arrival: arrival.at)
    order = slices[0].order
    paid = sum((_paid(one.order) for one in slices), ZERO)
    worse = paid - filled * first.price
    return Leg(
        session=session_of(order.created_at),
        decision_id=order.decision_id,
        symbol=order.symbol,
        side=order.side,
        asked=sum((one.order.quantity for one in slices), ZERO),
        filled=filled,
        notional=paid,
        slippage_bp=(worse if order.side is Side.buy else -worse)
        / (filled * first.price)
        * BASIS_POINTS,
        participation=None if not first.adv else filled / first.adv,
        sigma=first.sigma,
        commission=sum((one.commission for one in slices), ZERO),
    )


def summary(found: Sequence[Quality]) -> dict[str, Any]:
    """Return how well orders were carried out together, as JSON types.

    Slippages are averages by notional, over the orders with a fill.
    """
    sent = [one for one in found if one.order.sent_at is not None]
    asked = sum((one.order.quantity * one.order.reference_price for one in sent), ZERO)
    done = sum((one.order.filled * one.order.reference_price for one in sent), ZERO)
    return {
        "orders": len(found),
        "sent": len(sent),
        "with_fills": sum(one.order.filled > 0 for one in sent),
        "notional": str(round(sum((_paid(one.order) for one in sent), ZERO), 2)),
        "filled_share": None if not asked else _shown(done / asked, 4),
        "slippage_bp": _average([(_paid(one.order), one.slippage_bp) for one in sent]),
        "arrival_bp": _average([(_paid(one.order), one.arrival_bp) for one in sent]),
        "commission": str(sum((one.commission for one in sent), ZERO)),
        "ack_ms": _middle([one.arrival.ack_ms for one in sent if one.arrival is not None]),
        "filling_s": _middle([one.filling_s for one in sent]),
    }


def record(one: Quality) -> dict[str, Any]:
    """Return one order as JSON types; slippages in tenths of a basis point."""
    order, arrival = one.order, one.arrival
    return {
        "client_order_id": order.client_order_id,
        "decision_id": order.decision_id,
        "symbol": order.symbol,
        "side": order.side.value,
        "quantity": str(order.quantity),
        "filled": str(order.filled),
        "state": order.state.value,
        "expected": str(order.reference_price),
        "arrival": None if arrival is None else str(arrival.price),
        "average": None if order.average_price is None else str(order.average_price),
        "slippage_bp": _shown(one.slippage_bp, 1),
        "arrival_bp": _shown(one.arrival_bp, 1),
        "commission": str(one.commission),
        "participation": _shown(one.participation, 6),
        "ack_ms": None if arrival is None else arrival.ack_ms,
        "waiting_s": one.waiting_s,
        "filling_s": one.filling_s,
    }


def slippage_bp(order: StoredOrder, price: Decimal) -> Decimal | None:
    """Return what an order's fills cost beside a price > 0; None without a fill.

    A sell at 99 where 100 was expected has cost 100 basis points.
    """
    if order.average_price is None:
        return None
    worse = order.average_price - price
    if order.side is Side.sell:
        worse = -worse
    return worse / price * BASIS_POINTS


def _quality(order: StoredOrder, arrival: Arrival | None, fills: list[Fill]) -> Quality:
    accepted = None if arrival is None else arrival.accepted_at
    times = [] if accepted is None else [(fill.at - accepted).total_seconds() for fill in fills]
    return Quality(
        order=order,
        arrival=arrival,
        commission=sum((fill.commission for fill in fills), ZERO),
        waiting_s=min(times, default=None),
        filling_s=max(times, default=None),
    )


def _paid(order: StoredOrder) -> Decimal:
    return ZERO if order.average_price is None else order.filled * order.average_price


def _average(values: Iterable[tuple[Decimal, Decimal | None]]) -> float | None:
    """Return the mean of what is known, by weight."""
    known = [(weight, value) for weight, value in values if value is not None]
    total = sum((weight for weight, _ in known), ZERO)
    if not total:
        return None
    return _shown(sum((weight * value for weight, value in known), ZERO) / total, 1)


def _middle(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _shown(value: Decimal | None, digits: int) -> float | None:
    return None if value is None else float(round(value, digits))
