from collections.abc import Callable, Sequence
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from agents.action_map import ActionMap, no_trade_band
from agents.mandates import Mandate
from agents.market_tensors import MarketTensors
from risk.projection import project

Draw = Callable[..., MarketTensors]
PRESETS = ("conservative", "cautious", "balanced", "growth", "aggressive", "free")
ZERO = torch.zeros(1, dtype=torch.int64)


def _cash(mandates: Sequence[Mandate], market: MarketTensors, rows: int = 1) -> Tensor:
    return torch.zeros(rows, len(mandates), market.n_assets, dtype=torch.float64)


def _action(scores: Tensor | float, exposure: float, market: MarketTensors) -> Tensor:
    action = torch.zeros(1, 1, market.n_assets + 1, dtype=torch.float64)
    action[..., :-1] = scores
    action[..., -1] = exposure
    return action.requires_grad_()


def _busy(draw: Draw, mandate: Mandate) -> MarketTensors:
    """Return a market in which the rule of a volatility target stays a tenth below full."""
    market = draw(calm=True)
    return replace(
        market,
        market_volatility=torch.full_like(
            market.market_volatility, mandate.target_volatility * 1.1
        ),
        beta=torch.ones_like(market.beta),
        idiosyncratic_volatility=torch.full_like(market.idiosyncratic_volatility, 0.01),
    )


@pytest.mark.parametrize("name", PRESETS)
def test_all_cash_is_reached_exactly_with_live_gradients(
    presets: dict[str, Mandate], draw_market: Draw, name: str
) -> None:
    market = _busy(draw_market, presets[name])
    action_map = ActionMap([presets[name]], market)
    tilt = _cash(action_map.mandates, market)
    held = torch.full_like(tilt, 0.97 / market.n_assets)
    for exposure in (-0.5, -0.9, -1.0):
        action = _action(0.0, exposure, market)
        target, _ = action_map(action, held, tilt, ZERO)
        (gradient,) = torch.autograd.grad(target.sum(), action)
        assert torch.isfinite(gradient).all()
        assert gradient[..., -1].item() > 0.1
    assert target.abs().max().item() == 0.0


@pytest.mark.parametrize("name", PRESETS)
def test_no_cash_beyond_the_floor_is_reached_exactly_with_live_gradients(
    presets: dict[str, Mandate], draw_market: Draw, name: str
) -> None:
    mandate = presets[name]
    market = _busy(draw_market, mandate)
    action_map = ActionMap([mandate], market)
    tilt = held = _cash([mandate], market)
    for exposure in (0.5, 0.9):
        action = _action(0.0, exposure, market)
        target, _ = action_map(action, held, tilt, ZERO)
        (gradient,) = torch.autograd.grad(target.sum(), action)
        assert torch.isfinite(gradient).all()
        assert gradient[..., -1].item() > 0.01
    target, _ = action_map(_action(0.0, 1.0, market), held, tilt, ZERO)
    assert target.sum().item() == pytest.approx(mandate.limits.max_invested, abs=1e-12)


def test_an_unbounded_mandate_reaches_a_single_name_with_live_gradients(
    presets: dict[str, Mandate], draw_market: Draw
) -> None:
    market = draw_market(calm=True)
    action_map = ActionMap([presets["free"]], market)
    held = tilt = _cash(action_map.mandates, market)
    scores = -torch.ones(market.n_assets)
    for first in (0.0, 0.5, 1.0):
        scores[0] = first
        action = _action(scores, 1.0, market)
        target, _ = action_map(action, held, tilt, ZERO)
        (gradient,) = torch.autograd.grad(target[..., 0].sum(), action)
        assert torch.isfinite(gradient).all()
        assert gradient[..., 0].item() > 0.0
    assert target[0, 0, 0].item() == pytest.approx(1.0, abs=1e-6)


def test_an_unbounded_mandate_reaches_a_single_name_up_to_its_cap(
    presets: dict[str, Mandate], draw_market: Draw
) -> None:
    limits = replace(presets["free"].limits, max_weight=0.6)
    market = draw_market(calm=True)
    action_map = ActionMap([replace(presets["free"], limits=limits)], market)
    held = tilt = _cash(action_map.mandates, market)
    scores = torch.zeros(market.n_assets)
    scores[0] = 0.2
    action = _action(scores, 1.0, market)
    target, _ = action_map(action, held, tilt, ZERO)
    (gradient,) = torch.autograd.grad(target[..., 0].sum(), action)
    assert target[0, 0, 0].item() < 0.6
    assert gradient[..., 0].item() > 0.1
    scores[0] = 1.0
    target, _ = action_map(_action(scores, 1.0, market), held, tilt, ZERO)
    assert target[0, 0, 0].item() == 0.6


@pytest.mark.parametrize("name", PRESETS)
def test_the_score_of_a_name_moves_its_weight_the_same_way(
    presets: dict[str, Mandate], draw_market: Draw, name: str
) -> None:
    market = _busy(draw_market, presets[name])
    action_map = ActionMap([presets[name]], market)
    held = tilt = _cash(action_map.mandates, market)
    action = _action(0.0, 0.0, market)
    target, _ = action_map(action, held, tilt, ZERO)
    (gradient,) = torch.autograd.grad(target[..., 3].sum(), action)
    assert gradient[..., 3].item() > 0.0
    assert (gradient[..., [0, 1, 2, 4]] < 0.0).all()


def test_an_action_of_zeros_is_the_rule_up_to_the_band(
    presets: dict[str, Mandate], draw_market: Draw
) -> None:
    mandates = [presets["conservative"], presets["balanced"]]
    market = draw_market(assets=20, calm=True)
    market.market_volatility[5] = 0.16
    action_map = ActionMap(mandates, market)
    t = torch.tensor([5])
    held = _cash(mandates, market)
    rule = action_map.day(t).rule
    assert torch.allclose(rule, torch.tensor([[0.5, 0.75]], dtype=torch.float64))
    target, tilt = action_map(torch.zeros(1, 2, 21), held, held, t)
    inverse = 1.0 / market.volatility[5]
    base = torch.stack([inverse / inverse.sum(), torch.full((20,), 0.05, dtype=torch.float64)])
    assert torch.allclose(action_map.base_weights(t), base)
    # No limit binds, so the book stops at an L1 distance of the band before rule x base.
    assert torch.allclose(target, base * (rule - 0.05).unsqueeze(-1), atol=1e-12)
    assert (tilt == 0.0).all()


def test_the_exposure_is_the_rule_corrected_by_a_cubic(
    presets: dict[str, Mandate], draw_market: Draw
) -> None:
    mandate = replace(presets["balanced"], band=0.0)
    market = _busy(draw_market, mandate)
    action_map = ActionMap([mandate], market)
    held = _cash([mandate], market)
    rule = 1.0 / 1.1
    for c in (-0.7, -0.1, 0.3, 0.8):
        command = 0.2 * c + 0.8 * c**3
        expected = rule + command * (1.0 - rule if c > 0.0 else rule)
        target, _ = action_map(_action(0.0, c, market), held, held, ZERO)
        assert target.sum().item() == pytest.approx(expected, abs=1e-12)


def test_scores_enter_slowly_and_are_bounded_by_the_tilt(
    presets: dict[str, Mandate], draw_market: Draw
) -> None:
    mandate = replace(presets["aggressive"], band=0.0, limits=presets["free"].limits)
    market = draw_market(assets=20)
    action_map = ActionMap([mandate], market)
    held = tilt = _cash([mandate], market)
    scores = torch.zeros(20)
    scores[0], scores[1] = 5.0, -5.0  # clamped to 1 and -1
    for n in range(1, 401):
        target, tilt = action_map(_action(scores, 0.0, market).detach(), held, tilt, ZERO)
        if n == 10:
            assert tilt[0, 0, 0].item() == pytest.approx(1.0 - 0.98**10)
    log_ratio = (target[0, 0, 0] / target[0, 0, 1]).log().item()
    assert log_ratio == pytest.approx(2.0 * mandate.tilt, rel=1e-3)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_targets_are_portfolios_without_debt_within_the_limits(
    presets: dict[str, Mandate], draw_market: Draw, seed: int
) -> None:
    market = draw_market(seed, gaps=True)
    mandates = list(presets.values())
    action_map = ActionMap(mandates, market)
    generator = torch.Generator().manual_seed(seed)
    books = (8, len(mandates))
    t = torch.randint(0, market.n_sessions, (8,), generator=generator)
    action = 3.0 * torch.randn(*books, market.n_assets + 1, generator=generator)
    tilt = 2.0 * torch.rand(*books, market.n_assets, generator=generator, dtype=torch.float64) - 1.0
    held = torch.zeros_like(tilt)
    action.requires_grad_()
    target, new_tilt = action_map(action, held, tilt, t)
    target.square().sum().backward()
    assert action.grad is not None
    assert torch.isfinite(action.grad).all()
    assert target.dtype == new_tilt.dtype == torch.float64
    assert (target >= 0.0).all()
    assert (target.sum(-1) <= action_map.limits.max_invested + 1e-12).all()
    assert (target <= action_map.limits.max_weight[:, None] + 1e-12).all()
    assert (target.masked_select(~market.investable[t].unsqueeze(1).expand_as(target)) == 0).all()
    assert (new_tilt.abs() <= 1.0).all()


def test_a_session_without_any_investable_name_asks_for_cash(
    presets: dict[str, Mandate], draw_market: Draw
) -> None:
    market = draw_market()
    market.investable[0] = False
    action_map = ActionMap(list(presets.values()), market)
    held = _cash(action_map.mandates, market)
    action = torch.ones(1, len(presets), market.n_assets + 1, requires_grad=True)
    target, _ = action_map(action, held, held, ZERO)
    target.sum().backward()
    assert (target == 0.0).all()
    assert action.grad is not None
    assert torch.isfinite(action.grad).all()


def test_the_order_of_the_assets_does_not_matter(
    presets: dict[str, Mandate], draw_market: Draw
) -> None:
    market = draw_market(gaps=True)
    order = torch.randperm(market.n_assets, generator=torch.Generator().manual_seed(3))
    by_asset = {
        item.name: getattr(market, item.name)[:, order]
        for item in fields(market)
        if item.name not in ("adv", "sector_of", "n_sectors", "market_features")
        and getattr(market, item.name).ndim >= 2
    }
    shuffled = replace(market, sector_of=market.sector_of[order], **by_asset)
    mandates = list(presets.values())
    generator = torch.Generator().manual_seed(4)
    t = torch.arange(6)
    books = (6, len(mandates))
    action = torch.randn(*books, market.n_assets + 1, generator=generator)
    held = torch.rand(*books, market.n_assets, generator=generator, dtype=torch.float64) / 12
    tilt = torch.rand(*books, market.n_assets, generator=generator, dtype=torch.float64) - 0.5
    target, moved = ActionMap(mandates, market)(action, held, tilt, t)
    with_cash_last = torch.cat([order, torch.tensor([market.n_assets])])
    again, moved_again = ActionMap(mandates, shuffled)(
        action[..., with_cash_last], held[..., order], tilt[..., order], t
    )
    assert torch.allclose(again, target[..., order], atol=1e-14)
    assert torch.equal(moved_again, moved[..., order])


def test_a_row_of_a_batch_is_the_same_as_a_batch_of_one(
    presets: dict[str, Mandate], draw_market: Draw
) -> None:
    market = draw_market(gaps=True)
    mandates = list(presets.values())
    action_map = ActionMap(mandates, market)
    generator = torch.Generator().manual_seed(5)
    t = torch.arange(16)
    action = torch.randn(16, len(mandates), market.n_assets + 1, generator=generator)
    held = torch.rand(16, len(mandates), market.n_assets, generator=generator).double() / 12
    tilt = torch.zeros_like(held)
    together, _ = action_map(action, held, tilt, t)
    for e in range(16):
        one = slice(e, e + 1)
        alone, _ = action_map(action[one], held[one], tilt[one], t[one])
        assert torch.allclose(alone, together[one], rtol=0.0, atol=1e-15)
    for a, mandate in enumerate(mandates):
        only = slice(a, a + 1)
        alone, _ = ActionMap([mandate], market)(action[:, only], held[:, only], tilt[:, only], t)
        assert torch.allclose(alone, together[:, only], rtol=0.0, atol=1e-15)


def test_nothing_after_the_decision_changes_it(
    presets: dict[str, Mandate], draw_market: Draw
) -> None:
    market, other = draw_market(), draw_market(seed=99)
    for item in fields(market):
        ours, theirs = getattr(market, item.name), getattr(other, item.name)
        if item.name not in ("adv", "sector_of", "n_sectors"):
            theirs[:11] = ours[:11]
    mandates = list(presets.values())
    held = _cash(mandates, market)
    action = torch.full((1, len(mandates), market.n_assets + 1), 0.3)
    t = torch.tensor([10])
    first, _ = ActionMap(mandates, market)(action, held, held, t)
    second, _ = ActionMap(mandates, other)(action, held, held, t)
    assert torch.equal(first, second)


@pytest.mark.parametrize("wrong", ["action", "held", "tilt"])
def test_numbers_of_the_wrong_type_are_refused(
    presets: dict[str, Mandate], draw_market: Draw, wrong: str
) -> None:
    market = draw_market()
    action_map = ActionMap([presets["balanced"]], market)
    arguments = {
        "action": torch.zeros(1, 1, market.n_assets + 1),
        "held": _cash(action_map.mandates, market),
        "tilt": _cash(action_map.mandates, market),
    }
    arguments[wrong] = arguments[wrong].to(torch.int64 if wrong == "action" else torch.float32)
    with pytest.raises(TypeError, match="must be float64"):
        action_map(**arguments, t=ZERO)


def test_a_market_of_unknown_volatility_is_refused(
    presets: dict[str, Mandate], draw_market: Draw
) -> None:
    market = draw_market()
    market.market_volatility[3] = torch.nan
    with pytest.raises(ValueError, match="market volatility"):
        ActionMap([presets["balanced"]], market)


def test_a_book_within_the_band_is_left_alone_bit_for_bit() -> None:
    held = torch.tensor([0.31, 0.17, 0.05], dtype=torch.float64)
    target = held + torch.tensor([0.02, -0.02, 0.009], dtype=torch.float64)
    band = torch.tensor(0.05, dtype=torch.float64)
    assert torch.equal(no_trade_band(target, held, band), held)


@given(
    held=st.lists(st.floats(0.0, 0.2), min_size=4, max_size=4),
    target=st.lists(st.floats(0.0, 0.2), min_size=4, max_size=4),
    band=st.floats(0.0, 0.3),
)
def test_a_move_ends_at_the_edge_of_the_band(
    held: list[float], target: list[float], band: float
) -> None:
    h, w = torch.tensor([held, target], dtype=torch.float64)
    moved = no_trade_band(w, h, torch.tensor(band, dtype=torch.float64))
    before, left = (w - h).abs().sum().item(), (w - moved).abs().sum().item()
    assert left == pytest.approx(min(before, band), abs=1e-9)
    assert (moved >= 0.0).all()


def test_without_a_band_the_target_is_reached_bit_for_bit() -> None:
    held, target = torch.linspace(0.1, 0.3, 5).double(), torch.linspace(0.2, 0.05, 5).double()
    assert torch.equal(no_trade_band(target, held, torch.zeros(())), target)


def test_a_book_at_the_edge_of_its_band_is_left_alone_whatever_the_rounding() -> None:
    target = torch.tensor([0.5, 0.0], dtype=torch.float64)
    for rounding in (-1e-16, 0.0, 1e-16, 1e-12):
        held = torch.tensor([0.45 - rounding, 0.0], dtype=torch.float64)
        assert torch.equal(no_trade_band(target, held, torch.tensor(0.05)), held)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_what_is_wanted_becomes_the_target_through_limits_and_band_alone(
    presets: dict[str, Mandate], draw_market: Draw, seed: int
) -> None:
    market, mandates = draw_market(seed, gaps=True), list(presets.values())
    generator = torch.Generator().manual_seed(seed)
    t = torch.randint(0, market.n_sessions, (4,), generator=generator)
    shape = (4, len(mandates), market.n_assets)
    action = torch.randn(*shape[:-1], market.n_assets + 1, generator=generator)
    tilt = 2.0 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1.0
    held = torch.rand(shape, generator=generator, dtype=torch.float64) / market.n_assets
    action_map = ActionMap(mandates, market)
    day = action_map.day(t)
    wanted = action_map.wanted(day, action, tilt)
    within = action_map.bounds(day)
    limited = project(wanted, held, *(getattr(within, item.name) for item in fields(within)))
    target, _ = action_map.on(day, action, held, tilt)

    free = replace(presets["free"].limits, max_volatility=100.0)
    unlimited = [replace(mandate, limits=free, band=0.0) for mandate in mandates]
    freely, _ = ActionMap(unlimited, market).on(day, action, held, tilt)
    assert torch.equal(freely, wanted)
    left = (limited - target).abs().sum(-1)
    bands = torch.tensor([mandate.band for mandate in mandates])
    assert (left <= bands + 1e-9).all()


def test_one_day_serves_many_actions(presets: dict[str, Mandate], draw_market: Draw) -> None:
    market, mandates = draw_market(), [presets["balanced"], presets["free"]]
    action_map = ActionMap(mandates, market)
    generator = torch.Generator().manual_seed(0)
    actions = torch.randn(5, 2, market.n_assets + 1, generator=generator)
    tilt = torch.zeros(1, 2, market.n_assets, dtype=torch.float64)
    together = action_map.wanted(action_map.day(ZERO), actions, tilt)
    alone = [action_map.wanted(action_map.day(ZERO), action[None], tilt) for action in actions]
    assert torch.equal(together, torch.cat(alone))
