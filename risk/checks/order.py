"""What is checked of one order by itself: its words, its price, its size, its place among others.

Each check is a pure function of (state, order, limits) and returns what it finds; `ORDER_CHECKS`
is the list of them. A value that is missing, stale or no number is always a violation.
"""

import re
from collections.abc import Callable
from decimal import Decimal

from risk.checks.arithmetic import (
    NAN,
    ONE,
    ZERO,
    Found,
    above,
    below,
    breach,
    gap,
    largest,
    number,
    seconds,
    unless,
)
from risk.checks.prices import buy_price, held, mark, reference_price
from risk.gateway.identity import client_order_id
from risk.gateway.limits import GatewayLimits
from risk.gateway.records import Side
from risk.gateway.state import GatewayState, NameDay, ProposedOrder
from risk.gateway.verdict import ReasonCode

_SYMBOL = re.compile(r"[A-Z][A-Z0-9]{0,5}(\.[A-Z]{1,2})?")  # capitals of ASCII: no look-alikes
TICK = Decimal("0.01")
SMALL_TICK = Decimal("0.0001")  # below one unit of currency (Regulation NMS, rule 612)

OrderCheck = Callable[[GatewayState, ProposedOrder, GatewayLimits], Found]


def tick(price: Decimal) -> Decimal:
    """Return the smallest step of a limit price.

    >>> tick(Decimal("1.00")), tick(Decimal("0.9999"))
    (Decimal('0.01'), Decimal('0.0001'))
    """
    return TICK if price >= ONE else SMALL_TICK


def symbol_is_one(_state: GatewayState, order: ProposedOrder, _limits: GatewayLimits) -> Found:
    """Refuse what cannot be a symbol (30)."""
    symbol = order.request.symbol
    if _SYMBOL.fullmatch(symbol):
        return ()
    return (breach(ReasonCode.symbol_invalid, "", _SYMBOL.pattern, ascii(symbol)[:40], ""),)


def quantity_is_one(state: GatewayState, order: ProposedOrder, limits: GatewayLimits) -> Found:
    """Refuse a quantity that is not positive or has more decimals than the name takes (30)."""
    request = order.request
    asset = state.assets.get(request.symbol)
    fractional = asset is not None and asset.fractionable is True
    decimals = limits.quantity_decimals if fractional else 0
    step = ONE.scaleb(-decimals)
    if request.quantity > 0 and request.quantity % step == 0:
        return ()
    allowed = f"a positive multiple of {step:f}"
    return (
        breach(
            ReasonCode.quantity_invalid,
            "quantity_decimals",
            allowed,
            request.quantity,
            request.symbol,
        ),
    )


def price_is_one(_state: GatewayState, order: ProposedOrder, _limits: GatewayLimits) -> Found:
    """Refuse a limit price that is missing, not positive or between two ticks (3, 29, 30)."""
    price, symbol = order.request.limit_price, order.request.symbol
    if price is None:
        return (breach(ReasonCode.market_order, "", "a limit price", None, symbol),)
    if price > 0 and price % tick(price) == 0:
        return ()
    allowed = f"a positive multiple of {tick(price):f}"
    return (breach(ReasonCode.price_invalid, "", allowed, price, symbol),)


def id_is_its_own(state: GatewayState, order: ProposedOrder, _limits: GatewayLimits) -> Found:
    """Refuse an id that is not that of the leg, or was used before (15)."""
    request = order.request
    account = state.account.id if state.account is not None else None
    expected = None
    if account and order.decision_id and request.symbol and order.slice >= 0:
        expected = client_order_id(
            account, order.decision_id, request.symbol, request.side, order.slice
        )
    found: Found = ()
    if request.client_order_id != expected:
        found = (
            breach(ReasonCode.foreign_id, "", expected, request.client_order_id, request.symbol),
        )
    fresh = None if state.used_ids is None else request.client_order_id not in state.used_ids
    return found + unless(
        fresh, ReasonCode.duplicate_order, "an unused id", request.client_order_id, request.symbol
    )


def name_is_allowed(state: GatewayState, order: ProposedOrder, _limits: GatewayLimits) -> Found:
    """Refuse names that are not on the allow-list, or are restricted or in quarantine (18, 23)."""
    symbol = order.request.symbol
    listed = None if state.allowed is None else symbol in state.allowed
    free = None if state.restricted is None else symbol not in state.restricted
    sound = None if state.quarantined is None else symbol not in state.quarantined
    return (
        *unless(listed, ReasonCode.not_allowed, "the allow-list", symbol, symbol),
        *unless(free, ReasonCode.restricted, "no restriction", symbol, symbol),
        *unless(sound, ReasonCode.quarantined, "no quarantine", symbol, symbol),
    )


def name_trades(state: GatewayState, order: ProposedOrder, _limits: GatewayLimits) -> Found:
    """Refuse names that the broker does not know or does not trade now (22)."""
    symbol = order.request.symbol
    asset = state.assets.get(symbol)
    tradable = None if asset is None else asset.tradable
    return unless(tradable, ReasonCode.not_tradable, True, tradable, symbol)


def quote_is_fresh(state: GatewayState, order: ProposedOrder, limits: GatewayLimits) -> Found:
    """Refuse without a usable quote that is young and not crossed (4)."""
    symbol = order.request.symbol
    quote = state.quotes.get(symbol)
    if quote is None or not reference_price(quote) > 0:
        shown = None if quote is None else quote.last
        return (breach(ReasonCode.quote_missing, "", "a positive price", shown, symbol),)
    age = seconds(state.now - quote.at)
    found = above(ReasonCode.quote_stale, "max_quote_age_s", limits.max_quote_age_s, age, symbol)
    found += below(
        ReasonCode.quote_stale, "max_clock_skew_s", -limits.max_clock_skew_s, age, symbol
    )
    if quote.bid is not None and quote.ask is not None and not quote.bid <= quote.ask:
        found += (breach(ReasonCode.quote_crossed, "", quote.ask, quote.bid, symbol),)
    return found


def quote_is_plausible(state: GatewayState, order: ProposedOrder, limits: GatewayLimits) -> Found:
    """Refuse a quote far from the last close or from the second source's price (4)."""
    symbol = order.request.symbol
    price = reference_price(state.quotes.get(symbol))
    facts, second = state.facts.get(symbol), state.second.get(symbol)
    close = number(None if facts is None else facts.close)
    other = reference_price(second)
    current = None if facts is None else facts.close_session
    known = state.previous_session is not None
    at, least = (None if second is None else second.at), state.previous_close
    return (
        *above(
            ReasonCode.quote_jump, "max_close_gap", limits.max_close_gap, gap(price, close), symbol
        ),
        *above(
            ReasonCode.second_source,
            "max_source_gap",
            limits.max_source_gap,
            gap(price, other),
            symbol,
        ),
        *unless(
            known and current == state.previous_session,
            ReasonCode.close_stale,
            state.previous_session,
            current,
            symbol,
        ),
        *unless(
            at is not None and least is not None and least <= at <= state.now,
            ReasonCode.second_stale,
            least,
            at,
            symbol,
        ),
    )


def limit_is_near(state: GatewayState, order: ProposedOrder, limits: GatewayLimits) -> Found:
    """Refuse a limit price outside the collar, the percentage's and the volatility's (3)."""
    symbol = order.request.symbol
    away = gap(number(order.request.limit_price), reference_price(state.quotes.get(symbol)))
    facts = state.facts.get(symbol)
    sigma = number(None if facts is None else facts.sigma)
    allowed = limits.max_collar_sigmas * sigma if sigma > 0 else NAN
    return (
        *above(ReasonCode.price_collar, "max_collar", limits.max_collar, away, symbol),
        *above(ReasonCode.sigma_collar, "max_collar_sigmas", allowed, away, symbol),
    )


def size_is_small(state: GatewayState, order: ProposedOrder, limits: GatewayLimits) -> Found:
    """Refuse too many shares, or too much money, in one order (1, 2)."""
    request = order.request
    symbol, quantity = request.symbol, request.quantity
    nav = state.account.equity if state.account is not None else NAN
    notional = quantity * buy_price(request.limit_price, mark(state, symbol), limits)
    return (
        *above(ReasonCode.quantity_cap, "max_quantity", limits.max_quantity, quantity, symbol),
        *above(
            ReasonCode.quantity_adv,
            "max_order_adv",
            limits.max_order_adv * volume(state, symbol),
            quantity,
            symbol,
        ),
        *above(
            ReasonCode.notional_cap,
            "max_order_weight",
            limits.max_order_weight * nav,
            notional,
            symbol,
        ),
    )


def volume_bears_it(state: GatewayState, order: ProposedOrder, limits: GatewayLimits) -> Found:
    """Refuse a parent, or a day, that would be too much of the market's volume (5)."""
    request = order.request
    symbol = request.symbol
    adv = volume(state, symbol)
    new = ZERO if is_counted(state, request.client_order_id) else request.quantity
    return (
        *above(
            ReasonCode.participation_order,
            "max_parent_adv",
            limits.max_parent_adv * adv,
            largest(parent_shares(state, order) + new, request.quantity),
            symbol,
        ),
        *above(
            ReasonCode.participation_day,
            "max_day_adv",
            limits.max_day_adv * adv,
            traded_today(state, symbol, request.client_order_id) + request.quantity,
            symbol,
        ),
    )


def no_opposite_is_open(state: GatewayState, order: ProposedOrder, _limits: GatewayLimits) -> Found:
    """Refuse while an order of the other side is open in the same name (17)."""
    request = order.request
    if state.open_orders is None:
        return (breach(ReasonCode.wash_trade, "", "open orders", None, request.symbol),)
    return tuple(
        breach(ReasonCode.wash_trade, "", "no opposite", other.client_order_id, request.symbol)
        for other in state.open_orders
        if other.symbol == request.symbol and other.side is not request.side
    )


def no_round_trip(state: GatewayState, order: ProposedOrder, _limits: GatewayLimits) -> Found:
    """Refuse the opposite of what was traded in the same session (20)."""
    request = order.request
    if state.name_day is None:
        return (breach(ReasonCode.round_trip, "", ZERO, None, request.symbol),)
    day = state.name_day.get(request.symbol, _NOTHING)
    opposite = day.sold if request.side is Side.buy else day.bought
    if opposite <= 0:
        return ()
    return (breach(ReasonCode.round_trip, "", ZERO, opposite, request.symbol),)


def short_is_borrowed(state: GatewayState, order: ProposedOrder, limits: GatewayLimits) -> Found:
    """Refuse to sell more than is held, at worst, beyond what may be short (19)."""
    request = order.request
    if request.side is Side.buy:
        return ()
    symbol = request.symbol
    after = held(state, symbol) - open_shares(state, order, Side.sell) - request.quantity
    short = -after * mark(state, symbol) if not after >= 0 else ZERO
    nav = state.account.equity if state.account is not None else NAN
    found = above(
        ReasonCode.short_sale, "max_short_weight", limits.max_short_weight * nav, short, symbol
    )
    if after >= 0:
        return found
    asset = state.assets.get(symbol)
    borrowed = None if asset is None else asset.shortable and asset.easy_to_borrow
    return found + unless(borrowed, ReasonCode.borrow_status, True, borrowed, symbol)


def position_is_explained(
    state: GatewayState, order: ProposedOrder, limits: GatewayLimits
) -> Found:
    """Refuse a name whose position jumped away from what our fills explain (23)."""
    symbol = order.request.symbol
    known = state.ledger_positions
    expected = known.get(symbol, ZERO) if known is not None else NAN
    return above(
        ReasonCode.position_jump,
        "max_position_jump",
        limits.max_position_jump * abs(expected),
        abs(held(state, symbol) - expected),
        symbol,
    )


def slices_are_few(state: GatewayState, order: ProposedOrder, limits: GatewayLimits) -> Found:
    """Refuse a parent of too many slices, or a slice that is none of its parent's (12)."""
    symbol = order.request.symbol
    last = min(limits.max_slices, order.slices) - 1
    found = above(ReasonCode.slices_parent, "max_slices", limits.max_slices, order.slices, symbol)
    return found + above(ReasonCode.slices_parent, "max_slices", last, order.slice, symbol)


def reduces_if_it_must(state: GatewayState, order: ProposedOrder, _limits: GatewayLimits) -> Found:
    """Refuse what does not reduce, in reduce-only mode (28)."""
    if state.reducing is False or reduces(state, order):
        return ()
    request = order.request
    return (
        breach(
            ReasonCode.reduce_only,
            "",
            f"less than {held(state, request.symbol):f}",
            f"{request.side.value} {request.quantity:f}",
            request.symbol,
        ),
    )


def reduces(state: GatewayState, order: ProposedOrder) -> bool:
    """Return whether an order makes |position| smaller and never turns its sign, at worst.

    All open orders of its side are taken to fill before it. What is not known does not reduce.
    """
    before = held(state, order.request.symbol)
    moved = open_shares(state, order, order.request.side) + order.request.quantity
    if order.request.side is Side.sell:
        return moved > 0 and before - moved >= 0
    return moved > 0 and before + moved <= 0


def open_shares(state: GatewayState, order: ProposedOrder, side: Side) -> Decimal:
    """Return the shares that other open orders of a side may still fill; NaN if not known."""
    if state.open_orders is None:
        return NAN
    request = order.request
    return sum(
        (
            other.remaining
            for other in state.open_orders
            if other.symbol == request.symbol
            and other.side is side
            and other.client_order_id != request.client_order_id
        ),
        ZERO,
    )


def volume(state: GatewayState, symbol: str) -> Decimal:
    """Return the average daily volume in shares; NaN if not known."""
    facts = state.facts.get(symbol)
    adv = number(None if facts is None else facts.adv)
    return adv if adv > 0 else NAN


def is_counted(state: GatewayState, client_order_id: str) -> bool:
    """Return whether the totals of the state include an order."""
    return state.counted is not None and client_order_id in state.counted


def parent_shares(state: GatewayState, order: ProposedOrder) -> Decimal:
    """Return the shares of all counted slices of an order's parent; NaN if not known."""
    if state.parents is None or state.counted is None:
        return NAN
    return state.parents.get((order.decision_id, order.request.symbol, order.request.side), ZERO)


def traded_today(state: GatewayState, symbol: str, without: str) -> Decimal:
    """Return the shares of a name that were traded today or may still be, without one order."""
    if state.name_day is None or state.open_orders is None:
        return NAN
    day = state.name_day.get(symbol, _NOTHING)
    still_open = sum(
        (
            other.remaining
            for other in state.open_orders
            if other.symbol == symbol and other.client_order_id != without
        ),
        ZERO,
    )
    return day.bought + day.sold + still_open


_NOTHING = NameDay(ZERO, ZERO)

ORDER_CHECKS: tuple[OrderCheck, ...] = (
    symbol_is_one,
    quantity_is_one,
    price_is_one,
    id_is_its_own,
    name_is_allowed,
    name_trades,
    quote_is_fresh,
    quote_is_plausible,
    limit_is_near,
    size_is_small,
    volume_bears_it,
    no_opposite_is_open,
    no_round_trip,
    short_is_borrowed,
    position_is_explained,
    slices_are_few,
    reduces_if_it_must,
)
