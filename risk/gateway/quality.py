"""How well orders were carried out: what they cost beside the market at their decision and sending.

A cost is in basis points of a reference price, and > 0 is a loss of the account: a buy above the
price, a sell below it. Commissions are told beside it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from risk.checks.prices import reference_price
from risk.gateway.reads import Reads
from risk.gateway.records import Fill, Side
from risk.gateway.state import GatewayState
from risk.gateway.stored import Arrival, StoredOrder

BASIS_POINTS = Decimal(10_000)
TENTH_OF_BP = Decimal("0.1")


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
    ids = [order.client_order_id for order in listed]
    arrivals = ledger.arrivals(ids)
    fills: dict[str, list[Fill]] = {}
    for fill in ledger.fills_of(ids):
        assert fill.client_order_id is not None, "asked for by it"
        fills.setdefault(fill.client_order_id, []).append(fill)
    return [
        _quality(order, arrivals.get(order.client_order_id), fills.get(order.client_order_id, []))
        for order in listed
    ]


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
        commission=sum((fill.commission for fill in fills), Decimal(0)),
        waiting_s=min(times, default=None),
        filling_s=max(times, default=None),
    )
