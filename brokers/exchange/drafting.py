"""From drafts to orders, and from positions and open orders to drafts: pure functions."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

from brokers.exchange.admission import Draft, client_id, malformed, price, quantity
from brokers.exchange.records import SHARE, ExchangeOrder, OrderClass, OrderType, Status
from risk.gateway.records import Side


def new_order(
    draft: Draft, stamp: datetime, *, is_open: bool, expires_at: datetime
) -> ExchangeOrder:
    """Return the order that a draft becomes.

    Args:
        draft: what was asked for.
        stamp: time of submission.
        is_open: the market is; otherwise the order waits for it.
        expires_at: close of the order's session.
    """
    return ExchangeOrder(
        id=str(uuid4()),
        client_order_id=draft.client_order_id,
        symbol=draft.symbol,
        side=draft.side,
        type=draft.type,
        order_class=draft.order_class,
        quantity=draft.quantity,
        limit_price=draft.limit_price,
        stop_price=draft.stop_price,
        status=Status.new if is_open else Status.accepted,
        filled=Decimal(0),
        filled_notional=Decimal(0),
        parent_id=None,
        triggered=False,
        submitted_at=stamp,
        updated_at=stamp,
        expires_at=expires_at,
        ended_at=None,
        replaces=None,
        replaced_by=None,
    )


def exits(draft: Draft, entry: ExchangeOrder) -> Iterator[ExchangeOrder]:
    """Yield the exits of a bracket, held until its entry is filled; none of a simple order."""
    if draft.order_class is not OrderClass.bracket:
        return
    kinds = ((OrderType.limit, draft.take_profit, None), (OrderType.stop, None, draft.stop_loss))
    for kind, limit, stop in kinds:
        yield replace(
            entry,
            id=str(uuid4()),
            client_order_id=str(uuid4()),
            side=Side.sell if entry.side is Side.buy else Side.buy,
            type=kind,
            limit_price=limit,
            stop_price=stop,
            status=Status.held,
            parent_id=entry.id,
        )


def replacement(old: ExchangeOrder, body: dict[str, Any]) -> Draft:
    """Return the draft of an order with other numbers.

    Raises:
        Rejection: if the numbers make no sense, or the order is not a simple one.
    """
    if old.order_class is not OrderClass.simple or body.get("time_in_force") not in (None, "day"):
        raise malformed("only simple day orders can be replaced")
    prices = {}
    for name, kept in (("limit_price", old.limit_price), ("stop_price", old.stop_price)):
        asked = body.get(name)
        if asked is not None and kept is None:
            raise malformed(f"{name} is not supported for this order")
        prices[name] = kept if asked is None else price(name, asked)
    return Draft(
        client_order_id=client_id(body.get("client_order_id")),
        symbol=old.symbol,
        side=old.side,
        type=old.type,
        order_class=old.order_class,
        quantity=old.quantity if body.get("qty") is None else quantity(body["qty"]),
        limit_price=prices["limit_price"],
        stop_price=prices["stop_price"],
        take_profit=None,
        stop_loss=None,
    )


def closing(symbol: str, held: Decimal, shares: str | None, percentage: str | None) -> Draft:
    """Return the draft of a market order that closes a position.

    Args:
        symbol: of the name.
        held: signed shares.
        shares: to close; None is as many as the percentage says.
        percentage: of the position, in (0, 100]; None is all of it.

    Raises:
        Rejection: if a number makes no sense.
    """
    asked = abs(held) if shares is None else quantity(shares)
    if shares is None and percentage is not None:
        asked = (abs(held) * quantity(percentage) / 100).quantize(SHARE)
    return Draft(
        client_order_id=str(uuid4()),
        symbol=symbol,
        side=Side.sell if held > 0 else Side.buy,
        type=OrderType.market,
        order_class=OrderClass.simple,
        quantity=quantity(f"{asked:f}"),
        limit_price=None,
        stop_price=None,
        take_profit=None,
        stop_loss=None,
    )
