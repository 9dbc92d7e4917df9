import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.baselines import Schedule
from agents.market_tensors import MarketTensors
from evaluation.backtest import BacktestWindow
from evaluation.books import ENSEMBLE, EQUAL_WEIGHT
from evaluation.contest import INDEX, Contest, run_policy
from evaluation.metrics import METRICS, by_regime, metrics, monthly_returns
from evaluation.report import render
from evaluation.summary import RunFacts, build, write
from evaluation.wording import ordered, table, verdict
from market.dataset import Dataset
from risk import measures

KEYS = {
    "run_id",
    "commit",
    "data",
    "agents",
    "ensemble",
    "baselines",
    "seconds",
    "artefact",
}
MEASURES = {
    *("cagr", "volatility", "sharpe", "sharpe_se", "psr", "sortino", "calmar", "max_drawdown"),
    *("var_95", "cvar_95", "turnover_annual", "cost_annual", "win_rate", "profit_factor", "beta"),
    *("correlation", "effective_positions", "active_share_vs_equal_weight"),
}
Summary = dict[str, Any]


def _strict(path: Path) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def test_the_summary_has_every_key_and_survives_strict_json(
    summary: Summary, contest: Contest, dataset: Dataset, tmp_path: Path
) -> None:
    write(tmp_path / "deep" / "summary.json", summary)
    read = _strict(tmp_path / "deep" / "summary.json")
    assert read == summary
    assert set(read) >= KEYS
    assert set(read["data"]) == {"source", "symbols", "fields", "train", "test", "sha256"}
    assert read["data"]["test"] == [str(dataset.bars.dates[i]) for i in (372, 639)]
    assert read["data"]["train"] == [str(dataset.bars.dates[i]) for i in (0, 349)]
    assert set(read["agents"]) == set(contest.agents)
    assert set(read["baselines"]) == {*contest.baselines, INDEX}
    for row in (read["ensemble"], *read["agents"].values(), *read["baselines"].values()):
        assert set(row) == MEASURES == set(METRICS)
    assert [entry.name for entry in (tmp_path / "deep").iterdir()] == ["summary.json"]


def test_a_book_that_never_moves_has_nulls_and_no_invented_numbers(
    facts: RunFacts,
    dataset: Dataset,
    market: MarketTensors,
    window: BacktestWindow,
    schedules: Mapping[str, Schedule],
    tmp_path: Path,
) -> None:
    n = window.rows.stop - window.rows.start
    cash = Schedule(np.zeros((n, market.n_assets)), np.ones(n, dtype=bool))
    still = replace(window, cash_rate=0.0)
    contest = run_policy(dataset, market, still, "cash", cash, schedules)
    content = build(facts, dataset, contest, {})
    write(tmp_path / "summary.json", content)
    row = _strict(tmp_path / "summary.json")["ensemble"]
    for name in ("sharpe", "sharpe_se", "psr", "sortino", "calmar", "profit_factor"):
        assert row[name] is None, name
    assert row["correlation"] is None and row["effective_positions"] is None
    assert row["cagr"] == row["volatility"] == row["turnover_annual"] == row["max_drawdown"] == 0.0
    assert "cannot be compared" in verdict(content) and "cash" in table(content)
    assert content["holdings"]["cash"]["mean_cash"] == 1.0
    nothing = {"value": None, "standard_error": None, "in_training": None}
    assert content["active_information_ratio"]["cash"] == nothing
    assert content["average_weights"]["cash"]["sharpe"] is None
    assert content["without_best_stock"] is None and "hedged" not in verdict(content)
    assert "Luck, timing or one stock?" in render(content, contest)


def test_equal_weight_is_itself(summary: Summary) -> None:
    row = summary["baselines"][EQUAL_WEIGHT]
    assert row["beta"] == pytest.approx(1.0) and row["correlation"] == pytest.approx(1.0)
    assert row["active_share_vs_equal_weight"] == 0.0


def test_the_index_has_no_costs_turnover_or_positions(summary: Summary) -> None:
    row = summary["baselines"][INDEX]
    assert row["cost_annual"] is row["turnover_annual"] is row["effective_positions"] is None
    assert any("price index" in note for note in summary["notes"])


def test_the_measures_are_those_of_the_recorded_book(contest: Contest) -> None:
    book = contest.book(ENSEMBLE)
    returns = book.nav[1:] / book.nav[:-1] - 1.0
    row = metrics(book, contest.book(EQUAL_WEIGHT), cash_rate=0.02)
    excess = returns.mean() - (1.02 ** (1 / 252) - 1.0)
    assert row["sharpe"] == pytest.approx(excess / returns.std(ddof=1) * 252**0.5)
    assert row["cost_annual"] == pytest.approx(
        (book.cost.sum(axis=0)[1:] / book.nav[:-1]).mean() * 252
    )
    assert row["turnover_annual"] == pytest.approx(book.turnover[1:].mean() * 252)
    assert row["max_drawdown"] == pytest.approx(
        max(1 - book.nav[i] / book.nav[: i + 1].max() for i in range(len(book.nav)))
    )


def test_costs_at_every_scale_are_reported_and_rise(summary: Summary, contest: Contest) -> None:
    scales = summary["cost_sensitivity"]
    assert list(scales) == ["0", "1", "2", "4"]
    for name in contest.names:
        paid = [scales[scale][name]["cost_annual"] for scale in scales]
        assert paid[0] == 0.0 and paid == sorted(paid) and paid[1] < paid[3]


def test_the_regimes_share_out_all_sessions(contest: Contest, dataset: Dataset) -> None:
    book = contest.book(ENSEMBLE)
    regime = dataset.regime[contest.window.rows]
    rows = by_regime(book, regime, dataset.regime_names, 0.0)
    returns = measures.simple_returns(book.nav)
    assert sum(row["sessions"] for row in rows.values()) == len(returns)
    total = sum(row["sessions"] * row["mean_annual"] for row in rows.values())
    assert total / len(returns) == pytest.approx(returns.mean() * 252)


def test_a_return_belongs_to_the_regime_of_its_decision(contest: Contest) -> None:
    book = contest.book(ENSEMBLE)
    regime = np.zeros(len(book.nav), dtype=np.int64)
    regime[10] = 1
    row = by_regime(book, regime, ("usual", "rare"), 0.0)["rare"]
    assert row["mean_annual"] == pytest.approx((book.nav[11] / book.nav[10] - 1.0) * 252)


def test_monthly_returns_compound_to_the_whole(contest: Contest) -> None:
    book = contest.book(ENSEMBLE)
    returns = monthly_returns(book)
    assert np.prod([1.0 + r for r in returns.values()]) == pytest.approx(book.nav[-1] / book.nav[0])
    month = book.dates.astype("datetime64[M]")
    assert len(returns) == len(np.unique(month))
    second = np.unique(month)[1]
    inside = np.flatnonzero(month == second)
    key = (int(str(second)[:4]), int(str(second)[5:7]))
    assert returns[key] == pytest.approx(book.nav[inside[-1]] / book.nav[inside[0] - 1] - 1.0)


def _with_difference(summary: Summary, low: float, high: float) -> Summary:
    changed = copy.deepcopy(summary)
    for rows in changed["comparisons"].values():
        rows[EQUAL_WEIGHT] = {"difference": (low + high) / 2, "low": low, "high": high}
    return changed


@pytest.mark.parametrize(
    ("low", "high", "says", "not_says"),
    [
        (-0.1, 0.3, "Nothing here beats equal weight", "beat equal"),
        (0.1, 0.3, "beat equal weight", "Nothing here beats equal weight"),
        (-0.4, -0.1, "fall behind it", "beat equal weight"),
    ],
)
def test_to_beat_a_yardstick_the_interval_must_exclude_zero(
    low: float, high: float, says: str, not_says: str, summary: Summary
) -> None:
    text = verdict(_with_difference(summary, low, high))
    assert says in text and not_says not in text


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (
            0.61,
            "careful and middle earn an excess that is 2 standard errors above zero, before any",
        ),
        (0.59, "no policy earns an excess that is 2 standard errors above zero. Active"),
    ],
)
def test_what_beta_leaves_is_called_an_excess_from_two_standard_errors_on(
    value: float, says: str, summary: Summary
) -> None:
    changed = copy.deepcopy(summary)
    for name in ("careful", "middle"):
        changed["active_information_ratio"][name] |= {"value": value, "standard_error": 0.3}
    changed["active_information_ratio"][ENSEMBLE] |= {"value": None, "standard_error": None}
    text = verdict(changed)
    assert f"With the beta to equal weight (1/N) hedged, {says}" in text
    assert f"standard error: careful +{value} ± 0.30; middle +{value} ± 0.30." in text


def test_the_verdict_promises_control_and_repeats_every_note(summary: Summary) -> None:
    text = verdict(summary)
    assert "a higher Sharpe ratio is not promised" in text
    assert "Drawn at random." in text and "cash rate of 2.00%" in text
    assert "best volatility-targeted rule" in text


def test_the_table_shows_policies_first_then_baselines_by_sharpe(summary: Summary) -> None:
    names = [name for name, _ in ordered(summary)]
    assert names[:3] == [ENSEMBLE, "careful", "middle"] and names[-1] == INDEX
    ratios = [row["sharpe"] for _, row in ordered(summary)[3:-1]]
    assert ratios == sorted(ratios, reverse=True)
    lines = table(summary).splitlines()
    assert len(lines) == 3 + len(names) and all("±" in line for line in (lines[0], lines[-1]))


def test_an_assumed_traded_value_is_said(
    facts: RunFacts, dataset: Dataset, contest: Contest
) -> None:
    assumed = build(replace(facts, assumed_adv=1e7), dataset, contest, {})
    assert assumed["assumed_adv"] == 1e7
    assert any("assumed" in note for note in assumed["notes"])


def test_the_same_seed_gives_the_same_summary(
    facts: RunFacts, dataset: Dataset, contest: Contest
) -> None:
    one, two = (build(facts, dataset, contest, {}) for _ in range(2))
    other = build(replace(facts, seed=1), dataset, contest, {})
    assert one == two
    assert one["comparisons"] != other["comparisons"]


def test_earlier_readings_of_the_test_window_are_said(
    facts: RunFacts, dataset: Dataset, contest: Contest
) -> None:
    assert "had read the test window" not in verdict(build(facts, dataset, contest, {}))
    often = replace(facts, opening=replace(facts.opening, earlier_readings=7))
    content = build(often, dataset, contest, {})
    assert content["test_window"] == {"opened": facts.opening.opened, "earlier_readings": 7}
    assert "had read the test window 7 times before" in verdict(content)
    assert "after 7 earlier readings" in render(content, contest)
