"""Artefacts made to harm: each is refused in bounded time, and nothing in it is executed."""

import json
import os
import pickle
import socket
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from shutil import copytree
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load as read_tensors
from safetensors.torch import save as tensor_bytes

from agents import artefact
from agents.manifest import (
    HASHES,
    MANIFEST,
    MOST_BYTES,
    PARAMETERS,
    Contents,
    identity,
    read_verified,
    require_whole,
)
from market.errors import InputError
from market.features import Columns

FILES = (MANIFEST, PARAMETERS, HASHES)
MOST_SECONDS = 5.0  # an honest one takes milliseconds; a loaded machine more
COLUMNS = Columns(("log_return_21", "momentum_12_1"), (), (), (), ("market_log_volatility",), ())
Edit = Callable[[Path, Callable[[dict[str, Any]], Any]], None]
Rewrite = Callable[..., None]
# The folder is the same for all examples: each restores what it changed.
SAME_FOLDER = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150
)


@pytest.fixture(autouse=True)
def _in_bounded_time() -> Iterator[None]:
    started = time.perf_counter()
    yield
    assert time.perf_counter() - started < 6 * MOST_SECONDS


def refused(folder: Path, match: str) -> None:
    """Assert that an artefact is refused with one printable line, and soon."""
    started = time.perf_counter()
    with pytest.raises(InputError, match=match) as caught:
        artefact.load(folder)
    assert time.perf_counter() - started < MOST_SECONDS
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, opened: Path) -> None:
        self.opened = opened

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.opened),)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_in_place_of_any_file_is_not_opened(
    folder: Path, tmp_path: Path, name: str, protocol: int
) -> None:
    content = pickle.dumps(Trap(tmp_path / "opened"), protocol)
    (folder / name).write_bytes(content)
    refused(folder, f"{name} is damaged")
    assert not (tmp_path / "opened").exists()
    pickle.loads(content)
    assert (tmp_path / "opened").exists(), "the trap does not work"


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_right_hashes_is_not_opened(
    folder: Path, tmp_path: Path, rewrite: Rewrite, zipped: bool
) -> None:
    trap = {"asset_weight": Trap(tmp_path / "opened")}
    torch.save(trap, tmp_path / "trap", _use_new_zipfile_serialization=zipped)
    content = (tmp_path / "trap").read_bytes()
    rewrite(folder, parameters=content)
    refused(folder, PARAMETERS)
    rewrite(folder, manifest=content)
    refused(folder, MANIFEST)
    assert not (tmp_path / "opened").exists()


@SAME_FOLDER
@given(name=st.sampled_from(FILES), place=st.floats(0.0, 1.0), mask=st.integers(1, 255))
def test_a_byte_changed_anywhere_is_refused_before_anything_is_parsed(
    folder: Path, name: str, place: float, mask: int
) -> None:
    whole = read_verified(folder)
    content = bytearray(whole.files[name])
    content[round(place * (len(content) - 1))] ^= mask
    for changed in (Contents({**whole.files, name: bytes(content)}, whole.sha256),):
        with pytest.raises(InputError, match=f"{name} is damaged"):
            artefact.parse(changed, "here")
    (folder / name).write_bytes(content)
    try:
        refused(folder, f"{name} is damaged")
    finally:
        (folder / name).write_bytes(whole.files[name])


@SAME_FOLDER
@given(name=st.sampled_from(FILES), share=st.floats(0.0, 0.999))
def test_a_file_cut_anywhere_is_refused(folder: Path, name: str, share: float) -> None:
    whole = read_verified(folder)
    cut = whole.files[name][: int(share * len(whole.files[name]))]
    with pytest.raises(InputError, match=r"damaged|not the record"):
        require_whole({**whole.files, name: cut}, "here")


@SAME_FOLDER
@given(content=st.binary(max_size=400), name=st.sampled_from((MANIFEST, PARAMETERS)))
def test_any_other_content_with_right_hashes_is_refused(
    folder: Path, rewrite: Rewrite, content: bytes, name: str
) -> None:
    key = {MANIFEST: "manifest", PARAMETERS: "parameters"}[name]
    before = (folder / name).read_bytes()
    rewrite(folder, **{key: content or b" "})
    try:
        refused(folder, name)
    finally:
        rewrite(folder, **{key: before})


def test_contents_of_one_artefact_under_the_name_of_another_are_refused(folder: Path) -> None:
    whole = read_verified(folder)
    with pytest.raises(InputError, match="is not the artefact ffff"):
        artefact.parse(Contents(whole.files, "f" * 64), "here")


def test_the_contents_travel_between_processes(folder: Path) -> None:
    whole = pickle.loads(pickle.dumps(read_verified(folder)))
    assert whole.sha256 == identity(folder) == artefact.load(folder).sha256
    assert artefact.parse(whole, "here").sha256 == whole.sha256


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "a/b", "", "..", "x" * 65, "a b", "ä"])
def test_a_manifest_does_not_name_a_way_out_of_its_folder(
    folder: Path, edit: Edit, name: str
) -> None:
    edit(folder, lambda found: found["mandates"][1].update(policy=name))
    refused(folder, MANIFEST)


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "..", "", "a b", "x" * 65])
def test_a_mandate_does_not_name_a_way_out_of_its_folder(
    folder: Path, edit: Edit, name: str
) -> None:
    def rename(found: dict[str, Any]) -> None:
        stage = found["stages"].pop(found["mandates"][1]["name"])
        found["mandates"][1]["name"] = name
        found["stages"][name] = stage

    edit(folder, rename)
    refused(folder, MANIFEST)


@pytest.mark.parametrize("symbols", [["../../x"], [""], ["x" * 40], ["A", "A"], [1], "AB", [["A"]]])
def test_a_universe_holds_symbols_only(folder: Path, edit: Edit, symbols: Any) -> None:
    edit(folder, lambda found: found.update(universe=symbols))
    refused(folder, MANIFEST)


def test_the_hashes_name_the_two_files_and_no_other(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("outside")
    files = json.loads((folder / HASHES).read_bytes())["files"]
    for names in ({**files, "../../x": "0" * 64}, {"../../x": files[MANIFEST], **files}):
        start = b'{"files": ' + json.dumps(names, sort_keys=True).encode()
        from hashlib import sha256

        own = b', "self": "' + sha256(start).hexdigest().encode() + b'"}\n'
        (folder / HASHES).write_bytes(start + own)
        refused(folder, f"{HASHES} is not the record")


def test_a_tensor_is_not_named_out_of_the_folder(folder: Path, rewrite: Rewrite) -> None:
    tensors = read_tensors((folder / PARAMETERS).read_bytes())
    rewrite(folder, parameters=tensor_bytes({**tensors, "../../x/scale": torch.zeros(1)}))
    refused(folder, "of no policy")


@pytest.mark.parametrize("name", FILES)
def test_a_link_in_the_folder_is_not_followed(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).rename(tmp_path / "outside")
    (folder / name).symlink_to(tmp_path / "outside")
    refused(folder, f"{name} cannot be read: it is a symbolic link")


def test_a_link_to_the_folder_is_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to(folder)
    assert artefact.load(tmp_path / "latest").sha256 == identity(folder)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["pipe", "folder", "socket", "device", "loop"])
def test_what_is_no_file_is_refused_without_waiting(folder: Path, name: str, kind: str) -> None:
    path = folder / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as end:
            here = os.open(folder, os.O_RDONLY)  # a socket's path may have 107 bytes at most
            end.bind(f"/proc/self/fd/{here}/{name}")
            os.close(here)
    else:
        with suppress(PermissionError):  # only root makes a device; without it the file is missing
            os.mknod(path, 0o20666, os.makedev(1, 5))  # /dev/zero
    refused(folder, f"{name} cannot be read")


@pytest.mark.parametrize("name", FILES)
def test_a_file_over_its_size_is_not_read(folder: Path, name: str) -> None:
    os.truncate(folder / name, MOST_BYTES[name] + 1)
    tracemalloc.start()
    refused(folder, f"{name} has {MOST_BYTES[name] + 1} bytes")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 22


def test_a_file_that_grows_while_it_is_read_is_cut(folder: Path) -> None:
    path = Path("/proc/self/environ")  # the kernel says that it has 0 bytes
    if not path.exists():
        pytest.skip("no /proc")
    from agents.untrusted import read_plain

    assert len(read_plain(path, 3)) <= 3


def header(entries: str, data: bytes = b"") -> bytes:
    text = entries.encode()
    return len(text).to_bytes(8, "little") + text + data


F32 = '"dtype":"F32"'
BOMBS = {
    "a length beyond the file": (1 << 63).to_bytes(8, "little") + b"{}",
    "a length of all ones": b"\xff" * 8 + b"{}",
    "nothing after the length": (0).to_bytes(8, "little"),
    "half a length": b"\x01",
    "no record": header("[]"),
    "no JSON": header("{"),
    "deep": header("[" * 100_000 + "]" * 100_000),
    "deep records": header('{"a":' * 50_000 + "1" + "}" * 50_000),
    "a million names": header("{" + ",".join(f'"{i}":{{}}' for i in range(300_000)) + "}"),
    "long": header("{" + " " * (1 << 22) + "}"),
    "huge": header(f'{{"balanced/own_weight":{{{F32},"shape":[1099511627776,1048576],'
                   '"data_offsets":[0,4]}}', b"1234"),
    "huge and empty": header(f'{{"balanced/own_weight":{{{F32},"shape":[1099511627776,0],'
                             '"data_offsets":[0,0]}}'),
    "overflowing": header(f'{{"balanced/own_weight":{{{F32},"shape":[4294967296,4294967297],'
                          '"data_offsets":[0,4]}}', b"1234"),
    "negative": header(f'{{"balanced/own_weight":{{{F32},"shape":[-1],"data_offsets":[0,4]}}}}',
                       b"1234"),
    "offsets beyond the file": header(
        f'{{"balanced/own_weight":{{{F32},"shape":[1],"data_offsets":[4096,4100]}}}}', b"1234"),
    "overlapping": header(
        f'{{"balanced/a":{{{F32},"shape":[1],"data_offsets":[0,4]}},'
        f'"balanced/b":{{{F32},"shape":[1],"data_offsets":[0,4]}}}}', b"1234"),
    "the same name twice": header(
        f'{{"balanced/a":{{{F32},"shape":[1],"data_offsets":[0,4]}},'
        f'"balanced/a":{{{F32},"shape":[1],"data_offsets":[0,4]}}}}', b"1234"),
    "a terminal's orders": header(
        f'{{"balanced/\\u001b[2J":{{{F32},"shape":[1],"data_offsets":[0,4]}}}}', b"1234"),
    "no text": header('{"balanced/\\ud800":{}}'),
    "another type": header(
        '{"balanced/a":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}}', b"12345678"),
    "an unknown type": header(
        '{"balanced/a":{"dtype":"OBJECT","shape":[1],"data_offsets":[0,8]}}', b"12345678"),
    "metadata": header('{"__metadata__":{"a":"b"}}'),
}  # fmt: skip


@pytest.mark.parametrize("kind", BOMBS)
def test_a_header_that_claims_what_cannot_be_is_refused(
    folder: Path, rewrite: Rewrite, kind: str
) -> None:
    rewrite(folder, parameters=BOMBS[kind])
    tracemalloc.start()
    refused(folder, PARAMETERS)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 28


@pytest.mark.parametrize("field", ["members", "hidden", "asset_features", "book_asset", "book"])
@pytest.mark.parametrize("size", [0, -1, 3, 10**6, 10**12, 10**30, 2.0, "4", None, True, [4]])
def test_a_manifest_that_claims_another_network_allocates_nothing(
    folder: Path, edit: Edit, field: str, size: Any
) -> None:
    edit(folder, lambda found: found["network"].update({field: size}))
    refused(folder, f"{MANIFEST}|{PARAMETERS}")


def test_an_attention_that_has_no_parameters_is_refused(folder: Path, edit: Edit) -> None:
    edit(folder, lambda found: found["network"].update(attention=True))
    refused(folder, PARAMETERS)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_parameter_that_is_not_finite_is_refused(
    folder: Path, rewrite: Rewrite, value: float
) -> None:
    tensors = read_tensors((folder / PARAMETERS).read_bytes())
    for name, tensor in tensors.items():
        spoilt = tensor.clone()
        spoilt.view(-1)[-1] = value
        rewrite(folder, parameters=tensor_bytes({**tensors, name: spoilt}))
        refused(folder, f"{name} is not finite")


@pytest.mark.parametrize("scale", [0.0, -1.0])
def test_a_scale_that_would_divide_by_zero_or_turn_all_scores_is_refused(
    folder: Path, rewrite: Rewrite, scale: float
) -> None:
    tensors = read_tensors((folder / PARAMETERS).read_bytes())
    tensors["balanced/scale"][0] = scale
    rewrite(folder, parameters=tensor_bytes(tensors))
    refused(folder, "scale is not positive")


DOCUMENTS = {
    "deep": b"[" * 200_000,
    "deep and whole": b"[" * 100_000 + b"]" * 100_000,
    "a little too deep": b'{"a":' * 20 + b"1" + b"}" * 20,
    "not finite": b'{"format_version": NaN}',
    "infinite by size": b'{"format_version": 1e999}',
    "a huge number": b'{"format_version": ' + b"9" * 100_000 + b"}",
    "a big number": b'{"format_version": 18446744073709551617}',
    "no text": b'{"\xff": 1}',
    "half a character": b'{"\\ud800": 1}',
    "a terminal's orders": b'{"format_version": "\\u001b[2J"}',
    "null": b"null",
    "a list": b"[1]",
    "empty": b" ",
    "a mark of byte order": b"\xef\xbb\xbf{}",
    "another encoding": '{"format_version": 1}'.encode("utf-16"),
}


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_a_document_that_readers_could_take_differently_is_refused(
    folder: Path, rewrite: Rewrite, kind: str
) -> None:
    rewrite(folder, manifest=DOCUMENTS[kind])
    refused(folder, MANIFEST)


def test_a_key_that_stands_twice_is_refused(folder: Path, rewrite: Rewrite) -> None:
    text = (folder / MANIFEST).read_text()
    twice = text.replace('"trials": 3', '"trials": 3, "trials": 4')
    assert twice != text
    rewrite(folder, manifest=twice.encode())
    refused(folder, "'trials' twice")


def test_a_manifest_of_a_later_format_is_refused_as_such(folder: Path, edit: Edit) -> None:
    edit(folder, lambda found: found.update(format_version=2, something_new=[]))
    refused(folder, "format version 2, this program reads 1")


def test_features_defined_otherwise_are_refused(folder: Path, edit: Edit, dataset: Any) -> None:
    fields, config = dataset.bars.fields, dataset.features.config
    columns = Columns.of(config, fields, ())
    artefact.load(folder).manifest.features.check(columns)
    for change in (
        lambda spec: spec["parameters"]["definitions"].update(momentum_12_1=["other", 252]),
        lambda spec: spec["parameters"]["definitions"].update(unheard_of=["other", 1]),
        lambda spec: spec["parameters"].update(version=2),
    ):
        kept = (folder / MANIFEST).read_bytes()
        edit(folder, lambda found, change=change: change(found["features"]))
        with pytest.raises(InputError):
            artefact.load(folder).manifest.features.check(columns)
        edit(folder, lambda found, kept=kept: found.update(json.loads(kept)))


@pytest.mark.parametrize(
    "change",
    [
        lambda spec: spec.update(asset_names=["log_return_21"]),
        lambda spec: spec.update(asset_names="ab"),
        lambda spec: spec.update(market_names=[*spec["market_names"], "more"]),
        lambda spec: spec["normaliser"].update(names=["other", "names"]),
        lambda spec: spec["normaliser"].update(mean=[0.0]),
        lambda spec: spec["normaliser"].update(std=[1.0, "1"]),
        lambda spec: spec["normaliser"]["window"].update(first=3),
        lambda spec: spec.update(clip=1e6),
        lambda spec: spec.update(clip="3"),
        lambda spec: spec["parameters"].pop("config"),
        lambda spec: spec["parameters"].pop("version"),
        lambda spec: spec["parameters"].pop("definitions"),
        lambda spec: spec["parameters"]["config"].update(asset=["unheard_of"]),
        lambda spec: spec["parameters"]["config"].update(asset=[["log_return_21"]]),
        lambda spec: spec["parameters"]["config"].update(asset={"log_return_21": 1}),
    ],
)
def test_features_that_contradict_themselves_are_refused(
    folder: Path, edit: Edit, change: Callable[[dict[str, Any]], Any]
) -> None:
    edit(folder, lambda found: change(found["features"]))
    refused(folder, MANIFEST)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Return the path of every node of a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, one in items:
        yield (*path, key)
        if isinstance(one, dict | list):
            yield from leaves(one, (*path, key))


NUMBERS = [-1, 0, 1, 3, 10**9, 2**53, 1e308, -1e308, 5e-324]
WORDS = [None, True, "", "x", "../../x", "\x00", "a" * 10_000]
NESTED = [[], {}, [1], [[]], {"a": 1}, [None], ["a"] * 1000]


def spoil(record: dict[str, Any], draw: Random) -> None:
    """Replace or remove one node of a JSON record."""
    *path, last = draw.choice(list(leaves(record)))
    node: Any = record
    for key in path:
        node = node[key]
    if draw.random() < 0.8:
        node[last] = draw.choice([*NUMBERS, *WORDS, *NESTED])
    else:
        del node[last]


@pytest.mark.parametrize("seed", range(10))
def test_whatever_stands_in_a_manifest_it_is_an_artefact_or_refused(
    folder: Path, rewrite: Rewrite, seed: int
) -> None:
    whole, draw = (folder / MANIFEST).read_text(), Random(seed)
    let_in = 0
    for _ in range(100):
        record = json.loads(whole)
        for _ in range(draw.choice([1, 1, 1, 2])):
            spoil(record, draw)
        rewrite(folder, manifest=json.dumps(record).encode())
        started = time.perf_counter()
        try:
            loaded = artefact.load(folder)
        except InputError as error:
            assert str(error).isprintable()
            assert len(str(error)) < 1000
        else:  # what was let in can be worked with
            artefact.check_mandates(loaded, loaded.manifest.mandates)
            artefact.check_features(loaded, loaded.manifest.features.config)
            with suppress(InputError):
                loaded.manifest.features.check(COLUMNS)
            loaded.manifest.ensemble.shares(np.zeros((30, 3)), np.zeros(30, dtype=np.int64))
            let_in += 1
        assert time.perf_counter() - started < 1.0
    assert 0 < let_in < 50, "the draws are too wild or too tame"


def test_the_good_one_is_still_good(folder: Path, tmp_path: Path) -> None:
    """Guard the tests above: what they start from is not refused."""
    copytree(folder, tmp_path / "copy")
    assert artefact.load(tmp_path / "copy").sha256 == artefact.load(folder).sha256
