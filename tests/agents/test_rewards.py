import math
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from agents.mandates import RewardWeights
from agents.rewards import (
    TERMS,
    RewardInputs,
    RewardState,
    differential_sharpe,
    diversification,
    reward,
    stack_weights,
)

ONE = RewardState.start((1, 1))


def _column(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


_SHAPED = ("weights_before", "weights", "market_night", "market_day", "beta", "momentum")


def _inputs(daily: float = 0.01, capital: float = 1e6) -> RewardInputs:
    """One book of three names: 50 %, 30 % and none, the rest in cash."""
    return RewardInputs(
        nav_before=_column(capital),
        nav_after=_column(capital * (1.0 + daily)),
        cost=_column(0.0006),
        turnover=_column(0.2),
        drawdown_before=_column(0.05),
        drawdown=_column(0.05 - daily),
        weights=torch.tensor([[[0.5, 0.3, 0.0]]], dtype=torch.float64),
        weights_before=torch.tensor([[[0.2, 0.2, 0.1]]], dtype=torch.float64),
        market_night=torch.tensor([0.005], dtype=torch.float64),
        market_day=torch.tensor([0.003], dtype=torch.float64),
        beta=_column(1.2, 0.5, 3.0),
        momentum=_column(0.2, -0.1, 2.0),
    )


def _terms(inputs: RewardInputs, state: RewardState = ONE) -> dict[str, float]:
    weights = stack_weights([RewardWeights(*[1.0] * len(TERMS))])
    _, terms, _ = reward(inputs, state, weights)
    return dict(zip(TERMS, terms[:, 0, 0].tolist(), strict=True))


def test_every_term_of_a_gain_equals_its_formula_by_hand() -> None:
    terms = _terms(_inputs(0.01))
    assert terms["log_growth"] == pytest.approx(math.log(1.01))
    assert terms["active_return"] == pytest.approx(
        0.01 - (0.2 * 1.2 + 0.2 * 0.5 + 0.1 * 3.0) * 0.005 - (0.5 * 1.2 + 0.3 * 0.5) * 0.003
    )
    assert terms["downside"] == 0.0
    assert terms["drawdown"] == 0.0
    assert terms["cost"] == pytest.approx(0.0006)
    assert terms["turnover"] == pytest.approx(0.02)
    assert terms["differential_sharpe"] == pytest.approx(0.01)  # 0.01 x (1e-4 x 0.01) / 1e-6
    assert terms["momentum"] == pytest.approx(0.1 * (0.5 * 0.2 - 0.3 * 0.1))
    assert terms["diversification"] == pytest.approx(0.01 * (0.8**2 - 0.5**2 - 0.3**2))


def test_a_loss_is_a_positive_downside_and_drawdown() -> None:
    terms = _terms(_inputs(-0.02))
    assert terms["downside"] == pytest.approx(0.02)
    assert terms["drawdown"] == pytest.approx(0.02)
    assert terms["log_growth"] < 0.0


def test_buying_beta_earns_no_active_return() -> None:
    inputs = _inputs(0.64 * 0.005 + 0.75 * 0.003)
    assert _terms(inputs)["active_return"] == pytest.approx(0.0, abs=1e-15)
    nothing = torch.zeros(1, 1, 3, dtype=torch.float64)
    cash = replace(_inputs(0.0), weights_before=nothing, weights=nothing)
    assert _terms(cash)["active_return"] == 0.0


@given(scale=st.floats(1e-3, 1e6), daily=st.floats(-0.2, 0.2))
def test_scaling_the_capital_changes_no_reward(scale: float, daily: float) -> None:
    base, scaled = _terms(_inputs(daily)), _terms(_inputs(daily, 1e6 * scale))
    assert scaled == pytest.approx(base, rel=1e-9, abs=1e-12)


@given(daily=st.floats(-0.03, 0.03))
def test_no_term_of_an_ordinary_day_exceeds_a_few_hundredths(daily: float) -> None:
    assert max(abs(value) for value in _terms(_inputs(daily)).values()) < 0.05


def test_the_reward_is_the_weighted_sum_of_the_terms_of_each_mandate() -> None:
    mandates = [
        RewardWeights(2.0, 0.0, -0.5, 0.0, -0.1, -0.05, 1.0, 0.3, 0.2),
        RewardWeights(0.0, 1.0, 0.0, -0.3, 0.0, 0.0, 0.0, 0.0, 0.0),
    ]
    inputs = _inputs()
    both = {
        item.name: getattr(inputs, item.name).expand(4, 2)
        for item in fields(inputs)
        if item.name not in _SHAPED
    }
    inputs = replace(
        inputs,
        weights_before=inputs.weights_before.expand(4, 2, 3),
        weights=inputs.weights.expand(4, 2, 3),
        market_night=inputs.market_night.expand(4),
        market_day=inputs.market_day.expand(4),
        beta=inputs.beta.expand(4, 3),
        momentum=inputs.momentum.expand(4, 3),
        **both,
    )
    total, terms, state = reward(inputs, RewardState.start((4, 2)), stack_weights(mandates))
    assert total.shape == (4, 2)
    assert terms.shape == (len(TERMS), 4, 2)
    assert state.mean.shape == (4, 2)
    by_name = dict(zip(TERMS, terms[:, 3, 0].tolist(), strict=True))
    composite = (
        2.0 * by_name["log_growth"]
        - 0.5 * by_name["downside"]
        - 0.1 * by_name["cost"]
        - 0.05 * by_name["turnover"]
        + by_name["differential_sharpe"]
        + 0.3 * by_name["momentum"]
        + 0.2 * by_name["diversification"]
    )
    assert total[3, 0].item() == pytest.approx(composite)
    assert total[3, 1].item() == pytest.approx(by_name["active_return"] - 0.3 * by_name["drawdown"])


def test_every_weight_moves_the_reward() -> None:
    plain = RewardWeights(*[1.0] * len(TERMS))
    down = _inputs(-0.01)
    first, _, _ = reward(down, ONE, stack_weights([plain]))
    for name in TERMS:
        other, _, _ = reward(down, ONE, stack_weights([replace(plain, **{name: 2.0})]))
        assert other.item() != first.item(), name


def test_the_differential_sharpe_is_the_derivative_of_the_running_sharpe_ratio() -> None:
    state = RewardState(_column(0.0004), _column(1.5e-4))
    daily = _column(0.011)
    rate = 1e-6

    def ratio(mean: Tensor, square: Tensor) -> float:
        return (mean / (square - mean.square()).sqrt()).item()

    moved = ratio(
        state.mean + rate * (daily - state.mean),
        state.square + rate * (daily.square() - state.square),
    )
    slope = (moved - ratio(state.mean, state.square)) / rate
    assert differential_sharpe(daily, state).item() == pytest.approx(slope, rel=1e-4)


def test_the_running_moments_follow_the_returns() -> None:
    state = ONE
    for _ in range(1_000):
        _, _, state = reward(_inputs(0.01), state, stack_weights([RewardWeights(*[1.0] * 9)]))
    assert state.mean.item() == pytest.approx(0.01, rel=1e-5)
    assert state.square.item() == pytest.approx(1e-4, rel=1e-5)
    assert math.isfinite(_terms(_inputs(0.0), state)["differential_sharpe"])


def test_cash_and_a_single_name_diversify_nothing() -> None:
    books = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 0.5]], dtype=torch.float64)
    assert diversification(books).tolist() == [0.0, 0.0, 0.5]
