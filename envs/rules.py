"""Exits and breakers of every book: the state that they need and where they act.

The rules themselves are pure functions of `risk/`, the same ones that guard live trading; here they
get each book's entry prices, ages, streaks and cooldowns. Books without rules cost nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.mandates import Mandate
from agents.market_tensors import MarketTensors
from envs.kernel import Books, Outcome, Prices
from risk.breakers import breaker_exposure
from risk.exits import exit_now, next_age, next_cooldown, next_entry, next_peak


@dataclass(frozen=True, slots=True, eq=False)
class RuleState:
    """What the rules remember between two sessions.

    Args:
        entry: (E, A, N) average cost per share; 0 where nothing is held.
        peak: (E, A, N) highest close since entry.
        age: (E, A, N) int64 sessions since entry.
        barred: (E, A, N) int64 decisions that may not enter yet.
        losing_days: (E, A) int64 losing sessions in a row.
        peak_nav: (E, A) running maximum of NAV since the last stop ended.
        stopped: (E, A) int64 decisions that a breaker's stop still lasts.
    """

    entry: Tensor
    peak: Tensor
    age: Tensor
    barred: Tensor
    losing_days: Tensor
    peak_nav: Tensor
    stopped: Tensor


class TradingRules:
    """The exits and breakers of A mandates over E environments."""

    def __init__(self, mandates: Sequence[Mandate], market: MarketTensors, capital: float) -> None:
        self._mandates = tuple(mandates)
        self._market = market
        self._capital = capital
        self.state: RuleState

    @classmethod
    def of(
        cls, mandates: Sequence[Mandate], market: MarketTensors, capital: float
    ) -> "TradingRules | None":
        """Return the rules, or None where no mandate has any."""
        if any(mandate.exits.active or mandate.breakers.active for mandate in mandates):
            return cls(mandates, market, capital)
        return None

    def reset(self, n_envs: int, n_agents: int) -> None:
        """Forget everything."""
        book = (n_envs, n_agents)
        position = (*book, self._market.n_assets)
        price = torch.zeros(position, dtype=torch.float64, device=self._market.device)
        sessions = torch.zeros(position, dtype=torch.int64, device=self._market.device)
        self.state = RuleState(
            entry=price,
            peak=price,
            age=sessions,
            barred=sessions,
            losing_days=sessions[..., 0],
            peak_nav=torch.full_like(price[..., 0], self._capital),
            stopped=sessions[..., 0],
        )

    def apply(self, target: Tensor, books: Books, prices: Prices) -> Tensor:
        """Close positions that hit an exit and scale books that trip a breaker.

        Args:
            target: (E, A, N) weights after the action map.
            books: state at the decision.
            prices: the market.

        Returns:
            (E, A, N) the same weights or smaller ones.
        """
        state = self.state
        price = prices.close[books.t]  # (E, N)
        nav = books.cash + (books.shares * price.unsqueeze(1)).sum(-1)
        peak_nav = torch.maximum(state.peak_nav, nav)
        kept, barred, stopped, ended = [], [], [], []
        for a, mandate in enumerate(self._mandates):
            held = books.shares[:, a] > 0.0
            leave = held & exit_now(
                state.entry[:, a], price, state.peak[:, a], state.age[:, a], mandate.exits
            )
            free = ~leave & (state.barred[:, a] == 0)
            barred.append(next_cooldown(state.barred[:, a], leave, mandate.exits.cooldown or 0))
            factor = breaker_exposure(
                1.0 - nav[:, a] / peak_nav[:, a],
                nav[:, a] / self._capital,
                state.losing_days[:, a],
                self._market.market_volatility[books.t],
                mandate.breakers,
            )
            # A stop that is already running counts down; it is not prolonged by its own drawdown.
            running = state.stopped[:, a] > 0
            trips = (factor == 0.0) & ~running
            cooldown = mandate.breakers.cooldown
            left = next_cooldown(state.stopped[:, a], trips, cooldown or 0)
            stopped.append(left)
            # Without a cooldown a stop lasts as long as its cause.
            ended.append((trips | running) & (left == 0) & (cooldown is not None))
            allowed = torch.where(running, 0.0, factor).unsqueeze(-1)
            kept.append(torch.where(free, target[:, a], 0.0) * allowed)
        over = torch.stack(ended, 1)
        self.state = RuleState(
            entry=state.entry,
            peak=state.peak,
            age=state.age,
            barred=torch.stack(barred, 1),
            losing_days=torch.where(over, 0, state.losing_days),
            peak_nav=torch.where(over, nav, peak_nav),
            stopped=torch.stack(stopped, 1),
        )
        return torch.stack(kept, 1)

    def update(self, before: Books, after: Books, outcome: Outcome, prices: Prices) -> None:
        """Book the fills of one step and the marks at its close."""
        state = self.state
        fill = prices.open[after.t].unsqueeze(1)
        close = prices.close[after.t].unsqueeze(1)
        lost = outcome.nav_after < outcome.nav_before
        self.state = RuleState(
            entry=next_entry(state.entry, before.shares, after.shares, fill),
            peak=next_peak(state.peak, before.shares, after.shares, close),
            age=next_age(state.age, before.shares, after.shares),
            barred=state.barred,
            losing_days=torch.where(lost, state.losing_days + 1, 0),
            peak_nav=state.peak_nav,
            stopped=state.stopped,
        )
