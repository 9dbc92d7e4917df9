"""The ensemble: the agents' books netted to one account, as schedules for the kernel."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.baselines import Schedule
from agents.ensemble import Mixer, net
from evaluation.backtest import AgentsResult
from market.bars import BoolArray, FloatArray

# The ensemble trades when an agent does, and when capital shares have moved this far (L1) since.
SHARE_BAND = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Netting:
    """How the agents' books come together in one account.

    Args:
        shares: (T, A) of the capital.
        weights: (T, N) of the account.
        rebalance: (T,) the account trades after the close: an agent that it listens to does, or
            the shares have moved by more than `SHARE_BAND` since it last did.
    """

    shares: FloatArray
    weights: FloatArray
    rebalance: BoolArray


def netting(
    nav: FloatArray,
    targets: FloatArray,
    ordered: BoolArray,
    mixer: Mixer,
    regime: NDArray[np.int64],
) -> Netting:
    """Net the agents' books by a mixer.

    Args:
        nav: (T, A) of the agents' own books.
        targets: (T, A, N) weights that they ask for.
        ordered: (T, A) the target differs from what is held.
        mixer: capital shares, causal.
        regime: (T,) of the sessions.
    """
    returns = np.zeros_like(nav)
    returns[1:] = nav[1:] / nav[:-1] - 1.0
    shares = mixer.shares(returns, regime)
    listened: BoolArray = np.any(ordered & (shares > 0.0), axis=1)
    return Netting(shares, net(targets, shares), _with_moved_shares(listened, shares))


def ensemble_schedules(
    result: AgentsResult, mixer: Mixer, regime: NDArray[np.int64]
) -> tuple[Schedule, ...]:
    """Return the agents' netted targets, one schedule per cost scale.

    Args:
        result: the agents' own books.
        mixer: capital shares, causal.
        regime: (T,) of the window's sessions.
    """
    schedules = []
    for s in range(len(result.scales)):
        nav = np.column_stack([result.books[name][s].nav for name in result.names])
        netted = netting(nav, result.targets[:, s], result.ordered[:, s], mixer, regime)
        schedules.append(Schedule(netted.weights, netted.rebalance))
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
