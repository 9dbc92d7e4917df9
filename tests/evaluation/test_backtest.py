from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from agents.baselines import Schedule, build
from agents.ensemble import Fixed, Hedge
from agents.mandates import Mandate
from agents.market_tensors import MarketTensors
from agents.networks import PolicyNetwork
from envs.batch import BatchEnv
from envs.costs import CostModel
from evaluation.backtest import (
    AgentsRun,
    BacktestWindow,
    SchedulesRun,
    run_agents,
    run_agents_together,
    run_schedules,
    run_schedules_together,
)
from evaluation.books import (
    CAUSES,
    ENSEMBLE,
    Book,
    nav_table,
    trades_table,
    write_nav,
    write_trades,
)
from evaluation.contest import INDEX, Contest, index_book, run_contest, run_policy
from evaluation.metrics import metrics, sharpe_difference
from evaluation.netting import ensemble_schedules
from evaluation.players import Policies
from market.dataset import Dataset

NetworkMaker = Callable[[MarketTensors, int], PolicyNetwork]
LINEAR = CostModel(commission_bp=2.0, spread_bp=10.0, impact=0.0, borrow_rate=0.0)


def _linear(window: BacktestWindow, *scales: float) -> BacktestWindow:
    settings = replace(window.settings, costs=LINEAR)
    return replace(window, settings=settings, cost_scales=scales)


def _same(one: Book, other: Book, tolerance: float = 1e-9) -> None:
    np.testing.assert_allclose(one.nav, other.nav, rtol=tolerance)
    np.testing.assert_allclose(one.weights, other.weights, atol=tolerance)
    np.testing.assert_allclose(one.cost, other.cost, atol=tolerance * one.nav[0])


def test_every_book_starts_at_its_capital_in_cash_and_has_a_row_per_session(
    contest: Contest, window: BacktestWindow, dataset: Dataset
) -> None:
    for name in contest.names:
        for book in contest.books[name]:
            assert book.nav[0] == window.settings.capital
            assert not book.weights[0].any() and not book.turnover[0] and not book.cost[:, 0].any()
            assert len(book.nav) == len(book.dates) == dataset.test.stop - dataset.test.start
            assert book.turnover[1] > 0.0  # the first decision is filled in the second session


def _by_hand(
    dataset: Dataset, schedule: Schedule, rate: float, capital: float, cash_rate: float
) -> np.ndarray:
    """Return the NAV of a schedule, one asset and session at a time, without the kernel."""
    bars = dataset.bars
    cash, shares, path = capital, [0.0] * len(bars.symbols), [capital]
    for i, t in enumerate(range(dataset.test.start, dataset.test.stop - 1)):
        close, fill = bars.close[t], bars.open[t + 1]
        for n in range(len(shares)):
            if bars.listed[t, n] and not bars.listed[t + 1, n]:
                cash += shares[n] * close[n] * (1.0 + bars.terminal_return[n])
                shares[n] = 0.0
        cash *= (1.0 + cash_rate) ** (1.0 / 252)
        names = [n for n in range(len(shares)) if bars.listed[t + 1, n]]
        if schedule.rebalance[i]:
            before = cash + sum(shares[n] * fill[n] for n in names)
            low, high = 0.0, before
            for _ in range(80):  # bisection for NAV after cost
                after = (low + high) / 2
                trades = [schedule.weights[i, n] * after - shares[n] * fill[n] for n in names]
                low, high = (
                    (after, high) if after + rate * sum(map(abs, trades)) < before else (low, after)
                )
            for n, trade in zip(names, trades, strict=True):
                shares[n] += trade / fill[n]
                cash -= trade + rate * abs(trade)
        path.append(cash + sum(shares[n] * bars.close[t + 1, n] for n in names))
    return np.array(path)


@pytest.mark.parametrize("name", ["equal_weight", "buy_and_hold", "inverse_volatility"])
def test_a_schedule_through_the_kernel_equals_an_independent_loop(
    name: str,
    dataset: Dataset,
    market: MarketTensors,
    window: BacktestWindow,
    schedules: dict[str, Schedule],
) -> None:
    books = run_schedules(
        dataset.bars, market, _linear(window, 1.0, 3.0), {name: (schedules[name],) * 2}
    )
    for book, scale in zip(books[name], (1.0, 3.0), strict=True):
        rate = scale * (2.0 + 10.0 / 2) * 1e-4
        expected = _by_hand(dataset, schedules[name], rate, 50_000.0, window.cash_rate)
        np.testing.assert_allclose(book.nav, expected, rtol=1e-9)


def test_the_final_nav_of_a_schedule_strictly_falls_with_the_cost_scale(contest: Contest) -> None:
    for name in contest.baselines:
        final = [book.nav[-1] for book in contest.books[name]]
        assert all(cheap > dear for cheap, dear in pairwise(final)), name


def test_buy_and_hold_trades_once(contest: Contest) -> None:
    book = contest.book("buy_and_hold")
    assert np.flatnonzero(book.turnover).tolist() == [1]


def test_a_book_that_does_not_rebalance_makes_exactly_no_trade(
    contest: Contest, schedules: dict[str, Schedule]
) -> None:
    for name in ("equal_weight", "inverse_volatility"):
        idle = ~np.append(False, schedules[name].rebalance[:-1])
        assert idle.sum() > 200
        assert not contest.book(name).trade[idle].any()


def test_an_agent_within_its_band_makes_exactly_no_trade(contest: Contest) -> None:
    for name in contest.agents:
        days = np.count_nonzero(contest.book(name).turnover)
        assert 0 < days < 0.8 * len(contest.book(name).nav), name


def test_all_cost_scales_at_once_equal_one_run_each(
    dataset: Dataset,
    market: MarketTensors,
    window: BacktestWindow,
    mandates: list[Mandate],
    schedules: dict[str, Schedule],
    network: NetworkMaker,
) -> None:
    policies = {mandate.policy: network(market, 1) for mandate in mandates}
    scales = (0.5, 1.0, 4.0)
    together = run_agents(
        dataset.bars, market, replace(window, cost_scales=scales), mandates, policies
    )
    rules = {name: (schedule,) * 3 for name, schedule in schedules.items()}
    together_rules = run_schedules(dataset.bars, market, replace(window, cost_scales=scales), rules)
    for s, scale in enumerate(scales):
        costs = window.settings.costs
        scaled = CostModel(
            *(scale * getattr(costs, f"{name}_bp") for name in ("commission", "spread")),
            impact=scale * costs.impact,
            borrow_rate=scale * costs.borrow_rate,
        )
        alone = replace(window, settings=replace(window.settings, costs=scaled), cost_scales=(1.0,))
        agents = run_agents(dataset.bars, market, alone, mandates, policies)
        for name in together.names:
            _same(together.books[name][s], agents.books[name][0])
        for name, schedule in schedules.items():
            book = run_schedules(dataset.bars, market, alone, {name: (schedule,)})[name][0]
            _same(together_rules[name][s], book)


def _windows(window: BacktestWindow) -> list[BacktestWindow]:
    """Return windows of other lengths, places and cost scales; the first ends with the market."""
    short = replace(window, rows=slice(100, 190), cost_scales=(1.0,))
    return [window, short, replace(window, rows=slice(20, 350), cost_scales=(2.0, 1.0))]


def test_runs_of_several_windows_and_policies_together_equal_one_run_each(
    dataset: Dataset,
    market: MarketTensors,
    window: BacktestWindow,
    mandates: list[Mandate],
    network: NetworkMaker,
) -> None:
    stops = replace(mandates[1].exits, stop_loss=0.05, cooldown=5)
    pairs = [mandates[0], replace(mandates[1], exits=stops)]
    players: list[Policies] = [
        {"careful": network(market, 1), "middle": network(market, 2)},
        {"careful": None, "middle": None},
        {"careful": None, "middle": network(market, 2)},
    ]
    runs = [AgentsRun(*each) for each in zip(_windows(window), players, strict=True)]
    together = run_agents_together(dataset.bars, market, pairs, runs)
    for run, result in zip(runs, together, strict=True):
        alone = run_agents(dataset.bars, market, run.window, pairs, run.policies)
        np.testing.assert_array_equal(result.ordered, alone.ordered)
        np.testing.assert_allclose(result.targets, alone.targets, atol=1e-9)
        for name in alone.names:
            for one, other in zip(result.books[name], alone.books[name], strict=True):
                np.testing.assert_array_equal(one.dates, other.dates)
                _same(one, other)


def test_schedules_of_several_windows_together_equal_one_run_each(
    dataset: Dataset, market: MarketTensors, window: BacktestWindow, mandates: list[Mandate]
) -> None:
    names = ("volatility_target_middle", "buy_and_hold"), ("inverse_volatility",), ()
    runs = [
        SchedulesRun(
            each,
            {n: (build(n, dataset, each.rows, mandates),) * len(each.cost_scales) for n in some},
        )
        for each, some in zip(_windows(window), names, strict=True)
    ]
    together = run_schedules_together(dataset.bars, market, runs)
    assert [tuple(books) for books in together] == list(names)
    for run, books in zip(runs[:2], together, strict=False):
        alone = run_schedules(dataset.bars, market, run.window, run.schedules)
        for name in run.schedules:
            for one, other in zip(books[name], alone[name], strict=True):
                _same(one, other)


def test_windows_of_other_conditions_are_not_run_together(
    dataset: Dataset, market: MarketTensors, window: BacktestWindow, mandates: list[Mandate]
) -> None:
    rules: Policies = {"careful": None, "middle": None}
    for other in (replace(window, cash_rate=0.05), _linear(window, 1.0)):
        runs = [AgentsRun(window, rules), AgentsRun(other, rules)]
        with pytest.raises(ValueError, match="the same settings and cash rate"):
            run_agents_together(dataset.bars, market, mandates, runs)


def test_every_stage_of_training_is_run_as_if_alone(
    dataset: Dataset,
    market: MarketTensors,
    window: BacktestWindow,
    mandates: list[Mandate],
    schedules: dict[str, Schedule],
    network: NetworkMaker,
) -> None:
    rules: Policies = dict.fromkeys(("careful", "middle"))
    stages: dict[str, Policies] = {
        "rule": rules,
        "warm_start": {policy: network(market, 6) for policy in rules},
    }
    contest = run_contest(dataset, market, window, mandates, rules, Fixed(None), schedules, stages)
    for stage, policies in stages.items():
        alone = run_agents(dataset.bars, market, window.at_own_costs(), mandates, policies)
        assert set(contest.stages[stage]) == set(alone.names)
        for name, (book,) in alone.books.items():
            _same(contest.stages[stage][name], book)
    _same(contest.stages["rule"]["middle"], contest.book("middle"))
    assert not contest.doubts.in_training


def test_the_ensemble_of_one_agent_is_that_agents_book(
    dataset: Dataset,
    market: MarketTensors,
    window: BacktestWindow,
    mandates: list[Mandate],
    network: NetworkMaker,
) -> None:
    policies = {"middle": network(market, 2)}
    result = run_agents(dataset.bars, market, window, mandates[1:], policies)
    track = ensemble_schedules(result, Fixed(None), dataset.regime[window.rows])
    ensemble = run_schedules(dataset.bars, market, window, {ENSEMBLE: track})[ENSEMBLE]
    for own, mixed in zip(result.books["middle"], ensemble, strict=True):
        _same(own, mixed)
        assert np.count_nonzero(mixed.turnover) == np.count_nonzero(own.turnover)


def test_the_ensemble_listens_to_no_agent_without_capital(
    dataset: Dataset, market: MarketTensors, window: BacktestWindow, mandates: list[Mandate]
) -> None:
    rules = {mandate.policy: None for mandate in mandates}
    result = run_agents(dataset.bars, market, window, mandates, rules)
    regime = dataset.regime[window.rows]
    track = ensemble_schedules(result, Fixed([0.0, 1.0]), regime)[1]
    alone = run_agents(dataset.bars, market, window, mandates[1:], {"middle": None})
    # The market is shared, so the other agent's orders are part of the impact: targets agree to it.
    expected = ensemble_schedules(alone, Fixed(None), regime)[1]
    assert np.mean(track.rebalance == expected.rebalance) > 0.99
    np.testing.assert_array_equal(track.weights, result.targets[:, 1, 1])


def test_networks_play_as_when_everything_is_computed_at_each_step(
    dataset: Dataset,
    market: MarketTensors,
    window: BacktestWindow,
    mandates: list[Mandate],
    network: NetworkMaker,
) -> None:
    policies = {"careful": None, "middle": network(market, 5)}
    books = run_agents(dataset.bars, market, window, mandates, policies).books
    env = BatchEnv(market, mandates, window.settings, window.rows, window.cash_rate)
    env.reset(torch.tensor([window.rows.start]))
    played = policies["middle"]
    assert played is not None
    nav = [[window.settings.capital] * 2]
    for row in range(window.rows.start, window.rows.stop - 1):
        seen = env.observe()
        action = torch.zeros(1, 2, market.n_assets + 1)
        investable = market.investable[row]
        with torch.no_grad():
            encoding = played.encode(
                market.asset_features[row], market.market_features[row], investable
            )
            action[0, 1] = played.act(encoding, seen.asset[0, 1], seen.book[0, 1], investable)
        nav.append(env.step(action).outcome.nav_after[0].tolist())
    own = np.column_stack([books[mandate.name][1].nav for mandate in mandates])
    np.testing.assert_allclose(own, nav, rtol=1e-6)  # float32 networks in another order of sums
    rule = run_agents(
        dataset.bars, market, window, mandates, {"careful": None, "middle": None}
    ).books["middle"][1]
    assert np.abs(rule.weights - books["middle"][1].weights).max() > 1e-3


def test_nothing_up_to_a_session_depends_on_a_later_one(
    dataset: Dataset,
    market: MarketTensors,
    window: BacktestWindow,
    mandates: list[Mandate],
    schedules: dict[str, Schedule],
    network: NetworkMaker,
) -> None:
    cut = window.rows.start + 120
    random = torch.Generator().manual_seed(0)

    def disturbed(values: torch.Tensor) -> torch.Tensor:
        factor = 1.0 + 0.5 * torch.rand(values[cut:].shape, generator=random, dtype=values.dtype)
        return torch.cat([values[:cut], values[cut:] * factor])

    names = ("open", "close", "volatility", "market_volatility", "beta", "asset_features")
    other = replace(market, **{name: disturbed(getattr(market, name)) for name in names})
    policies = {mandate.policy: network(market, 4) for mandate in mandates}
    one, two = (
        run_contest(
            dataset,
            each,
            window,
            mandates,
            policies,
            Hedge(5.0, 0.1),
            schedules,
            {},
        )
        for each in (market, other)
    )
    for name in one.policies:
        np.testing.assert_array_equal(one.book(name).nav[:120], two.book(name).nav[:120])
        assert one.book(name).nav[-1] != two.book(name).nav[-1]


def test_no_decision_knows_the_session_after_it(
    dataset: Dataset,
    market: MarketTensors,
    window: BacktestWindow,
    mandates: list[Mandate],
    network: NetworkMaker,
) -> None:
    """What the last unchanged session decides is filled in a changed one, where no NAV shows it."""
    cut = 120
    first_later = window.rows.start + cut
    policies = {mandate.policy: network(market, 4) for mandate in mandates}

    def decided(factor: float) -> list[np.ndarray]:
        changed = {}
        for name in ("open", "close", "volatility", "market_volatility", "asset_features"):
            changed[name] = getattr(market, name).clone()
            changed[name][first_later:] *= factor
        changed["close"][first_later:, 0] *= factor  # the agents earn differently
        other = replace(market, **changed)
        result = run_agents(dataset.bars, other, window, mandates, policies)
        regime = dataset.regime[window.rows]
        ensembles = ensemble_schedules(result, Hedge(50.0, 0.0), regime)
        shown = [result.targets, result.ordered]
        shown += [schedule.weights for schedule in ensembles]
        return shown + [schedule.rebalance for schedule in ensembles]

    for usual, other in zip(decided(1.0), decided(1.3), strict=True):
        np.testing.assert_array_equal(usual[:cut], other[:cut])
        assert usual.dtype == bool or (usual[cut:] != other[cut:]).any()


def test_a_single_policy_is_its_own_ensemble(
    dataset: Dataset,
    market: MarketTensors,
    window: BacktestWindow,
    schedules: dict[str, Schedule],
) -> None:
    policy = Schedule(schedules["equal_weight"].weights * 0.5, schedules["equal_weight"].rebalance)
    contest = run_policy(dataset, market, window, "half", policy, schedules)
    np.testing.assert_array_equal(contest.book(ENSEMBLE).nav, contest.book("half").nav)
    assert contest.policies == ("half",)
    same = run_policy(dataset, market, window, "equal_weight", schedules["equal_weight"], schedules)
    assert same.names.count("equal_weight") == 1


def test_the_index_is_the_price_path_and_no_yardstick(
    dataset: Dataset, window: BacktestWindow, contest: Contest
) -> None:
    index = contest.index
    assert index is not None and index.name == INDEX
    level = dataset.bars.series["SP500"][window.rows]
    np.testing.assert_allclose(index.nav, 50_000.0 * level / level[0])
    with pytest.raises(ValueError, match="yardstick"):
        sharpe_difference(contest.book(ENSEMBLE), index, 0.0, np.random.default_rng(0))
    gap = level.copy()
    gap[5] = np.nan
    series = dataset.bars.series["SP500"].copy()
    series[window.rows] = gap
    filled = index_book(replace(dataset.bars, series={"SP500": series}), window)
    assert filled is not None and filled.nav[5] == filled.nav[4]
    assert index_book(replace(dataset.bars, series={}), window) is None


def test_nav_parquet_has_a_float_column_per_book_from_the_capital_on(
    contest: Contest, tmp_path: Path
) -> None:
    path = tmp_path / "run" / "nav.parquet"
    write_nav(path, contest.columns())
    table = pd.read_parquet(path)
    assert table.index.name == "date"
    assert list(table.columns) == [*contest.names, INDEX]
    assert (table.dtypes == np.float64).all() and (table.iloc[0] == 50_000.0).all()
    assert [entry.name for entry in path.parent.iterdir()] == ["nav.parquet"]
    assert list(nav_table([contest.book("middle")], ["nav"]).columns) == ["nav"]


def test_the_trades_file_accounts_for_every_book(contest: Contest, tmp_path: Path) -> None:
    path = tmp_path / "trades.parquet"
    books = [contest.book(name) for name in contest.names]
    write_trades(path, books, contest.symbols, contest.fill)
    table = pd.read_parquet(path)
    assert list(table.columns) == [
        *("date", "book", "symbol", "side", "shares", "notional", "price", "cost")
    ]
    assert (table["notional"] > 0.0).all() and set(table["side"]) == {"buy", "sell"}
    assert table["date"].is_monotonic_increasing
    np.testing.assert_allclose(table["shares"] * table["price"], table["notional"])
    for book in books:
        own = table[table["book"] == book.name]
        borrow = book.cost[CAUSES.index("borrow")].sum()
        assert own["cost"].sum() == pytest.approx(book.cost.sum() - borrow)
        signed = own["notional"].where(own["side"] == "buy", -own["notional"]).sum()
        assert signed == pytest.approx(book.trade.sum())


def test_a_book_without_trades_has_an_empty_table(
    dataset: Dataset, market: MarketTensors, window: BacktestWindow
) -> None:
    n = dataset.test.stop - dataset.test.start
    cash = Schedule(np.zeros((n, market.n_assets)), np.ones(n, dtype=bool))
    book = run_schedules(dataset.bars, market, window, {"cash": (cash,) * 4})["cash"][1]
    fill = market.open[window.rows].numpy()
    assert trades_table([book], dataset.bars.symbols, fill).empty
    assert book.nav[-1] == pytest.approx(50_000.0 * 1.02 ** ((n - 1) / 252))


def test_a_book_that_loses_everything_still_has_its_measures(
    dataset: Dataset, window: BacktestWindow, contest: Contest, market: MarketTensors
) -> None:
    payout = market.payout.clone()
    payout[520, 4] = 0.0  # the delisting of this name now pays nothing
    n = dataset.test.stop - dataset.test.start
    weights = np.zeros((n, market.n_assets))
    weights[:, 4] = 1.0
    only = Schedule(weights, np.arange(n) == 0)
    ruined = replace(market, payout=payout)
    book = run_schedules(dataset.bars, ruined, window, {"one": (only,) * 4})["one"][1]
    row = metrics(book, contest.book("equal_weight"), window.cash_rate)
    assert row["max_drawdown"] == pytest.approx(1.0, abs=1e-6)
    assert row["cagr"] == pytest.approx(-1.0, abs=1e-3)


@pytest.mark.parametrize("scales", [(0.0, 2.0), ()])
def test_a_window_without_scale_one_is_refused(
    scales: tuple[float, ...], window: BacktestWindow
) -> None:
    with pytest.raises(ValueError, match=r"must contain 1\.0"):
        replace(window, cost_scales=scales)


def test_a_window_of_one_session_is_refused(window: BacktestWindow) -> None:
    with pytest.raises(ValueError, match="at least 2 sessions"):
        replace(window, rows=slice(5, 6))


def test_a_mandates_rule_and_the_baseline_of_its_target_are_one_book(
    dataset: Dataset, market: MarketTensors, window: BacktestWindow, mandates: list[Mandate]
) -> None:
    """An agent and a baseline that want the same get the same: fills, costs and cash alike."""
    middle = [mandate for mandate in mandates if mandate.name == "middle"]
    agents = run_agents(dataset.bars, market, window, middle, {"middle": None})
    rule = build("volatility_target_middle", dataset, window.rows, middle)
    scales = len(window.cost_scales)
    baseline = run_schedules(dataset.bars, market, window, {"rule": (rule,) * scales})
    for ours, theirs in zip(agents.books["middle"], baseline["rule"], strict=True):
        np.testing.assert_allclose(ours.nav, theirs.nav, rtol=1e-9)
        np.testing.assert_allclose(ours.weights, theirs.weights, atol=1e-9)
        np.testing.assert_allclose(ours.cost, theirs.cost, rtol=1e-6, atol=1e-9)
    assert ours.turnover.sum() > 1.0
