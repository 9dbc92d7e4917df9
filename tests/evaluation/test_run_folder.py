"""A run's folder is its own, and the last good run stays where it was."""

from pathlib import Path

import pytest

from evaluation.run_folder import claimed, open_run, publish
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
