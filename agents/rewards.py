"""What an agent is paid for one session: named terms, weighted by its mandate.

E environments, A agents, N assets. Every term is free of units and of order 0.01 on an ordinary
day, and none depends on the size of the capital. Penalties are positive amounts: a mandate gives
them negative weights.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

import torch
from torch import Tensor

from agents.mandates import RewardWeights
from risk.memory_layout import settled

TERMS = tuple(item.name for item in fields(RewardWeights))

# Each scale brings its term to order 0.01.
DOWNSIDE_SCALE = 0.02  # a loss of 2 % costs 2 %, one of 1 % a quarter of that
TURNOVER_SCALE = 0.1
SHARPE_SCALE = 0.01
MOMENTUM_SCALE = 0.1
DIVERSIFICATION_SCALE = 0.01

SHARPE_RATE = 1.0 / 63.0  # adaptation of the moments per session: about a quarter
SHARPE_CLIP = 3.0
DAILY_VARIANCE = 1e-4  # second moment at a start: 1 % a day
SMALLEST_VARIANCE = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class RewardInputs:
    """What happened in one session, from the close of t to the close of t + 1.

    Args:
        nav_before: (E, A) account currency, at the close of t.
        nav_after: (E, A) account currency, at the close of t + 1, after costs.
        cost: (E, A) costs paid, fraction of NAV.
        turnover: (E, A) (buys + sells) / NAV.
        drawdown_before: (E, A) fraction of the peak NAV.
        drawdown: (E, A) likewise at the close of t + 1.
        weights_before: (E, A, N) held at the close of t, which earn until the fill.
        weights: (E, A, N) held after the trade, at the close of t + 1.
        market_night: (E,) return of the equal-weight portfolio of the same universe up to the
            fill; all of its session where fills are closes.
        market_day: (E,) its return from the fill to the close.
        beta: (E, N) to that portfolio, known at the close of t.
        momentum: (E, N) 12-1 month return, known at the close of t.
    """

    nav_before: Tensor
    nav_after: Tensor
    cost: Tensor
    turnover: Tensor
    drawdown_before: Tensor
    drawdown: Tensor
    weights_before: Tensor
    weights: Tensor
    market_night: Tensor
    market_day: Tensor
    beta: Tensor
    momentum: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class RewardState:
    """Running first and second moment of each book's daily return, (E, A) each."""

    mean: Tensor
    square: Tensor

    @classmethod
    def start(cls, books: tuple[int, int], device: str | torch.device = "cpu") -> "RewardState":
        """Return the state of (E, A) books that have not traded yet."""
        zeros = torch.zeros(books, dtype=torch.float64, device=device)
        return cls(zeros, torch.full_like(zeros, DAILY_VARIANCE))


def stack_weights(mandates: Sequence[RewardWeights], device: str | torch.device = "cpu") -> Tensor:
    """Return the (A, n_terms) float64 weights, columns in the order of `TERMS`."""
    rows = [astuple(weights) for weights in mandates]
    return torch.tensor(rows, dtype=torch.float64, device=device)


def reward(
    inputs: RewardInputs, state: RewardState, weights: Tensor
) -> tuple[Tensor, Tensor, RewardState]:
    """Return the rewards of one session, what they consist of, and the moments to carry on.

    Args:
        inputs: the session.
        state: moments before it.
        weights: (A, n_terms), as from `stack_weights`.

    Returns:
        (E, A) rewards; (n_terms, E, A) unweighted terms in the order of `TERMS`; the new state.
    """
    net_return = inputs.nav_after / inputs.nav_before - 1.0
    beta = inputs.beta.unsqueeze(1)
    market_part = (inputs.weights_before * beta).sum(-1) * inputs.market_night.unsqueeze(-1)
    market_part = market_part + (inputs.weights * beta).sum(-1) * inputs.market_day.unsqueeze(-1)
    momentum = (inputs.weights * inputs.momentum.unsqueeze(1)).sum(-1)
    by_name = {
        "log_growth": (inputs.nav_after / inputs.nav_before).log(),
        "active_return": net_return - market_part,
        "downside": net_return.clamp_max(0.0).square() / DOWNSIDE_SCALE,
        "drawdown": (inputs.drawdown - inputs.drawdown_before).clamp_min(0.0),
        "cost": inputs.cost,
        "turnover": TURNOVER_SCALE * inputs.turnover,
        "differential_sharpe": SHARPE_SCALE * differential_sharpe(net_return, state),
        "momentum": MOMENTUM_SCALE * momentum.clamp(-1.0, 1.0),
        "diversification": DIVERSIFICATION_SCALE * diversification(inputs.weights),
    }
    terms = [settled(by_name[name]) for name in TERMS]
    total = terms[0] * weights[:, 0]
    for term, weight in zip(terms[1:], weights.T[1:], strict=True):
        total = total + term * weight
    return total, torch.stack(terms), _updated(net_return, state)


def differential_sharpe(net_return: Tensor, state: RewardState) -> Tensor:
    """Return by how much one return moves the running Sharpe ratio, per unit of its rate.

    Clipped at +-3: while the moments are young or the book sits in cash the ratio is steep.

    Source:
        Moody & Saffell, "Learning to Trade via Direct Reinforcement", 2001, equation 14.
    """
    mean_change = net_return - state.mean
    square_change = net_return.square() - state.square
    variance = (state.square - state.mean.square()).clamp_min(SMALLEST_VARIANCE)
    change = state.square * mean_change - 0.5 * state.mean * square_change
    return (change / (variance * variance.sqrt())).clamp(-SHARPE_CLIP, SHARPE_CLIP)


def diversification(weights: Tensor) -> Tensor:
    """Return the chance that two units of capital lie in two different names, in [0, 1).

    0 in cash or in one name, 1 - 1/N fully invested at equal weights: Simpson's index of the
    book, in which cash diversifies nothing.
    """
    return weights.sum(-1).square() - weights.square().sum(-1)


def _updated(net_return: Tensor, state: RewardState) -> RewardState:
    return RewardState(
        state.mean + SHARPE_RATE * (net_return - state.mean),
        state.square + SHARPE_RATE * (net_return.square() - state.square),
    )
