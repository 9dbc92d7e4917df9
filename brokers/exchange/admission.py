"""From the body of an order to a draft that makes sense, or Alpaca's words for what does not."""

import json
import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar
from uuid import uuid4

from brokers.exchange.prices import tick_of
from brokers.exchange.records import SHARE, OrderClass, OrderType, Rejection
from risk.gateway.records import Side

LARGEST = Decimal(10) ** 12  # shares of an order
LARGEST_PRICE = Decimal(10) ** 7
LONGEST_ID = 128
MALFORMED = 40010001  # Alpaca's code for a request that makes no sense
UNPROCESSABLE = 42210000  # and for one that its rules forbid

Kind = TypeVar("Kind", OrderType, OrderClass, Side)


@dataclass(frozen=True, slots=True)
class Draft:
    """An order as it was asked for, checked by itself.

    Args:
        client_order_id: the client's, or one made up for it.
        symbol: in capitals.
        side: buy or sell.
        type: market, limit or stop.
        order_class: simple or bracket.
        quantity: shares, > 0, at most nine decimals.
        limit_price: of a limit.
        stop_price: of a stop.
        take_profit: limit price of a bracket's exit with a profit.
        stop_loss: stop price of a bracket's exit with a loss.
    """

    client_order_id: str
    symbol: str
    side: Side
    type: OrderType
    order_class: OrderClass
    quantity: Decimal
    limit_price: Decimal | None
    stop_price: Decimal | None
    take_profit: Decimal | None
    stop_loss: Decimal | None


def members(body: bytes) -> dict[str, Any]:
    """Return a JSON object with its numbers as they were written.

    Raises:
        Rejection: if it is none.
    """
    try:
        found = json.loads(body, parse_float=Decimal, parse_int=Decimal, parse_constant=_no_number)
    except (ValueError, InvalidOperation, RecursionError):
        raise Rejection(400, 40010000, "request body format is invalid") from None
    if not isinstance(found, dict):
        raise Rejection(400, 40010000, "request body format is invalid")
    return found


def draft(body: dict[str, Any]) -> Draft:
    """Return the order that a body asks for.

    Raises:
        Rejection: if it is malformed or asks for what this exchange does not do.
    """
    if body.get("notional") is not None:
        raise malformed("notional orders are not supported")
    if body.get("time_in_force") != "day":
        raise malformed("invalid time_in_force")
    if body.get("extended_hours"):
        raise malformed("extended hours are not supported")
    kind = _member(OrderType, "type", body.get("type"))
    order_class = _member(OrderClass, "order_class", body.get("order_class") or "simple")
    bracket = order_class is OrderClass.bracket
    asked = Draft(
        client_order_id=client_id(body.get("client_order_id")),
        symbol=_symbol(body.get("symbol")),
        side=_member(Side, "side", body.get("side")),
        type=kind,
        order_class=order_class,
        quantity=quantity(body.get("qty")),
        limit_price=_price("limit_price", body, kind is OrderType.limit),
        stop_price=_price("stop_price", body, kind is OrderType.stop),
        take_profit=_price("limit_price", _part(body, "take_profit"), bracket, "take_profit."),
        stop_loss=_price("stop_price", _part(body, "stop_loss"), bracket, "stop_loss."),
    )
    if bracket and asked.quantity != asked.quantity.to_integral_value():
        raise unprocessable("fractional orders must be simple orders")
    return asked


def malformed(message: str) -> Rejection:
    """Return the refusal of a request that makes no sense."""
    return Rejection(422, MALFORMED, message)


def unprocessable(message: str) -> Rejection:
    """Return the refusal of an order that the rules forbid."""
    return Rejection(422, UNPROCESSABLE, message)


def quantity(value: Any) -> Decimal:
    """Return a number of shares.

    Raises:
        Rejection: if it is not above 0, too large, or finer than nine decimals.
    """
    if value is None:
        raise malformed("qty or notional is required")
    number = _number("qty", value)
    if number <= 0:
        raise malformed("qty must be > 0")
    if number > LARGEST:
        raise malformed(f"qty must be <= {LARGEST:f}")
    if number % SHARE:
        raise malformed("qty must be limited to 9 decimal places")
    return number.normalize()


def client_id(value: Any) -> str:
    """Return a client's id of an order, a new one where it gave none."""
    if value in (None, ""):
        return str(uuid4())
    if not isinstance(value, str) or len(value) > LONGEST_ID or not value.isprintable():
        raise malformed(f"client_order_id must be no more than {LONGEST_ID} characters")
    return value


def price(name: str, value: Any) -> Decimal:
    """Return a price on its tick.

    Raises:
        Rejection: if it is not above 0, too large, or between two ticks.
    """
    number = _number(name, value)
    if not 0 < number <= LARGEST_PRICE:
        raise malformed(f"{name} must be > 0 and <= {LARGEST_PRICE:f}")
    if number % tick_of(number):
        raise unprocessable(
            f"invalid {name} {number}. sub-penny increment does not fulfill minimum pricing "
            "criteria"
        )
    return number.normalize()


def amount(name: str, value: Any) -> Decimal:
    """Return any number of the administration's, of a size that can be counted with.

    Raises:
        Rejection: if it is none.
    """
    number = _number(name, value)
    if abs(number) > LARGEST:
        raise malformed(f"{name} must be within {LARGEST:f}")
    return number


def _price(name: str, body: dict[str, Any], wanted: bool, prefix: str = "") -> Decimal | None:
    """Return a price that must be there if it is wanted, and must not be if it is not."""
    value = body.get(name)
    if value is None:
        if wanted:
            raise malformed(f"{prefix}{name} is required")
        return None
    if not wanted:
        raise malformed(f"{prefix}{name} is not supported for this order")
    return price(f"{prefix}{name}", value)


def _part(body: dict[str, Any], name: str) -> dict[str, Any]:
    part = body.get(name)
    if part is not None and not isinstance(part, dict):
        raise malformed(f"{name} must be an object")
    return part or {}


def _number(name: str, value: Any) -> Decimal:
    if isinstance(value, str) and not re.fullmatch(r"-?\d{1,40}(\.\d{1,40})?", value, re.ASCII):
        raise malformed(f"invalid {name}")
    if not isinstance(value, str | Decimal):
        raise malformed(f"invalid {name}")
    number = Decimal(value)
    if not number.is_finite() or abs(number.adjusted()) > 40:
        raise malformed(f"invalid {name}")
    return number


def _symbol(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise malformed("symbol is required")
    return value


def _member(kind: type[Kind], name: str, value: Any) -> Kind:
    try:
        return kind(value)
    except ValueError:
        raise malformed(f"invalid {name}") from None


def _no_number(text: str) -> Decimal:
    raise ValueError(f"{text} is no number")
