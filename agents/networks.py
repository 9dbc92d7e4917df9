"""The policy network: the same function for every asset, blind to their order and number.

N assets, F asset features, M market features, B features of a position, K of a book, S members of
h units each, H = S h. The market part (`encode`) depends on the day alone, so it is computed once
per day and gathered for every book; `act` adds what depends on the book. Everything is float32.

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
    """What an action takes from the day alone, with the leading dimensions of the days."""

    scores: Tensor  # (..., N, S) raw scores of every member
    exposure: Tensor  # (...) before bias and tanh


class BookWeights(NamedTuple):
    """The parameters that meet a book; those of several networks can be stacked in front."""

    score: Tensor  # (..., S, B)
    scale: Tensor  # (..., S) of the members' scores
    exposure: Tensor  # (..., K)
    bias: Tensor  # (...) of the exposure


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
        """Return the encoding (..., N, H) of the days.

        Args:
            asset_features: (..., N, F).
            market_features: (..., M).
            investable: (..., N) bool, or numbers that are 0 where it is False.
            generator: draws the dropout of supervised training; None drops nothing.
        """
        mask = investable.to(asset_features.dtype).unsqueeze(-1)
        assets = torch.where(mask > 0.0, asset_features, 0.0)
        market = market_features @ _side_by_side(self.market_weight) + self.input_bias.flatten()
        own = assets @ _side_by_side(self.asset_weight) + market.unsqueeze(-2)  # (..., N, H)
        own = _dropout(functional.silu(own), self.spec.dropout, generator)
        others = self._attend(own, mask) if self.spec.attention else pool(own, mask)
        hidden = _by_member(own, self.own_weight) + _by_member(others, self.others_weight)
        return functional.silu(hidden + self.hidden_bias.flatten())

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
        """Return what `mean_action` takes from the days of an encoding (..., N, H).

        Args:
            encoding: as from `encode`.
            investable: (..., N) as in `encode`.
        """
        mask = investable.to(encoding.dtype).unsqueeze(-1)
        pooled = pool(encoding, mask).squeeze(-2)
        return DayPart(self._member_scores(encoding), pooled @ self.exposure_weight)

    @property
    def book_weights(self) -> BookWeights:
        """Return the parameters that meet a book in `mean_action`."""
        return BookWeights(
            self.book_score_weight, self.scale, self.book_exposure_weight, self.exposure_bias
        )

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
        mask = investable.to(asset_features.dtype).unsqueeze(-1)
        encoding = self.encode(asset_features, market_features, investable, generator)
        raw = self._member_scores(encoding)
        return ((raw - pool(raw, mask)) * mask).movedim(-1, 0)

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

    def _member_scores(self, encoding: Tensor) -> Tensor:
        """Return (..., N, S): a bias is left out because the mean is taken off anyway."""
        by_member = encoding.reshape(*encoding.shape[:-1], self.spec.members, self.spec.hidden)
        return (by_member * self.score_weight).sum(-1)

    def _attend(self, own: Tensor, mask: Tensor) -> Tensor:
        """Return (..., N, H): what each asset gathers from the investable ones."""
        heads = (*own.shape[:-1], self.spec.members, self.spec.hidden)
        query, key, value = (
            _by_member(own, weight).reshape(heads).transpose(-3, -2)
            for weight in self.attention_weight
        )
        bias = torch.where(mask > 0.0, 0.0, MASKED).mT.unsqueeze(-3)  # (..., 1, 1, N)
        gathered = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return gathered.transpose(-3, -2).flatten(-2)


def mean_action(
    day: DayPart, weights: BookWeights, book_asset: Tensor, book: Tensor, investable: Tensor
) -> Tensor:
    """Return the mean action (..., N + 1) in (-1, 1): N scores, then the exposure.

    Args:
        day: of each book's day, from the network that plays it.
        weights: of that network.
        book_asset: (..., N, B).
        book: (..., K).
        investable: (..., N) as in `PolicyNetwork.encode`.
    """
    mask = investable.to(day.scores.dtype).unsqueeze(-1)
    raw = day.scores + book_asset @ weights.score.mT
    raw = raw - pool(raw, mask)
    scores = torch.tanh(raw / weights.scale.unsqueeze(-2)).mean(-1) * mask.squeeze(-1)
    own = (book * weights.exposure).sum(-1)
    exposure = torch.tanh(day.exposure + own + weights.bias)
    return torch.cat([scores, exposure.unsqueeze(-1)], dim=-1)


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


def _side_by_side(weight: Tensor) -> Tensor:
    """Return the (C, H) matrix that applies every member's (S, C, h) at once."""
    return weight.transpose(0, 1).flatten(-2)


def _by_member(values: Tensor, weight: Tensor) -> Tensor:
    """Return (..., H) values after each member's own matrix of (S, h, h)."""
    members, hidden, _ = weight.shape
    units = values.reshape(-1, members, hidden).transpose(0, 1)
    return torch.bmm(units, weight).transpose(0, 1).reshape(values.shape)


def _dropout(values: Tensor, share: float, generator: Generator | None) -> Tensor:
    """Drop a share of the values; torch's own dropout would draw from the global generator."""
    if generator is None or share == 0.0:
        return values
    draw = torch.rand(values.shape, generator=generator, device=values.device)
    return values * (draw >= share) / (1.0 - share)
