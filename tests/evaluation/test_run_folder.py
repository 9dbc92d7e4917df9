"""A run's folder is its own, and the last good run stays where it was."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.run_folder import claimed, open_run, publish, record_opening
from market.dataset import Dataset
from market.errors import InputError


@pytest.fixture(autouse=True)
def somewhere_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def test_runs_that_start_in_one_second_get_folders_of_their_own() -> None:
    assert len({open_run(None, "train", 1) for _ in range(3)}) == 3


def test_a_folder_with_files_is_refused() -> None:
    Path("mine").mkdir()
    Path("mine/precious").write_text("kept")
    with pytest.raises(InputError, match="mine is not empty"):
        open_run("mine", "train", 1)


def test_a_file_in_place_of_the_folder_is_refused() -> None:
    Path("mine").write_text("kept")
    with pytest.raises(InputError, match="out=mine"):
        open_run("mine", "train", 1)


def test_a_full_disk_is_named_wherever_it_is_met_and_other_errors_stay() -> None:
    folder = open_run("mine", "train", 1)
    words = "mine: No space left on device; earlier runs"
    with pytest.raises(InputError, match=words), claimed(folder):
        Path("/dev/full").write_text("one byte too many")
    with pytest.raises(FileNotFoundError), claimed(folder):
        Path("nowhere").read_text()


def test_a_claimed_folder_is_refused_until_it_is_released() -> None:
    folder = open_run("mine", "train", 1)
    with claimed(folder), pytest.raises(InputError, match="still runs"), claimed(folder):
        pass
    with claimed(folder):
        pass
    assert list(folder.iterdir()) == []


def test_the_latest_link_moves_to_a_finished_run_and_only_to_one_among_the_runs() -> None:
    first, second = open_run(None, "train", 1), open_run(None, "train", 2)
    publish(first)
    publish(second)
    assert Path("runs/latest").resolve() == second.resolve()
    publish(open_run("elsewhere", "train", 3))
    assert Path("runs/latest").resolve() == second.resolve()


def test_reading_the_test_window_is_recorded_before_it_is_judged(dataset: Dataset) -> None:
    first = open_run("runs/first", "train", 1)
    assert record_opening(first, dataset, "tercet train").earlier_readings == 0
    record = json.loads((first / "test_window.json").read_text())
    assert record["command"] == "tercet train" and record["source"] == dataset.bars.source
    assert record["first"] == str(dataset.bars.dates[dataset.test.start])
    assert record["last"] == str(dataset.bars.dates[dataset.test.stop - 1])
    publish(first)
    second = open_run("runs/second", "backtest", 1)
    again = record_opening(second, dataset, "tercet backtest")
    assert again.earlier_readings == 1  # the link to the first run is not another one
    assert record_opening(second, dataset, "tercet backtest") == again


def test_a_window_of_other_days_or_another_source_is_another_window(dataset: Dataset) -> None:
    record_opening(open_run("runs/first", "train", 1), dataset, "tercet train")
    other_days = replace(dataset, test=slice(10, 20))
    elsewhere = replace(dataset, bars=replace(dataset.bars, source="elsewhere"))
    for name, other in (("days", other_days), ("elsewhere", elsewhere)):
        folder = open_run(f"runs/{name}", "train", 1)
        assert record_opening(folder, other, "tercet train").earlier_readings == 0


def test_a_resumed_run_keeps_the_time_of_its_first_reading(dataset: Dataset) -> None:
    folder = open_run("runs/first", "train", 1)
    record_opening(folder, dataset, "tercet train")
    path = folder / "test_window.json"
    path.write_text(path.read_text().replace('"opened": "2', '"opened": "1'))
    assert record_opening(folder, dataset, "tercet train").opened.startswith("1")
