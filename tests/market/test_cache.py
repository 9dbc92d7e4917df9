import logging
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from market.cache import Arrays, Cache


class Counting:
    """Builds arrays and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Arrays:
        self.calls += 1
        return {
            "close": np.arange(6.0).reshape(2, 3) + self.calls,
            "symbols": np.array(["A", "BRK.B"]),
            "dates": np.array(["2020-01-02", "2020-01-03"], dtype="datetime64[D]"),
            "listed": np.array([[True, False]]),
        }


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let writes beyond a size fail, as they do on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_arrays_come_back_as_they_were_built_and_are_built_once(tmp_path: Path):
    build = Counting()
    first = Cache(tmp_path).array_group("key", build)
    second = Cache(tmp_path).array_group("key", build)
    assert build.calls == 1
    assert first.keys() == second.keys()
    for name in first:
        assert first[name].dtype == second[name].dtype
        np.testing.assert_array_equal(first[name], second[name])


def test_another_key_is_built_anew(tmp_path: Path):
    build = Counting()
    Cache(tmp_path).array_group("one", build)
    Cache(tmp_path).array_group("two", build)
    assert build.calls == 2


@pytest.mark.parametrize("damage", ["truncated", "one byte flipped", "empty", "not an archive"])
def test_a_corrupt_file_is_rebuilt(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture):
    build = Counting()
    original = Cache(tmp_path).array_group("key", build)
    path = tmp_path / "key.npz"
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        content = content[: len(content) // 2]
    elif damage == "one byte flipped":
        position = content.find(original["close"].tobytes())
        content[position + 3] ^= 0xFF
    elif damage == "empty":
        content = bytearray()
    else:
        content = bytearray(b"hello")
    path.write_bytes(bytes(content))
    with caplog.at_level(logging.WARNING):
        rebuilt = Cache(tmp_path).array_group("key", build)
    assert build.calls == 2
    assert "key.npz" in caplog.text
    np.testing.assert_array_equal(rebuilt["close"], original["close"] + 1.0)
    assert Cache(tmp_path).array_group("key", build)["close"][0, 0] == rebuilt["close"][0, 0]
    assert build.calls == 2


def test_a_full_disk_costs_the_cache_and_not_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    build = Counting()
    with file_size_limit(100), caplog.at_level(logging.WARNING):
        arrays = Cache(tmp_path).array_group("key", build)
    assert arrays["close"][0, 0] == 1.0
    assert "going on without" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_costs_the_cache_and_not_the_run(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    build = Counting()
    for _ in range(2):
        Cache(tmp_path / "file" / "cache").array_group("key", build)
    assert build.calls == 2


def test_a_pickled_object_is_never_loaded(tmp_path: Path):
    np.savez(tmp_path / "key.npz", close=np.array([{"a": 1}], dtype=object))
    assert Cache(tmp_path).array_group("key", Counting())["close"].dtype == np.float64


def test_a_failing_build_leaves_nothing_behind(tmp_path: Path):
    def build() -> Arrays:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Cache(tmp_path).array_group("key", build)
    assert list(tmp_path.iterdir()) == []
