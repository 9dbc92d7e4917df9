"""The policy network: the same function for every asset, blind to their order and number.

N assets, F asset features, M market features, B features of a position, K of a book, S members of
h units each, H = S h. The market part (`encode`, `day_part`) depends on the day alone, so it is
computed once per day and gathered for every book; `mean_actions` adds what depends on the books.
Everything is float32.

A name that is not investable influences nothing: it is left out of every mean, its mean action is
0 and it has no part in `entropy`.

Source:
    Zaheer et al., "Deep Sets", 2017 (pooling); Vaswani et al., 2017 (attention).
"""

import math
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from agents.network_spec import NetworkSpec

VALUE_HIDDEN = 32
INITIAL_STD = (0.15, 0.05)  # of the scores' and of the exposure's exploration noise
MASKED = -1e9  # finite, so that a day without any investable name gives no NaN


class DayPart(NamedTuple):
    """What a mean action takes from the day alone, with the leading dimensions of the days."""

    scores: Tensor  # (..., S, N) of every member, of mean 0 over the investable names
    exposure: Tensor  # (...) before the tanh


class BookWeights(NamedTuple):
    """The parameters that meet a book; those of several networks can be stacked in front."""

    score: Tensor  # (..., S, B)
    exposure: Tensor  # (..., K)


class PolicyNetwork(nn.Module):
    """Scores per asset and one exposure, with a separate value function.

    Args:
        spec: sizes.
        generator: the only source of randomness of the initial parameters.
    """

    scale: Tensor

    def __init__(self, spec: NetworkSpec, generator: Generator) -> None:
        super().__init__()
        self.spec = spec
        s, h = spec.members, spec.hidden
        inputs = spec.asset_features + spec.market_features

        def uniform(*shape: int, fan_in: int) -> nn.Parameter:
            bound = 1.0 / math.sqrt(fan_in)
            return nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=generator))

        self.asset_weight = uniform(s, spec.asset_features, h, fan_in=inputs)
        self.market_weight = uniform(s, spec.market_features, h, fan_in=inputs)
        self.input_bias = uniform(s, h, fan_in=inputs)
        if spec.attention:
            self.attention_weight = uniform(3, s, h, h, fan_in=h)  # queries, keys, values
        self.own_weight = uniform(s, h, h, fan_in=2 * h)
        self.others_weight = uniform(s, h, h, fan_in=2 * h)
        self.hidden_bias = uniform(s, h, fan_in=2 * h)
        self.score_weight = uniform(s, h, fan_in=h)

        # Zero at first: a policy starts as its scores alone, at the exposure of the rule.
        self.book_score_weight = nn.Parameter(torch.zeros(s, spec.book_asset))
        self.exposure_weight = nn.Parameter(torch.zeros(s * h))
        self.book_exposure_weight = nn.Parameter(torch.zeros(spec.book))
        self.exposure_bias = nn.Parameter(torch.zeros(()))
        self.log_std = nn.Parameter(torch.tensor(INITIAL_STD).log())
        self.register_buffer("scale", torch.ones(s))

        fan_in = inputs + spec.book
        self.value_asset_weight = uniform(spec.asset_features, VALUE_HIDDEN, fan_in=fan_in)
        self.value_market_weight = uniform(spec.market_features, VALUE_HIDDEN, fan_in=fan_in)
        self.value_book_weight = uniform(spec.book, VALUE_HIDDEN, fan_in=fan_in)
        self.value_bias = uniform(VALUE_HIDDEN, fan_in=fan_in)
        self.value_head = nn.Parameter(torch.zeros(VALUE_HIDDEN))
        self.value_offset = nn.Parameter(torch.zeros(()))

    def encode(
        self,
        asset_features: Tensor,
        market_features: Tensor,
        investable: Tensor,
        generator: Generator | None = None,
    ) -> Tensor:
        """Return the encoding (..., N, H) of the days, which lies in memory as (H, ..., N).

        Args:
            asset_features: (..., N, F).
            market_features: (..., M).
            investable: (..., N) bool, or numbers that are 0 where it is False.
            generator: draws the dropout of supervised training; None drops nothing.
        """
        members, names = self.spec.members, asset_features.shape[:-1]
        shares = equal_shares(investable.to(asset_features.dtype)).reshape(-1, names[-1])  # (D, N)
        assets = torch.where(investable.unsqueeze(-1) != 0, asset_features, 0.0)
        market = market_features.unsqueeze(-2).expand(*names, -1)
        inputs = torch.cat([assets, market], dim=-1).flatten(0, -2)  # (D N, F + M)
        weight = torch.cat([self.asset_weight, self.market_weight], dim=1).mT.flatten(0, 1)
        # Units before names: whatever follows runs along the long axis.
        own = functional.silu(torch.addmm(self.input_bias.reshape(-1, 1), weight, inputs.T))
        own = _dropout(own.T, self.spec.dropout, generator).T.reshape(members, -1, inputs.shape[0])
        by_day = own.view(members, -1, *shares.shape)  # (S, h, D, N)
        if self.spec.attention:
            others = torch.bmm(self.others_weight.mT, self._attend(by_day, shares))
        else:
            pooled = torch.bmm(self.others_weight.mT, (by_day * shares).sum(-1))
            others = pooled.unsqueeze(-1)
        hidden = torch.bmm(self.own_weight.mT, own).view_as(by_day)
        others = others.view(*hidden.shape[:-1], -1) + self.hidden_bias[..., None, None]
        return functional.silu(hidden + others).view(-1, *names).movedim(0, -1)

    def act(self, encoding: Tensor, book_asset: Tensor, book: Tensor, investable: Tensor) -> Tensor:
        """Return the mean action (..., N + 1) in (-1, 1): N scores, then the exposure.

        Args:
            encoding: (..., N, H) of the day, as from `encode`.
            book_asset: (..., N, B).
            book: (..., K).
            investable: (..., N) as in `encode`.
        """
        day = self.day_part(encoding, investable)
        return mean_action(day, self.book_weights, book_asset, book, investable)

    def day_part(self, encoding: Tensor, investable: Tensor) -> DayPart:
        """Return what a mean action takes from the days of an encoding (..., N, H).

        Args:
            encoding: as from `encode`.
            investable: (..., N) as in `encode`.
        """
        shares = equal_shares(investable.to(encoding.dtype))
        weights = torch.stack([self.score_weight, self.exposure_weight.view_as(self.score_weight)])
        raw, exposure = self._by_member(encoding, weights.transpose(0, 1)).unbind(1)
        raw = centred(raw, shares).movedim(0, -2)
        exposure = (exposure * shares).sum(-1).sum(0) + self.exposure_bias
        return DayPart(raw * self._gain, exposure)

    @property
    def book_weights(self) -> BookWeights:
        """Return the parameters that meet a book."""
        return BookWeights(self.book_score_weight * self._gain, self.book_exposure_weight)

    def score_raw(
        self,
        asset_features: Tensor,
        market_features: Tensor,
        investable: Tensor,
        generator: Generator | None = None,
    ) -> Tensor:
        """Return every member's raw scores (S, ..., N), of mean 0 over the investable names.

        This is what supervised training fits; the arguments are those of `encode`. Names that are
        not investable get 0.
        """
        mask = investable.to(asset_features.dtype)
        encoding = self.encode(asset_features, market_features, investable, generator)
        raw = self._by_member(encoding, self.score_weight.unsqueeze(1)).squeeze(1)
        return centred(raw, equal_shares(mask)) * mask

    def value(self, pooled_features: Tensor, market_features: Tensor, book: Tensor) -> Tensor:
        """Return the expected return to go (...), sharing no parameter with the actions.

        Args:
            pooled_features: (..., F) mean over the investable names, as from `pool`.
            market_features: (..., M).
            book: (..., K).
        """
        day = pooled_features @ self.value_asset_weight + market_features @ self.value_market_weight
        hidden = functional.silu(day + book @ self.value_book_weight + self.value_bias)
        return hidden @ self.value_head + self.value_offset

    @property
    def _gain(self) -> Tensor:
        """Return (S, 1): raw scores times this are the arguments of `mean_actions`'s sigmoid."""
        return (2.0 / self.scale).unsqueeze(-1)

    def _by_member(self, encoding: Tensor, weights: Tensor) -> Tensor:
        """Return (S, O, ..., N): each member's outputs (S, O, h) of its own units."""
        units = encoding.movedim(-1, 0).reshape(self.spec.members, self.spec.hidden, -1)
        return torch.bmm(weights, units).view(*weights.shape[:2], *encoding.shape[:-1])

    def _attend(self, own: Tensor, shares: Tensor) -> Tensor:
        """Return (S, h, D N): what each asset gathers from the investable ones, of (S, h, D, N)."""
        units = own.flatten(-2)
        query, key, value = (
            torch.bmm(weight.mT, units).view_as(own).permute(2, 0, 3, 1)  # (D, S, N, h)
            for weight in self.attention_weight
        )
        bias = torch.where(shares > 0.0, 0.0, MASKED)[:, None, None]  # (D, 1, 1, N)
        gathered = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return gathered.permute(1, 3, 0, 2).flatten(-2)


def mean_action(
    day: DayPart, weights: BookWeights, book_asset: Tensor, book: Tensor, investable: Tensor
) -> Tensor:
    """Return the mean action (..., N + 1) in (-1, 1) of one book: N scores, then the exposure.

    Args:
        day: of each book's day, from the network that plays it.
        weights: of that network.
        book_asset: (..., N, B).
        book: (..., K).
        investable: (..., N) as in `PolicyNetwork.encode`.
    """
    shares = equal_shares(investable.to(book_asset.dtype)).unsqueeze(-2)
    positions = centred(book_asset.mT, shares).unsqueeze(-2)
    return mean_actions(day, weights, positions, book.unsqueeze(-2), investable).squeeze(-2)


def mean_actions(
    day: DayPart, weights: BookWeights, positions: Tensor, book: Tensor, investable: Tensor
) -> Tensor:
    """Return the mean actions (..., X, N + 1) of X books of the same day and network.

    Args:
        day: of the books' day, from the network that plays them.
        weights: of that network.
        positions: (..., B, X, N), of mean 0 over the investable names.
        book: (..., X, K).
        investable: (..., N) as in `PolicyNetwork.encode`.
    """
    # Expanded, or torch would fold the days into one product whose result lies members last.
    score = weights.score.expand(*positions.shape[:-3], -1, -1)
    own = score @ positions.flatten(-2)
    own = own.view(*own.shape[:-1], *positions.shape[-2:])  # (..., S, X, N)
    # tanh(x) = 2 sigmoid(2 x) - 1, and a sigmoid costs a tenth of a tanh; the 2 is in the gain.
    total = (own + day.scores.unsqueeze(-2)).sigmoid().sum(-3)
    scores = (total * (2.0 / own.shape[-3]) - 1.0) * investable.to(own.dtype).unsqueeze(-2)
    tilt = (book @ weights.exposure.unsqueeze(-1)).squeeze(-1)
    exposure = torch.tanh(day.exposure.unsqueeze(-1) + tilt)
    return torch.cat([scores, exposure.unsqueeze(-1)], dim=-1)


def centred(values: Tensor, shares: Tensor) -> Tensor:
    """Return (..., N) values less their mean, in which the names have these shares (..., N)."""
    return values - (values * shares).sum(-1, keepdim=True)


def equal_shares(mask: Tensor) -> Tensor:
    """Return the weights (..., N) of the mean over the names where the mask is 1, else 0."""
    return mask / mask.sum(-1, keepdim=True).clamp_min(1.0)


def pool(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean (..., 1, C) of (..., N, C) values over the names where the mask is 1.

    Args:
        values: (..., N, C).
        mask: (..., N, 1) 1 where investable, else 0. With no name at all the mean is 0.
    """
    total = (values * mask).sum(-2, keepdim=True)
    return total / mask.sum(-2, keepdim=True).clamp_min(1.0)


def entropy(log_std: Tensor, investable: Tensor) -> Tensor:
    """Return the entropy (...) of the exploration around the mean action, in nats.

    Args:
        log_std: (2,) of every score, and of the exposure, each an independent normal.
        investable: (..., N); other names contribute 0.
    """
    each = log_std + 0.5 * math.log(2.0 * math.pi * math.e)
    return investable.to(log_std.dtype).sum(-1) * each[0] + each[1]


def _dropout(values: Tensor, share: float, generator: Generator | None) -> Tensor:
    """Drop a share of the values; torch's own dropout would draw from the global generator."""
    if generator is None or share == 0.0:
        return values
    draw = torch.rand(values.shape, generator=generator, device=values.device)
    return values * (draw >= share) / (1.0 - share)
