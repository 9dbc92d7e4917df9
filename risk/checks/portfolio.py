"""What is checked of a whole book: exposures, sectors, cash, turnover and counts, at worst fills.

A basket is judged as if its sells had filled before its buys, each at its limit, because no buy is
sent before the sells' state is known; one order is a basket that stands alone, and then every
order that is open may fill or not, whichever is worse.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from risk.checks.arithmetic import NAN, ZERO, Found, above, below, breach, largest, unless
from risk.checks.order import is_counted, parent_shares, volume
from risk.checks.prices import Worst, buy_price, mark, worst_case
from risk.gateway.limits import GatewayLimits
from risk.gateway.records import Side
from risk.gateway.state import GatewayState, OpenOrder, ProposedOrder
from risk.gateway.verdict import ReasonCode


@dataclass(frozen=True, slots=True)
class Book:
    """What the account may look like after a basket.

    Args:
        worst: by symbol, of every name that is held, open or proposed.
        adding: the names in which the basket does more than reduce.
        nav: account currency; NaN where not known.
        buys: to be paid at worst, open orders included, account currency.
        proposed_buys: the part of it that the basket adds.
        sells: what the basket's sells bring at their limits, account currency.
        traded: notional of all orders, proposed and open, that the totals do not include.
    """

    worst: dict[str, Worst]
    adding: frozenset[str]
    nav: Decimal
    buys: Decimal
    proposed_buys: Decimal
    sells: Decimal
    traded: Decimal


BookCheck = Callable[[GatewayState, Book, GatewayLimits], Found]


def book_after(
    state: GatewayState,
    orders: Sequence[ProposedOrder],
    adding: frozenset[str],
    limits: GatewayLimits,
) -> Book:
    """Return the book after a basket: its sells have filled, its buys fill at worst.

    Args:
        state: before it.
        orders: the basket; one order alone is taken to fill or not, whichever is worse.
        adding: the names in which it does more than reduce.
        limits: with the collar.
    """
    ids = {order.request.client_order_id for order in orders}
    still_open = [item for item in state.open_orders or () if item.client_order_id not in ids]
    proposed = [as_open(order) for order in orders]
    by_name: dict[str, list[OpenOrder]] = {}
    for item in (*still_open, *proposed):
        by_name.setdefault(item.symbol, []).append(item)
    for symbol in state.positions or ():
        by_name.setdefault(symbol, [])
    worst = {symbol: worst_case(state, symbol, items, limits) for symbol, items in by_name.items()}
    buys = _cost(state, still_open, limits)
    proposed_buys = _cost(state, proposed, limits)
    new = [item for item in (*still_open, *proposed) if not is_counted(state, item.client_order_id)]
    alone = len(orders) == 1
    sells = [item for item in proposed if item.side is Side.sell]
    for item in () if alone else sells:
        worst[item.symbol] = _after_sale(state, item, worst[item.symbol])
    return Book(
        worst=worst,
        adding=adding,
        nav=state.account.equity if state.account is not None else NAN,
        buys=buys + proposed_buys,
        proposed_buys=proposed_buys,
        sells=ZERO if alone else sum((_proceeds(item) for item in sells), ZERO),
        traded=_cost(state, new, limits) + _worth_of_sells(state, new),
    )


def names_are_small(_state: GatewayState, book: Book, limits: GatewayLimits) -> Found:
    """Refuse to make a position too large (6)."""
    allowed = limits.max_weight * book.nav
    found: Found = ()
    for symbol in sorted(book.adding):
        gross = book.worst[symbol].gross
        found += above(ReasonCode.position_cap, "max_weight", allowed, gross, symbol)
    return found


def exposure_is_small(state: GatewayState, book: Book, limits: GatewayLimits) -> Found:
    """Refuse too much gross or net exposure, and more than the ramp leaves (7, 41)."""
    if state.positions is None or state.open_orders is None:
        gross = net = NAN
    else:
        gross = sum((item.gross for item in book.worst.values()), ZERO)
        high = sum((item.high for item in book.worst.values()), ZERO)
        low = sum((item.low for item in book.worst.values()), ZERO)
        net = largest(abs(high), abs(low))
    ramp = NAN if state.ramp is None else state.ramp
    return (
        *above(ReasonCode.gross_exposure, "max_gross", limits.max_gross * book.nav, gross),
        *above(ReasonCode.net_exposure, "max_net", limits.max_net * book.nav, net),
        *above(ReasonCode.ramp, "", ramp * book.nav, gross),
    )


def sectors_are_small(state: GatewayState, book: Book, limits: GatewayLimits) -> Found:
    """Refuse too much of one sector; a name whose sector is not known counts in every one (8)."""
    found: Found = ()
    judged: set[str] = set()
    for symbol in sorted(book.adding):
        sector = sector_of(state, symbol)
        if sector is None:
            found += (breach(ReasonCode.sector_missing, "", "a sector", None, symbol),)
        else:
            judged.add(sector)
    for sector in sorted(judged):
        total = sum(
            (
                item.gross
                for symbol, item in book.worst.items()
                if sector_of(state, symbol) in (sector, None)
            ),
            ZERO,
        )
        found += above(
            ReasonCode.sector_cap, "max_sector", limits.max_sector * book.nav, total, sector
        )
    return found


def cash_is_left(state: GatewayState, book: Book, limits: GatewayLimits) -> Found:
    """Refuse when too little cash would be left, or the broker would not lend it (9)."""
    account = state.account
    if account is None or state.open_orders is None:
        return (breach(ReasonCode.cash_floor, "min_cash", limits.min_cash, None),)
    left = account.cash + book.sells - book.buys
    return (
        *below(ReasonCode.cash_floor, "min_cash", limits.min_cash * book.nav, left),
        *above(ReasonCode.buying_power, "", account.buying_power + book.sells, book.proposed_buys),
    )


def turnover_is_small(state: GatewayState, book: Book, limits: GatewayLimits) -> Found:
    """Refuse to trade too much in a day or a week; open orders count as if they filled (11)."""
    today = state.day.notional if state.day is not None else NAN
    week = NAN if state.week_notional is None else state.week_notional
    traded = NAN if state.open_orders is None or state.counted is None else book.traded
    return (
        *above(
            ReasonCode.turnover_day,
            "max_turnover_day",
            limits.max_turnover_day * book.nav,
            today + traded,
        ),
        *above(
            ReasonCode.turnover_week,
            "max_turnover_week",
            limits.max_turnover_week * book.nav,
            week + traded,
        ),
    )


BOOK_CHECKS: tuple[BookCheck, ...] = (
    names_are_small,
    exposure_is_small,
    sectors_are_small,
    cash_is_left,
    turnover_is_small,
)


def orders_are_few(
    state: GatewayState, orders: Sequence[ProposedOrder], limits: GatewayLimits
) -> Found:
    """Refuse too many orders or slices in a day (12); a later slice is no new order."""
    new = [order for order in orders if not is_counted(state, order.request.client_order_id)]
    parents = {_parent(order) for order in new} - set(state.parents or ())
    known = state.day if state.parents is not None and state.counted is not None else None
    return (
        *above(
            ReasonCode.orders_day,
            "max_orders_day",
            limits.max_orders_day,
            None if known is None else known.orders + len(parents),
        ),
        *above(
            ReasonCode.slices_day,
            "max_slices_day",
            limits.max_slices_day,
            None if known is None else known.slices + len(new),
        ),
    )


def decision_is_short(orders: Sequence[ProposedOrder], names: int, limits: GatewayLimits) -> Found:
    """Refuse more parents than the decision's names call for (12).

    Args:
        orders: the basket.
        names: in the decision's weights or held.
        limits: with the number for each name.
    """
    parents = len({_parent(order) for order in orders})
    allowed = limits.max_orders_per_name * names
    return above(ReasonCode.orders_decision, "max_orders_per_name", allowed, parents)


def basket_is_consistent(
    state: GatewayState, orders: Sequence[ProposedOrder], limits: GatewayLimits
) -> Found:
    """Refuse an id that stands twice, both sides of a name, too much volume together (5, 15, 17).

    Sells must stand before buys: the basket is judged as if they were done by then.
    """
    found: Found = ()
    seen: set[str] = set()
    sides: dict[str, set[Side]] = {}
    shares: dict[tuple[str, str, Side], Decimal] = {}
    for order in orders:
        request = order.request
        fresh = request.client_order_id not in seen
        found += unless(
            fresh, ReasonCode.duplicate_order, "once", request.client_order_id, request.symbol
        )
        seen.add(request.client_order_id)
        sides.setdefault(request.symbol, set()).add(request.side)
        new = ZERO if is_counted(state, request.client_order_id) else request.quantity
        total = shares.get(_parent(order), parent_shares(state, order))
        shares[_parent(order)] = total + new
    for symbol in sorted(name for name, both in sides.items() if len(both) > 1):
        found += (breach(ReasonCode.wash_trade, "", "one side", "buy and sell", symbol),)
    for (_, symbol, _), total in shares.items():
        allowed = limits.max_parent_adv * volume(state, symbol)
        found += above(ReasonCode.participation_order, "max_parent_adv", allowed, total, symbol)
    return found


def sector_of(state: GatewayState, symbol: str) -> str | None:
    """Return the sector of a name; None where not known."""
    facts = state.facts.get(symbol)
    return facts.sector if facts is not None else None


def _parent(order: ProposedOrder) -> tuple[str, str, Side]:
    return order.decision_id, order.request.symbol, order.request.side


def as_open(order: ProposedOrder) -> OpenOrder:
    """Return a proposed order as one that may fill."""
    request = order.request
    return OpenOrder(
        request.client_order_id,
        request.symbol,
        request.side,
        request.quantity,
        request.limit_price,
    )


def _cost(state: GatewayState, items: Sequence[OpenOrder], limits: GatewayLimits) -> Decimal:
    """Return what these buys may cost together."""
    return sum(
        (
            item.remaining * buy_price(item.limit_price, mark(state, item.symbol), limits)
            for item in items
            if item.side is Side.buy
        ),
        ZERO,
    )


def _worth_of_sells(state: GatewayState, items: Sequence[OpenOrder]) -> Decimal:
    return sum(
        (item.remaining * mark(state, item.symbol) for item in items if item.side is Side.sell),
        ZERO,
    )


def _proceeds(item: OpenOrder) -> Decimal:
    return NAN if item.limit_price is None else item.remaining * item.limit_price


def _after_sale(state: GatewayState, item: OpenOrder, before: Worst) -> Worst:
    """Return a name's worst once a sell of the basket has filled."""
    return Worst(before.high - item.remaining * mark(state, item.symbol), before.low)
