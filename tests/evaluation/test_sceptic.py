"""Runs with one thing taken away: each against an answer that is known without it."""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch

from agents import baselines
from agents.baselines import Schedule
from agents.ensemble import Hedge
from agents.mandates import Mandate
from agents.market_tensors import MarketTensors
from agents.networks import PolicyNetwork
from envs.costs import CostModel
from evaluation import sceptic
from evaluation.backtest import BacktestWindow, run_agents, run_schedules
from evaluation.books import ENSEMBLE, EQUAL_WEIGHT, Book
from evaluation.contest import Contest, run_contest, run_policy
from evaluation.doubt_sections import doubts
from evaluation.netting import ensemble_schedules
from evaluation.sceptic import best_stock, constant_mix, contributions, without_asset
from evaluation.statistics import active_information_ratio
from evaluation.summary import RunFacts, build
from market.dataset import Dataset
from risk import measures

Networks = Callable[[MarketTensors, int], PolicyNetwork]
FREE = CostModel(commission_bp=0.0, spread_bp=0.0, impact=0.0, borrow_rate=0.0)
DELISTED = 4  # pays out less than its last close, within the test window


@pytest.fixture(scope="module")
def trained(
    dataset: Dataset,
    market: MarketTensors,
    window: BacktestWindow,
    mandates: list[Mandate],
    schedules: Mapping[str, Schedule],
    network: Networks,
) -> Contest:
    """Return a contest in which one of the two agents has a network."""
    policies = {"careful": None, "middle": network(market, 3)}
    return run_contest(dataset, market, window, mandates, policies, Hedge(5.0, 0.1), schedules, {})


def _run(
    dataset: Dataset, market: MarketTensors, window: BacktestWindow, schedule: Schedule
) -> Book:
    once = replace(window, cost_scales=(1.0,))
    return run_schedules(dataset.bars, market, once, {"it": (schedule,)})["it"][0]


def _free(window: BacktestWindow) -> BacktestWindow:
    return replace(window, settings=replace(window.settings, costs=FREE), cash_rate=0.0)


def _sharpe(book: Book) -> float:
    return measures.sharpe(measures.simple_returns(book.nav), 252)


def _drop(market: MarketTensors, column: int) -> MarketTensors:
    """Return the market as if an asset had never been in it."""
    keep = [n for n in range(market.n_assets) if n != column]
    sectors, sector_of = market.sector_of[keep].unique(return_inverse=True)
    changed: dict[str, Any] = {"sector_of": sector_of, "n_sectors": len(sectors)}
    for field in fields(market):
        value = getattr(market, field.name)
        if isinstance(value, torch.Tensor) and value.shape[:2] == market.close.shape:
            changed[field.name] = value[:, keep]
    return replace(market, **changed)


@pytest.mark.parametrize("name", ["equal_weight", "inverse_volatility", "buy_and_hold"])
def test_contributions_less_costs_are_the_gain_across_a_delisting(
    name: str,
    dataset: Dataset,
    market: MarketTensors,
    window: BacktestWindow,
    schedules: Mapping[str, Schedule],
) -> None:
    book = _run(dataset, market, replace(window, cash_rate=0.0), schedules[name])
    added = contributions(book, market, window.rows)
    assert added.sum() - book.cost.sum() == pytest.approx(book.nav[-1] - book.nav[0])


@pytest.mark.parametrize(("column", "gains"), [(0, True), (DELISTED, False)])
def test_the_only_stock_of_a_book_contributes_all_of_its_gain(
    column: int, gains: bool, dataset: Dataset, market: MarketTensors, window: BacktestWindow
) -> None:
    n = window.rows.stop - window.rows.start
    weights = np.zeros((n, market.n_assets))
    weights[:, column] = 1.0
    once = Schedule(weights, np.arange(n) == 0)
    book = _run(dataset, market, _free(window), once)
    added = contributions(book, market, window.rows)
    assert added[column] == pytest.approx(book.nav[-1] - book.nav[0])
    assert (added[column] > 0.0) == gains
    assert not np.delete(added, column).any()
    found = best_stock(book, market, window.rows)
    assert found is not None
    if gains:
        assert (found.column, found.share) == (column, pytest.approx(1.0))
    else:  # nothing to have a share of
        assert np.isnan(found.share)


@pytest.mark.parametrize("column", [0, 5])
@pytest.mark.parametrize("learned", [False, True])
def test_a_stock_that_cannot_be_held_leaves_the_market_without_it(
    column: int,
    learned: bool,
    dataset: Dataset,
    market: MarketTensors,
    window: BacktestWindow,
    mandates: list[Mandate],
    network: Networks,
) -> None:
    policies = {m.policy: network(market, 7) if learned else None for m in mandates}
    once = replace(window, cost_scales=(1.0,))
    smaller = _drop(market, column)
    keep = [n for n in range(market.n_assets) if n != column]
    masked = run_agents(dataset.bars, without_asset(market, column), once, mandates, policies).books
    gone = run_agents(dataset.bars, smaller, once, mandates, policies).books
    tolerance = 1e-6 if learned else 1e-12  # float32 networks in another order of sums
    for mandate in mandates:
        (one,), (other,) = masked[mandate.name], gone[mandate.name]
        assert not one.weights[:, column].any() and one.weights.any()
        np.testing.assert_allclose(one.nav, other.nav, rtol=tolerance)
        np.testing.assert_allclose(one.weights[:, keep], other.weights, atol=tolerance)


def test_without_a_stock_the_others_share_its_weight() -> None:
    weights = np.array([[0.2, 0.3, 0.4], [0.0, 0.0, 0.7], [0.5, 0.5, 0.0]])
    schedule = Schedule(weights, np.array([True, False, True]), band=0.05)
    left = sceptic.without_column(schedule, 2)
    np.testing.assert_allclose(left.weights, [[0.36, 0.54, 0.0], [0.0] * 3, [0.5, 0.5, 0.0]])
    assert left.band == 0.05 and left.rebalance is schedule.rebalance


def test_equal_weight_without_a_stock_is_equal_weight_of_the_others(contest: Contest) -> None:
    best = contest.doubts.best
    assert best is not None
    book = contest.doubts.without_best[EQUAL_WEIGHT]
    assert not book.weights[:, best.column].any()
    # At the close of the first fill nothing has drifted further than one session's return.
    held = np.delete(book.weights[1], best.column)
    held = held[held > 0.0]
    np.testing.assert_allclose(held, 1.0 / len(held), rtol=0.05)
    assert held.sum() == pytest.approx(1.0, abs=2e-3)


def test_the_average_weights_of_a_constant_mix_are_that_mix(
    dataset: Dataset, market: MarketTensors, window: BacktestWindow
) -> None:
    free = _free(window)
    monthly = baselines.month_ends(dataset, window.rows)
    mix = np.broadcast_to([0.3, 0.25, 0.2, 0.15, 0.0, 0.0], (len(monthly), market.n_assets))
    book = _run(dataset, market, free, Schedule(mix, monthly))
    still = constant_mix(book, Schedule(mix, monthly))
    np.testing.assert_allclose(still.weights[0], mix[0], atol=0.01)
    assert _sharpe(_run(dataset, market, free, still)) == pytest.approx(_sharpe(book), abs=0.02)


def test_perfect_timing_does_not_survive_its_average_weights(
    dataset: Dataset, market: MarketTensors, window: BacktestWindow
) -> None:
    free = _free(window)
    n = window.rows.stop - window.rows.start
    # What is bought at the next open and sold at the one after it, known ahead.
    open_ = market.open[window.rows, 0].numpy()
    rises = np.append(open_[2:] > open_[1:-1], [False, False])
    weights = np.zeros((n, market.n_assets))
    weights[:, 0] = rises
    timed = _run(dataset, market, free, Schedule(weights, np.ones(n, dtype=bool)))
    monthly = Schedule(weights, baselines.month_ends(dataset, window.rows))
    still = constant_mix(timed, monthly)
    assert still.weights[0, 0] == pytest.approx(rises.mean(), abs=0.05)
    assert _sharpe(timed) > _sharpe(_run(dataset, market, free, still)) + 4.0


def test_what_held_nothing_has_no_best_stock(
    dataset: Dataset, market: MarketTensors, window: BacktestWindow
) -> None:
    n = window.rows.stop - window.rows.start
    idle = Schedule(np.zeros((n, market.n_assets)), np.ones(n, dtype=bool))
    assert best_stock(_run(dataset, market, window, idle), market, window.rows) is None


def test_the_ensemble_without_its_best_stock_is_that_of_the_masked_agents(
    trained: Contest,
    dataset: Dataset,
    market: MarketTensors,
    window: BacktestWindow,
    mandates: list[Mandate],
    schedules: Mapping[str, Schedule],
    network: Networks,
) -> None:
    best = trained.doubts.best
    assert best is not None
    policies = {"careful": None, "middle": network(market, 3)}
    again = run_contest(
        dataset,
        without_asset(market, best.column),
        replace(window, cost_scales=(1.0,)),
        mandates,
        policies,
        Hedge(5.0, 0.1),
        schedules,
        {},
    )
    for name in trained.policies:
        expected = again.book(name).nav
        np.testing.assert_allclose(trained.doubts.without_best[name].nav, expected, rtol=1e-12)


def test_only_what_was_trained_is_judged_in_training(
    contest: Contest,
    trained: Contest,
    dataset: Dataset,
    window: BacktestWindow,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not contest.doubts.in_training
    books = trained.doubts.in_training
    assert set(books) == {ENSEMBLE, EQUAL_WEIGHT, "middle"}
    for book in books.values():
        np.testing.assert_array_equal(book.dates, dataset.bars.dates[dataset.train])
    monkeypatch.setattr(sceptic, "TRAINING_SESSIONS", 100)
    before = sceptic.training_window(dataset, window)
    assert before == replace(window, rows=slice(250, 350), cost_scales=(1.0,))


def test_what_is_judged_in_training_is_a_run_of_its_own(
    trained: Contest,
    dataset: Dataset,
    market: MarketTensors,
    window: BacktestWindow,
    mandates: list[Mandate],
    network: Networks,
) -> None:
    """It shares its pass with the contest, in a longer window at another place."""
    policies = {"careful": None, "middle": network(market, 3)}
    before = replace(window, rows=dataset.train, cost_scales=(1.0,))
    alone = run_agents(dataset.bars, market, before, mandates, policies)
    ensemble = ensemble_schedules(alone, Hedge(5.0, 0.1), dataset.regime[dataset.train])
    expected = run_schedules(dataset.bars, market, before, {ENSEMBLE: ensemble})
    for name, (book,) in {"middle": alone.books["middle"], **expected}.items():
        found = trained.doubts.in_training[name]
        np.testing.assert_allclose(found.nav, book.nav, rtol=1e-9)
        np.testing.assert_allclose(found.weights, book.weights, atol=1e-9)


def test_the_gap_is_the_ratio_in_training_less_that_out_of_sample(
    trained: Contest, facts: RunFacts, dataset: Dataset
) -> None:
    summary = build(facts, dataset, trained, {})
    ratios, found = summary["active_information_ratio"], summary["degeneracy"]
    cash = 1.02 ** (1 / 252) - 1.0
    for name in (ENSEMBLE, "middle"):
        gap = next(one for one in found[name] if one["name"] == "train_test_gap")
        assert gap["value"] == ratios[name]["in_training"] - ratios[name]["value"]
        books = trained.doubts.in_training
        ours, theirs = (
            measures.simple_returns(books[each].nav) - cash for each in (name, EQUAL_WEIGHT)
        )
        expected = active_information_ratio(ours, theirs, 252)
        assert ratios[name]["in_training"] == pytest.approx(expected.value)
    assert ratios["careful"]["in_training"] is None and ratios["careful"]["standard_error"] > 0.0
    assert "train_test_gap" not in {one["name"] for one in found["careful"]}


def test_the_report_names_the_stock_and_shows_every_policy(summary: dict[str, Any]) -> None:
    html = doubts(summary)
    without = summary["without_best_stock"]
    symbol = without["symbol"].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert f"Sharpe without {symbol}" in html and f"for the ensemble is {symbol}" in html
    assert set(without["sharpe"]) == {ENSEMBLE, "careful", "middle", EQUAL_WEIGHT}
    assert html.count("<tr") == 1 + 4
    assert without["sharpe"][ENSEMBLE]["with"] == pytest.approx(summary[ENSEMBLE]["sharpe"])


def test_a_single_policy_is_doubted_like_an_ensemble(
    dataset: Dataset,
    market: MarketTensors,
    window: BacktestWindow,
    schedules: Mapping[str, Schedule],
    facts: RunFacts,
) -> None:
    policy = schedules[EQUAL_WEIGHT]
    contest = run_policy(dataset, market, window, EQUAL_WEIGHT, policy, schedules)
    summary = build(facts, dataset, contest, {})
    assert list(summary["without_best_stock"]["sharpe"]) == [EQUAL_WEIGHT]
    assert summary["active_information_ratio"][EQUAL_WEIGHT]["value"] is None
    assert doubts(summary).count("<tr") == 1 + 1
