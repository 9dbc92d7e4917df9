"""What is learned from a batch: minibatches of whole day slots and the loss of each policy on them.

Torch alone: RLlib's learner and the bare loop that it is measured against share these functions.
D day slots, R replicas, P agents of a policy, N assets; the columns are those of `columns`.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from agents import networks
from agents.action_map import ActionMap
from agents.market_tensors import MarketTensors
from agents.networks import DayPart, PolicyNetwork, entropy
from training import columns
from training.rollout import book_values, log_density, log_deviations
from training.society import Society, encode_days


@dataclass(frozen=True, slots=True)
class LossWeights:
    """What the parts of the loss weigh."""

    clip: float  # of each action component's probability ratio, > 0; inf: none
    value: float  # of the value function's squared error, >= 0
    anchor: float  # of KL(tilted portfolio || base portfolio), >= 0


@dataclass(frozen=True, slots=True, eq=False)
class PolicyLoss:
    """The loss of one policy over its living books, and its parts; each a scalar.

    Args:
        total: what is minimised.
        policy: the negative clipped surrogate.
        value: mean squared error of the value function.
        explained: share of the value targets' variance that the value function explains.
        divergence: of the policy from the one that sampled, in nats.
        entropy: of the exploration, in nats.
        anchor: KL(tilted portfolio || base portfolio).
    """

    total: Tensor
    policy: Tensor
    value: Tensor
    explained: Tensor
    divergence: Tensor
    entropy: Tensor
    anchor: Tensor


class SocietyLoss:
    """PPO on day slots, with a KL anchor of the tilted portfolio to the mandate's base."""

    def __init__(self, society: Society) -> None:
        self._market = society.market
        self._action_map = ActionMap(society.mandates, society.market)
        self._agents = society.policies
        self._gain = torch.tensor(
            [mandate.tilt for mandate in society.mandates], device=society.market.device
        )

    def __call__(
        self,
        policy: str,
        network: PolicyNetwork,
        mean: Tensor,
        batch: Mapping[str, Tensor],
        weights: LossWeights,
    ) -> PolicyLoss:
        """Return the loss of one policy; `mean` (D, R, P, N + 1) is what it now does."""
        market, day = self._market, batch[columns.DAY]
        investable = market.investable[day].to(mean.dtype)
        alive = batch[columns.ALIVE].to(mean.dtype)
        shares = (alive / alive.sum().clamp(min=1.0)).flatten()

        def average(values: Tensor) -> Tensor:
            return values.flatten() @ shares

        deviations = log_deviations(network.log_std, market.n_assets)
        logp = log_density(batch[columns.ACTIONS], mean, deviations)
        log_ratio = logp - batch[columns.ACTION_LOGP]
        ratio = log_ratio.exp()
        counted = functional.pad(investable, (0, 1), value=1.0)[:, None, None]
        # Clipped by component: a joint ratio over N scores would leave each of them less room the
        # more assets there are. To first order the gradient is that of the joint ratio.
        # min(A r, A clip(r)) is A + |A| min(sign(A) (r - 1), clip).
        advantage = batch[columns.ADVANTAGES]
        gain = (advantage.sign().unsqueeze(-1) * (ratio - 1.0)).clamp_max(weights.clip) * counted
        surrogate = average(advantage * counted.sum(-1) + advantage.abs() * gain.sum(-1))
        value = book_values(network, market, day, batch[columns.BOOK])
        target = batch[columns.VALUE_TARGETS]
        value_loss = average((value - target).square())
        anchor = average(self._anchor(policy, mean, day))

        with torch.no_grad():
            spread = average((target - average(target)).square())
            divergence = average(((ratio - 1.0 - log_ratio) * counted).sum(-1))
        return PolicyLoss(
            total=-surrogate + weights.value * value_loss + weights.anchor * anchor,
            policy=-surrogate,
            value=value_loss,
            explained=1.0 - value_loss.detach() / spread,
            divergence=divergence,
            entropy=entropy(network.log_std.detach(), investable).mean(),
            anchor=anchor,
        )

    def _anchor(self, policy: str, mean: Tensor, day: Tensor) -> Tensor:
        """Return KL(tilted || base) (D, R, P) of the portfolio that the mean scores lead to.

        It is 0 for a mandate without a base.
        """
        agents = self._agents[policy]
        base = self._action_map.base_weights(day)[:, None, agents].to(mean.dtype)  # (D, 1, P, N)
        tilt = self._gain[agents].unsqueeze(-1).to(mean.dtype) * mean[..., :-1]
        # The tilted weights are b exp(a) / z, so log(tilted / b) is a - log z; tilts are bounded.
        tilted = base * tilt.exp()
        z = tilted.sum(-1) + (base.sum(-1) == 0.0)
        return (tilted * tilt).sum(-1) / z - z.log()


def mean_actions(
    network: PolicyNetwork, market: MarketTensors, batch: Mapping[str, Tensor], bfloat16: bool
) -> Tensor:
    """Return the mean actions (D, R, P, N + 1) of a batch.

    Each distinct day is encoded once, however many of the day slots it fills, and its books gather
    what they need of it; `bfloat16` is that of `encode_days`.
    """
    day, slot = torch.unique(batch[columns.DAY], return_inverse=True)
    part = encode_days(network, market, day, bfloat16)
    mean = networks.mean_actions(
        DayPart(*(each.index_select(0, slot) for each in part)),
        network.book_weights,
        batch[columns.BOOK_ASSET].flatten(2, 3),
        batch[columns.BOOK].flatten(1, 2),
        market.investable[batch[columns.DAY]],
    )
    return mean.view(batch[columns.ACTIONS].shape)


def minibatches(
    rows: int, minibatch_days: int, epochs: int, generator: torch.Generator
) -> Iterator[Tensor]:
    """Yield the day slots of each minibatch: every epoch takes each of the rows once."""
    parts = math.ceil(rows / minibatch_days)
    for _ in range(epochs):
        yield from torch.randperm(rows, generator=generator).tensor_split(parts)
