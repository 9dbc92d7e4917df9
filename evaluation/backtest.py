"""Agents, baselines and their ensemble over a window, all through the one kernel.

Every cost scale is a row of the batch, and so are several windows or several sets of policies: what
does not wait for another result is a single pass. Agents trade into one market; a schedule (a
baseline, fixed weights, the ensemble) trades alone in its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
import torch
from torch import Tensor

from agents.action_map import no_trade_band
from agents.baselines import Schedule
from agents.mandates import Mandate
from agents.market_tensors import MarketTensors
from envs.batch import BatchEnv, EnvSettings
from envs.kernel import Books, Prices, Session, reset, trade_session, weights_of
from evaluation.players import Cast, Players, Policies, make_players
from evaluation.tape import BooksByScale, Part, Tape
from market.bars import Bars, BoolArray, FloatArray

COST_SCALES = (0.0, 1.0, 2.0, 4.0)


@dataclass(frozen=True, slots=True, eq=False)
class AgentsResult:
    """A agents over T sessions at S cost scales.

    Args:
        names: of the agents.
        scales: the cost scales.
        books: name -> one book per scale.
        targets: (T, S, A, N) weights asked for at the close of each session; what is held in the
            last one, which decides nothing.
        ordered: (T, S, A) the decision differs from what was held.
    """

    names: tuple[str, ...]
    scales: tuple[float, ...]
    books: BooksByScale
    targets: FloatArray
    ordered: BoolArray


@dataclass(frozen=True, slots=True)
class BacktestWindow:
    """The sessions of a backtest and what holds for every book in it.

    Args:
        rows: decisions at the closes of rows.start to rows.stop - 2.
        settings: costs and starting capital.
        cash_rate: annual, earned on positive cash.
        cost_scales: multiples of all costs; 1.0 is one of them.
    """

    rows: slice
    settings: EnvSettings
    cash_rate: float = 0.0
    cost_scales: tuple[float, ...] = COST_SCALES

    def __post_init__(self) -> None:
        if self.rows.stop - self.rows.start < 2:
            raise ValueError(f"a backtest needs at least 2 sessions, got rows {self.rows}")
        if 1.0 not in self.cost_scales:
            raise ValueError(f"cost_scales must contain 1.0, were {self.cost_scales}")

    @property
    def sessions(self) -> int:
        """Return T, one more than the decisions."""
        sessions: int = self.rows.stop - self.rows.start
        return sessions

    def at_own_costs(self) -> "BacktestWindow":
        """Return the same window at cost scale 1 alone."""
        return replace(self, cost_scales=(1.0,))


@dataclass(frozen=True, slots=True, eq=False)
class AgentsRun:
    """The agents over one window, played by one set of policies.

    Args:
        window: sessions, costs and capital.
        policies: name -> network, or None for the mandate's rule (the action of zeros).
    """

    window: BacktestWindow
    policies: Policies


@dataclass(frozen=True, slots=True, eq=False)
class SchedulesRun:
    """Books of given weights over one window, each alone in its market.

    Args:
        window: sessions, costs and capital.
        schedules: name -> one per cost scale, of the window's sessions; a book trades only where
            its schedule rebalances.
    """

    window: BacktestWindow
    schedules: Mapping[str, Sequence[Schedule]]


def run_agents(
    bars: Bars,
    market: MarketTensors,
    window: BacktestWindow,
    mandates: Sequence[Mandate],
    policies: Policies,
) -> AgentsResult:
    """Run every agent with its deterministic policy over a window; see `run_agents_together`."""
    (result,) = run_agents_together(bars, market, mandates, [AgentsRun(window, policies)])
    return result


def run_agents_together(
    bars: Bars, market: MarketTensors, mandates: Sequence[Mandate], runs: Sequence[AgentsRun]
) -> list[AgentsResult]:
    """Run the agents several times with their deterministic policies, in one batched pass.

    Args:
        bars: the record that `market` was made from.
        market: the shared tensors.
        mandates: one per agent.
        runs: at least one; of the same settings, with networks of the same shape.

    Returns:
        A result per run, the same as if it had been alone.
    """
    windows = [run.window for run in runs]
    settings, cash_rate = _shared_settings(windows)
    places = _consecutive([len(window.cost_scales) for window in windows])
    start = [window.rows.start for window in windows for _ in window.cost_scales]
    scale = _column([scale for window in windows for scale in window.cost_scales], market)
    rows = slice(min(start), max(window.rows.stop for window in windows))
    env = BatchEnv(market, mandates, settings, rows, cash_rate, scale.squeeze(1))
    sessions = max(window.sessions for window in windows)
    with torch.inference_mode():
        casts = [
            Cast(run.policies, run.window.rows.start, place)
            for run, place in zip(runs, places, strict=True)
        ]
        players = make_players(market, mandates, casts, sessions)
        env.reset(torch.tensor(start, device=market.device))
        tape = Tape(bars, market, env.books)
        ended = _some_end_early(start, sessions, market)
        targets, ordered = _play(env, players, tape, sessions - 1, ended)
    names = tuple(mandate.name for mandate in mandates)
    parts = [
        Part(window.rows, {name: [(e, a) for e in place] for a, name in enumerate(names)})
        for window, place in zip(windows, places, strict=True)
    ]
    return [
        _agents_result(names, window, books, targets[:, place], ordered[:, place])
        for window, place, books in zip(windows, places, tape.cut(parts), strict=True)
    ]


def run_schedules(
    bars: Bars,
    market: MarketTensors,
    window: BacktestWindow,
    schedules: Mapping[str, Sequence[Schedule]],
) -> BooksByScale:
    """Run books of given weights over a window; see `run_schedules_together`."""
    (books,) = run_schedules_together(bars, market, [SchedulesRun(window, schedules)])
    return books


def run_schedules_together(
    bars: Bars, market: MarketTensors, runs: Sequence[SchedulesRun]
) -> list[BooksByScale]:
    """Run books of given weights, each alone in its market, in one batched pass.

    Args:
        bars: the record that `market` was made from.
        market: the shared tensors.
        runs: of the same settings, with at least one schedule in all.

    Returns:
        The books of each run, the same as if it had been alone.
    """
    settings, cash_rate = _shared_settings([run.window for run in runs])
    every = [one for run in runs for by_scale in run.schedules.values() for one in by_scale]
    sessions = max(run.window.sessions for run in runs)
    weights = _schedule_tensor([one.weights for one in every], sessions, market).unsqueeze(2)
    rebalance = _schedule_tensor([one.rebalance for one in every], sessions, market)
    band = _column([one.band for one in every], market)
    scale = _column([s for r in runs for _ in r.schedules for s in r.window.cost_scales], market)
    start = [
        run.window.rows.start
        for run in runs
        for by_scale in run.schedules.values()
        for _ in by_scale
    ]
    prices = Prices.of(market, cash_rate)
    with torch.inference_mode():
        opened = torch.tensor(start, device=market.device)
        books = reset(opened, settings.capital, 1, market.n_assets)
        tape = Tape(bars, market, books)
        close, worth = prices.close[opened].unsqueeze(1), books.cash
        ended = _some_end_early(start, sessions, market)
        for i in range(sessions - 1):
            held = weights_of(books.shares * close, worth)
            moved = no_trade_band(weights[i], held, band)
            target = torch.where(rebalance[i, :, None, None], moved, held)
            session = Session.after(books.t, prices, settings.costs, close)
            books, outcome = trade_session(books, target, held, session, settings.costs, scale)
            tape.record(books, outcome)
            close, worth = session.close, outcome.nav_after
            if ended:
                books = _inside(books, market)
                close = prices.close[books.t].unsqueeze(1)
    place = count()
    return tape.cut(
        [
            Part(
                run.window.rows,
                {
                    name: [(next(place), 0) for _ in by_scale]
                    for name, by_scale in run.schedules.items()
                },
            )
            for run in runs
        ]
    )


def _play(
    env: BatchEnv, players: Players | None, tape: Tape, decisions: int, ended: bool
) -> tuple[FloatArray, BoolArray]:
    """Play all environments on; return what was asked for (T - 1, E, A, N) and what was ordered."""
    rest = torch.zeros(
        *env.books.cash.shape, env.market.n_assets + 1, device=env.market.device
    )  # an agent without a network acts by zeros
    targets, ordered = [], []
    for session in range(decisions):
        action = rest if players is None else players.act(env, session, rest)
        held = env.held
        target, outcome = env.trade(action)
        targets.append(target)
        ordered.append((target != held).any(-1))
        tape.record(env.books, outcome)
        if ended:
            env.books = _inside(env.books, env.market)
    return torch.stack(targets).cpu().numpy(), torch.stack(ordered).cpu().numpy()


def _agents_result(
    names: tuple[str, ...],
    window: BacktestWindow,
    books: BooksByScale,
    targets: FloatArray,
    ordered: BoolArray,
) -> AgentsResult:
    """Add what is held in the last session, which decides nothing, to the decisions before it."""
    decisions = window.sessions - 1
    held = np.stack([[book.weights[-1] for book in books[name]] for name in names], axis=1)
    return AgentsResult(
        names=names,
        scales=window.cost_scales,
        books=books,
        targets=np.concatenate([targets[:decisions], held[None]]),
        ordered=np.concatenate([ordered[:decisions], np.zeros_like(ordered[:1])]),
    )


def _shared_settings(windows: Sequence[BacktestWindow]) -> tuple[EnvSettings, float]:
    """Return the settings and the cash rate that all windows must share to be one batch."""
    first = windows[0]
    for window in windows[1:]:
        if window.settings != first.settings or window.cash_rate != first.cash_rate:
            raise ValueError("windows that are run together need the same settings and cash rate")
    return first.settings, first.cash_rate


def _consecutive(sizes: Sequence[int]) -> list[range]:
    """Return the places that runs of those sizes take, one after the other."""
    stops = np.cumsum(sizes).tolist()
    return [range(stop - size, stop) for stop, size in zip(stops, sizes, strict=True)]


def _some_end_early(start: Sequence[int], sessions: int, market: MarketTensors) -> bool:
    """Return whether some window ends with the market before the longest one has ended."""
    return max(start) + sessions > market.n_sessions


def _inside(books: Books, market: MarketTensors) -> Books:
    """Keep books whose window has ended within the market: they go on, and nobody reads them."""
    return replace(books, t=books.t.clamp_max(market.n_sessions - 2))


def _column(values: Sequence[float], market: MarketTensors) -> Tensor:
    """Return (E, 1) float64."""
    return torch.tensor(values, dtype=torch.float64, device=market.device).unsqueeze(1)


def _schedule_tensor(
    arrays: Sequence[FloatArray | BoolArray], sessions: int, market: MarketTensors
) -> Tensor:
    """Return (T, E, ...) of E arrays of (<= T, ...), of which shorter ones end in zeros."""
    stacked = np.zeros((sessions, len(arrays), *arrays[0].shape[1:]), arrays[0].dtype)
    for place, array in enumerate(arrays):
        stacked[: len(array), place] = array
    return torch.as_tensor(stacked).to(market.device)
