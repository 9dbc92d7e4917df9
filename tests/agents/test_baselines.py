import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf

from agents import baselines
from agents.baselines import Schedule, build, fixed
from agents.mandates import Mandate
from market.bars import Bars
from market.dataset import Dataset
from market.errors import InputError

ROWS = slice(625, 900)
Featurise = Callable[..., Dataset]
EVERY = (
    "equal_weight",
    "buy_and_hold",
    "inverse_volatility",
    "momentum",
    "volatility_target_conservative",
    "volatility_target_balanced",
    "volatility_target_aggressive",
    "minimum_variance",
    "risk_parity",
    "hrp",
)


@pytest.fixture(scope="module")
def three(presets: dict[str, Mandate]) -> list[Mandate]:
    return [presets[name] for name in ("conservative", "balanced", "aggressive")]


def _month_ends(dataset: Dataset) -> np.ndarray:
    """Return the rows of ROWS at which a monthly rule decides, found by walking the dates."""
    dates = dataset.bars.dates
    rows = [ROWS.start]
    for t in range(ROWS.start + 1, ROWS.stop - 1):
        if dates[t].astype(object).month != dates[t + 1].astype(object).month:
            rows.append(t)
    return np.array(rows) - ROWS.start


def test_the_names_are_those_of_the_configuration(three: list[Mandate]) -> None:
    assert sorted(baselines.names(three)) == sorted(EVERY)


@pytest.mark.parametrize("name", EVERY)
def test_every_schedule_is_a_portfolio_of_investable_names(
    dataset: Dataset, three: list[Mandate], name: str
) -> None:
    schedule = build(name, dataset, ROWS, three)
    assert schedule.weights.shape == (275, 7)
    assert schedule.weights.dtype == np.float64
    assert schedule.rebalance.shape == (275,)
    assert schedule.rebalance[0]
    assert (schedule.weights >= 0.0).all()
    assert (schedule.weights[~dataset.investable[ROWS]] == 0.0).all()
    total = schedule.weights.sum(axis=1)
    if name.startswith("volatility_target"):
        assert (total <= 1.0 + 1e-12).all()
    else:
        np.testing.assert_allclose(total, 1.0, atol=1e-9)


@pytest.mark.parametrize("name", EVERY)
def test_changing_the_future_changes_no_earlier_weight(
    dataset: Dataset, featurise: Featurise, three: list[Mandate], name: str
) -> None:
    bars = dataset.bars
    rng = np.random.default_rng(5)
    close = bars.close.copy()
    # The first session after a monthly decision is the earliest that it could look into.
    first_later = ROWS.start + _month_ends(dataset)[6] + 1
    close[first_later:] *= np.exp(0.05 * rng.standard_normal(close[first_later:].shape))
    later = featurise(replace(bars, close=close))
    first, second = build(name, dataset, ROWS, three), build(name, later, ROWS, three)
    known = first_later - ROWS.start
    np.testing.assert_array_equal(first.weights[:known], second.weights[:known])
    np.testing.assert_array_equal(first.rebalance, second.rebalance)
    if name not in ("equal_weight", "buy_and_hold"):
        assert (first.weights[known:] != second.weights[known:]).any()


@pytest.mark.parametrize("name", ["equal_weight", "momentum", "risk_parity"])
def test_a_monthly_rule_decides_at_the_first_row_and_the_last_close_of_each_month(
    dataset: Dataset, three: list[Mandate], name: str
) -> None:
    schedule = build(name, dataset, ROWS, three)
    np.testing.assert_array_equal(np.flatnonzero(schedule.rebalance), _month_ends(dataset))


def test_equal_weight_is_one_over_the_investable_names(
    dataset: Dataset, three: list[Mandate]
) -> None:
    schedule = build("equal_weight", dataset, ROWS, three)
    for i in (0, 80, 274):
        names = dataset.investable[ROWS.start + i]
        np.testing.assert_allclose(schedule.weights[i], names / names.sum())
    assert dataset.investable[625].sum() == 7
    assert dataset.investable[800].sum() == 6


def test_buy_and_hold_buys_equal_weights_once(dataset: Dataset, three: list[Mandate]) -> None:
    schedule = build("buy_and_hold", dataset, ROWS, three)
    assert np.flatnonzero(schedule.rebalance).tolist() == [0]
    np.testing.assert_allclose(schedule.weights[0], 1.0 / 7.0)


def test_inverse_volatility_follows_the_volatility_of_the_day(
    dataset: Dataset, three: list[Mandate]
) -> None:
    schedule = build("inverse_volatility", dataset, ROWS, three)
    inverse = 1.0 / dataset.volatility[700]
    inverse[~dataset.investable[700]] = 0.0
    np.testing.assert_allclose(schedule.weights[75], inverse / np.nansum(inverse))


def test_momentum_holds_the_best_third_in_equal_parts(
    dataset: Dataset, three: list[Mandate]
) -> None:
    schedule = build("momentum", dataset, ROWS, three)
    row = 650
    ranked = np.argsort(-np.nan_to_num(dataset.momentum[row], nan=-np.inf))
    assert np.flatnonzero(schedule.weights[row - 625]).tolist() == sorted(ranked[:3])
    assert schedule.weights[row - 625].max() == pytest.approx(1.0 / 3.0)


def test_rules_without_history_start_from_equal_weights(
    dataset: Dataset, three: list[Mandate]
) -> None:
    for name in ("momentum", "inverse_volatility", "minimum_variance", "hrp"):
        schedule = build(name, dataset, slice(0, 100), three)
        names = dataset.investable[0]
        np.testing.assert_allclose(schedule.weights[0], names / names.sum())


def test_a_volatility_target_scales_equal_weights_daily_with_the_band(
    dataset: Dataset, three: list[Mandate]
) -> None:
    for mandate in three:
        schedule = build(f"volatility_target_{mandate.name}", dataset, ROWS, three)
        exposure = np.minimum(1.0, mandate.target_volatility / dataset.market_volatility[ROWS])
        np.testing.assert_allclose(schedule.weights.sum(axis=1), exposure)
        assert schedule.rebalance.all()
        assert schedule.band == 0.05


def test_a_volatility_target_belongs_to_the_mandates_at_hand(
    dataset: Dataset, three: list[Mandate]
) -> None:
    with pytest.raises(InputError, match="volatility_target_growth does not exist"):
        build("volatility_target_growth", dataset, ROWS, three)


def test_an_unknown_baseline_is_refused_with_the_nearest_one(
    dataset: Dataset, three: list[Mandate]
) -> None:
    with pytest.raises(InputError, match=r"momentun does not exist \(nearest: momentum\)"):
        build("momentun", dataset, ROWS, three)


def test_fixed_weights_leave_the_rest_in_cash_and_are_restored_monthly(dataset: Dataset) -> None:
    schedule = fixed({"AAA": 0.5, "BRK.B": 0.3}, dataset, ROWS)
    np.testing.assert_allclose(schedule.weights, np.tile([0.5, 0.3, 0, 0, 0, 0, 0], (275, 1)))
    np.testing.assert_array_equal(np.flatnonzero(schedule.rebalance), _month_ends(dataset))


def test_a_fixed_weight_of_an_unknown_symbol_names_the_nearest_one(dataset: Dataset) -> None:
    message = r"policy\.weights: BRK_B is not in the universe \(nearest: BRK\.B\)"
    with pytest.raises(InputError, match=message):
        fixed({"BRK_B": 0.3}, dataset, ROWS)


def _optimised(dataset: Dataset, name: str, row: int) -> np.ndarray:
    schedule: Schedule = build(name, dataset, slice(row, row + 30), [])
    return schedule.weights[0]


def _window(dataset: Dataset, row: int) -> np.ndarray:
    close = dataset.bars.known_close()
    return (close[1:] / close[:-1] - 1.0)[row - 504 : row]


def test_minimum_variance_solves_the_shrunk_covariance(dataset: Dataset) -> None:
    row = 750
    weights = _optimised(dataset, "minimum_variance", row)
    usable = [0, 3, 4, 5, 6]  # the others lack a price in the window or are gone
    assert set(np.flatnonzero(weights)) <= set(usable)
    covariance = ledoit_wolf(_window(dataset, row)[:, usable])[0]
    # The Kuhn-Tucker conditions: the marginal variance is the same for all that is held, and not
    # lower for the rest. The solver stops at 1e-8 absolute, with variances of 1e-4.
    own = weights[usable]
    marginal, variance = covariance @ own, own @ covariance @ own
    np.testing.assert_allclose(marginal[own > 1e-6], variance, rtol=5e-3)
    assert (marginal[own <= 1e-6] >= variance * (1.0 - 5e-3)).all()
    assert own.max() > 2.0 * own.min()


def test_risk_parity_gives_every_name_the_same_share_of_the_risk(dataset: Dataset) -> None:
    row = 750
    weights = _optimised(dataset, "risk_parity", row)
    used = np.flatnonzero(weights)
    assert used.tolist() == [0, 3, 4, 5, 6]
    covariance = np.cov(_window(dataset, row)[:, used].T)
    contribution = weights[used] * (covariance @ weights[used])
    np.testing.assert_allclose(contribution / contribution.sum(), 0.2, atol=0.01)


def test_hierarchical_risk_parity_gives_the_calmest_name_the_most(dataset: Dataset) -> None:
    weights = _optimised(dataset, "hrp", 750)
    used = np.flatnonzero(weights)
    spread = _window(dataset, 750)[:, used].std(axis=0)
    assert np.argmax(weights[used]) == np.argmin(spread)
    assert np.argmin(weights[used]) == np.argmax(spread)


def test_a_constant_price_takes_no_part_in_an_optimisation(
    dataset: Dataset, featurise: Featurise
) -> None:
    close = dataset.bars.close.copy()
    close[:, 4] = 10.0
    weights = _optimised(featurise(replace(dataset.bars, close=close)), "hrp", 750)
    assert weights[4] == 0.0
    assert weights.sum() == pytest.approx(1.0)


def test_the_optimisers_stay_silent(
    dataset: Dataset, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    with caplog.at_level(logging.WARNING, logger="agents"):
        for name in baselines.OPTIMISED:
            build(name, dataset, ROWS, [])
    assert not caplog.records
    assert not [warning for warning in recwarn if "skfolio" in warning.filename]


def test_the_last_session_of_the_data_decides_nothing(dataset: Dataset) -> None:
    bars: Bars = dataset.bars
    assert bars.dates[899].astype(object).month == bars.dates[898].astype(object).month
    assert not baselines.month_ends(dataset, ROWS)[-1]
