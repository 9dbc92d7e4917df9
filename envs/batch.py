"""Many environments at once: the only place where the action map meets the kernel.

An environment is a row of time indices into one shared market. Training, backtest and the
PettingZoo environment all step this class; a batch of one is the same as one row of a batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from agents.action_map import ActionMap, Day
from agents.mandates import Mandate
from agents.market_tensors import MarketTensors
from agents.observation import observe_books
from agents.rewards import RewardInputs, RewardState, reward, stack_weights
from envs.costs import CostModel
from envs.kernel import (
    Books,
    Outcome,
    Prices,
    Session,
    nav,
    reset,
    trade_session,
    weights_of,
)
from envs.rules import TradingRules
from envs.session_table import Record, SessionTable, session_between
from risk.memory_layout import compiled, environments_inside, settled

State = TypeVar("State", Books, RewardState)

# What a session leaves of a book's NAV at least, for its reward: the log growth of a book that
# loses everything stays finite.
LEAST_LEFT = 1e-6


LARGEST_CAPITAL = 1e12  # beyond it float64 books no longer keep the cent over a long episode


@dataclass(slots=True)
class EnvSettings:
    """How an environment trades and how long an episode lasts."""

    costs: Any  # CostModel: chosen from env/costs
    capital: float  # starting NAV of each book, account currency, in (0, 1e12]
    episode_sessions: int  # decisions in a training episode, >= 2
    ruin: float  # a book at or below this fraction of its capital is terminated, in [0, 1)
    compile: bool  # fuse a step into one compiled function: slow to start, several times as fast

    def __post_init__(self) -> None:
        if not isinstance(self.costs, CostModel):
            raise ValueError(f"env.costs is a group, not a value: write env/costs={self.costs}")
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


@dataclass(frozen=True, slots=True, eq=False)
class _Now:
    """Books with the record of their session, their NAV (E, A) and their weights (E, A, N)."""

    books: Books
    record: Record
    worth: Tensor
    held: Tensor


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
        # What is known of some books already, for the next look and the next step at them.
        self._known: _Now | None = None
        self._seen: tuple[Books, BookObservation] | None = None
        self._next: tuple[Books, Tensor] | None = None
        self._table = SessionTable(
            market, self.prices, settings.costs, self.action_map, rows.start, settings.compile
        )
        self._advance = self._advance_books
        if settings.compile:
            self._advance = compiled(self._advance_books)

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
        books = reset(start, self.settings.capital, self.n_agents, self.market.n_assets)
        state = RewardState.start(shape, self.market.device)
        alive = torch.ones(shape, dtype=torch.bool, device=self.market.device)
        self.tilt = self._laid_out(torch.zeros_like(books.shares))
        self.books = _map(self._laid_out, books)
        self.reward_state, self.alive = _map(self._laid_out, state), self._laid_out(alive)
        end = torch.full_like(start, self.rows.stop - 1)
        self.last = end if sessions is None else torch.minimum(start + sessions, end)
        if self._cost_scale is None:
            self.scale = torch.ones(shape[0], 1, dtype=torch.float64, device=self.market.device)
        else:
            self.scale = self._cost_scale.unsqueeze(1)
        self._seen = self._next = self._known = None
        if self.rules is not None:
            self.rules.reset(*shape)

    def observe(self) -> BookObservation:
        """Return what the agents see after the close of the current row."""
        if self._seen is not None and self._seen[0] is self.books:
            return self._seen[1]
        now = self._now()
        return self._observed(now.record.day, now.books, self.tilt, now.held, now.worth)

    def step(self, action: Tensor) -> Transition:
        """Decide at the close of the current row, trade at the next fill, mark at its close.

        Args:
            action: (E, A, N + 1) in [-1, 1]: a score per asset, then the exposure correction.
        """
        before, rows = self.books, self._rows()
        after = self._table.rows(before.t + 1)
        transition, self.books, self.tilt, self.reward_state, self.alive, seen = self._advance(
            rows, after, self._laid_out(action), before, self.tilt, self.reward_state, self.alive
        )
        self._seen = self.books, seen
        self._next = self.books, after
        return transition

    def trade(self, action: Tensor) -> tuple[Tensor, Outcome]:
        """Take the same step without its reward, whose moments stay: for a backtest.

        Returns:
            (E, A, N) the weights that were asked for, and what the step did.
        """
        now = self._now()
        rows = self._table.rows(now.books.t + 1)
        after = self._table.record(rows)
        session = session_between(now.record, after, self.prices.cash_return)
        target, self.tilt, self.books, self.alive, outcome = self._trade(
            now.record.day, session, action, now.books, self.tilt, self.alive, now.held
        )
        self._next = self.books, rows
        worth = outcome.nav_after
        self._known = _Now(
            self.books, after, worth, weights_of(self.books.shares * after.close, worth)
        )
        return target, outcome

    def decide(self, action: Tensor) -> Tensor:
        """Return what `trade` would ask for, in the last session known, which has no next fill.

        Exits and breakers count this decision: there is one such call, and no step after it.
        """
        now = self._now()
        target, self.tilt = self._decide(
            now.record.day, action, now.books, self.tilt, self.alive, now.held
        )
        return target

    @property
    def worth(self) -> Tensor:
        """Return the (E, A) NAV of the books at the close of the current row."""
        return self._now().worth

    @property
    def held(self) -> Tensor:
        """Return the (E, A, N) weights of the positions at the close of the current row."""
        return self._now().held

    def _now(self) -> _Now:
        """Return what the books are worth, worked out once for all who ask."""
        if self._known is None or self._known.books is not self.books:
            books, record = self.books, self._table.record(self._rows())
            worth = nav(books.cash, books.shares, record.close)
            held = weights_of(books.shares * record.close, worth)
            self._known = _Now(books, record, worth, held)
        return self._known

    def _rows(self) -> Tensor:
        """Return the rows of the books' sessions, which the last step has gathered already."""
        if self._next is None or self._next[0] is not self.books:
            self._next = self.books, self._table.rows(self.books.t)
        return self._next[1]

    def _laid_out(self, values: Tensor) -> Tensor:
        return environments_inside(values) if self.settings.compile else values

    def _advance_books(
        self,
        rows: Tensor,
        rows_after: Tensor,
        action: Tensor,
        before: Books,
        tilt: Tensor,
        reward_state: RewardState,
        alive: Tensor,
    ) -> tuple[Transition, Books, Tensor, RewardState, Tensor, BookObservation]:
        """Return the transition, the state after it, and what is seen of that."""
        # The compiler sees two tensors come in, not two records: each costs it a check a step.
        record, tomorrow = self._table.record(rows), self._table.record(rows_after)
        session = session_between(record, tomorrow, self.prices.cash_return)
        worth = nav(before.cash, before.shares, record.close)
        held = settled(weights_of(before.shares * record.close, worth))
        target, tilt, books, still, outcome = self._trade(
            record.day, session, action, before, tilt, alive, held
        )
        weights = settled(weights_of(books.shares * tomorrow.close, outcome.nav_after))
        value, terms, reward_state = self._reward(
            record, tomorrow, before, books, alive, held, weights, outcome, reward_state
        )
        value = torch.where(alive, value, 0.0)
        terms = torch.where(alive, terms, 0.0)
        truncated = books.t >= self.last
        seen = self._observed(tomorrow.day, books, tilt, weights, outcome.nav_after)
        transition = Transition(value, terms, alive & ~still, truncated, target, outcome)
        state = _map(settled, books), settled(tilt), _map(settled, reward_state), settled(still)
        return transition, *state, seen

    def _trade(
        self,
        day: Day,
        session: Session,
        action: Tensor,
        before: Books,
        tilt: Tensor,
        alive: Tensor,
        held: Tensor,
    ) -> tuple[Tensor, Tensor, Books, Tensor, Outcome]:
        """Return the target, the new tilt, books and living, and the outcome."""
        target, tilt = self._decide(day, action, before, tilt, alive, held)
        books, outcome = trade_session(
            before, target, held, session, self.settings.costs, self.scale
        )
        if self.rules is not None:
            self.rules.update(before, books, outcome, self.prices)
        survives = outcome.nav_after > self.settings.ruin * self.settings.capital
        return target, tilt, books, alive & survives, outcome

    def _decide(
        self, day: Day, action: Tensor, books: Books, tilt: Tensor, alive: Tensor, held: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the target after limits, band, exits and breakers, and the new tilt."""
        target, tilt = self.action_map.on(day, action, held, tilt)
        if self.rules is not None:
            target = self.rules.apply(target, books, self.prices)
        return settled(torch.where(alive.unsqueeze(-1), target, 0.0)), tilt

    def _observed(
        self, day: Day, books: Books, tilt: Tensor, held: Tensor, worth: Tensor
    ) -> BookObservation:
        drawdown = 1.0 - worth / books.peak_nav
        asset, book = observe_books(self.action_map, day, held, tilt, drawdown)
        return BookObservation(books.t, asset, book)

    def _reward(
        self,
        record: Record,
        tomorrow: Record,
        before: Books,
        after: Books,
        alive: Tensor,
        held: Tensor,
        weights: Tensor,
        outcome: Outcome,
        state: RewardState,
    ) -> tuple[Tensor, Tensor, RewardState]:
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
            weights=weights,
            market_night=tomorrow.market_night,
            market_day=tomorrow.market_day,
            beta=record.day.beta,
            momentum=record.momentum,
        )
        return reward(inputs, state, self.reward_weights)


def _map(function: Callable[[Tensor], Tensor], record: State) -> State:
    """Apply a function to every tensor of a record."""
    return replace(
        record,
        **{
            item.name: function(value)
            for item in fields(record)
            if isinstance(value := getattr(record, item.name), Tensor)
        },
    )


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
