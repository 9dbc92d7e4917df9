"""The ensemble: the agents' books netted to one account, as schedules for the kernel."""

import numpy as np
from numpy.typing import NDArray

from agents.baselines import Schedule
from agents.ensemble import Mixer, net
from evaluation.backtest import AgentsResult
from market.bars import BoolArray, FloatArray

# The ensemble trades when an agent does, and when capital shares have moved this far (L1) since.
SHARE_BAND = 0.05


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
