"""The one accounting of cash, positions and costs: reset and step as pure functions.

Decide with everything known at the close of row t; trade at the open of t+1 (its close where the
source has no opens); mark at the close of t+1. E environments x A agents x N assets, one time index
per environment; the market arrays are shared. Money is float64. No clock, no randomness, no I/O.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from agents.market_tensors import MarketTensors
from envs.costs import (
    CostBreakdown,
    CostModel,
    borrow_cost,
    impact_rate,
    trading_cost,
    unit_impact,
)
from market.bars import TRADING_DAYS
from risk.memory_layout import settled

# Newton steps of NAV-after-cost are exact but for names whose side they change. Impact rates move
# with the trades, and each further pass shrinks that error by about a hundred.
PASSES = 3
PASSES_WITH_IMPACT = 4
SMALLEST_SUM = 1e-300


@dataclass(frozen=True, slots=True, eq=False)
class Prices:
    """What the kernel needs to know of the market, shared by all environments.

    Args:
        open: (T, N) fill price of session t, > 0.
        close: (T, N) last known close, > 0.
        tradable: (T, N) an order can be filled in session t.
        payout: (T, N) fraction of the last close paid in cash after a delisting, else NaN.
        daily_volatility: (T, N) fraction, for impact.
        adv: (T, N) account currency a day, or None.
        cash_return: interest per session on positive cash, a fraction.
    """

    open: Tensor
    close: Tensor
    tradable: Tensor
    payout: Tensor
    daily_volatility: Tensor
    adv: Tensor | None
    cash_return: float

    @classmethod
    def of(cls, market: MarketTensors, cash_rate: float) -> "Prices":
        """Take the prices of a market; `cash_rate` is annual."""
        return cls(
            open=market.open,
            close=market.close,
            tradable=market.tradable,
            payout=market.payout,
            daily_volatility=market.volatility / TRADING_DAYS**0.5,
            adv=market.adv,
            cash_return=(1.0 + cash_rate) ** (1.0 / TRADING_DAYS) - 1.0,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Session:
    """What one step needs of the market: from the close of t to the close of t + 1.

    Args:
        last_close: (E, 1, N) at the close of t.
        fill: (E, 1, N) price of a trade.
        per_fill: (E, 1, N) its reciprocal.
        close: (E, 1, N) at the close of t + 1.
        tradable: (E, 1, N) 1 where an order can be filled, else 0.
        payout: (E, 1, N) fraction of the last close paid in cash after a delisting, else 0.
        kept: (E, 1, N) 0 after a delisting, else 1.
        unit_impact: (E, 1, N) impact rate of a flow of one, known at the close of t, or None.
        cash_return: interest on positive cash, a fraction.
    """

    last_close: Tensor
    fill: Tensor
    per_fill: Tensor
    close: Tensor
    tradable: Tensor
    payout: Tensor
    kept: Tensor
    unit_impact: Tensor | None
    cash_return: float

    @classmethod
    def after(cls, t: Tensor, prices: Prices, model: CostModel, last_close: Tensor) -> "Session":
        """Gather the sessions after the close of rows `t` (E,), whose closes are at hand."""

        def rows(table: Tensor, at: Tensor) -> Tensor:
            return table[at].unsqueeze(1)

        adv = None if prices.adv is None else rows(prices.adv, t)
        fill, payout = rows(prices.open, t + 1), rows(prices.payout, t + 1)
        return cls(
            last_close=last_close,
            fill=fill,
            per_fill=1.0 / fill,
            close=rows(prices.close, t + 1),
            tradable=rows(prices.tradable, t + 1).to(torch.float64),
            payout=payout.nan_to_num(nan=0.0),
            kept=payout.isnan().to(torch.float64),
            unit_impact=unit_impact(model, rows(prices.daily_volatility, t), adv),
            cash_return=prices.cash_return,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Books:
    """The state of every book after the close of row `t`.

    Args:
        t: (E,) int64 row of the market arrays.
        cash: (E, A) account currency.
        shares: (E, A, N) signed quantity.
        peak_nav: (E, A) running maximum of NAV, from the starting capital.
    """

    t: Tensor
    cash: Tensor
    shares: Tensor
    peak_nav: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What one step did to every book; money in account currency.

    Args:
        nav_before: (E, A) at the close of t.
        nav_after: (E, A) at the close of t+1.
        cost: what was paid, by cause.
        turnover: (E, A) buys plus sells, as a fraction of NAV at the fill.
        trade: (E, A, N) signed notional at the fill price.
    """

    nav_before: Tensor
    nav_after: Tensor
    cost: CostBreakdown
    turnover: Tensor
    trade: Tensor


def nav(cash: Tensor, shares: Tensor, price: Tensor) -> Tensor:
    """Return cash plus the value of all positions, (E, A), for prices (E, 1, N)."""
    return cash + (shares * price).sum(-1)


def reset(start: Tensor, capital: float, n_agents: int, n_assets: int) -> Books:
    """Open every book in cash at the close of row `start` (E,)."""
    shape = (start.shape[0], n_agents)
    cash = torch.full(shape, capital, dtype=torch.float64, device=start.device)
    shares = torch.zeros((*shape, n_assets), dtype=torch.float64, device=start.device)
    return Books(start, cash, shares, cash.clone())


def held_weights(books: Books, prices: Prices) -> Tensor:
    """Return the (E, A, N) weights of the positions at the close of `books.t`."""
    notional = books.shares * prices.close[books.t].unsqueeze(1)
    return weights_of(notional, books.cash + notional.sum(-1))


def weights_of(notional: Tensor, worth: Tensor) -> Tensor:
    """Return (E, A, N) positions as fractions of the NAV (E, A)."""
    return notional * settled(1.0 / _divisor(worth)).unsqueeze(-1)


def step(
    books: Books, target: Tensor, prices: Prices, model: CostModel, scale: Tensor
) -> tuple[Books, Outcome]:
    """Rebalance every book at the next fill price, then mark it at the next close.

    Args:
        books: state after the close of t.
        target: (E, A, N) weights as fractions of NAV after costs; the rest is cash. A name that
            cannot be traded keeps its position, and buys shrink where that leaves too little cash.
            A name whose target equals its weight in `held_weights` bit for bit is not traded.
        prices: the market.
        model: cost parameters.
        scale: (E, 1) multiple of all costs.

    Returns:
        The state after the close of t+1, and what happened.
    """
    last_close = prices.close[books.t].unsqueeze(1)
    session = Session.after(books.t, prices, model, last_close)
    return trade_session(books, target, held_weights(books, prices), session, model, scale)


def trade_session(
    books: Books,
    target: Tensor,
    weights: Tensor,
    session: Session,
    model: CostModel,
    scale: Tensor,
) -> tuple[Books, Outcome]:
    """Take the step of `step` with its prices at hand.

    Args:
        books: as for `step`.
        target: as for `step`.
        weights: (E, A, N) the books' `held_weights`.
        session: the one after `books.t`.
        model: cost parameters.
        scale: (E, 1) multiple of all costs.
    """
    nav_before = nav(books.cash, books.shares, session.last_close)
    cash, shares = _pay_out(books, session)
    owed = (-cash).clamp(min=0.0) + (-shares * session.last_close).clamp(min=0.0).sum(-1)
    borrow = borrow_cost(owed, model, scale)
    cash = cash + cash.clamp(min=0.0) * session.cash_return - borrow

    held = shares * session.fill
    nav_at_fill = cash + held.sum(-1)
    # Exactly what is held is no order: trading back to it at a price that has moved since would
    # turn every no-trade band into a daily rebalance.
    ordered = torch.where(target != weights, session.tradable, 0.0)
    done = _solve_trades(target, ordered, held, cash, nav_at_fill, session, model, scale)

    # Sold is sold: a remnant of rounding would still count as a position with an entry and an age.
    shares = torch.where(done.trade == -held, 0.0, shares + done.trade * session.per_fill)
    cash = cash - done.spent - sum(done.cost)
    nav_after = nav(cash, shares, session.close)
    turnover = done.traded / _divisor(nav_at_fill)
    peak_nav = torch.maximum(books.peak_nav, nav_after)
    return (
        Books(books.t + 1, cash, shares, peak_nav),
        Outcome(nav_before, nav_after, CostBreakdown(*done.cost, borrow), turnover, done.trade),
    )


class _Trades(NamedTuple):
    """A basket per book: (E, A, N) trades, and (E, A) buys plus sells, buys less sells, costs."""

    trade: Tensor
    traded: Tensor
    spent: Tensor
    cost: tuple[Tensor, Tensor, Tensor]


def _divisor(value: Tensor) -> Tensor:
    """Return the NAV to divide by; a book that has lost everything holds 0 of it, not 0 / 0."""
    return torch.where(value == 0.0, 1.0, value)


def _pay_out(books: Books, session: Session) -> tuple[Tensor, Tensor]:
    """Turn delisted positions into cash at the payout fraction of their last close."""
    proceeds = (books.shares * session.last_close * session.payout).sum(-1)
    return books.cash + proceeds, books.shares * session.kept


def _solve_trades(
    target: Tensor,
    ordered: Tensor,
    held: Tensor,
    cash: Tensor,
    nav_at_fill: Tensor,
    session: Session,
    model: CostModel,
    scale: Tensor,
) -> _Trades:
    """Find trades that reach the target as a fraction of NAV after their own cost.

    Cost depends on the trades, NAV after cost on the cost, and impact on everybody's trades: a
    fixed point. At given impact rates the cost is linear in NAV, but for names whose side changes,
    so every pass is a Newton step. Where the sells do not pay for the buys, because a name cannot
    be traded, all buys of the book shrink alike; the target may borrow only what it asks for
    (weights that sum to more than one).
    """
    spendable = cash + (target.sum(-1) - 1.0).clamp(min=0.0) * nav_at_fill
    asked, given = settled(target * ordered), settled(held * ordered)
    asked_total = asked.sum(-1)
    linear = scale * model.linear_rate

    paid, filled = torch.zeros_like(cash), torch.ones_like(cash)  # cost; share of the buys
    up = down = None  # impact rates of buys and of sells
    for later in reversed(range(PASSES if session.unit_impact is None else PASSES_WITH_IMPACT)):
        wanted = asked * (nav_at_fill - paid).unsqueeze(-1) - given
        buys = wanted.clamp(min=0.0)
        sells = buys - wanted
        if session.unit_impact is not None:
            rate = settled(impact_rate(buys * filled.unsqueeze(-1) - sells, session.unit_impact))
            up, down = rate.clamp(min=0.0), (-rate).clamp(min=0.0)
        bought, sold = buys.sum(-1), sells.sum(-1)
        buy_impact, sell_impact = _impact(buys, up), _impact(sells, down)
        buying = _cost(bought, buy_impact, linear, scale)
        selling = _cost(sold, sell_impact, linear, scale)
        if later:
            asked_buys = torch.where(wanted > 0.0, asked, 0.0)
            less = asked_buys.sum(-1)
            more = asked_total - less
            cheaper = _cost(less, _impact(asked_buys, up), linear, scale)
            dearer = _cost(more, _impact(asked - asked_buys, down), linear, scale)
            change = (filled * buying + selling - paid) / (1.0 + filled * cheaper - dearer)
            paid = settled(paid + change)
            bought, sold = bought - less * change, sold + more * change
            buying, selling = buying - cheaper * change, selling + dearer * change
        # Nothing is owed after this, however far the passes are from the fixed point.
        affordable = (spendable + sold - selling) / (bought + buying).clamp(min=SMALLEST_SUM)
        filled = settled(affordable.clamp(0.0, 1.0))
    bought = filled * bought
    impact = None
    if buy_impact is not None and sell_impact is not None:
        impact = filled * buy_impact + sell_impact
    return _Trades(
        trade=settled(buys * filled.unsqueeze(-1) - sells),
        traded=bought + sold,
        spent=bought - sold,
        cost=trading_cost(bought + sold, impact, model, scale),
    )


def _impact(notional: Tensor, rate: Tensor | None) -> Tensor | None:
    """Return the (E, A) impact of one side of a basket, before scaling."""
    return None if rate is None else (notional * rate).sum(-1)


def _cost(total: Tensor, impact: Tensor | None, linear: Tensor, scale: Tensor) -> Tensor:
    """Return the (E, A) cost of one side of a basket."""
    return total * linear if impact is None else total * linear + impact * scale
