"""Agents, baselines and their ensemble over a window, all through the one kernel.

Every cost scale is a row of the batch, so a whole cost sensitivity is a single pass. Agents trade
into one market; a schedule (a baseline, fixed weights, the ensemble) trades alone in its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.action_map import no_trade_band
from agents.baselines import Schedule
from agents.ensemble import Mixer, net
from agents.mandates import Mandate
from agents.market_tensors import MarketTensors
from envs.batch import BatchEnv, EnvSettings
from envs.kernel import Prices, held_weights, reset, step
from evaluation.players import Policies, actions, make_players
from evaluation.tape import BooksByScale, Tape
from market.bars import Bars, BoolArray, FloatArray

COST_SCALES = (0.0, 1.0, 2.0, 4.0)
# The ensemble trades when an agent does, and when capital shares have moved this far (L1) since.
SHARE_BAND = 0.05


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


def run_agents(
    bars: Bars,
    market: MarketTensors,
    window: BacktestWindow,
    mandates: Sequence[Mandate],
    policies: Policies,
) -> AgentsResult:
    """Run every agent with its deterministic policy over a window, at all cost scales at once.

    Args:
        bars: the record that `market` was made from.
        market: the shared tensors.
        window: sessions, costs and capital.
        mandates: one per agent.
        policies: name -> network, or None for the mandate's rule (the action of zeros).
    """
    rows = window.rows
    scale = torch.tensor(window.cost_scales, dtype=torch.float64, device=market.device)
    env = BatchEnv(market, mandates, window.settings, rows, window.cash_rate, scale)
    targets, ordered = [], []
    with torch.inference_mode():
        players = make_players(market, rows, mandates, policies)
        env.reset(torch.full_like(scale, rows.start, dtype=torch.int64))
        tape = Tape(bars, market, rows, env.books)
        for row in range(rows.start, rows.stop - 1):
            held = held_weights(env.books, env.prices)
            target, outcome = env.trade(actions(env, players, row))
            targets.append(target)
            ordered.append((target != held).any(-1))
            tape.record(env.books, outcome)
        targets.append(held_weights(env.books, env.prices))
        ordered.append(torch.zeros_like(ordered[-1]))
    names = tuple(mandate.name for mandate in mandates)
    places = [[(e, a) for e in range(len(scale))] for a in range(len(names))]
    return AgentsResult(
        names=names,
        scales=window.cost_scales,
        books=tape.cut(names, places),
        targets=torch.stack(targets).cpu().numpy(),
        ordered=torch.stack(ordered).cpu().numpy(),
    )


def run_schedules(
    bars: Bars,
    market: MarketTensors,
    window: BacktestWindow,
    schedules: Mapping[str, Sequence[Schedule]],
) -> BooksByScale:
    """Run books of given weights, each alone in its market, in one batched pass.

    Args:
        bars: the record that `market` was made from.
        market: the shared tensors.
        window: sessions, costs and capital.
        schedules: name -> one per cost scale, of the window's sessions; a book trades only where
            its schedule rebalances.
    """
    if not schedules:
        return {}
    every = [schedule for by_scale in schedules.values() for schedule in by_scale]
    weights = _schedule_tensor([schedule.weights for schedule in every], market).unsqueeze(2)
    rebalance = _schedule_tensor([schedule.rebalance for schedule in every], market)
    band = torch.tensor(
        [[schedule.band] for schedule in every], dtype=torch.float64, device=market.device
    )
    scale = torch.tensor(window.cost_scales, dtype=torch.float64, device=market.device)
    scale = scale.repeat(len(schedules)).unsqueeze(1)
    start = torch.full((len(every),), window.rows.start, device=market.device)
    prices = Prices.of(market, window.cash_rate)
    with torch.inference_mode():
        books = reset(start, window.settings.capital, 1, market.n_assets)
        tape = Tape(bars, market, window.rows, books)
        for i in range(window.rows.stop - window.rows.start - 1):
            held = held_weights(books, prices)
            moved = no_trade_band(weights[i], held, band)
            target = torch.where(rebalance[i, :, None, None], moved, held)
            books, outcome = step(books, target, prices, window.settings.costs, scale)
            tape.record(books, outcome)
    n = len(window.cost_scales)
    places = [[(k * n + s, 0) for s in range(n)] for k in range(len(schedules))]
    return tape.cut(tuple(schedules), places)


def ensemble_schedules(
    result: AgentsResult, mixer: Mixer, regime: NDArray[np.int64]
) -> tuple[Schedule, ...]:
    """Return the agents' netted targets, one schedule per cost scale.

    The ensemble trades when an agent that it listens to trades, or when the capital shares have
    moved by more than `SHARE_BAND` since it last did.

    Args:
        result: the agents' own books.
        mixer: capital shares, causal.
        regime: (T,) of the window's sessions.
    """
    schedules = []
    for s in range(len(result.scales)):
        nav = np.column_stack([result.books[name][s].nav for name in result.names])
        returns = np.zeros_like(nav)
        returns[1:] = nav[1:] / nav[:-1] - 1.0
        shares = mixer.shares(returns, regime)
        listened: BoolArray = np.any(result.ordered[:, s] & (shares > 0.0), axis=1)
        weights = net(result.targets[:, s], shares)
        schedules.append(Schedule(weights, _with_moved_shares(listened, shares)))
    return tuple(schedules)


def _with_moved_shares(listened: BoolArray, shares: FloatArray) -> BoolArray:
    """Add the sessions in which capital shares have left the band around the last ones traded."""
    rebalance = listened.copy()
    last = shares[0]
    for t in range(len(shares)):
        if rebalance[t] or np.abs(shares[t] - last).sum() > SHARE_BAND:
            rebalance[t] = True
            last = shares[t]
    return rebalance


def _schedule_tensor(arrays: Sequence[FloatArray | BoolArray], market: MarketTensors) -> Tensor:
    """Return (T, E, ...) of E arrays of (T, ...)."""
    return torch.as_tensor(np.stack(arrays, axis=1)).to(market.device)
