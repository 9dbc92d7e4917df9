"""Orders and executions between our records and Alpaca's JSON.

What is missing, odd or contradictory is refused with a ValueError of one line, never guessed.
"""

import logging
from decimal import Decimal

from brokers.members import Members
from risk.gateway.records import BrokerOrder, BrokerStatus, Fill, OrderRequest, Side

ZERO = Decimal(0)
SIDES = {"buy": Side.buy, "sell": Side.sell, "sell_short": Side.sell}
STATUSES = {
    "new": BrokerStatus.working,
    "accepted": BrokerStatus.working,
    "pending_new": BrokerStatus.working,
    "accepted_for_bidding": BrokerStatus.working,
    "partially_filled": BrokerStatus.working,
    "pending_cancel": BrokerStatus.working,
    "pending_replace": BrokerStatus.working,
    "pending_review": BrokerStatus.working,
    "stopped": BrokerStatus.working,
    "suspended": BrokerStatus.working,
    "calculated": BrokerStatus.working,
    "held": BrokerStatus.working,
    "done_for_day": BrokerStatus.working,
    "filled": BrokerStatus.filled,
    "canceled": BrokerStatus.cancelled,
    "replaced": BrokerStatus.cancelled,
    "expired": BrokerStatus.expired,
    "rejected": BrokerStatus.rejected,
}
_log = logging.getLogger(__name__)


def order_of(raw: object) -> BrokerOrder:
    """Return an order, ours or a stranger's.

    A status that nobody knows is one of an order that still works: it counts at its worst, and is
    asked for again. A stranger's order by value has no quantity before it ends; while it works,
    nobody can say what it counts.
    """
    members = Members("order", raw).named_by("id")
    require_shares(members)
    quantity, filled, status = _progress(members)
    limit_price = members.optional_number("limit_price")
    if limit_price is not None and not limit_price > 0:
        raise members.odd("limit_price")
    return BrokerOrder(
        broker_id=members.text("id"),
        client_order_id=members.text("client_order_id"),
        symbol=members.text("symbol"),
        side=_side(members),
        quantity=quantity,
        filled=filled,
        average_price=members.positive("filled_avg_price") if filled else None,
        limit_price=limit_price,
        status=status,
        submitted_at=members.time("submitted_at"),
    )


def has_known_status(raw: object) -> bool:
    """Return whether an order's status is one that can be vouched for."""
    return Members("order", raw).text("status") in STATUSES


def body_of(order: OrderRequest) -> dict[str, str]:
    """Return an order as Alpaca takes it, its numbers as strings.

    Raises:
        ValueError: if it has no id or symbol, or a number that is not above 0.
    """
    if not order.client_order_id or not order.symbol:
        raise ValueError(f"an order needs its id and its symbol: {order}")
    body = {
        "symbol": order.symbol,
        "qty": _digits("quantity", order.quantity),
        "side": order.side.value,
        "type": "market" if order.limit_price is None else "limit",
        "time_in_force": "day",
        "client_order_id": order.client_order_id,
    }
    if order.limit_price is not None:
        body["limit_price"] = _digits("limit_price", order.limit_price)
    return body


def is_about(answer: BrokerOrder, order: OrderRequest) -> bool:
    """Return whether the broker took exactly this order."""
    return (
        answer.client_order_id == order.client_order_id
        and answer.symbol == order.symbol
        and answer.side is order.side
        and answer.quantity == order.quantity
        and answer.limit_price == order.limit_price
    )


def fill_of(raw: object) -> Fill:
    """Return an execution of /v2/account/activities/FILL, which names no client order id."""
    members = Members("activity", raw).named_by("id")
    if members.text("activity_type") != "FILL":
        raise members.odd("activity_type")
    commission = members.optional_number("commission")  # where one is taken for each execution
    if commission is not None and commission < 0:
        raise members.odd("commission")
    return Fill(
        execution_id=members.text("id"),
        broker_id=members.text("order_id"),
        client_order_id=None,
        symbol=members.text("symbol"),
        side=_side(members),
        quantity=members.positive("qty"),
        price=members.positive("price"),
        commission=ZERO if commission is None else commission,
        at=members.time("transaction_time"),
    )


def require_shares(members: Members) -> None:
    """Refuse options and coins: their quantities are not shares, nor their prices per share."""
    if members.text("asset_class") != "us_equity":
        raise members.odd("asset_class")


def _progress(members: Members) -> tuple[Decimal, Decimal, BrokerStatus]:
    """Return quantity, what of it is filled, and the status, where the three agree."""
    status, filled = _status(members), members.number("filled_qty")
    quantity = members.optional_number("qty")
    if quantity is None and status is not BrokerStatus.working:
        quantity = filled  # by value, and ended
    elif quantity is None or not quantity > 0:
        raise members.odd("qty")
    if not 0 <= filled <= quantity or (status is BrokerStatus.filled and filled != quantity):
        raise members.odd("filled_qty")
    return quantity, filled, status


def _status(members: Members) -> BrokerStatus:
    word = members.text("status")
    if word == "done_for_day" and members.text("time_in_force") == "day":
        return BrokerStatus.expired  # its only day is over
    if word not in STATUSES:
        _log.warning("order %s: status %.40r is not known", members.text("id"), word)
    return STATUSES.get(word, BrokerStatus.working)


def _side(members: Members) -> Side:
    side = SIDES.get(members.text("side"))
    if side is None:
        raise members.odd("side")
    return side


def _digits(name: str, value: Decimal) -> str:
    if not (value.is_finite() and value > 0):
        raise ValueError(f"an order's {name} must be above 0, was {value}")
    return f"{value:f}"
