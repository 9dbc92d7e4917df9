"""The ledger of trials: what stays in it, and what it counts."""

import sqlite3
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import pytest

from evaluation.trial_ledger import LEDGER, State, TrialLedger, Tried
from market.errors import InputError

ROW = Tried(
    run="search",
    trial="00000",
    configuration="a",
    data="prices",
    seed=1,
    settings={"algorithm.anchor": 0.3, "pretrain.horizon": 21},
)


def test_a_trial_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    ledger = TrialLedger(tmp_path)
    scored = replace(ROW, score=0.5, standard_error=1.2, scores={1: 0.4, 2: 0.5}, state=State.done)
    ledger.write(ROW)
    ledger.write(scored)
    assert ledger.of_run("search") == [scored]
    assert ledger.of_run("another") == []


def test_the_count_is_of_different_configurations_on_the_same_data(tmp_path: Path) -> None:
    ledger = TrialLedger(tmp_path)
    assert ledger.compared("prices") == 0
    ledger.write(ROW)
    ledger.write(replace(ROW, run="another"))
    ledger.write(replace(ROW, trial="00001", configuration="b", state=State.failed))
    ledger.write(replace(ROW, trial="00002", configuration="c", data="other prices"))
    assert ledger.compared("prices") == 2


def test_a_setting_that_a_trial_left_stays_beside_the_one_that_it_took(tmp_path: Path) -> None:
    ledger = TrialLedger(tmp_path)
    ledger.write(replace(ROW, state=State.left))
    ledger.write(replace(ROW, configuration="b", settings={"algorithm.anchor": 0.4}))
    assert [row.configuration for row in ledger.of_run("search")] == ["a", "b"]
    assert ledger.compared("prices") == 2


def test_what_a_search_has_tried_is_not_written_again(tmp_path: Path) -> None:
    ledger = TrialLedger(tmp_path)
    ledger.write(ROW)
    ledger.write_once(replace(ROW, run="train"))
    assert ledger.of_run("train") == []
    ledger.write_once(replace(ROW, run="train", configuration="b"))
    assert len(ledger.of_run("train")) == 1


def test_the_export_has_a_row_a_trial_and_a_column_a_setting(tmp_path: Path) -> None:
    ledger = TrialLedger(tmp_path)
    ledger.write(replace(ROW, score=0.5, state=State.done))
    ledger.write(replace(ROW, trial="00001", configuration="b", error="no session", score=None))
    ledger.export("search", tmp_path / "trials.parquet")
    table = pd.read_parquet(tmp_path / "trials.parquet")
    assert list(table["trial"]) == ["00000", "00001"]
    assert list(table["pretrain.horizon"]) == [21, 21]
    assert table["score"][0] == 0.5
    assert pd.isna(table["score"][1])
    assert set(table["data"]) == {"prices"}


def write_many(folder: Path, run: str) -> None:
    """Write twenty rows, in a process of their own."""
    ledger = TrialLedger(folder)
    for number in range(20):
        ledger.write(replace(ROW, run=run, trial=str(number), configuration=f"{run}{number}"))


def test_searches_that_write_at_once_lose_no_row(tmp_path: Path) -> None:
    with ProcessPoolExecutor(3, mp_context=get_context("fork")) as pool:
        for written in [pool.submit(write_many, tmp_path, name) for name in ("a", "b", "c")]:
            written.result()
    assert TrialLedger(tmp_path).compared("prices") == 60


def test_a_file_that_is_no_ledger_is_named(tmp_path: Path) -> None:
    (tmp_path / LEDGER).write_text("these are no rows" * 100)
    with pytest.raises(InputError, match=LEDGER):
        TrialLedger(tmp_path).write(ROW)


def test_a_row_that_is_being_written_when_the_process_dies_is_whole_or_absent(
    tmp_path: Path,
) -> None:
    ledger = TrialLedger(tmp_path)
    ledger.write(ROW)
    unfinished = sqlite3.connect(tmp_path / LEDGER)
    unfinished.execute("UPDATE trials SET score = 9.0")
    unfinished.close()  # without a commit, as a killed process leaves it
    assert ledger.of_run("search") == [ROW]
