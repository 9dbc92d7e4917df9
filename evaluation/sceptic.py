"""What a sceptic asks to see: the policies of a contest run again with one thing taken away.

Without their timing, without the stock that helped them most, and back in the training window. All
runs are at cost scale 1, through the same kernel and with the same costs as the contest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from agents import baselines
from agents.baselines import Schedule
from agents.ensemble import Mixer
from agents.mandates import Mandate
from agents.market_tensors import MarketTensors
from evaluation.backtest import (
    AgentsResult,
    BacktestWindow,
    SchedulesRun,
    run_agents,
    run_schedules_together,
)
from evaluation.books import ENSEMBLE, EQUAL_WEIGHT, Book
from evaluation.netting import ensemble_schedules
from evaluation.players import Policies
from market.bars import TRADING_DAYS, FloatArray
from market.dataset import Dataset

# The last ten years of the train window: all of it would cost more time than the contest itself.
TRAINING_SESSIONS = 10 * TRADING_DAYS
CONSTANT = "average weights of "  # how the books of constant weights are called

Books = dict[str, Book]
Schedules = dict[str, Schedule]


@dataclass(frozen=True, slots=True)
class BestStock:
    """The stock that added most to the ensemble's gain.

    Args:
        column: among the N assets.
        share: of what all stocks added, before costs; NaN where they added nothing.
    """

    column: int
    share: float


@dataclass(frozen=True, slots=True, eq=False)
class Doubts:
    """The policies of a contest, run again.

    Args:
        constant: policy -> its own average weights of the window, restored every month. They are
            hindsight: nobody knew them when the window began.
        best: the stock left out of `without_best`; None where the ensemble never held anything.
        without_best: the policies and "equal_weight" in a market where that stock cannot be held.
        in_training: the ensemble, "equal_weight" and the agents with a network over the end of the
            train window, in sample; empty where nothing was trained.
    """

    constant: Mapping[str, Book]
    best: BestStock | None
    without_best: Mapping[str, Book]
    in_training: Mapping[str, Book]


def training_window(data: Dataset, window: BacktestWindow) -> BacktestWindow:
    """Return the end of the train window, at cost scale 1, under the conditions of a window."""
    train = data.train
    rows = slice(max(train.start, train.stop - TRAINING_SESSIONS), train.stop)
    return replace(window.at_own_costs(), rows=rows)


def doubt_society(
    data: Dataset,
    market: MarketTensors,
    window: BacktestWindow,
    mandates: Sequence[Mandate],
    policies: Policies,
    mixer: Mixer,
    yardstick: Schedule,
    books: Mapping[str, Book],
    in_training: AgentsResult | None,
) -> Doubts:
    """Run agents and their ensemble again.

    Args:
        data: the market, with its train window.
        market: its tensors.
        window: of the contest.
        mandates: one per agent.
        policies: name -> network, or None for the mandate's rule.
        mixer: capital shares of the agents.
        yardstick: monthly 1/N over the window.
        books: of the ensemble and the agents, at cost scale 1.
        in_training: of the agents over the `training_window`; None where nothing was trained.
    """
    window, before = window.at_own_costs(), training_window(data, window)
    best = best_stock(books[ENSEMBLE], market, window.rows)
    constant = _constant(books, yardstick)
    agents: Books = {}
    without: Schedules = {}
    if best is not None:
        left = without_asset(market, best.column)
        result = run_agents(data.bars, left, window, mandates, policies)
        agents = {name: result.books[name][0] for name in result.names}
        without = _ensemble(data, window, result, mixer)
        without[EQUAL_WEIGHT] = without_column(yardstick, best.column)
    trained: Books = {}
    training: Schedules = {}
    if in_training is not None:
        learned = [m.name for m in mandates if policies[m.policy] is not None]
        trained = {name: in_training.books[name][0] for name in learned}
        training = _ensemble(data, before, in_training, mixer)
        training[EQUAL_WEIGHT] = Schedule(
            baselines.equal_weight(data, before.rows), baselines.month_ends(data, before.rows)
        )
    done, done_before = _run(data, market, (window, constant | without), (before, training))
    return Doubts(
        constant={name: done[CONSTANT + name] for name in books},
        best=best,
        without_best=agents | {name: done[name] for name in without},
        in_training=trained | done_before,
    )


def doubt_policy(
    data: Dataset,
    market: MarketTensors,
    window: BacktestWindow,
    policy: Schedule,
    yardstick: Schedule,
    book: Book,
) -> Doubts:
    """Run a schedule again; where a stock is left out, the others take over its weight.

    Args:
        data: the market.
        market: its tensors.
        window: of the contest.
        policy: weights of the window's sessions.
        yardstick: monthly 1/N over the window.
        book: of the policy, at cost scale 1.
    """
    window = window.at_own_costs()
    best = best_stock(book, market, window.rows)
    constant = _constant({book.name: book}, yardstick)
    without: Schedules = {}
    if best is not None:
        without[EQUAL_WEIGHT] = without_column(yardstick, best.column)
        without[book.name] = without_column(policy, best.column)
    (done,) = _run(data, market, (window, constant | without))
    return Doubts(
        constant={book.name: done[CONSTANT + book.name]},
        best=best,
        without_best={name: done[name] for name in without},
        in_training={},
    )


def contributions(book: Book, market: MarketTensors, rows: slice) -> FloatArray:
    """Return the (N,) money that each asset added to a book, before costs.

    With interest earned, less costs, they sum to the book's gain.

    Args:
        book: over T sessions.
        market: the book's market.
        rows: the T sessions.
    """
    value = book.weights * book.nav[:, None]
    payout = np.nan_to_num(market.payout[rows].cpu().numpy()[1:], nan=0.0)
    added = value[1:] - value[:-1] - book.trade[1:] + payout * value[:-1]
    total: FloatArray = added.sum(axis=0)
    return total


def best_stock(book: Book, market: MarketTensors, rows: slice) -> BestStock | None:
    """Return the stock with the largest contribution; None for a book that never held any."""
    if not book.weights.any():
        return None
    added = contributions(book, market, rows)
    column = int(added.argmax())
    total = float(added.sum())
    return BestStock(column, float(added[column]) / total if total > 0.0 else float("nan"))


def without_asset(market: MarketTensors, column: int) -> MarketTensors:
    """Return a market in which an asset can neither be held nor traded."""
    investable, tradable = market.investable.clone(), market.tradable.clone()
    investable[:, column] = tradable[:, column] = False
    return replace(market, investable=investable, tradable=tradable)


def without_column(schedule: Schedule, column: int) -> Schedule:
    """Return a schedule without an asset; the others share its weight in proportion to theirs."""
    kept = schedule.weights.copy()
    kept[:, column] = 0.0
    left = kept.sum(axis=1, keepdims=True)
    invested = schedule.weights.sum(axis=1, keepdims=True)
    scale = np.divide(invested, left, out=np.zeros_like(left), where=left > 0.0)
    return replace(schedule, weights=kept * scale)


def constant_mix(book: Book, yardstick: Schedule) -> Schedule:
    """Return a book's average weights as a schedule that restores them when 1/N rebalances."""
    average = book.weights[1:].mean(axis=0)  # row 0 is the capital before the first decision
    return Schedule(np.broadcast_to(average, book.weights.shape), yardstick.rebalance)


def _ensemble(
    data: Dataset, window: BacktestWindow, result: AgentsResult, mixer: Mixer
) -> Schedules:
    """Return the ensemble's schedule, at the window's one cost scale."""
    (ensemble,) = ensemble_schedules(result, mixer, data.regime[window.rows])
    return {ENSEMBLE: ensemble}


def _constant(books: Mapping[str, Book], yardstick: Schedule) -> Schedules:
    return {CONSTANT + name: constant_mix(book, yardstick) for name, book in books.items()}


def _run(
    data: Dataset, market: MarketTensors, *plans: tuple[BacktestWindow, Schedules]
) -> list[Books]:
    """Return the books of each window's schedules, from one batched pass."""
    runs = [
        SchedulesRun(window, {name: (schedule,) for name, schedule in schedules.items()})
        for window, schedules in plans
    ]
    return [
        {name: book for name, (book,) in books.items()}
        for books in run_schedules_together(data.bars, market, runs)
    ]
