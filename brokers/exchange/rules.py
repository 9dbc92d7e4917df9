"""What the exchange refuses of an order that makes sense, given account and market."""

from dataclasses import dataclass
from decimal import Decimal

from brokers.exchange.account import AccountView
from brokers.exchange.admission import Draft, malformed, unprocessable
from brokers.exchange.prices import PENNY
from brokers.exchange.records import ExchangeOrder, Market, OrderType, Rejection
from risk.gateway.records import Side

FORBIDDEN = 40310000  # Alpaca's code for what the account may not do


@dataclass(frozen=True, slots=True)
class AssetFlags:
    """What may be done with a name now."""

    tradable: bool
    fractionable: bool
    shortable: bool
    easy_to_borrow: bool


@dataclass(frozen=True, slots=True)
class Permissions:
    """What the account may do."""

    suspended: bool  # by its owner
    blocked: bool  # by the broker
    no_shorting: bool


def forbidden(message: str, **details: str) -> Rejection:
    """Return the refusal of what the account may not do."""
    return Rejection(403, FORBIDDEN, message, **details)


def check_permissions(permissions: Permissions) -> None:
    """Refuse every order of an account that may not trade."""
    if permissions.blocked:
        raise forbidden("account is blocked from trading")
    if permissions.suspended:
        raise forbidden("new orders are rejected by user request")


def check_asset(draft: Draft, flags: AssetFlags) -> None:
    """Refuse what is not traded, and parts of shares where only whole ones are."""
    if not flags.tradable:
        raise unprocessable(f'asset "{draft.symbol}" is not tradable')
    if not flags.fractionable and draft.quantity != draft.quantity.to_integral_value():
        raise forbidden(f'asset "{draft.symbol}" is not fractionable')


def check_stop(draft: Draft, market: Market) -> None:
    """Refuse a stop that the price has already passed."""
    if draft.stop_price is None:
        return
    if draft.side is Side.buy and draft.stop_price <= market.last:
        raise unprocessable("stop price must be greater than current price")
    if draft.side is Side.sell and draft.stop_price >= market.last:
        raise unprocessable("stop price must be less than current price")


def check_bracket(draft: Draft, market: Market) -> None:
    """Refuse exits of a bracket on the wrong side of its entry."""
    if draft.take_profit is None or draft.stop_loss is None:
        return
    base = draft.limit_price or draft.stop_price or market.last
    direction = 1 if draft.side is Side.buy else -1
    if direction * (base - draft.stop_loss) < PENNY:
        raise unprocessable("stop_loss.stop_price must be beyond base_price by at least 0.01")
    if direction * (draft.take_profit - base) < PENNY:
        raise unprocessable("take_profit.limit_price must be beyond base_price by at least 0.01")


def check_wash_trade(draft: Draft, view: AccountView) -> None:
    """Refuse an order that could be filled against another one of the same account."""
    for order in view.open_orders:
        opposite = order.symbol == draft.symbol and order.side is not draft.side
        if opposite and order.parent_id is None and _may_cross(draft, order):
            raise forbidden(
                "potential wash trade detected. use complex orders",
                reject_reason=f"opposite side {order.type.value} order exists",
                existing_order_id=order.id,
            )


def check_funds(
    draft: Draft, order: ExchangeOrder, view: AccountView, flags: AssetFlags, no_shorting: bool
) -> None:
    """Refuse what the shares or the buying power of the account do not cover.

    Args:
        draft: what was asked for.
        order: the same as it would be kept.
        view: the account without it.
        flags: of the name.
        no_shorting: of the account.
    """
    if view.closes(draft.symbol, draft.side):
        available = view.available(draft.symbol)
        if draft.quantity > available:
            raise _insufficient(draft, view, available)
        return
    if draft.side is Side.sell:
        _check_short(draft, view, flags, no_shorting)
    needed = view.need(order)
    if needed > view.buying_power:
        raise forbidden(
            "insufficient buying power",
            buying_power=str(view.buying_power),
            cost_basis=str(needed),
        )


def _check_short(draft: Draft, view: AccountView, flags: AssetFlags, no_shorting: bool) -> None:
    if no_shorting or view.multiplier == 1:
        raise forbidden("account is not allowed to short")
    if not (flags.shortable and flags.easy_to_borrow):
        raise unprocessable(f'asset "{draft.symbol}" cannot be sold short')
    if draft.quantity != draft.quantity.to_integral_value():
        raise unprocessable("fractional orders cannot be sold short")


def _insufficient(draft: Draft, view: AccountView, available: Decimal) -> Rejection:
    existing = view.quantity(draft.symbol)
    return forbidden(
        f"insufficient qty available for order (requested: {draft.quantity:f}, "
        f"available: {available:f})",
        symbol=draft.symbol,
        available=f"{available:f}",
        existing_qty=f"{existing:f}",
        held_for_orders=f"{abs(existing) - available:f}",
    )


def _may_cross(draft: Draft, order: ExchangeOrder) -> bool:
    """Return whether two opposite orders could meet: always, unless both have limits apart."""
    if draft.type is not OrderType.limit or order.type is not OrderType.limit:
        return True
    first, second = draft.limit_price, order.limit_price
    if first is None or second is None:
        return True
    buy, sell = (first, second) if draft.side is Side.buy else (second, first)
    return buy >= sell


def require_known(symbol: str, known: tuple[str, ...]) -> None:
    """Refuse a name that the exchange does not list."""
    if symbol not in known:
        raise malformed(f'asset "{symbol}" not found')
