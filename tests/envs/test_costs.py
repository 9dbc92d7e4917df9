"""Costs are paid by the book that trades, in the trade's direction, and every parameter counts."""

from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.costs import CostBreakdown, CostModel, borrow_cost, impact_rate, trading_cost, unit_impact

MODEL = CostModel(commission_bp=2.0, spread_bp=10.0, impact=0.7, borrow_rate=0.05)
E, A, N = 2, 3, 4


def tensor(values: object) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


ONE = tensor([[1.0]])
VOLATILITY = tensor([[[0.01, 0.02, 0.03, 0.04]]])
ADV = tensor([[[1e6, 2e6, 5e6, 1e7]]])


def costs_of(trade: torch.Tensor, model: CostModel, scale: torch.Tensor = ONE) -> torch.Tensor:
    """Return commission, spread and impact of (E, A, N) trades, (3, E, A)."""
    unit = unit_impact(model, VOLATILITY, ADV)
    impact = None if unit is None else (trade * impact_rate(trade, unit)).clamp(min=0.0).sum(-1)
    return torch.stack(trading_cost(trade.abs().sum(-1), impact, model, scale))


# Dyadic, so that flows sum exactly: near a flow of 0 the square root magnifies rounding.
money = st.integers(-(10**9), 10**9).map(lambda units: units / 128.0)
trades = st.lists(money, min_size=E * A * N, max_size=E * A * N).map(
    lambda values: tensor(values).reshape(E, A, N)
)


@settings(deadline=None)
@given(trades)
def test_no_component_is_ever_negative(trade: torch.Tensor) -> None:
    assert (costs_of(trade, MODEL) >= 0.0).all()


@settings(deadline=None)
@given(trade=money.filter(lambda value: abs(value) > 1.0), other=money)
def test_a_buyer_never_pays_less_than_the_fill_and_a_seller_never_gets_more(
    trade: float, other: float
) -> None:
    basket = tensor([[[trade, 0.0, 0.0, 0.0], [other, 0.0, 0.0, 0.0]]])
    cost = costs_of(basket, MODEL).sum(0)[0, 0].item()
    fill = 50.0
    effective = (trade + cost) / (trade / fill)
    assert effective > fill if trade > 0.0 else effective < fill


@settings(deadline=None)
@given(trades)
def test_buying_a_basket_costs_what_selling_it_costs(trade: torch.Tensor) -> None:
    assert torch.equal(costs_of(trade, MODEL), costs_of(-trade, MODEL))


@settings(deadline=None)
@given(trades)
def test_agents_meet_only_in_the_summed_flow(trade: torch.Tensor) -> None:
    """Another agent's trades change one's cost through their sum with one's own, nothing else."""
    merged = torch.stack([trade[:, 0], trade[:, 1] + trade[:, 2]], dim=1)
    torch.testing.assert_close(
        costs_of(trade, MODEL)[:, :, 0], costs_of(merged, MODEL)[:, :, 0], rtol=1e-9, atol=1e-6
    )
    linear = replace(MODEL, impact=0.0)
    assert torch.equal(costs_of(trade, linear)[:, :, :1], costs_of(trade[:, :1], linear))


@pytest.mark.parametrize("name", ["commission_bp", "spread_bp", "impact"])
@settings(deadline=None)
@given(trade=trades)
def test_a_fixed_trade_costs_more_as_each_parameter_rises(name: str, trade: torch.Tensor) -> None:
    trade = trade + 1e3 * torch.arange(1, N + 1)  # some flow in some name
    dearer = replace(MODEL, **{name: 2.0 * getattr(MODEL, name) + 1.0})
    flows = trade.sum(1).abs().sum(-1) > 1e-3
    rise = (costs_of(trade, dearer) - costs_of(trade, MODEL)).sum((0, 2))
    assert (rise[flows] > 0.0).all()


def test_a_hand_computed_basket() -> None:
    """Agent 0 buys 40 000 of asset 0, agent 1 sells 10 000 of it and 25 000 of asset 1."""
    trade = tensor([[[40_000.0, 0.0, 0.0, 0.0], [-10_000.0, -25_000.0, 0.0, 0.0]]])
    commission, spread, impact = costs_of(trade, MODEL)
    assert commission.tolist() == [[pytest.approx(8.0), pytest.approx(7.0)]]
    assert spread.tolist() == [[pytest.approx(20.0), pytest.approx(17.5)]]
    # Asset 0: flow 30 000 of 1 000 000 a day, 0.7 x 1 % x sqrt(0.03) = 12.12 bp on the buy only.
    # Asset 1: flow -25 000 of 2 000 000 a day, 0.7 x 2 % x sqrt(0.0125) = 15.65 bp.
    assert impact.tolist() == [[pytest.approx(48.497423), pytest.approx(39.131189)]]


def test_impact_follows_the_three_halves_power_of_size() -> None:
    """Almgren et al. 2005: rate ~ sqrt(participation), so four times the trade costs eightfold."""
    trade = tensor([[[1e4, 0.0, 0.0, 0.0]]])
    assert costs_of(4.0 * trade, MODEL)[2].item() == pytest.approx(
        8.0 * costs_of(trade, MODEL)[2].item()
    )


def test_the_scale_multiplies_every_component_of_its_own_environment() -> None:
    trade = tensor(torch.arange(E * A * N).reshape(E, A, N).tolist())
    scaled = costs_of(trade, MODEL, tensor([[0.0], [4.0]]))
    assert (scaled[:, 0] == 0.0).all()
    assert torch.equal(scaled[:, 1], 4.0 * costs_of(trade, MODEL)[:, 1])
    owed = tensor([[100.0], [252_000.0]])
    borrowed = borrow_cost(owed, MODEL, tensor([[0.0], [4.0]]))
    assert borrowed.tolist() == [[0.0], [pytest.approx(200.0)]]  # 5 % / 252 x 252 000 x 4


def test_a_name_that_nobody_trades_needs_no_traded_value() -> None:
    trade = tensor([[[1e4, 0.0]]])
    unit = unit_impact(MODEL, tensor([[[0.01, 0.02]]]), tensor([[[1e6, float("nan")]]]))
    assert unit is not None
    assert torch.isfinite(impact_rate(trade, unit)).all()


def test_impact_without_any_traded_value_is_refused() -> None:
    with pytest.raises(ValueError, match="average daily traded value"):
        unit_impact(MODEL, torch.ones(1, 1, 2), None)


@pytest.mark.parametrize("name", [item.name for item in fields(CostModel)])
@pytest.mark.parametrize("value", [-1e-9, float("nan"), float("inf")])
def test_a_meaningless_parameter_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be"):
        replace(MODEL, **{name: value})


def test_the_total_is_the_sum_of_the_components() -> None:
    parts = [tensor([[float(value)]]) for value in (1, 20, 300, 4000)]
    assert CostBreakdown(*parts).total.item() == 4321.0
