"""From the weights of a decision to the orders that limits and capital ramp allow today.

What they do not allow is carried to the next session, and said so: a first day from cash to
invested takes several. The planner reads the same limits and the same state as the checks and
leaves room for each of them, so that what it plans passes; it never judges itself.
"""

from collections.abc import Iterator, Sequence
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
from risk.checks.portfolio import book_after, sector_of
from risk.checks.prices import held, reference_price
from risk.gateway.execution import (
    ExecutionSettings,
    cut,
    last_slice_at,
    limit_price,
    slices_until,
)
from risk.gateway.identity import client_order_id
from risk.gateway.limits import GatewayLimits
from risk.gateway.records import Account, Decision, OrderRequest, Side
from risk.gateway.room import (
    BUYING,
    TURNOVER,
    Offer,
    Room,
    Wish,
    add_room_for_buys,
    room_for_orders,
    sector_key,
    tightest_cap,
)
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
class _Task:
    """What a plan is made from."""

    decision: Decision
    state: GatewayState
    account: Account
    limits: GatewayLimits
    settings: ExecutionSettings

    @property
    def nav(self) -> Decimal:
        """Return what weights are fractions of, account currency."""
        return self.account.equity

    @property
    def limited_nav(self) -> Decimal:
        """Return what limits are fractions of here: less, as prices move until orders are sent."""
        return self.account.equity * (ONE - self.settings.headroom)


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
    if state.account is None or None in (state.positions, state.open_orders, state.day):
        raise ValueError("account, positions, open orders and totals must be known to plan")
    task = _Task(decision, state, state.account, limits, settings)
    with exactly():
        found = list(_wishes(task))
        wishes = [item for item in found if isinstance(item, Wish)]
        carried = [item for item in found if isinstance(item, Carried)]
        open_book = book_after(state, (), frozenset(), limits)
        room = room_for_orders(state, open_book, task.limited_nav, limits, settings)
        offers = room.share([Offer(wish, wish.allowed, wish.reason) for wish in wishes])
        sells, unsold = _orders(
            task, room, [offer for offer in offers if offer.wish.side is Side.sell]
        )
        add_room_for_buys(room, state, open_book, _sold(sells), task.limited_nav, limits)
        buys, unbought = _orders(
            task, room, room.share([offer for offer in offers if offer.wish.side is Side.buy])
        )
        return Plan((*sells, *buys), (*carried, *unsold, *unbought))


def _wishes(task: _Task) -> Iterator[Wish | Carried]:
    """Yield what each name calls for, or why it cannot be traded today."""
    state = task.state
    blocked = _no_new_risk(task)
    for symbol in sorted({*task.decision.weights, *(state.positions or {})}):
        weight = task.decision.weights.get(symbol, ZERO)
        reference = reference_price(state.quotes.get(symbol))
        difference = _difference(task, symbol, weight, reference)
        if difference == 0:
            continue
        side, shares = (Side.sell if difference < 0 else Side.buy), abs(difference)
        notional = shares * reference
        leaving = weight == 0 and side is Side.sell
        if not leaving and notional < task.settings.drift_band * task.nav:
            yield Carried(symbol, side, notional, "drift_band")
            continue
        reason = _obstacle(task, symbol, side)
        if not reason and side is Side.buy and held(state, symbol) >= 0:
            reason = blocked
        wish = None if reason else _wish(task, symbol, side, shares)
        yield wish or Carried(symbol, side, notional, reason or "max_collar")


def _difference(task: _Task, symbol: str, weight: Decimal, reference: Decimal) -> Decimal:
    """Return the signed shares from what is held to a weight; NaN where it takes a price."""
    if weight == 0:
        return -held(task.state, symbol)
    return weight * task.nav / reference - held(task.state, symbol)


def _no_new_risk(task: _Task) -> str:
    """Return why nothing may be added to the account today; empty where it may."""
    if task.state.reducing is not False:
        return "reduce_only"
    found: Found = ()
    for check in ACCOUNT:
        found += check(task.state, task.limits)
    return next((item.code.name for item in found), "")


def _obstacle(task: _Task, symbol: str, side: Side) -> str:
    """Return why a name cannot be traded today whatever the size; empty where it can."""
    state = task.state
    if any(order.symbol == symbol for order in state.open_orders or ()):
        return "open_order"
    if not ZERO <= task.decision.weights.get(symbol, ZERO) <= ONE:
        return "weight_invalid"
    probe = ProposedOrder(
        OrderRequest("", symbol, side, ONE, None), task.decision.id, 0, 1, state.now, NAN
    )
    found: Found = ()
    for check in _NAME_CHECKS:
        found += check(state, probe, task.limits)
    passed = {Scope.exposure, Scope.size} if state.reducing is True else set()
    names = [item.code.name for item in found if item.code.scope not in passed]
    if side is Side.buy and sector_of(state, symbol) is None:
        names.append("sector_missing")
    return names[0] if names else ""


def _wish(task: _Task, symbol: str, side: Side, shares: Decimal) -> Wish | None:
    """Return what a tradable name calls for; None where no limit price is inside the collar."""
    state, limits = task.state, task.limits
    reference = reference_price(state.quotes.get(symbol))
    facts = state.facts.get(symbol)
    sigma = number(facts.sigma) if facts is not None else NAN
    if not sigma > 0:
        return None
    collar = min(limits.max_collar, limits.max_collar_sigmas * sigma)
    price = limit_price(side, reference, task.settings.limit_offset, collar)
    if price is None:
        return None
    fractional = state.assets[symbol].fractionable is True
    opening = side is Side.buy and held(state, symbol) >= 0
    cost = max(price, reference)
    reason, allowed = tightest_cap(shares, _caps(task, symbol, reference, cost, opening))
    return Wish(
        symbol=symbol,
        side=side,
        shares=shares,
        allowed=allowed,
        reason=reason,
        reference=reference,
        limit=price,
        cost=cost,
        step=ONE.scaleb(-limits.quantity_decimals) if fractional else ONE,
        opening=opening,
        uses=_uses(task, symbol, opening),
    )


def _caps(
    task: _Task, symbol: str, reference: Decimal, cost: Decimal, opening: bool
) -> dict[str, Decimal]:
    """Return the shares that the limits of a name allow, by limit."""
    state, limits, before = task.state, task.limits, held(task.state, symbol)
    caps: dict[str, Decimal] = {}
    if state.reducing is False:
        adv, traded = volume(state, symbol), traded_today(state, symbol, "")
        caps["max_parent_adv"] = limits.max_parent_adv * adv
        caps["max_day_adv"] = limits.max_day_adv * adv - traded
    if not opening:
        return caps | {"position": abs(before)}
    ramped = task.decision.weights[symbol] * number(state.ramp) * task.nav
    room = limits.max_weight * task.limited_nav - before * reference
    return caps | {"ramp": ramped / reference - before, "max_weight": room / cost}


def _uses(task: _Task, symbol: str, opening: bool) -> tuple[str, ...]:
    """Return the room of the account that an order takes from."""
    common = TURNOVER if task.state.reducing is False else ()
    return (*common, *BUYING, sector_key(task.state, symbol)) if opening else common


def _orders(
    task: _Task, room: Room, offers: Sequence[Offer]
) -> tuple[list[ProposedOrder], list[Carried]]:
    """Return the orders of one side, the largest first, and what they leave."""
    orders: list[ProposedOrder] = []
    carried: list[Carried] = []
    for offer in sorted(offers, key=_by_size):
        fitting = room.fitting(offer)
        wish = fitting.wish
        quantities, reason = _quantities(task, room, fitting)
        if quantities:
            room.take(wish, quantities)
            orders += _proposed(task, wish, quantities)
        left = wish.shares - sum(quantities, ZERO)
        if left >= wish.step or not quantities:
            notional = left * wish.reference
            carried.append(Carried(wish.symbol, wish.side, notional, reason or "whole_share"))
    return orders, carried


def _quantities(task: _Task, room: Room, offer: Offer) -> tuple[tuple[Decimal, ...], str]:
    """Return the slices that an offer becomes, and what holds it back."""
    state, limits, settings, wish = task.state, task.limits, task.settings, offer.wish
    if not offer.shares * wish.limit >= settings.min_notional:
        return (), offer.reason or "min_notional"
    if state.reducing is True:
        return (offer.shares,), offer.reason
    if room.orders < 1:
        return (), "max_trades_day"
    adv = volume(state, wish.symbol)
    largest = min(
        limits.max_quantity,
        limits.max_order_adv * adv,
        limits.max_order_weight * task.limited_nav / wish.cost,
    )
    in_time = slices_until(
        _start(task),
        last_slice_at(state.hours, limits.close_buffer_s),
        settings.slice_interval_s,
        limits.max_slices,
    )
    most = min(in_time, room.slices)
    preferred = settings.slice_adv * adv
    quantities = cut(offer.shares, wish.step, preferred, largest, settings.schedule, most)
    whole = sum(quantities, ZERO) == offer.shares
    return quantities, offer.reason if whole else "max_slices"


def _proposed(task: _Task, wish: Wish, quantities: Sequence[Decimal]) -> Iterator[ProposedOrder]:
    """Yield the slices of an order, one after each interval."""
    decision, start = task.decision, _start(task)
    for row, quantity in enumerate(quantities):
        leg = client_order_id(decision.account, decision.id, wish.symbol, wish.side, row)
        yield ProposedOrder(
            OrderRequest(leg, wish.symbol, wish.side, quantity, wish.limit),
            decision.id,
            row,
            len(quantities),
            start + row * timedelta(seconds=task.settings.slice_interval_s),
            wish.reference,
        )


def _start(task: _Task) -> datetime:
    """Return when the first slice may go: now, or when the opening has calmed down."""
    state = task.state
    if state.hours is None:
        return state.now
    calm = state.hours.open + timedelta(seconds=float(task.limits.open_buffer_s))
    return max(state.now, calm)


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


def _by_size(offer: Offer) -> tuple[bool, Decimal, str]:
    """Return the order of placing: what covers a short first, then the largest."""
    wish = offer.wish
    return wish.opening, -offer.shares * wish.cost, wish.symbol
