"""`summary.json`: what a run found, in numbers, and the same in a table and in words."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from envs.costs import CostModel
from evaluation import scrutiny
from evaluation.books import ENSEMBLE, EQUAL_WEIGHT, Book
from evaluation.contest import INDEX, INDEX_NOTE, Contest
from evaluation.metrics import by_regime, metrics
from market.code_version import commit
from market.dataset import Dataset

COST_NUMBERS = ("cagr", "volatility", "sharpe", "max_drawdown", "turnover_annual", "cost_annual")


@dataclass(frozen=True, slots=True)
class Opening:
    """When a run read the sealed test window.

    Args:
        opened: UTC, as ISO 8601.
        earlier_readings: of a window of the same source that overlaps with this one, recorded by
            the runs beside this one.
    """

    opened: str
    earlier_readings: int


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What is known of a run besides its books.

    Args:
        run_id: name of the run.
        command: as it was typed.
        seed: root of the seed tree.
        seconds: wall time by phase.
        artefact: folder of the exported policies; None where nothing was trained.
        assumed_adv: configured daily traded value, one number or by symbol; None where measured.
        costs: the model at scale 1.
        opening: of the test window.
        trials: configurations that were tried on this data, this one among them; None where
            nothing was trained.
    """

    run_id: str
    command: str
    seed: int | None
    seconds: Mapping[str, float]
    artefact: str | None
    assumed_adv: float | Mapping[str, float] | None
    costs: CostModel
    opening: Opening
    trials: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """One stage of an agent, run over the test window.

    Args:
        name: "rule", "warm_start" or "rl".
        book: the agent under this stage.
        chosen: the exported policy is this stage.
        decision: why, from the inner validation, as a sentence.
    """

    name: str
    book: Book
    chosen: bool
    decision: str


def build(
    facts: RunFacts,
    data: Dataset,
    contest: Contest,
    stages: Mapping[str, Sequence[Stage]],
) -> dict[str, Any]:
    """Return the content of `summary.json`: fractions, losses positive, undefined is None.

    Args:
        facts: of the run.
        data: the market.
        contest: all books over the test window.
        stages: agent -> its stages; empty where nothing was trained.
    """
    cash_rate = contest.window.cash_rate
    yardstick = contest.book(EQUAL_WEIGHT)
    regime = data.regime[contest.window.rows]

    def row(book: Book) -> dict[str, float]:
        return metrics(book, yardstick, cash_rate)

    baselines = {name: row(contest.book(name)) for name in contest.baselines}
    if contest.index is not None:
        baselines[INDEX] = row(contest.index)
    summary = {
        "run_id": facts.run_id,
        "commit": commit(),
        "command": facts.command,
        "seed": facts.seed,
        "data": _data(data),
        "agents": {name: row(contest.book(name)) for name in contest.agents},
        "ensemble": row(contest.book(ENSEMBLE)),
        "single_policy": contest.single,
        "baselines": baselines,
        "cash_rate": cash_rate,
        "costs": asdict(facts.costs),
        "assumed_adv": facts.assumed_adv,
        "capital": contest.window.settings.capital,
        "trials": facts.trials,
        "test_window": asdict(facts.opening),
        "cost_sensitivity": _cost_sensitivity(contest),
        "regimes": {
            name: by_regime(contest.book(name), regime, data.regime_names, cash_rate)
            for name in dict.fromkeys((*contest.policies, EQUAL_WEIGHT))
        },
        "comparisons": scrutiny.comparisons(contest, baselines, facts.seed),
        "active_information_ratio": scrutiny.active_information_ratios(contest),
        "average_weights": scrutiny.average_weights(contest, facts.seed),
        "without_best_stock": scrutiny.without_best_stock(contest),
        "degeneracy": {name: scrutiny.findings(contest, name) for name in contest.policies},
        "holdings": {name: scrutiny.holdings(contest, name) for name in contest.policies},
        "stages": {
            agent: [
                {
                    "stage": stage.name,
                    "chosen": stage.chosen,
                    "decision": stage.decision,
                    **row(stage.book),
                }
                for stage in rows
            ]
            for agent, rows in stages.items()
        },
        "notes": _notes(data, contest, facts),
        "seconds": dict(facts.seconds),
        "artefact": facts.artefact,
    }
    strict: dict[str, Any] = _without_nan(summary)
    return strict


def write(path: Path, summary: Mapping[str, Any]) -> None:
    """Write strict JSON under another name first, so that a reader never sees half a file."""
    text = json.dumps(summary, indent=2, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _data(data: Dataset) -> dict[str, Any]:
    bars = data.bars

    def ends(rows: slice) -> list[str]:
        return [str(bars.dates[rows.start]), str(bars.dates[rows.stop - 1])]

    return {
        "source": bars.source,
        "symbols": list(bars.symbols),
        "fields": list(bars.fields),
        "train": ends(data.train),
        "test": ends(data.test),
        "sha256": bars.sha256,
    }


def _cost_sensitivity(contest: Contest) -> dict[str, dict[str, dict[str, float]]]:
    """Return a few numbers of every book at each cost scale, which is the first key."""
    table = {}
    for scale in contest.window.cost_scales:
        yardstick = contest.book(EQUAL_WEIGHT, scale)
        rows = {}
        for name in contest.names:
            every = metrics(contest.book(name, scale), yardstick, contest.window.cash_rate)
            rows[name] = {number: every[number] for number in COST_NUMBERS}
        table[f"{scale:g}"] = rows
    return table


def _notes(data: Dataset, contest: Contest, facts: RunFacts) -> list[str]:
    notes = list(data.bars.notes)
    if contest.index is not None and not any("price index" in note for note in notes):
        notes.append(INDEX_NOTE)
    if facts.assumed_adv is not None:
        notes.append("The daily traded value is assumed, not measured: market.assumed_adv.")
    if facts.opening.earlier_readings:
        notes.append(
            f"Runs beside this one had read the test window {facts.opening.earlier_readings} times "
            f"before: what is chosen by looking at them is no longer out of sample."
        )
    if facts.trials is not None and facts.trials > 1:
        notes.append(
            f"By the ledger of trials, {facts.trials} configurations were tried on this data: the "
            f"best of so many looks better than it is."
        )
    notes.append(
        f"Sharpe and Sortino ratios are measured against a cash rate of "
        f"{contest.window.cash_rate:.2%} a year."
    )
    return notes


def _without_nan(value: Any) -> Any:
    """Return a copy with None for every number that is not finite, and no NumPy scalars."""
    if isinstance(value, Mapping):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value
