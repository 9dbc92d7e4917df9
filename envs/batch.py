"""Many environments at once: the only place where the action map meets the kernel.

An environment is a row of time indices into one shared market. Training, backtest and the
PettingZoo environment all step this class; a batch of one is the same as one row of a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.action_map import ActionMap
from agents.mandates import Mandate
from agents.market_tensors import MarketTensors
from agents.observation import book_observation
from agents.rewards import RewardInputs, RewardState, reward, stack_weights
from envs.costs import CostModel
from envs.kernel import Books, Outcome, Prices, held_weights, reset, step
from envs.rules import TradingRules

# What a session leaves of a book's NAV at least, for its reward: the log growth of a book that
# loses everything stays finite.
LEAST_LEFT = 1e-6


LARGEST_CAPITAL = 1e12  # beyond it float64 books no longer keep the cent over a long episode


@dataclass(slots=True)
class EnvSettings:
    """How an environment trades and how long an episode lasts."""

    costs: CostModel
    capital: float  # starting NAV of each book, account currency, in (0, 1e12]
    episode_sessions: int  # decisions in a training episode, >= 2
    ruin: float  # a book at or below this fraction of its capital is terminated, in [0, 1)

    def __post_init__(self) -> None:
        if not 0.0 < self.capital <= LARGEST_CAPITAL:
            raise ValueError(f"capital must be in (0, {LARGEST_CAPITAL:g}], was {self.capital}")
        if self.episode_sessions < 2:
            raise ValueError(f"episode_sessions must be >= 2, was {self.episode_sessions}")
        if not 0.0 <= self.ruin < 1.0:
            raise ValueError(f"ruin must be in [0, 1), was {self.ruin}")


@dataclass(frozen=True, slots=True, eq=False)
class BookObservation:
    """What the agents see of their own books; the market part is gathered by `t`.

    Args:
        t: (E,) row of the market arrays.
        asset: (E, A, N, B) float32.
        book: (E, A, K) float32.
    """

    t: Tensor
    asset: Tensor
    book: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Transition:
    """One step of every book.

    Args:
        reward: (E, A) float64.
        terms: (n_terms, E, A) the reward's unweighted terms.
        terminated: (E, A) ruined in this step.
        truncated: (E,) the data or the episode ended.
        target: (E, A, N) weights that were asked for.
        outcome: money, costs and trades.
    """

    reward: Tensor
    terms: Tensor
    terminated: Tensor
    truncated: Tensor
    target: Tensor
    outcome: Outcome


class BatchEnv:
    """E environments x A agents over one market.

    Args:
        market: the shared tensors.
        mandates: one per agent, in the order of every second axis.
        settings: costs, capital and episode.
        rows: sessions that may be visited.
        cash_rate: annual, earned on positive cash.
        cost_scale: (E,) multiple of all costs; ones where absent.
    """

    def __init__(
        self,
        market: MarketTensors,
        mandates: Sequence[Mandate],
        settings: EnvSettings,
        rows: slice,
        cash_rate: float = 0.0,
        cost_scale: Tensor | None = None,
    ) -> None:
        if settings.costs.needs_adv:
            _check_adv(market, rows)
        self.market = market
        self.mandates = tuple(mandates)
        self.settings = settings
        self.rows = rows
        self.prices = Prices.of(market, cash_rate)
        self.action_map = ActionMap(mandates, market)
        self.reward_weights = stack_weights([m.reward for m in mandates], market.device)
        self.rules = TradingRules.of(mandates, market, settings.capital)
        self._cost_scale = cost_scale
        self.books: Books
        self.tilt: Tensor  # (E, A, N) smoothed score
        self.reward_state: RewardState
        self.last: Tensor  # (E,) row of the last mark of the episode
        self.scale: Tensor  # (E, 1)
        self.alive: Tensor  # (E, A) not ruined; a ruined book is sold and stays in cash

    @property
    def n_agents(self) -> int:
        """Return A."""
        return len(self.mandates)

    def draw_starts(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw (n,) first rows so that a whole episode fits into the visited rows."""
        latest = self.rows.stop - 1 - self.settings.episode_sessions
        if latest <= self.rows.start:
            return torch.full((n,), self.rows.start, dtype=torch.int64, device=self.market.device)
        drawn = torch.randint(self.rows.start, latest + 1, (n,), generator=generator)
        return drawn.to(self.market.device)

    def reset(self, start: Tensor, sessions: int | None = None) -> None:
        """Open all books in cash at the close of rows `start` (E,).

        Args:
            start: first decision rows.
            sessions: decisions until truncation; None runs to the last visited row.
        """
        shape = (start.shape[0], self.n_agents)
        self.books = reset(start, self.settings.capital, self.n_agents, self.market.n_assets)
        self.tilt = torch.zeros_like(self.books.shares)
        self.reward_state = RewardState.start(shape, self.market.device)
        self.alive = torch.ones(shape, dtype=torch.bool, device=self.market.device)
        end = torch.full_like(start, self.rows.stop - 1)
        self.last = end if sessions is None else torch.minimum(start + sessions, end)
        if self._cost_scale is None:
            self.scale = torch.ones(shape[0], 1, dtype=torch.float64, device=self.market.device)
        else:
            self.scale = self._cost_scale.unsqueeze(1)
        if self.rules is not None:
            self.rules.reset(*shape)

    def observe(self) -> BookObservation:
        """Return what the agents see after the close of the current row."""
        books = self.books
        held = held_weights(books, self.prices)
        asset, book = book_observation(
            self.action_map, held, self.tilt, self._drawdown(books), books.t
        )
        return BookObservation(books.t, asset, book)

    def step(self, action: Tensor) -> Transition:
        """Decide at the close of the current row, trade at the next fill, mark at its close.

        Args:
            action: (E, A, N + 1) in [-1, 1]: a score per asset, then the exposure correction.
        """
        before, alive = self.books, self.alive
        held = held_weights(before, self.prices)
        target, outcome = self._trade(action, held)
        value, terms, self.reward_state = self._reward(before, alive, held, outcome)
        value = torch.where(alive, value, 0.0)
        terms = torch.where(alive, terms, 0.0)
        truncated = self.books.t >= self.last
        return Transition(value, terms, alive & ~self.alive, truncated, target, outcome)

    def trade(self, action: Tensor) -> tuple[Tensor, Outcome]:
        """Take the same step without its reward, whose moments stay: for a backtest.

        Returns:
            (E, A, N) the weights that were asked for, and what the step did.
        """
        return self._trade(action, held_weights(self.books, self.prices))

    def _trade(self, action: Tensor, held: Tensor) -> tuple[Tensor, Outcome]:
        before = self.books
        target, self.tilt = self.action_map(action, held, self.tilt, before.t)
        if self.rules is not None:
            target = self.rules.apply(target, before, self.prices)
        target = torch.where(self.alive.unsqueeze(-1), target, 0.0)
        self.books, outcome = step(before, target, self.prices, self.settings.costs, self.scale)
        if self.rules is not None:
            self.rules.update(before, self.books, outcome, self.prices)
        ruined = ~(outcome.nav_after > self.settings.ruin * self.settings.capital)
        self.alive = self.alive & ~ruined
        return target, outcome

    def _drawdown(self, books: Books) -> Tensor:
        notional = (books.shares * self.prices.close[books.t].unsqueeze(1)).sum(-1)
        return 1.0 - (books.cash + notional) / books.peak_nav

    def _reward(
        self, before: Books, alive: Tensor, held: Tensor, outcome: Outcome
    ) -> tuple[Tensor, Tensor, RewardState]:
        after, t = self.books, before.t
        night = self.market.reference_night[after.t]
        # A dead book may have a NAV of 0: its terms are dropped, but its moments stay finite.
        nav_before = torch.where(alive, outcome.nav_before, 1.0)
        nav_after = torch.where(alive, outcome.nav_after, 1.0)
        inputs = RewardInputs(
            nav_before=nav_before,
            nav_after=torch.maximum(nav_after, LEAST_LEFT * nav_before),
            cost=outcome.cost.total / nav_before,
            turnover=outcome.turnover,
            drawdown=1.0 - outcome.nav_after / after.peak_nav,
            drawdown_before=1.0 - outcome.nav_before / before.peak_nav,
            weights_before=held,
            weights=held_weights(after, self.prices),
            market_night=night,
            market_day=(1.0 + self.market.reference_return[after.t]) / (1.0 + night) - 1.0,
            beta=self.market.beta[t],
            momentum=self.market.momentum[t],
        )
        return reward(inputs, self.reward_state, self.reward_weights)


def _check_adv(market: MarketTensors, rows: slice) -> None:
    """Refuse a market in which a name can be bought whose traded value nobody knows."""
    if market.adv is None:
        raise ValueError("impact costs need volume or market.assumed_adv")
    unknown = market.investable[rows] & ~(market.adv[rows] > 0.0)
    if bool(unknown.any()):
        session, asset = (int(index) for index in unknown.nonzero()[0])
        raise ValueError(
            f"impact costs need the traded value of every name: it is unknown for asset {asset} "
            f"in session {rows.start + session}; set market.assumed_adv"
        )
