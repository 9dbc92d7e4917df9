"""Mixers: how the capital is shared between the agents' books, and the one account it nets to.

T sessions, A agents, N assets. Row t of the shares is decided at the close of t from the returns
up to and including t. Shares are >= 0 and every row sums to 1.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from market.bars import FloatArray
from market.errors import InputError

SMALLEST_VOLATILITY = 1e-4  # per session: a book in cash must not draw all the capital


class Mixer(Protocol):
    """A rule that shares capital between agents."""

    def shares(self, returns: FloatArray, regime: NDArray[np.int64]) -> FloatArray:
        """Return the (T, A) shares.

        Args:
            returns: (T, A) net daily returns of the agents' books; row 0 is the first known.
            regime: (T,) index of each session's market regime.
        """
        ...


@dataclass(slots=True)
class Fixed:
    """The same shares every day; None gives every agent the same."""

    by_agent: list[float] | None  # in the order of the agents

    def __post_init__(self) -> None:
        if self.by_agent is None:
            return
        if not (min(self.by_agent, default=-1.0) >= 0.0 and abs(sum(self.by_agent) - 1.0) <= 1e-9):
            raise ValueError(
                f"ensemble.by_agent must be >= 0 and sum to 1, was {list(self.by_agent)}"
            )

    def shares(self, returns: FloatArray, regime: NDArray[np.int64]) -> FloatArray:
        """Return the (T, A) shares; see `Mixer`."""
        if self.by_agent is None:
            return _equal(returns)
        require_shares(self, returns.shape[1])
        return np.broadcast_to(np.array(self.by_agent), returns.shape).copy()


@dataclass(slots=True)
class InverseVolatility:
    """Shares inverse to the volatility of each book; equal until the window is full."""

    window: int  # sessions, >= 2

    def __post_init__(self) -> None:
        if self.window < 2:
            raise ValueError(f"ensemble.window must be at least 2 sessions, was {self.window}")

    def shares(self, returns: FloatArray, regime: NDArray[np.int64]) -> FloatArray:
        """Return the (T, A) shares; see `Mixer`."""
        shares = _equal(returns)
        if len(returns) >= self.window:
            windows = np.lib.stride_tricks.sliding_window_view(returns, self.window, axis=0)
            inverse = 1.0 / np.maximum(windows.std(axis=-1), SMALLEST_VOLATILITY)
            shares[self.window - 1 :] = inverse / inverse.sum(axis=1, keepdims=True)
        return shares


@dataclass(slots=True)
class Hedge:
    """Multiplicative weights on log growth, with a floor that lets a fallen agent return.

    Source:
        Freund & Schapire, "A Decision-Theoretic Generalization of On-Line Learning", 1997.
    """

    rate: float  # weight of one unit of log growth, > 0; 1 lets each book keep what it earned
    floor: float  # share of the capital that is always spread equally, in [0, 1]

    def __post_init__(self) -> None:
        _check_hedge(self.rate, self.floor)

    def shares(self, returns: FloatArray, regime: NDArray[np.int64]) -> FloatArray:
        """Return the (T, A) shares; see `Mixer`."""
        return _multiplicative(np.cumsum(np.log1p(returns), axis=0), self.rate, self.floor)


@dataclass(slots=True)
class RegimeGated:
    """Multiplicative weights kept separately for every market regime.

    A session's return counts for the regime in which it was decided, the one of the close before.
    """

    rate: float  # as in Hedge
    floor: float  # as in Hedge

    def __post_init__(self) -> None:
        _check_hedge(self.rate, self.floor)

    def shares(self, returns: FloatArray, regime: NDArray[np.int64]) -> FloatArray:
        """Return the (T, A) shares; see `Mixer`."""
        growth = np.log1p(returns)
        decided_in = np.concatenate([regime[:1], regime[:-1]])
        total = np.zeros_like(growth)
        for one in np.unique(regime):
            earned = np.cumsum(np.where((decided_in == one)[:, None], growth, 0.0), axis=0)
            total[regime == one] = earned[regime == one]
        return _multiplicative(total, self.rate, self.floor)


def mixer_to_dict(mixer: Mixer) -> dict[str, Any]:
    """Return a mixer's kind and settings as JSON types."""
    settings = asdict(mixer)  # type: ignore[call-overload]  # every mixer is a dataclass
    return {"kind": type(mixer).__name__, **settings}


def mixer_from_dict(record: Mapping[str, Any]) -> Mixer:
    """Return what `mixer_to_dict` wrote."""
    settings = dict(record)
    mixer: Mixer = _KINDS[settings.pop("kind")](**settings)
    return mixer


def net(targets: FloatArray, shares: FloatArray) -> FloatArray:
    """Return the (T, N) weights of one account that holds every agent's (T, A, N) at its share."""
    account: FloatArray = np.einsum("tan,ta->tn", targets, shares)
    return account


def require_shares(mixer: Mixer, agents: int) -> None:
    """Refuse fixed shares for another number of agents, before anything is trained.

    Raises:
        InputError: naming both numbers.
    """
    if isinstance(mixer, Fixed) and mixer.by_agent is not None and len(mixer.by_agent) != agents:
        raise InputError(f"ensemble.by_agent has {len(mixer.by_agent)} shares for {agents} agents")


def _equal(returns: FloatArray) -> FloatArray:
    return np.full(returns.shape, 1.0 / returns.shape[1])


def _check_hedge(rate: float, floor: float) -> None:
    if not 0.0 < rate < float("inf"):
        raise ValueError(f"ensemble.rate must be a positive number, was {rate}")
    if not 0.0 <= floor <= 1.0:
        raise ValueError(f"ensemble.floor must be in [0, 1], was {floor}")


def _multiplicative(growth: FloatArray, rate: float, floor: float) -> FloatArray:
    """Return the (T, A) shares of summed log growth (T, A)."""
    weights: FloatArray = np.exp(rate * (growth - growth.max(axis=1, keepdims=True)))
    shares: FloatArray = weights / weights.sum(axis=1, keepdims=True)
    shares *= 1.0 - floor
    shares += floor / growth.shape[1]
    return shares


_KINDS = {kind.__name__: kind for kind in (Fixed, InverseVolatility, Hedge, RegimeGated)}
