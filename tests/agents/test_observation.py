from collections.abc import Callable

import pytest
import torch

from agents.action_map import ActionMap
from agents.mandates import Mandate
from agents.market_tensors import MarketTensors
from agents.observation import BOOK_CLIP, Blocks, ObservationSpec, observe_books

Draw = Callable[..., MarketTensors]


def observed(
    action_map: ActionMap, t: torch.Tensor, *books: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what is seen of books (held, tilt, drawdown) at the close of sessions `t`."""
    return observe_books(action_map, action_map.day(t), *books)


@pytest.fixture
def action_map(presets: dict[str, Mandate], draw_market: Draw) -> ActionMap:
    names = ("conservative", "aggressive", "free")
    return ActionMap([presets[name] for name in names], draw_market(assets=10, gaps=True))


def _held(action_map: ActionMap, rows: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (rows, 3, action_map.market.n_assets)
    return torch.rand(shape, generator=generator, dtype=torch.float64) / shape[-1]


def test_a_book_at_its_rule_sees_a_distance_of_zero(action_map: ActionMap) -> None:
    t = torch.arange(4)
    held = action_map.base_weights(t) * action_map.day(t).rule.unsqueeze(-1)
    asset, book = observe_books(
        action_map, action_map.day(t), held, torch.zeros_like(held), held.sum(-1) * 0
    )
    assert asset.abs().max().item() < 1e-6
    assert torch.allclose(book[:, :2, 0], book[:, :2, 1])  # the exposure is the rule's


def test_the_distance_is_measured_in_equal_weights_of_the_investable_names(
    action_map: ActionMap,
) -> None:
    t = torch.tensor([2])
    held = action_map.base_weights(t) * action_map.day(t).rule.unsqueeze(-1)
    n = int(action_map.market.investable[2].sum())
    assert n < 10
    held[0, 1, 4] += 1.0 / n
    asset, _ = observe_books(
        action_map, action_map.day(t), held, torch.zeros_like(held), held.sum(-1) * 0
    )
    assert asset[0, 1, 4, 0].item() == pytest.approx(1.0, abs=1e-6)


def test_the_book_is_its_exposure_rule_drawdown_target_and_market(action_map: ActionMap) -> None:
    t = torch.tensor([7, 8])
    held = _held(action_map, 2)
    drawdown = torch.tensor([[0.1, 0.2, 0.9], [0.0, 0.05, 0.3]], dtype=torch.float64)
    _, book = observed(action_map, t, held, torch.zeros_like(held), drawdown)
    volatility = action_map.market.market_volatility[t]
    assert torch.allclose(book[..., 0], held.sum(-1).float())
    assert torch.allclose(book[..., 1], action_map.day(t).rule.float())
    assert torch.allclose(book[..., 2], (drawdown * 10).clamp(max=3).float())
    assert torch.allclose(book[0, :, 3], torch.tensor([0.4, 0.9, 0.9]))
    assert torch.allclose(book[..., 4], (2 * volatility)[:, None].expand(2, 3).float())


def test_everything_is_float32_and_bounded(action_map: ActionMap) -> None:
    t = torch.arange(5)
    held = 50.0 * _held(action_map, 5)
    tilt = torch.full_like(held, -1.0)
    asset, book = observed(action_map, t, held, tilt, held.sum(-1))
    for block in (asset, book):
        assert block.dtype == torch.float32
        assert block.abs().max().item() <= BOOK_CLIP
    assert (asset[..., 1] == -1.0).all()


def test_a_flat_observation_splits_into_its_blocks(action_map: ActionMap) -> None:
    market = action_map.market
    t = torch.tensor([3, 9])
    held = _held(action_map, 2)
    asset, book = observed(action_map, t, held, held, held.sum(-1))
    spec = ObservationSpec(
        market.n_assets, market.asset_features.shape[-1], market.market_features.shape[-1], 3.0
    )
    blocks = Blocks(
        market.asset_features[t], market.market_features[t], market.investable[t], asset, book
    )
    flat = spec.flat(blocks)
    assert flat.shape == (2, 3, spec.size)
    assert flat.dtype == torch.float32
    assert flat.abs().max().item() <= spec.bound
    again = spec.split(flat)
    for e in range(2):
        for a in range(3):
            assert torch.equal(again.asset_features[e, a], market.asset_features[t[e]])
            assert torch.equal(again.market_features[e, a], market.market_features[t[e]])
            assert torch.equal(again.investable[e, a].bool(), market.investable[t[e]])
    assert torch.equal(again.book_asset, asset)
    assert torch.equal(again.book, book)
    assert torch.equal(spec.flat(Blocks(*(block[:, 0] for block in again[:3]), asset, book)), flat)
