"""From the weights of a decision to the orders that limits and capital ramp allow today.

What they do not allow is carried to the next session, and said so: a first day from cash to
invested takes several. The planner reads the same limits and the same state as the checks and
leaves room for each of them, so that what it plans passes; it never judges itself.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from risk.checks.arithmetic import NAN, ONE, ZERO, Found, exactly, number
from risk.checks.gate import ACCOUNT
from risk.checks.order import (
    name_is_allowed,
    name_trades,
    no_round_trip,
    position_is_explained,
    quote_is_fresh,
    quote_is_plausible,
    symbol_is_one,
    traded_today,
    volume,
)
from risk.checks.portfolio import Book, book_after, sector_of
from risk.checks.prices import Worst, held, reference_price
from risk.gateway.execution import (
    ExecutionSettings,
    cut,
    floored,
    last_slice_at,
    limit_price,
    slices_until,
)
from risk.gateway.identity import client_order_id
from risk.gateway.limits import GatewayLimits
from risk.gateway.records import Decision, OrderRequest, Side
from risk.gateway.state import GatewayState, ProposedOrder
from risk.gateway.verdict import Scope

_NAME_CHECKS = (
    symbol_is_one,
    name_is_allowed,
    name_trades,
    quote_is_fresh,
    quote_is_plausible,
    position_is_explained,
    no_round_trip,
)


@dataclass(frozen=True, slots=True)
class Carried:
    """What a decision wants and today's plan leaves.

    Args:
        symbol: of the name.
        side: that it would be traded on.
        notional: account currency, >= 0, at the reference price; NaN where there is none.
        reason: the limit, setting or reason code that leaves it.
    """

    symbol: str
    side: Side
    notional: Decimal
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done now, sells before buys, and what is left for later."""

    orders: tuple[ProposedOrder, ...]
    carried: tuple[Carried, ...]


@dataclass(frozen=True, slots=True)
class _Wish:
    """A trade that a name calls for; all of it is tradable today, the size is not settled.

    Args:
        symbol: of the name.
        side: of the trade.
        shares: wanted, > 0.
        allowed: of them by the limits of the name alone.
        reason: what holds `allowed` below `shares`; empty where nothing does.
        reference: account currency per share.
        limit: price of the order.
        cost: account currency per share, at worst.
        step: smallest difference of two quantities.
        opening: adds to |position|.
        uses: the room of the account that it takes from.
    """

    symbol: str
    side: Side
    shares: Decimal
    allowed: Decimal
    reason: str
    reference: Decimal
    limit: Decimal
    cost: Decimal
    step: Decimal
    opening: bool
    uses: tuple[str, ...]


def plan(
    decision: Decision, state: GatewayState, limits: GatewayLimits, settings: ExecutionSettings
) -> Plan:
    """Return today's orders towards a decision, and what is carried.

    Args:
        decision: that was accepted; its weights are what the account shall come to hold.
        state: with account, positions, prices and totals.
        limits: in force.
        settings: of the execution.

    Raises:
        ValueError: if account, positions, open orders or totals are not known: there is nothing
            to plan with, and whoever asks has to judge the gate first.
    """
    if (
        state.account is None
        or state.positions is None
        or state.open_orders is None
        or state.day is None
    ):
        raise ValueError("account, positions, open orders and totals must be known to plan")
    with exactly():
        carried: list[Carried] = []
        wishes: list[_Wish] = []
        for item in _wishes(decision, state, limits, settings):
            if isinstance(item, _Wish):
                wishes.append(item)
            else:
                carried.append(item)
        open_book = book_after(state, (), frozenset(), limits)
        room = _room(state, open_book, limits, settings)
        offers = room.share([_Offer(wish, wish.allowed, wish.reason) for wish in wishes])
        sells, unsold = _orders(
            [offer for offer in offers if offer.wish.side is Side.sell],
            room,
            decision,
            state,
            limits,
            settings,
        )
        _add_room_for_buys(room, state, open_book, _sold(sells), limits)
        buys, unbought = _orders(
            room.share([offer for offer in offers if offer.wish.side is Side.buy]),
            room,
            decision,
            state,
            limits,
            settings,
        )
        return Plan((*sells, *buys), (*carried, *unsold, *unbought))


def _sold(sells: Sequence[ProposedOrder]) -> dict[str, tuple[Decimal, Decimal]]:
    """Return what sells bring, by symbol: at their limits, and at their reference prices."""
    sold: dict[str, tuple[Decimal, Decimal]] = {}
    for order in sells:
        request = order.request
        at_limit, at_mark = sold.get(request.symbol, (ZERO, ZERO))
        sold[request.symbol] = (
            at_limit + request.quantity * number(request.limit_price),
            at_mark + request.quantity * order.reference_price,
        )
    return sold


def _wishes(
    decision: Decision, state: GatewayState, limits: GatewayLimits, settings: ExecutionSettings
) -> Iterator[_Wish | Carried]:
    """Yield what each name calls for, or why it cannot be traded today."""
    nav = state.account.equity if state.account is not None else NAN
    blocked = _no_new_risk(state, limits)
    for symbol in sorted({*decision.weights, *(state.positions or {})}):
        weight = decision.weights.get(symbol, ZERO)
        reference = reference_price(state.quotes.get(symbol))
        side, shares = _difference(state, symbol, weight * nav, reference)
        notional = shares * reference
        if side is None:
            continue
        leaving = weight == 0 and side is Side.sell
        if not leaving and notional < settings.drift_band * nav:
            yield Carried(symbol, side, notional, "drift_band")
            continue
        reason = _obstacle(decision, state, symbol, side, limits)
        if not reason and side is Side.buy and held(state, symbol) >= 0:
            reason = blocked
        wish = None if reason else _wish(state, symbol, side, shares, weight, limits, settings)
        yield wish or Carried(symbol, side, notional, reason or "max_collar")


def _difference(
    state: GatewayState, symbol: str, target: Decimal, reference: Decimal
) -> tuple[Side | None, Decimal]:
    """Return the side and the shares from what is held to a target; NaN where no price is."""
    shares = target / reference - held(state, symbol)
    if shares == 0 or (target == 0 and held(state, symbol) == 0):
        return None, ZERO
    if target == 0:
        shares = -held(state, symbol)  # leaving a name needs no price to know how much
    return (Side.sell if shares < 0 else Side.buy), abs(shares)


def _no_new_risk(state: GatewayState, limits: GatewayLimits) -> str:
    """Return why nothing may be added to the account today; empty where it may."""
    if state.reducing is not False:
        return "reduce_only"
    found: Found = ()
    for check in ACCOUNT:
        found += check(state, limits)
    stopping = [item.code.name for item in found if item.code.scope is Scope.exposure]
    return stopping[0] if stopping else next((item.code.name for item in found), "")


def _obstacle(
    decision: Decision, state: GatewayState, symbol: str, side: Side, limits: GatewayLimits
) -> str:
    """Return why a name cannot be traded today whatever the size; empty where it can."""
    if any(order.symbol == symbol for order in state.open_orders or ()):
        return "open_order"
    if not (ZERO <= decision.weights.get(symbol, ZERO) <= ONE):
        return "weight_invalid"
    probe = ProposedOrder(
        OrderRequest("", symbol, side, ONE, None), decision.id, 0, 1, state.now, NAN
    )
    found: Found = ()
    for check in _NAME_CHECKS:
        found += check(state, probe, limits)
    passed = {Scope.exposure, Scope.size} if state.reducing is True else set()
    names = [item.code.name for item in found if item.code.scope not in passed]
    if side is Side.buy and sector_of(state, symbol) is None:
        names.append("sector_missing")
    return names[0] if names else ""


def _wish(
    state: GatewayState,
    symbol: str,
    side: Side,
    shares: Decimal,
    weight: Decimal,
    limits: GatewayLimits,
    settings: ExecutionSettings,
) -> _Wish | None:
    """Return what a tradable name calls for; None where no limit price is inside the collar."""
    nav = state.account.equity if state.account is not None else NAN
    reference = reference_price(state.quotes.get(symbol))
    facts = state.facts.get(symbol)
    sigma = number(facts.sigma) if facts is not None else NAN
    if not sigma > 0:
        return None
    collar = min(limits.max_collar, limits.max_collar_sigmas * sigma)
    price = limit_price(side, reference, settings.limit_offset, collar)
    if price is None:
        return None
    asset = state.assets[symbol]
    step = ONE.scaleb(-limits.quantity_decimals) if asset.fractionable else ONE
    cost = max(price, reference)
    before = held(state, symbol)
    opening = side is Side.buy and before >= 0
    caps: dict[str, Decimal] = {}
    uses: tuple[str, ...] = ()
    if state.reducing is False:
        adv = volume(state, symbol)
        traded = traded_today(state, symbol, "")
        caps = {
            "max_parent_adv": limits.max_parent_adv * adv,
            "max_day_adv": limits.max_day_adv * adv - traded,
        }
        uses = _TURNOVER
    if opening:
        caps["ramp"] = weight * number(state.ramp) * nav / reference - before
        caps["max_weight"] = (limits.max_weight * nav - before * reference) / cost
        uses += (*_BUYING, f"max_sector:{sector_of(state, symbol)}")
    else:
        caps["position"] = abs(before)
    reason, allowed = _tightest(shares, caps)
    return _Wish(symbol, side, shares, allowed, reason, reference, price, cost, step, opening, uses)


def _tightest(shares: Decimal, caps: Mapping[str, Decimal]) -> tuple[str, Decimal]:
    """Return which cap binds most and the shares that it leaves; a cap of NaN leaves none."""
    reason, allowed = "", shares
    for name, cap in caps.items():
        if not cap >= allowed:
            reason, allowed = name, cap if cap > 0 else ZERO
    return reason, allowed


@dataclass(frozen=True, slots=True)
class _Offer:
    """How much of a wish is left by the limits so far, and which one holds it back."""

    wish: _Wish
    shares: Decimal
    reason: str


@dataclass(slots=True)
class _Room:
    """What the whole account still bears; it shrinks as orders are placed.

    Args:
        money: account currency by limit; a sector's is under its own key.
        orders: parents.
        slices: orders as they are sent.
    """

    money: dict[str, Decimal]
    orders: int
    slices: int

    def share(self, offers: Sequence[_Offer]) -> list[_Offer]:
        """Return offers cut so that together they stay in the room, each by the same factor."""
        demand: dict[str, Decimal] = {}
        for offer in offers:
            for key in self._uses(offer.wish):
                demand[key] = demand.get(key, ZERO) + offer.shares * offer.wish.cost
        return [self._cut(offer, demand) for offer in offers]

    def fitting(self, offer: _Offer) -> _Offer:
        """Return an offer cut to what is left, on the grid of its quantities."""
        wish = offer.wish
        caps = {key: self.money[key] / wish.cost for key in self._uses(wish)}
        reason, shares = _tightest(offer.shares, caps)
        return _Offer(wish, floored(shares, wish.step), reason or offer.reason)

    def take(self, wish: _Wish, quantities: Sequence[Decimal]) -> None:
        """Book an order and its slices."""
        for key in self._uses(wish):
            self.money[key] -= sum(quantities, ZERO) * wish.cost
        self.orders -= 1
        self.slices -= len(quantities)

    def _uses(self, wish: _Wish) -> list[str]:
        return [key for key in wish.uses if key in self.money]

    def _cut(self, offer: _Offer, demand: Mapping[str, Decimal]) -> _Offer:
        caps = {
            key: offer.shares * (self.money[key] / demand[key])
            for key in self._uses(offer.wish)
            if not demand[key] <= self.money[key]
        }
        reason, shares = _tightest(offer.shares, caps)
        return _Offer(offer.wish, shares, reason or offer.reason)


_TURNOVER = ("max_turnover_day", "max_turnover_week")
_BUYING = ("min_cash", "buying_power", "max_gross", "max_net", "ramp")


def _room(
    state: GatewayState, open_book: Book, limits: GatewayLimits, settings: ExecutionSettings
) -> _Room:
    """Return the room for orders of either side."""
    nav = open_book.nav
    day = state.day
    if day is None:
        return _Room({key: ZERO for key in _TURNOVER}, 0, 0)
    traded = open_book.traded
    return _Room(
        {
            "max_turnover_day": limits.max_turnover_day * nav - day.notional - traded,
            "max_turnover_week": limits.max_turnover_week * nav
            - number(state.week_notional)
            - traded,
        },
        min(limits.max_orders_day, settings.max_trades_day) - day.orders,
        limits.max_slices_day - day.slices,
    )


def _add_room_for_buys(
    room: _Room,
    state: GatewayState,
    open_book: Book,
    sold: Mapping[str, tuple[Decimal, Decimal]],
    limits: GatewayLimits,
) -> None:
    """Add the room that buys find once the planned sells have filled.

    Args:
        room: to add to.
        state: before any order.
        open_book: the book if the open orders fill at worst.
        sold: by symbol, what the planned sells bring at their limits and at their marks.
        limits: in force.
    """
    account, nav = state.account, open_book.nav
    gross, high, low, sectors = ZERO, ZERO, ZERO, dict[str | None, Decimal]()
    for symbol, worst in open_book.worst.items():
        gone = sold.get(symbol, (ZERO, ZERO))[1]
        after = Worst(worst.high - gone, worst.low - gone)
        gross, high, low = gross + after.gross, high + after.high, low + after.low
        sector = sector_of(state, symbol)
        sectors[sector] = sectors.get(sector, ZERO) + after.gross
    brought = sum((at_limit for at_limit, _ in sold.values()), ZERO)
    cash = account.cash if account is not None else NAN
    power = account.buying_power if account is not None else NAN
    short = -low <= limits.max_net * nav
    room.money |= {
        "min_cash": cash + brought - open_book.buys - limits.min_cash * nav,
        "buying_power": power + brought,
        "max_gross": limits.max_gross * nav - gross,
        "max_net": limits.max_net * nav - high if short else ZERO,
        "ramp": number(state.ramp) * nav - gross,
    }
    for sector in {facts.sector for facts in state.facts.values()} - {None}:
        used = sectors.get(sector, ZERO) + sectors.get(None, ZERO)
        room.money[f"max_sector:{sector}"] = limits.max_sector * nav - used


def _orders(
    offers: Sequence[_Offer],
    room: _Room,
    decision: Decision,
    state: GatewayState,
    limits: GatewayLimits,
    settings: ExecutionSettings,
) -> tuple[list[ProposedOrder], list[Carried]]:
    """Return the orders of one side, the largest first, and what they leave."""
    orders: list[ProposedOrder] = []
    carried: list[Carried] = []
    for offer in sorted(offers, key=_by_size):
        fitting = room.fitting(offer)
        wish = fitting.wish
        quantities, reason = _quantities(fitting, room, state, limits, settings)
        if quantities:
            room.take(wish, quantities)
            orders += _proposed(wish, quantities, decision, state, limits, settings)
        left = wish.shares - sum(quantities, ZERO)
        if left >= wish.step or not quantities:
            carried.append(
                Carried(wish.symbol, wish.side, left * wish.reference, reason or "whole_share")
            )
    return orders, carried


def _quantities(
    offer: _Offer,
    room: _Room,
    state: GatewayState,
    limits: GatewayLimits,
    settings: ExecutionSettings,
) -> tuple[tuple[Decimal, ...], str]:
    """Return the slices that an offer becomes, and what holds it back."""
    wish = offer.wish
    if not offer.shares * wish.limit >= settings.min_notional:
        return (), offer.reason or "min_notional"
    if state.reducing is True:
        return (offer.shares,), offer.reason
    if room.orders < 1:
        return (), "max_trades_day"
    adv = volume(state, wish.symbol)
    nav = state.account.equity if state.account is not None else NAN
    largest = min(
        limits.max_quantity,
        limits.max_order_adv * adv,
        limits.max_order_weight * nav / wish.cost,
    )
    end = last_slice_at(state.hours, limits.close_buffer_s)
    in_time = slices_until(_start(state, limits), end, settings.slice_interval_s, limits.max_slices)
    most = min(in_time, room.slices)
    quantities = cut(
        offer.shares, wish.step, settings.slice_adv * adv, largest, settings.schedule, most
    )
    whole = sum(quantities, ZERO) == offer.shares
    return quantities, offer.reason if whole else "max_slices"


def _proposed(
    wish: _Wish,
    quantities: Sequence[Decimal],
    decision: Decision,
    state: GatewayState,
    limits: GatewayLimits,
    settings: ExecutionSettings,
) -> Iterator[ProposedOrder]:
    """Yield the slices of an order, one after each interval."""
    start = _start(state, limits)
    for row, quantity in enumerate(quantities):
        leg = client_order_id(decision.account, decision.id, wish.symbol, wish.side, row)
        yield ProposedOrder(
            OrderRequest(leg, wish.symbol, wish.side, quantity, wish.limit),
            decision.id,
            row,
            len(quantities),
            start + row * timedelta(seconds=settings.slice_interval_s),
            wish.reference,
        )


def _start(state: GatewayState, limits: GatewayLimits) -> datetime:
    """Return when the first slice may go: now, or when the opening has calmed down."""
    if state.hours is None:
        return state.now
    calm = state.hours.open + timedelta(seconds=float(limits.open_buffer_s))
    return max(state.now, calm)


def _by_size(offer: _Offer) -> tuple[bool, Decimal, str]:
    """Return the order of placing: what covers a short first, then the largest."""
    wish = offer.wish
    return wish.opening, -offer.shares * wish.cost, wish.symbol
