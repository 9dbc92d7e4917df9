"""What the exchange keeps: orders, positions and quotes, with money and shares as Decimal.

Quantities of orders are > 0, those of positions signed; times are aware datetimes in UTC.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum

from risk.gateway.records import Side

CENT = Decimal("0.01")
SHARE = Decimal("0.000000001")  # the smallest part of a share


class OrderType(Enum):
    """When an order may be filled."""

    market = "market"
    limit = "limit"
    stop = "stop"  # a market order once the price reaches it


class OrderClass(Enum):
    """Whether an order has legs."""

    simple = "simple"
    bracket = "bracket"  # an entry, and two exits of which one cancels the other


class Status(Enum):
    """Alpaca's words for the states that an order has here."""

    accepted = "accepted"  # waits for its session to open
    new = "new"
    held = "held"  # a leg whose entry is not filled
    partially_filled = "partially_filled"
    filled = "filled"
    canceled = "canceled"
    expired = "expired"
    replaced = "replaced"
    rejected = "rejected"  # after it was accepted


OPEN = frozenset({Status.accepted, Status.new, Status.held, Status.partially_filled})


@dataclass(slots=True)
class ExchangeOrder:
    """An order as the exchange has it.

    Args:
        id: a UUID.
        client_order_id: the client's, unique for ever.
        symbol: of the name.
        side: buy or sell.
        type: when it may be filled.
        order_class: whether it has legs, or is one.
        quantity: shares.
        limit_price: account currency per share, for a limit.
        stop_price: account currency per share, for a stop.
        status: see above.
        filled: shares so far.
        filled_notional: sum of price x shares of its fills, not rounded.
        parent_id: of a leg.
        triggered: a stop whose price was reached.
        submitted_at: unique, so that pages of orders can be cut by time.
        updated_at: of the last change.
        expires_at: close of the session it belongs to.
        ended_at: when it left the open states.
        replaces: id of the order it was changed from.
        replaced_by: id of the order it was changed into.
    """

    id: str
    client_order_id: str
    symbol: str
    side: Side
    type: OrderType
    order_class: OrderClass
    quantity: Decimal
    limit_price: Decimal | None
    stop_price: Decimal | None
    status: Status
    filled: Decimal
    filled_notional: Decimal
    parent_id: str | None
    triggered: bool
    submitted_at: datetime
    updated_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    replaces: str | None
    replaced_by: str | None

    @property
    def remaining(self) -> Decimal:
        """Return the shares that are still to be filled."""
        return self.quantity - self.filled

    @property
    def average_price(self) -> Decimal | None:
        """Return the price of its fills, to a millionth; None before the first."""
        if not self.filled:
            return None
        return (self.filled_notional / self.filled).quantize(Decimal("0.000001"))


@dataclass(frozen=True, slots=True)
class Holding:
    """A position: signed shares and what was paid for them (sum of price x shares, same sign)."""

    quantity: Decimal
    cost: Decimal

    @property
    def average_price(self) -> Decimal:
        """Return the price paid per share."""
        return (self.cost / self.quantity).quantize(Decimal("0.000001"))


@dataclass(frozen=True, slots=True)
class Market:
    """The prices of a name at a time: bid <= last <= ask."""

    bid: Decimal
    ask: Decimal
    last: Decimal
    at: datetime


class Rejection(Exception):
    """A request that is answered with an error in Alpaca's form.

    Args:
        status: of HTTP.
        code: Alpaca's own.
        message: Alpaca's words.
        details: further members of the answer.
    """

    def __init__(self, status: int, code: int, message: str, **details: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.details = status, code, message, details


def to_cent(amount: Decimal) -> Decimal:
    """Round an amount to the cent, halves to the even one."""
    return amount.quantize(CENT)
