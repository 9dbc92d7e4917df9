"""A cost model from trades: known costs come back, odd trades move nothing, few ones say so."""

import json
from collections.abc import Callable
from dataclasses import replace
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs import make
from envs.costs import CostModel
from envs.fitted_costs import RATES, Doubt, Trade, fit, read, record
from market.errors import InputError

PRIOR = CostModel(commission_bp=1.0, spread_bp=10.0, impact=0.0, borrow_rate=0.02)
DOUBT = Doubt(commission_bp=5.0, spread_bp=20.0, impact=1.0)
TRUE = CostModel(commission_bp=2.5, spread_bp=8.0, impact=0.6, borrow_rate=0.02)


def trades(
    count: int, seed: int, noise_bp: float, odd: float = 0.0, costs: CostModel = TRUE
) -> list[Trade]:
    """Return trades that cost what a model says, but for what prices did meanwhile."""
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        volatility, participation = draw.uniform(0.008, 0.03), draw.lognormal(-5.8, 1.2)
        paid = costs.spread_bp / 2.0 + costs.impact * volatility * sqrt(participation) * 1e4
        paid += draw.normal(0.0, noise_bp) * volatility / 0.015
        if draw.random() < odd:
            paid += draw.choice([-1.0, 1.0]) * 300.0
        notional = draw.uniform(500.0, 20_000.0)
        commission = notional * costs.commission_bp * 1e-4
        found.append(Trade(notional, paid, volatility, participation, commission))
    return found


def test_costs_without_noise_come_back():
    found = fit(trades(40, 1, noise_bp=0.0), PRIOR, DOUBT, 30)
    assert found.costs.commission_bp == pytest.approx(2.5, rel=1e-9)
    assert found.costs.spread_bp == pytest.approx(8.0, abs=0.01)
    assert found.costs.impact == pytest.approx(0.6, abs=0.001)
    assert found.costs.borrow_rate == PRIOR.borrow_rate
    assert found.said == ()


@pytest.mark.parametrize(("count", "odd"), [(60, 0.0), (60, 0.1), (400, 0.1)])
def test_the_truth_lies_within_two_standard_errors_as_often_as_it_should(count: int, odd: float):
    # Each share of 150 fits has a standard deviation of 0.018 around 0.95.
    within = dict.fromkeys(("spread_bp", "impact"), 0)
    for seed in range(150):
        found = fit(trades(count, seed, noise_bp=8.0, odd=odd), PRIOR, DOUBT, 30)
        for name in within:
            miss = getattr(found.costs, name) - getattr(TRUE, name)
            within[name] += abs(miss) <= 2.0 * found.errors[name]
    print(f"{count} trades, {odd:.0%} gone wrong, seeds 0 to 149: within two errors {within}")
    assert min(within.values()) >= 0.9 * 150, within


def test_one_trade_in_ten_gone_wrong_moves_the_fit_less_than_plain_least_squares():
    clean, dirty = trades(400, 3, noise_bp=5.0), trades(400, 3, noise_bp=5.0)
    dirty[::10] = [replace(one, slippage_bp=one.slippage_bp + 500.0) for one in dirty[::10]]
    before, after = (fit(found, PRIOR, DOUBT, 30).costs for found in (clean, dirty))
    # Least squares would move by 100: a tenth of 500, twice.
    assert 0.0 < after.spread_bp - before.spread_bp < 5.0


def test_too_few_trades_leave_the_configured_model_and_say_so():
    found = fit(trades(29, 1, noise_bp=1.0), PRIOR, DOUBT, 30)
    assert found.costs == PRIOR and not found.errors
    assert "29 trades are too few" in found.said[0]
    assert fit([], PRIOR, DOUBT, 3).costs == PRIOR


def test_noisy_trades_stay_near_the_belief_and_many_leave_it():
    far = replace(TRUE, spread_bp=60.0)
    sure = Doubt(commission_bp=5.0, spread_bp=10.0, impact=1.0)
    distance = {
        count: 60.0
        - fit(trades(count, 5, noise_bp=80.0, costs=far), PRIOR, sure, 3).costs.spread_bp
        for count in (10, 200, 20_000)
    }
    assert distance[10] > 45.0 > distance[200] > 5.0 > distance[20_000]


def test_gains_do_not_become_negative_costs():
    lucky = [replace(one, slippage_bp=-50.0) for one in trades(50, 2, noise_bp=0.0)]
    found = fit(lucky, PRIOR, DOUBT, 30)
    assert found.costs.spread_bp == 0.0 and found.costs.impact == 0.0
    assert any("lower bound" in sentence for sentence in found.said)


def test_trades_that_are_all_alike_leave_the_impact_to_the_belief_and_say_so():
    alike = [Trade(1000.0, 5.0 + 0.01 * (n % 3), 0.02, 1e-9, 0.0) for n in range(40)]
    prior = replace(PRIOR, impact=0.7)
    found = fit(alike, prior, DOUBT, 30)
    assert found.costs.spread_bp == pytest.approx(10.0, abs=0.1)
    assert found.costs.impact == pytest.approx(0.7, abs=0.01)
    assert any(sentence.startswith("impact is little more") for sentence in found.said)


def test_a_larger_sample_has_smaller_errors():
    few, many = (fit(trades(n, 4, noise_bp=8.0), PRIOR, DOUBT, 30).errors for n in (50, 5_000))
    assert all(many[name] < few[name] for name in ("spread_bp", "impact"))


def test_a_commission_by_the_trade_is_told_by_what_was_traded():
    flat = [replace(one, commission=1.0) for one in trades(200, 6, noise_bp=5.0)]
    found = fit(flat, PRIOR, DOUBT, 30)
    exact = 200 / sum(one.notional for one in flat) * 1e4
    assert abs(found.costs.commission_bp - exact) <= 2.0 * found.errors["commission_bp"]
    assert found.errors["commission_bp"] > 0.0


@given(
    st.lists(
        st.builds(
            Trade,
            st.floats(1e-2, 1e9),
            st.floats(-1e4, 1e4),
            st.floats(1e-4, 1.0),
            st.floats(1e-9, 1.0),
            st.floats(0.0, 1e4),
        ),
        min_size=3,
        max_size=30,
    )
)
@settings(max_examples=60, deadline=None)
def test_whatever_was_traded_gives_a_model_with_finite_errors(found: list[Trade]):
    fitted = fit(found, PRIOR, DOUBT, 3)
    assert set(fitted.errors) == set(RATES)
    assert all(0.0 <= error < float("inf") for error in fitted.errors.values())
    assert fitted.errors["spread_bp"] <= DOUBT.spread_bp * (1.0 + 1e-9)


@pytest.fixture
def written(tmp_path: Path) -> Callable[[object], str]:
    def write(content: object) -> str:
        path = tmp_path / "costs.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    return write


def test_what_was_fitted_is_what_an_environment_charges(written: Callable[[object], str]):
    fitted = fit(trades(60, 1, noise_bp=4.0), PRIOR, DOUBT, 30)
    path = written(record(fitted, PRIOR))
    assert read(path) == fitted.costs
    env = make.make_env(
        "market=synthetic", "env/costs=fitted", f"env.costs.path={path}", "market.assumed_adv=1e9"
    )
    assert env.batch.settings.costs == fitted.costs


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        {"costs": {"commission_bp": 1.0}},
        {"costs": {"commission_bp": 1, "spread_bp": 1, "impact": -1, "borrow_rate": 0}},
        '{"costs": {"commission_bp": NaN, "spread_bp": 1, "impact": 1, "borrow_rate": 0}}',
        {"costs": {"commission_bp": 1, "spread_bp": 1, "impact": 1, "borrow_rate": 0, "x": 1}},
        {"costs": {"commission_bp": None, "spread_bp": 1, "impact": 1, "borrow_rate": 0}},
    ],
)
def test_a_file_that_holds_no_costs_is_named(content: object, written: Callable[[object], str]):
    with pytest.raises(InputError, match=r"env\.costs\.path=.*costs\.json"):
        read(written(content))


def test_a_missing_file_names_the_verb_that_writes_it():
    with pytest.raises(InputError, match="tercet costs"):
        make.make_env("env/costs=fitted", "env.costs.path=/nowhere/costs.json")


def test_a_doubt_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"doubt\.impact"):
        Doubt(commission_bp=1.0, spread_bp=1.0, impact=0.0)
