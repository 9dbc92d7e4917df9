"""What a trial leaves: whole, only the last, and there for another machine where a store is."""

import tempfile
from pathlib import Path

import pytest

from training.trial_state import TrialStates

TRIAL = "00003"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "rung.json").write_text("1")
    (folder / "fold0-learners.pt").write_bytes(b"\0one")
    return folder


def test_only_the_last_state_is_kept(tmp_path: Path, state: Path) -> None:
    (tmp_path / "states").mkdir()
    states = TrialStates(tmp_path / "states", None, "search")
    assert states.last(TRIAL) is None
    states.keep(TRIAL, state, 9)
    (state / "fold0-learners.pt").write_bytes(b"\0two")
    states.keep(TRIAL, state, 10)
    states.keep(TRIAL, state, 10)  # of a trial that was begun again
    last = states.last(TRIAL)
    assert last == tmp_path / "states" / TRIAL / "10"
    assert (last / "fold0-learners.pt").read_bytes() == b"\0two"
    assert [path.name for path in last.parent.iterdir()] == ["10"]
    assert states.last("00004") is None


def test_half_a_state_is_none(tmp_path: Path, state: Path) -> None:
    states = TrialStates(tmp_path / "states", None, "search")
    unfinished = tmp_path / "states" / TRIAL / ".1234"
    unfinished.mkdir(parents=True)
    (unfinished / "rung.json").write_text("4")  # as a process leaves it that was killed
    assert states.last(TRIAL) is None
    states.keep(TRIAL, state, 1)
    last = states.last(TRIAL)
    assert last is not None
    assert last.name == "1"


def test_a_machine_that_does_not_see_the_folder_keeps_nothing_without_a_store(
    tmp_path: Path, state: Path
) -> None:
    states = TrialStates(tmp_path / "on another machine", None, "search")
    states.keep(TRIAL, state, 1)
    assert states.last(TRIAL) is None
    assert not states.folder.exists()


def test_another_machine_goes_on_from_the_store(
    tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"file://{tmp_path}/bucket"
    for machine, rung in (("first", 1), ("first", 2)):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / machine))
        states = TrialStates(tmp_path / "on none of them", url, "search")
        (state / "rung.json").write_text(str(rung))
        states.keep(TRIAL, state, rung)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "second"))
    last = states.last(TRIAL)
    assert last == tmp_path / "second" / "search" / TRIAL / "2"
    assert {file.name: file.read_bytes() for file in last.iterdir()} == {
        "rung.json": b"2",
        "fold0-learners.pt": b"\0one",
    }
    states.discard()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "third"))
    assert states.last(TRIAL) is None


def test_a_store_that_does_not_answer_costs_nothing_but_the_copy(
    tmp_path: Path, state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "states").mkdir()
    (tmp_path / "bucket").write_text("this is no folder")
    states = TrialStates(tmp_path / "states", f"file://{tmp_path}/bucket/inside", "search")
    states.keep(TRIAL, state, 1)
    assert "what is on this disk stands" in caplog.text
    assert states.last(TRIAL) == tmp_path / "states" / TRIAL / "1"
