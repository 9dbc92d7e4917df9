"""How much the limits of a whole account still bear, shared fairly among the trades."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from risk.checks.arithmetic import NAN, ZERO, number
from risk.checks.portfolio import Book, sector_of
from risk.checks.prices import Worst
from risk.gateway.execution import ExecutionSettings, floored
from risk.gateway.limits import GatewayLimits
from risk.gateway.records import Side
from risk.gateway.state import GatewayState

TURNOVER = ("max_turnover_day", "max_turnover_week")
BUYING = ("min_cash", "buying_power", "max_gross", "max_net", "ramp")


@dataclass(frozen=True, slots=True)
class Wish:
    """A trade that a name calls for; it may be traded today, but its size is not settled.

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


@dataclass(frozen=True, slots=True)
class Offer:
    """How much of a wish the limits leave so far, and which one holds it back."""

    wish: Wish
    shares: Decimal
    reason: str


@dataclass(slots=True)
class Room:
    """What the whole account still bears; it shrinks as orders are placed.

    Args:
        money: account currency by limit; a sector's is under `sector_key`.
        orders: parents.
        slices: orders as they are sent.
    """

    money: dict[str, Decimal]
    orders: int
    slices: int

    def share(self, offers: Sequence[Offer]) -> list[Offer]:
        """Return offers cut so that together they stay in the room, each by the same factor."""
        demand: dict[str, Decimal] = {}
        for offer in offers:
            for key in self._uses(offer.wish):
                demand[key] = demand.get(key, ZERO) + offer.shares * offer.wish.cost
        return [self._cut(offer, demand) for offer in offers]

    def fitting(self, offer: Offer) -> Offer:
        """Return an offer cut to what is left, on the grid of its quantities."""
        wish = offer.wish
        caps = {key: self.money[key] / wish.cost for key in self._uses(wish)}
        reason, shares = tightest_cap(offer.shares, caps)
        return Offer(wish, floored(shares, wish.step), reason or offer.reason)

    def take(self, wish: Wish, quantities: Sequence[Decimal]) -> None:
        """Book an order and its slices."""
        for key in self._uses(wish):
            self.money[key] -= sum(quantities, ZERO) * wish.cost
        self.orders -= 1
        self.slices -= len(quantities)

    def _uses(self, wish: Wish) -> list[str]:
        return [key for key in wish.uses if key in self.money]

    def _cut(self, offer: Offer, demand: Mapping[str, Decimal]) -> Offer:
        caps = {
            key: offer.shares * (self.money[key] / demand[key])
            for key in self._uses(offer.wish)
            if not demand[key] <= self.money[key]
        }
        reason, shares = tightest_cap(offer.shares, caps)
        return Offer(offer.wish, shares, reason or offer.reason)


def tightest_cap(shares: Decimal, caps: Mapping[str, Decimal]) -> tuple[str, Decimal]:
    """Return which cap binds most and the shares that it leaves; a cap of NaN leaves none."""
    reason, allowed = "", shares
    for name, cap in caps.items():
        if not cap >= allowed:
            reason, allowed = name, cap if cap > 0 else ZERO
    return reason, allowed


def sector_key(state: GatewayState, symbol: str) -> str:
    """Return under which key a name's sector has its room."""
    return f"max_sector:{sector_of(state, symbol)}"


def room_for_orders(
    state: GatewayState,
    open_book: Book,
    nav: Decimal,
    limits: GatewayLimits,
    settings: ExecutionSettings,
) -> Room:
    """Return the room for orders of either side.

    Args:
        state: before any order; its totals must be known.
        open_book: the book if the open orders fill at worst.
        nav: that limits are fractions of, account currency.
        limits: in force.
        settings: with the trades of a day.
    """
    day = state.day
    if day is None:
        return Room(dict.fromkeys(TURNOVER, ZERO), 0, 0)
    week = number(state.week_notional)
    return Room(
        {
            "max_turnover_day": limits.max_turnover_day * nav - day.notional - open_book.traded,
            "max_turnover_week": limits.max_turnover_week * nav - week - open_book.traded,
        },
        min(limits.max_orders_day, settings.max_trades_day) - day.orders,
        limits.max_slices_day - day.slices,
    )


def add_room_for_buys(
    room: Room,
    state: GatewayState,
    open_book: Book,
    sold: Mapping[str, tuple[Decimal, Decimal]],
    nav: Decimal,
    limits: GatewayLimits,
) -> None:
    """Add the room that buys find once the planned sells have filled.

    Args:
        room: to add to.
        state: before any order.
        open_book: the book if the open orders fill at worst.
        sold: by symbol, what the planned sells bring at their limits and at their marks.
        nav: that limits are fractions of, account currency.
        limits: in force.
    """
    account = state.account
    gross, high, low = ZERO, ZERO, ZERO
    sectors: dict[str | None, Decimal] = {}
    for symbol, worst in open_book.worst.items():
        gone = sold.get(symbol, (ZERO, ZERO))[1]
        after = Worst(worst.high - gone, worst.low - gone)
        gross, high, low = gross + after.gross, high + after.high, low + after.low
        sector = sector_of(state, symbol)
        sectors[sector] = sectors.get(sector, ZERO) + after.gross
    brought = sum((at_limit for at_limit, _ in sold.values()), ZERO)
    cash = account.cash if account is not None else NAN
    power = account.buying_power if account is not None else NAN
    long_enough = -low <= limits.max_net * nav
    room.money |= {
        "min_cash": cash + brought - open_book.buys - limits.min_cash * open_book.nav,
        "buying_power": power + brought,
        "max_gross": limits.max_gross * nav - gross,
        "max_net": limits.max_net * nav - high if long_enough else ZERO,
        "ramp": number(state.ramp) * nav - gross,
    }
    for sector in {facts.sector for facts in state.facts.values()} - {None}:
        used = sectors.get(sector, ZERO) + sectors.get(None, ZERO)
        room.money[f"max_sector:{sector}"] = limits.max_sector * nav - used
