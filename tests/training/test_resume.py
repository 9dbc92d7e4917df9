"""Which interrupted run `resume=auto` goes on with."""

import os
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree
from uuid import uuid4

import pytest

from evaluation.run_folder import SUMMARY, claimed
from market.errors import InputError
from training.checkpoint import FOLDER, items
from training.configuration import Configuration
from training.resume import Record, folder_for
from training.store import Store


@pytest.fixture(autouse=True)
def somewhere_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def said() -> list[str]:
    return []


def begun(config: Record, touched: int, out: str | None = None) -> Path:
    """Return the folder of a run that was interrupted at that time."""
    folder = folder_for(config, out, None, None, str)
    (folder / FOLDER).mkdir()
    os.utime(folder / FOLDER, (touched, touched))
    return folder


def test_the_newest_interrupted_run_of_the_same_configuration_goes_on(
    configuration: Callable[..., Configuration], said: list[str]
) -> None:
    config = configuration().record("d1")
    older, newer, _ = (begun(config, touched) for touched in (300, 400, 200))
    begun(configuration(seed=4).record("d1"), 900)  # of another configuration
    whole = begun(config, 800)
    (whole / SUMMARY).touch()
    Path("runs/latest").symlink_to(newer.name)
    for name, text in (("unreadable", "{"), ("no_record", "[1]"), ("number", "3")):
        (Path("runs") / name).mkdir()
        (Path("runs") / name / "config.json").write_text(text)
    assert folder_for(config, None, "auto", None, said.append) == newer
    assert said == [f"resume=auto: {newer} goes on"]
    with claimed(newer):  # a command still runs there
        assert folder_for(config, None, "auto", None, said.append) == older


def test_where_no_run_was_interrupted_a_new_one_begins_and_says_so(
    configuration: Callable[..., Configuration], said: list[str]
) -> None:
    config = configuration().record("d1")
    (begun(config, 300) / SUMMARY).touch()
    before = set(Path("runs").iterdir())
    assert folder_for(config, None, "auto", None, said.append) not in before
    line = "resume=auto: no interrupted run of this configuration is here, a new one begins"
    assert said == [line]


def test_one_command_with_a_folder_of_its_own_begins_and_goes_on_there(
    configuration: Callable[..., Configuration], said: list[str]
) -> None:
    config = configuration().record("d1")
    begun(config, 300)  # under runs/, where this command does not look
    mine = Path("mine")
    for _ in range(2):
        assert folder_for(config, "mine", "auto", None, said.append) == mine
    with pytest.raises(InputError, match="resume=mine was configured otherwise: seed is 4"):
        folder_for(configuration(seed=4).record("d1"), "mine", "auto", None, said.append)
    (mine / SUMMARY).touch()
    with pytest.raises(InputError, match="resume=mine is a complete run"):
        folder_for(config, "mine", "auto", None, said.append)


def test_a_run_does_not_go_on_with_other_data(
    configuration: Callable[..., Configuration], said: list[str]
) -> None:
    folder = begun(configuration().record("d1"), 300)
    changed = configuration().record("d2")
    with pytest.raises(InputError, match="was configured otherwise: data_sha256 is d2"):
        folder_for(changed, None, str(folder), None, str)
    assert folder_for(changed, None, "auto", None, said.append) != folder


# --- with a store


@pytest.fixture
def store() -> Store:
    return Store(f"memory://{uuid4()}")


def left_in(store: Store, config: Record, state: int, name: str) -> None:
    """Let a machine that is gone have left a state of a run in the store."""
    folder = Path("gone") / name
    kept = folder / FOLDER / f"inner-rl.state-{state}"
    kept.mkdir(parents=True)
    (kept / "counters.json").write_text(f"{state}")
    if store.config(name) is None:
        store.begin(name, config)
    store.put(name, kept)
    rmtree("gone")


def test_a_run_whose_machine_is_gone_goes_on_from_the_store(
    configuration: Callable[..., Configuration], store: Store, said: list[str]
) -> None:
    config = configuration().record("d1")
    left_in(store, config, 2, "run-1")
    left_in(store, config, 7, "run-2")
    left_in(store, configuration(seed=4).record("d1"), 9, "run-3")
    folder = folder_for(config, None, "auto", store, said.append)
    assert folder == Path("runs/run-2")
    assert said == [f"resume=auto: {folder} goes on"]
    assert (folder / FOLDER / "inner-rl.state-7" / "counters.json").read_text() == "7"
    assert folder_for(config, None, "runs/run-2", None, str) == folder  # as any other by now
    assert folder_for(config, None, "runs/run-1", store, str) == Path("runs/run-1")
    with pytest.raises(InputError, match="was configured otherwise: seed is 3, recorded as 4"):
        folder_for(config, None, "runs/run-3", store, str)


def test_folder_and_store_get_what_only_the_other_has(
    configuration: Callable[..., Configuration], store: Store
) -> None:
    config = configuration().record("d1")
    folder = begun(config, 300)
    (folder / FOLDER / "inner-warm_start.safetensors").write_bytes(b"tensors")
    left_in(store, config, 4, folder.name)
    assert folder_for(config, None, "auto", store, str) == folder
    both = {"inner-warm_start.safetensors", "inner-rl.state-4"}
    assert {item.name for item in items(folder)} == set(store.items(folder.name)) == both


def test_a_run_that_began_without_a_store_is_copied_to_one_later(
    configuration: Callable[..., Configuration], store: Store
) -> None:
    config = configuration().record("d1")
    folder = begun(config, 300)
    (folder / FOLDER / "inner-warm_start.safetensors").write_bytes(b"tensors")
    folder_for(config, None, str(folder), store, str)
    rmtree(folder)
    assert folder_for(config, None, "auto", store, str) == folder
    assert [item.name for item in items(folder)] == ["inner-warm_start.safetensors"]


def test_two_runs_of_one_name_do_not_share_a_place_in_the_store(
    configuration: Callable[..., Configuration], store: Store
) -> None:
    config = configuration().record("d1")
    folder_for(config, "mine", None, store, str)
    rmtree("mine")  # as on another machine
    with pytest.raises(InputError, match="holds a run mine already"):
        folder_for(config, "mine", None, store, str)
