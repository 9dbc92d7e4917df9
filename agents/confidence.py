"""How much the members of a policy's network agree on what they ask for."""

import torch
from torch import Tensor

from agents.networks import BookWeights, DayPart, centred, equal_shares


def confidence(
    day: DayPart, weights: BookWeights, book_asset: Tensor, investable: Tensor
) -> Tensor:
    """Return the agreement (...) of a network's members on its scores, in [0, 1].

    It is the size of the mean score, summed over the names, as a fraction of the mean size: 1 when
    the members agree on the sign of every score, as one member alone does, and near 0 when they
    cancel out. Members without any opinion contradict nobody: 1. It tells agreement, not truth:
    members of one policy were trained on the same data.

    Args:
        day: of each book's day, from the network that plays it.
        weights: of that network.
        book_asset: (..., N, B) as in `observation.Blocks`.
        investable: (..., N) as in `PolicyNetwork.encode`.
    """
    scores = member_scores(day, weights, book_asset, investable)
    agreed, asked = scores.mean(-2).abs().sum(-1), scores.abs().mean(-2).sum(-1)
    # Rounding must not lift an agreement above 1.
    return torch.where(asked > 0.0, (agreed / asked).clamp_max(1.0), 1.0)


def member_scores(
    day: DayPart, weights: BookWeights, book_asset: Tensor, investable: Tensor
) -> Tensor:
    """Return the scores (..., S, N) in (-1, 1) of every member; their mean is the action's.

    The arguments are those of `confidence`.
    """
    mask = investable.to(book_asset.dtype).unsqueeze(-2)
    positions = centred(book_asset.mT, equal_shares(mask))
    # Half, because the weights hold the factor 2 of the sigmoid that `mean_actions` takes.
    return torch.tanh(0.5 * (day.scores + weights.score @ positions)) * mask
