"""Agents, their ensemble, the baselines and the index side by side over one window."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from agents.action_map import ActionMap
from agents.baselines import Schedule
from agents.ensemble import Mixer
from agents.mandates import Mandate
from agents.market_tensors import MarketTensors
from evaluation.backtest import AgentsRun, BacktestWindow, run_agents_together, run_schedules
from evaluation.books import CAUSES, ENSEMBLE, EQUAL_WEIGHT, Book
from evaluation.netting import ensemble_schedules
from evaluation.players import Policies
from evaluation.sceptic import Doubts, doubt_policy, doubt_society, training_window
from evaluation.tape import BooksByScale
from market.bars import Bars, FloatArray
from market.dataset import Dataset

INDEX = "index"
INDEX_SERIES = "SP500"
INDEX_NOTE = "The index is a price index without dividends or costs, and never a yardstick."


@dataclass(frozen=True, slots=True, eq=False)
class Contest:
    """Everything that was run over one window.

    Args:
        symbols: names of the N assets.
        window: sessions, costs and capital.
        agents: names of the agents, or of the one policy that was run.
        single: the one policy was run; "ensemble" is the same book.
        baselines: names of the baselines, "equal_weight" among them.
        books: name -> one book per cost scale, for "ensemble", agents and baselines.
        base: name -> (T, N) weights within the invested part that the book tilts from, for the
            ensemble and the agents; 1/N where a mandate has no base.
        fill: (T, N) price of each session's fills.
        index: the market index as a path without costs; None where the source has none.
        doubts: the policies run again, at cost scale 1.
        stages: stage -> agent -> its book with the policies of that stage of training, at cost
            scale 1.
    """

    symbols: tuple[str, ...]
    window: BacktestWindow
    agents: tuple[str, ...]
    single: bool
    baselines: tuple[str, ...]
    books: BooksByScale
    base: Mapping[str, FloatArray]
    fill: FloatArray
    index: Book | None
    doubts: Doubts
    stages: Mapping[str, Mapping[str, Book]]

    def __post_init__(self) -> None:
        for name in (ENSEMBLE, EQUAL_WEIGHT, *self.agents, *self.baselines):
            if name not in self.books:
                raise ValueError(f"a contest needs a book called {name}")

    def book(self, name: str, scale: float = 1.0) -> Book:
        """Return a book at one of the cost scales."""
        return self.books[name][self.window.cost_scales.index(scale)]

    @property
    def policies(self) -> tuple[str, ...]:
        """Return the names of the ensemble and the agents; a single policy is its own ensemble."""
        return self.agents if self.single else (ENSEMBLE, *self.agents)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the policies and of the baselines that are no policy."""
        return (*self.policies, *(name for name in self.baselines if name not in self.agents))

    def columns(self) -> list[Book]:
        """Return the books of `nav.parquet`: all of them at scale 1, the index last."""
        index = [] if self.index is None else [self.index]
        return [*(self.book(name) for name in self.names), *index]


def run_contest(
    data: Dataset,
    market: MarketTensors,
    window: BacktestWindow,
    mandates: Sequence[Mandate],
    policies: Policies,
    mixer: Mixer,
    baselines: Mapping[str, Schedule],
    stages: Mapping[str, Policies],
) -> Contest:
    """Run agents, their ensemble and the baselines over one window.

    Args:
        data: what `market` was made from.
        market: the shared tensors.
        window: sessions, costs and capital.
        mandates: one per agent, at least one.
        policies: name -> network, or None for the mandate's rule; an entry per mandate's policy.
        mixer: capital shares of the agents.
        baselines: name -> weights of the window's sessions; "equal_weight" is the yardstick.
        stages: stage -> policies that are run beside them, at cost scale 1.
    """
    runs = [AgentsRun(window, policies)]
    runs += [AgentsRun(window.at_own_costs(), each) for each in stages.values()]
    if any(network is not None for network in policies.values()):
        runs.append(AgentsRun(training_window(data, window), policies))
    result, *others = run_agents_together(data.bars, market, mandates, runs)
    staged, trained = others[: len(stages)], others[len(stages) :]
    schedules = _at_every_scale(baselines, window)
    schedules[ENSEMBLE] = ensemble_schedules(result, mixer, data.regime[window.rows])
    books = result.books | run_schedules(data.bars, market, window, schedules)
    base = _base_weights(ActionMap(mandates, market), market, window.rows)
    return Contest(
        symbols=data.bars.symbols,
        window=window,
        agents=result.names,
        single=False,
        baselines=tuple(baselines),
        books=books,
        base={
            ENSEMBLE: _equal_weights(market, window.rows),
            **{name: base[:, a] for a, name in enumerate(result.names)},
        },
        fill=market.open[window.rows].cpu().numpy(),
        index=index_book(data.bars, window),
        doubts=doubt_society(
            data,
            market,
            window,
            mandates,
            policies,
            mixer,
            baselines[EQUAL_WEIGHT],
            {name: _at_own_costs(books[name], window) for name in (ENSEMBLE, *result.names)},
            trained[0] if trained else None,
        ),
        stages={
            stage: {name: other.books[name][0] for name in other.names}
            for stage, other in zip(stages, staged, strict=True)
        },
    )


def run_policy(
    data: Dataset,
    market: MarketTensors,
    window: BacktestWindow,
    name: str,
    policy: Schedule,
    baselines: Mapping[str, Schedule],
) -> Contest:
    """Run one schedule as the policy: the only agent, and so the whole ensemble.

    Args:
        data: what `market` was made from.
        market: the shared tensors.
        window: sessions, costs and capital.
        name: of the policy.
        policy: weights of the window's sessions.
        baselines: as for `run_contest`.
    """
    schedules = _at_every_scale({**baselines, name: policy}, window)
    books = run_schedules(data.bars, market, window, schedules)
    equal = _equal_weights(market, window.rows)
    return Contest(
        symbols=data.bars.symbols,
        window=window,
        agents=(name,),
        single=True,
        baselines=tuple(baselines),
        books=books | {ENSEMBLE: tuple(replace(book, name=ENSEMBLE) for book in books[name])},
        base={ENSEMBLE: equal, name: equal},
        fill=market.open[window.rows].cpu().numpy(),
        index=index_book(data.bars, window),
        doubts=doubt_policy(
            data,
            market,
            window,
            policy,
            baselines[EQUAL_WEIGHT],
            _at_own_costs(books[name], window),
        ),
        stages={},
    )


def index_book(bars: Bars, window: BacktestWindow) -> Book | None:
    """Return the source's market index as a path of NAV, or None where the window has none.

    It is a price index held without costs or dividends, and no book of the universe.
    """
    series = bars.series.get(INDEX_SERIES)
    if series is None:
        return None
    level = series[window.rows]
    seen = np.isfinite(level)
    if not seen[0]:
        return None
    # The last known level stands where a session has none.
    level = level[np.maximum.accumulate(np.where(seen, np.arange(len(level)), 0))]
    n, width = len(level), len(bars.symbols)
    return Book(
        name=INDEX,
        dates=bars.dates[window.rows],
        nav=window.settings.capital * level / level[0],
        weights=np.full((n, width), np.nan),
        turnover=np.full(n, np.nan),
        cost=np.full((len(CAUSES), n), np.nan),
        trade=np.zeros((n, width)),
    )


def _at_own_costs(books: Sequence[Book], window: BacktestWindow) -> Book:
    return books[window.cost_scales.index(1.0)]


def _at_every_scale(
    schedules: Mapping[str, Schedule], window: BacktestWindow
) -> dict[str, tuple[Schedule, ...]]:
    return {name: (schedule,) * len(window.cost_scales) for name, schedule in schedules.items()}


def _base_weights(action_map: ActionMap, market: MarketTensors, rows: slice) -> FloatArray:
    """Return the (T, A, N) base portfolios; 1/N where a mandate has none."""
    sessions = torch.arange(rows.start, rows.stop, device=market.device)
    base = action_map.base_weights(sessions).cpu().numpy()
    without = base.sum(axis=-1, keepdims=True) == 0.0
    weights: FloatArray = np.where(without, _equal_weights(market, rows)[:, None], base)
    return weights


def _equal_weights(market: MarketTensors, rows: slice) -> FloatArray:
    """Return (T, N) 1/N of the names that can be held in each session."""
    investable = market.investable[rows].cpu().numpy()
    weights: FloatArray = investable / np.maximum(investable.sum(axis=1, keepdims=True), 1)
    return weights
