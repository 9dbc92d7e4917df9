"""Copies of checkpoints at an address: never half of one, whatever ends an upload."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import fsspec
import pytest

from market.errors import InputError
from training.store import Store, StoreError

RUN = "20260105T120000-train-seed1"


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    yield f"memory://{uuid4()}" if request.param == "memory" else f"file://{tmp_path}/bucket"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "final-rl.state-3"
    folder.mkdir()
    (folder / "learners.pt").write_bytes(b"\0weights" * 100)
    (folder / "counters.json").write_text('{"agent_steps": 12}')
    return folder


@pytest.fixture
def part(tmp_path: Path) -> Path:
    file = tmp_path / "inner-rl.safetensors"
    file.write_bytes(b"\0tensors" * 100)
    return file


def test_what_is_put_comes_back_byte_for_byte(
    url: str, state: Path, part: Path, tmp_path: Path
) -> None:
    store, elsewhere = Store(url), tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert store.runs() == []
    store.begin(RUN, {"seed": 1})
    store.put(RUN, state)
    store.put(RUN, part)
    other = Store(url)  # of another machine
    assert other.runs() == [RUN]
    assert other.config(RUN) == {"seed": 1}
    assert set(other.items(RUN)) == {state.name, part.name}
    for item in other.items(RUN):
        assert other.fetch(RUN, item, elsewhere)
    assert {path.name for path in elsewhere.iterdir()} == {state.name, part.name}
    assert (elsewhere / part.name).read_bytes() == part.read_bytes()
    for file in state.iterdir():
        assert (elsewhere / state.name / file.name).read_bytes() == file.read_bytes()
    other.drop(RUN, state.name)
    assert store.items(RUN) == [part.name]
    other.discard(RUN)
    assert store.runs() == store.items(RUN) == []
    assert store.touched(RUN) == 0.0


def test_an_upload_that_ends_anywhere_leaves_no_item(
    url: str, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ends it before each of its writes, and in the middle of each."""
    store = Store(url)
    whole = type(store._files).pipe_file
    for ends_at in range(3):
        for share in (0.0, 0.5):
            writes = 0

            def dying(files: object, path: str, value: bytes) -> None:
                nonlocal writes
                if writes == ends_at:  # noqa: B023
                    if share:  # noqa: B023
                        whole(files, path, value[: int(len(value) * share)])  # noqa: B023
                    raise ConnectionError("the machine is gone")
                writes += 1
                whole(files, path, value)

            monkeypatch.setattr(type(store._files), "pipe_file", dying)
            with pytest.raises(StoreError, match=r"^cluster\.checkpoints=.*the machine is gone$"):
                store.put(RUN, state)
            monkeypatch.setattr(type(store._files), "pipe_file", whole)
            assert Store(url).items(RUN) == []


def test_an_item_that_was_written_over_in_part_does_not_come_back(
    url: str, state: Path, tmp_path: Path
) -> None:
    store = Store(url)
    store.put(RUN, state)
    files, root = fsspec.core.url_to_fs(url)
    files.pipe_file(f"{root}/{RUN}/{state.name}/learners.pt", b"of another driver")
    assert not store.fetch(RUN, state.name, tmp_path)
    files.rm(f"{root}/{RUN}/{state.name}/learners.pt")
    assert not store.fetch(RUN, state.name, tmp_path)


def test_an_address_of_no_known_kind_is_refused_in_a_line() -> None:
    with pytest.raises(InputError, match=r"^cluster\.checkpoints=nowhere://bucket: .*nowhere"):
        Store("nowhere://bucket")


def test_a_store_that_does_not_answer_says_so_in_a_line(tmp_path: Path, part: Path) -> None:
    (tmp_path / "bucket").write_text("no folder")
    with pytest.raises(StoreError) as failed:
        Store(f"{tmp_path}/bucket").put(RUN, part)
    assert "\n" not in str(failed.value)
