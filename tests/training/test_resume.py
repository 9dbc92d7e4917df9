"""Which interrupted run `resume=auto` goes on with."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from evaluation.run_folder import SUMMARY, claimed
from market.errors import InputError
from training.checkpoint import FOLDER
from training.configuration import Configuration
from training.resume import folder_for


@pytest.fixture(autouse=True)
def somewhere_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def said() -> list[str]:
    return []


def begun(config: Configuration, touched: int, out: str | None = None) -> Path:
    """Return the folder of a run that was interrupted at that time."""
    folder = folder_for(config, out, None, str)
    (folder / FOLDER).mkdir()
    os.utime(folder / FOLDER, (touched, touched))
    return folder


def test_the_newest_interrupted_run_of_the_same_configuration_goes_on(
    configuration: Callable[..., Configuration], said: list[str]
) -> None:
    config = configuration()
    older, newer, _ = (begun(config, touched) for touched in (300, 400, 200))
    begun(configuration(seed=4), 900)  # of another configuration
    whole = begun(config, 800)
    (whole / SUMMARY).touch()
    Path("runs/latest").symlink_to(newer.name)
    Path("runs/unreadable").mkdir()
    Path("runs/unreadable/config.json").write_text("{")
    assert folder_for(config, None, "auto", said.append) == newer
    assert said == [f"resume=auto: {newer} goes on"]
    with claimed(newer):  # a command still runs there
        assert folder_for(config, None, "auto", said.append) == older


def test_where_no_run_was_interrupted_a_new_one_begins_and_says_so(
    configuration: Callable[..., Configuration], said: list[str]
) -> None:
    config = configuration()
    (begun(config, 300) / SUMMARY).touch()
    before = set(Path("runs").iterdir())
    assert folder_for(config, None, "auto", said.append) not in before
    line = "resume=auto: no interrupted run of this configuration is here, a new one begins"
    assert said == [line]


def test_one_command_with_a_folder_of_its_own_begins_and_goes_on_there(
    configuration: Callable[..., Configuration], said: list[str]
) -> None:
    config = configuration()
    begun(config, 300)  # under runs/, where this command does not look
    mine = Path("mine")
    for _ in range(2):
        assert folder_for(config, "mine", "auto", said.append) == mine
    with pytest.raises(InputError, match="resume=mine was configured otherwise: seed is 4"):
        folder_for(configuration(seed=4), "mine", "auto", said.append)
    (mine / SUMMARY).touch()
    with pytest.raises(InputError, match="resume=mine is a complete run"):
        folder_for(config, "mine", "auto", said.append)
