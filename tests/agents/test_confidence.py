"""Agreement of a network's members on their scores."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from agents.confidence import confidence, member_scores
from agents.network_spec import NetworkSpec
from agents.networks import BookWeights, DayPart, PolicyNetwork
from agents.observation import BOOK_ASSET_FEATURES, BOOK_FEATURES

NAMES = 8


def of_scores(scores: list[list[float]]) -> float:
    """Return the confidence of members with these scores on a book that they do not look at."""
    raw = 2.0 * torch.atanh(torch.tensor(scores, dtype=torch.float64))
    day = DayPart(raw, torch.zeros(()))
    weights = BookWeights(torch.zeros(len(scores), 2).double(), torch.zeros(5))
    names = raw.shape[-1]
    return confidence(day, weights, torch.zeros(names, 2).double(), torch.ones(names)).item()


def test_members_of_one_mind_are_certain() -> None:
    assert of_scores([[0.5, -0.5], [0.5, -0.5]]) == pytest.approx(1.0)
    assert of_scores([[0.1, -0.1], [0.9, -0.9]]) == pytest.approx(1.0)  # of one sign is enough


def test_members_that_cancel_have_no_confidence() -> None:
    assert of_scores([[0.5, -0.5], [-0.5, 0.5]]) == pytest.approx(0.0)


def test_the_share_that_remains_is_the_confidence() -> None:
    # Means 0.2 and -0.2; mean sizes 0.4 and 0.4.
    assert of_scores([[0.6, -0.6], [-0.2, 0.2]]) == pytest.approx(0.5)


def test_one_member_agrees_with_itself_and_no_opinion_contradicts_nobody() -> None:
    assert of_scores([[0.3, -0.7]]) == 1.0
    assert of_scores([[0.0, 0.0], [0.0, 0.0]]) == 1.0


def drawn(seed: int, days: int = 3) -> tuple[PolicyNetwork, DayPart, Tensor, Tensor, Tensor]:
    generator = Generator().manual_seed(seed)
    spec = NetworkSpec(5, 3, BOOK_ASSET_FEATURES, BOOK_FEATURES, 4, 8, 0.0, False)
    network = PolicyNetwork(spec, generator)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.uniform_(-0.5, 0.5, generator=generator)
        network.scale.uniform_(0.5, 2.0, generator=generator)
    investable = torch.rand(days, NAMES, generator=generator) < 0.7
    assets = torch.randn(days, NAMES, 5, generator=generator)
    encoding = network.encode(assets, torch.randn(days, 3, generator=generator), investable)
    book_asset = torch.randn(days, NAMES, BOOK_ASSET_FEATURES, generator=generator)
    book = torch.randn(days, BOOK_FEATURES, generator=generator)
    action = network.act(encoding, book_asset, book, investable)
    return network, network.day_part(encoding, investable), book_asset, investable, action


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_the_mean_of_the_members_is_the_action_and_the_confidence_a_fraction(seed: int) -> None:
    with torch.no_grad():
        network, day, book_asset, investable, action = drawn(seed)
        each = member_scores(day, network.book_weights, book_asset, investable)
        torch.testing.assert_close(each.mean(-2), action[..., :-1], rtol=0.0, atol=2e-6)
        found = confidence(day, network.book_weights, book_asset, investable)
    assert found.shape == (3,)
    assert ((found >= 0.0) & (found <= 1.0)).all()


def test_a_name_that_cannot_be_held_has_no_say() -> None:
    with torch.no_grad():
        network, day, book_asset, investable, _ = drawn(4)
        investable[:, 0] = False
        before = confidence(day, network.book_weights, book_asset, investable)
        book_asset[:, 0] = 50.0
        day.scores[..., 0] = 7.0
        after = confidence(day, network.book_weights, book_asset, investable)
    assert torch.equal(before, after)
