"""The supervised warm start: fit each member's scores to what assets earn beyond the market.

The label of a decision at the close of t is the cross-sectional z-score of the return from the fill
at t + 1 over `horizon` sessions, less beta times the equal-weight return of the same sessions and
less half of the residual's variance: a portfolio grows by its log return, and noise drags it.
A label never reaches past the rows that may be learned from.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from agents.market_tensors import MarketTensors
from agents.networks import PolicyNetwork
from market.errors import InputError
from training.seeds import generator_of
from training.settings import RankerSettings

SMALLEST_DEVIATION = 1e-8
SCALE_DAYS = 2048  # days of one forward pass while the scale is measured


def warm_start(
    networks: Mapping[str, PolicyNetwork],
    market: MarketTensors,
    rows: slice,
    settings: RankerSettings,
    seed: int,
) -> dict[str, float]:
    """Train the score heads in place and set their scale.

    All members of a policy learn at once in their leading dimension; they differ by their initial
    parameters and their dropout, policies also by the days that they draw.

    Args:
        networks: by policy.
        market: the sessions.
        rows: that may be learned from; no label ends after them.
        settings: of the optimisation.
        seed: of this pass.

    Returns:
        The mean squared error of the last tenth of the updates, by policy.

    Raises:
        InputError: if no session of `rows` has a label.
    """
    labels, valid = forward_labels(market, rows, settings.horizon)
    days = torch.nonzero(valid.any(-1)).squeeze(-1)
    if not len(days):
        raise InputError(
            f"pretrain.horizon is {settings.horizon}: no label of that many sessions ends inside "
            f"the {rows.stop - rows.start} sessions to learn from"
        )
    loss = {}
    for policy, network in networks.items():
        generator = generator_of(seed, "warm_start", policy, device=str(market.device))
        loss[policy] = _fit(network, market, labels, valid, days, settings, generator)
        network.scale.copy_(_raw_deviation(network, market, days))
    return loss


def forward_labels(market: MarketTensors, rows: slice, horizon: int) -> tuple[Tensor, Tensor]:
    """Return what is to be predicted at each close, and where it is defined.

    Args:
        market: the sessions.
        rows: that may be learned from.
        horizon: sessions of the label.

    Returns:
        (T, N) float32 cross-sectional z-scores, 0 where undefined; (T, N) bool. Row t uses fills
        t + 1 to t + 1 + horizon, all inside `rows`.
    """
    returns = fill_returns(market)  # row s: from the fill of s to the fill of s + 1
    known = market.investable[:-1] & market.tradable[1:]
    count = known.sum(-1).clamp(min=1)
    reference = torch.zeros_like(returns[:, 0])
    reference[1:] = (returns[1:] * known[:-1]).sum(-1) / count[:-1]

    labels = torch.zeros_like(market.close, dtype=torch.float32)
    valid = torch.zeros_like(market.investable)
    first, last = rows.start, rows.stop - 1 - horizon  # the last fill is row t + 1 + horizon
    if last <= first:
        return labels, valid
    decisions = torch.arange(first, last, device=market.device)
    window = decisions[:, None] + 1 + torch.arange(horizon, device=market.device)  # (D, h)
    beta = market.beta[decisions].unsqueeze(1)  # (D, 1, N)
    residual = returns[window] - beta * reference[window].unsqueeze(-1)  # (D, h, N)
    growth = residual.sum(1) - 0.5 * residual.square().sum(1)
    mask = known[decisions]
    labels[decisions] = _standardised(growth, mask).to(torch.float32)
    valid[decisions] = mask & (mask.sum(-1, keepdim=True) > 1)
    return labels, valid


def fill_returns(market: MarketTensors) -> Tensor:
    """Return (T - 1, N) simple returns from each session's fill to the next one's.

    A delisting pays out its terminal value and earns nothing afterwards: leaving such names out
    would teach from survivors only.
    """
    fill, payout = market.open, market.payout[1:]
    end = torch.where(payout.isfinite(), market.close[:-1] * payout, fill[1:])
    return torch.where(market.investable[:-1], end / fill[:-1] - 1.0, 0.0)


def _standardised(values: Tensor, mask: Tensor) -> Tensor:
    """Return the z-scores of (D, N) values over the names in `mask`; 0 elsewhere."""
    count = mask.sum(-1, keepdim=True).clamp(min=1)
    kept = torch.where(mask, values, 0.0)
    centred = torch.where(mask, values - kept.sum(-1, keepdim=True) / count, 0.0)
    deviation = (centred.square().sum(-1, keepdim=True) / count).sqrt()
    return centred / deviation.clamp(min=SMALLEST_DEVIATION)


def _fit(
    network: PolicyNetwork,
    market: MarketTensors,
    labels: Tensor,
    valid: Tensor,
    days: Tensor,
    settings: RankerSettings,
    generator: torch.Generator,
) -> float:
    """Minimise the squared error of every member; return it over the last tenth of the updates."""
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    recent: list[Tensor] = []
    for update in range(settings.updates):
        rate = 0.5 * (1.0 + math.cos(math.pi * update / settings.updates))
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * rate
        pick = torch.randint(
            len(days), (settings.batch_days,), generator=generator, device=days.device
        )
        batch = days[pick]
        raw = network.score_raw(
            market.asset_features[batch],
            market.market_features[batch],
            market.investable[batch],
            generator,
        )
        mask = valid[batch]
        error = ((raw - labels[batch]).square() * mask).sum((1, 2)) / mask.sum()
        optimiser.zero_grad(set_to_none=True)
        # Members share no parameter, so each follows its own gradient.
        torch.autograd.backward(error.sum())
        optimiser.step()
        if update >= settings.updates - max(1, settings.updates // 10):
            recent.append(error.mean().detach())
    return float(torch.stack(recent).mean())


@torch.no_grad()
def _raw_deviation(network: PolicyNetwork, market: MarketTensors, days: Tensor) -> Tensor:
    """Return the (S,) standard deviation of each member's raw scores on the training days."""
    square = torch.zeros_like(network.scale)
    names = torch.zeros((), device=days.device)
    for part in torch.split(days, SCALE_DAYS):
        investable = market.investable[part]
        raw = network.score_raw(
            market.asset_features[part], market.market_features[part], investable
        )
        square += raw.square().sum((1, 2))
        names += investable.sum()
    return (square / names).sqrt().clamp(min=SMALLEST_DEVIATION)
