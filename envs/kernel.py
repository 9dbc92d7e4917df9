"""The one accounting of cash, positions and costs: reset and step as pure functions.

Decide with everything known at the close of row t; trade at the open of t+1 (its close where the
source has no opens); mark at the close of t+1. E environments x A agents x N assets, one time index
per environment; the market arrays are shared. Money is float64. No clock, no randomness, no I/O.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from agents.market_tensors import MarketTensors
from envs.costs import CostBreakdown, CostModel, borrow_cost, impact_rate, trading_cost
from market.bars import TRADING_DAYS

# A pass shrinks the error of NAV-after-cost by about the cost rate (6e-4 for 6 bp).
FIXED_POINT_PASSES = 4


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
    return notional / _divisor(books.cash + notional.sum(-1)).unsqueeze(-1)


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
    t = books.t + 1
    last_close = prices.close[books.t].unsqueeze(1)  # (E, 1, N)
    fill = prices.open[t].unsqueeze(1)
    close = prices.close[t].unsqueeze(1)
    nav_before = nav(books.cash, books.shares, last_close)

    cash, shares = _pay_out(books, last_close, prices.payout[t].unsqueeze(1))
    owed = (-cash).clamp(min=0.0) + (-shares * last_close).clamp(min=0.0).sum(-1)
    borrow = borrow_cost(owed, model, scale)
    cash = cash + cash.clamp(min=0.0) * prices.cash_return - borrow

    held = shares * fill
    nav_at_fill = cash + held.sum(-1)
    # Exactly what is held is no order: trading back to it at a price that has moved since would
    # turn every no-trade band into a daily rebalance.
    ordered = target != held_weights(books, prices)
    trade, cost = _solve_trades(target, ordered, held, cash, t, prices, model, scale)
    paid = CostBreakdown(*cost, borrow)

    # Sold is sold: a remnant of rounding would still count as a position with an entry and an age.
    shares = torch.where(trade == -held, 0.0, shares + trade / fill)
    cash = cash - trade.sum(-1) - sum(cost)
    nav_after = nav(cash, shares, close)
    turnover = trade.abs().sum(-1) / _divisor(nav_at_fill)
    peak_nav = torch.maximum(books.peak_nav, nav_after)
    return (
        Books(t, cash, shares, peak_nav),
        Outcome(nav_before, nav_after, paid, turnover, trade),
    )


def _divisor(value: Tensor) -> Tensor:
    """Return the NAV to divide by; a book that has lost everything holds 0 of it, not 0 / 0."""
    return torch.where(value == 0.0, 1.0, value)


def _pay_out(books: Books, last_close: Tensor, payout: Tensor) -> tuple[Tensor, Tensor]:
    """Turn delisted positions into cash at the payout fraction of their last close."""
    pays = payout.isfinite()
    proceeds = torch.where(pays, books.shares * last_close * payout, 0.0).sum(-1)
    return books.cash + proceeds, torch.where(pays, 0.0, books.shares)


def _solve_trades(
    target: Tensor,
    ordered: Tensor,
    held: Tensor,
    cash: Tensor,
    t: Tensor,
    prices: Prices,
    model: CostModel,
    scale: Tensor,
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Find trades that reach the target as a fraction of NAV after their own cost.

    Cost depends on the trades and NAV after cost on the cost: a fixed point, found in a few passes.
    The target may borrow only what it asks for (weights that sum to more than one).
    """
    tradable = prices.tradable[t].unsqueeze(1) & ordered
    volatility = prices.daily_volatility[t - 1].unsqueeze(1)
    adv = None if prices.adv is None else prices.adv[t - 1].unsqueeze(1)
    nav_at_fill = cash + held.sum(-1)
    may_owe = (target.sum(-1) - 1.0).clamp(min=0.0) * nav_at_fill

    trade, paid = torch.zeros_like(held), torch.zeros_like(cash)
    for _ in range(FIXED_POINT_PASSES):
        nav_after_cost = (nav_at_fill - paid).unsqueeze(-1)
        trade = torch.where(tradable, target * nav_after_cost - held, 0.0)
        trade = _within_cash(trade, cash - paid + may_owe)
        rate = impact_rate(trade, model, volatility, adv)
        cost = trading_cost(trade, model, scale, rate)
        paid = cost[0] + cost[1] + cost[2]
    # At the rates of the last pass a smaller buy never costs more, so nothing is owed after this,
    # however far the passes were from the fixed point.
    trade = _within_cash(trade, cash - paid + may_owe)
    return trade, trading_cost(trade, model, scale, rate)


def _within_cash(trade: Tensor, spendable: Tensor) -> Tensor:
    """Shrink all buys alike where they cost more than the cash at hand plus the sells."""
    buys = trade.clamp(min=0.0)
    bought = buys.sum(-1)
    sold = bought - trade.sum(-1)
    affordable = (spendable + sold).clamp(min=0.0) / bought.clamp(min=1e-300)
    return trade - buys * (1.0 - affordable.clamp(max=1.0)).unsqueeze(-1)
