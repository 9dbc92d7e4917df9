import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from agents import artefact
from agents.artefact import check_features, check_mandates
from agents.manifest import HASHES, MANIFEST, PARAMETERS, Manifest
from agents.networks import PolicyNetwork
from market.dataset import Dataset
from market.errors import InputError

FILES = (MANIFEST, PARAMETERS, HASHES)
Edit = Callable[[Path, Callable[[dict[str, Any]], Any]], None]


def test_what_is_loaded_is_what_was_saved(
    folder: Path, record: Manifest, networks: dict[str, PolicyNetwork]
) -> None:
    loaded = artefact.load(folder)
    assert loaded.manifest.to_json() == record.to_json()
    assert loaded.manifest.mandates == record.mandates
    assert loaded.manifest.ensemble == record.ensemble
    assert loaded.manifest.features == record.features
    assert set(loaded.networks) == {"balanced", "aggressive"}  # the rule needs no parameters
    for name, network in networks.items():
        again = loaded.networks[name].state_dict()
        assert list(again) == list(network.state_dict())
        assert all(torch.equal(again[key], value) for key, value in network.state_dict().items())
        assert not any(p.requires_grad for p in loaded.networks[name].parameters())


def test_the_manifest_says_that_policies_act_deterministically(folder: Path, edit: Edit) -> None:
    assert json.loads((folder / MANIFEST).read_text())["deterministic"] is True
    edit(folder, lambda found: found.update(deterministic=False))
    with pytest.raises(InputError, match="deterministic"):
        artefact.load(folder)


def test_the_folder_holds_three_files_and_no_trace_of_the_writing(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert [path.name for path in folder.parent.iterdir()] == ["one"]


def test_the_same_content_gives_the_same_bytes(
    tmp_path: Path, folder: Path, record: Manifest, networks: dict[str, PolicyNetwork]
) -> None:
    artefact.save(tmp_path / "two", networks, record)
    for name in FILES:
        assert (tmp_path / "two" / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0.0, 0.1, 0.35, 0.5, 0.75, 0.9, 1.0])
@pytest.mark.parametrize("bit", [1, 64])
def test_a_flipped_bit_is_refused_with_the_name_of_its_file(
    folder: Path, name: str, place: float, bit: int
) -> None:
    content = bytearray((folder / name).read_bytes())
    content[round(place * (len(content) - 1))] ^= bit
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name} is damaged"):
        artefact.load(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_short_or_missing_is_refused_with_its_name(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=f"{name} is damaged"):
        artefact.load(folder)
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"{name} cannot be read"):
        artefact.load(folder)


def test_nothing_is_parsed_before_every_hash_is_right(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / PARAMETERS).write_bytes((folder / PARAMETERS).read_bytes() + b"x")

    def refuse(*_: object) -> None:
        raise AssertionError("parsed a file of a damaged artefact")

    monkeypatch.setattr(artefact, "parse_tensors", refuse)
    monkeypatch.setattr(Manifest, "from_json", refuse)
    with pytest.raises(InputError, match="damaged"):
        artefact.load(folder)


def test_another_format_version_is_refused(folder: Path, edit: Edit) -> None:
    edit(folder, lambda found: found.update(format_version=2))
    with pytest.raises(InputError, match=rf"{MANIFEST}: format version 2, this program reads 1"):
        artefact.load(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found.pop("mandates"),
        lambda found: found.update(extra=1),
        lambda found: found["mandates"][0].update(tilt_rate=2.0),
        lambda found: found["mandates"][1]["limits"].update(max_weight=1.5),
        lambda found: found["mandates"][1]["limits"].pop("max_weight"),
        lambda found: found["stages"].pop("balanced"),
        lambda found: found["ensemble"].update(kind="System"),
        lambda found: found["features"].pop("normaliser"),
        lambda found: found.update(trials=0),
        lambda found: found.update(mandates=3),
    ],
)
def test_a_manifest_that_is_none_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], None], edit: Edit
) -> None:
    edit(folder, change)
    with pytest.raises(InputError, match=MANIFEST):
        artefact.load(folder)


def test_parameters_that_do_not_fit_the_manifest_are_refused(
    folder: Path, rewrite: Callable[..., None]
) -> None:
    tensors = load((folder / PARAMETERS).read_bytes())
    whole = (folder / PARAMETERS).read_bytes()
    first = "aggressive/asset_weight"
    spoilt = {
        "missing": {name: value for name, value in tensors.items() if name != first},
        "another shape": {**tensors, first: torch.zeros(1)},
        "an extra one": {**tensors, "balanced/extra": torch.zeros(1)},
        "of no policy": {**tensors, "conservative/scale": torch.zeros(1)},
        "not finite": {**tensors, first: torch.full_like(tensors[first], torch.nan)},
    }
    for changed in spoilt.values():
        rewrite(folder, parameters=save(changed))
        with pytest.raises(InputError, match=PARAMETERS):
            artefact.load(folder)
    rewrite(folder, parameters=b"no tensors at all, but the hash is right")
    with pytest.raises(InputError, match=PARAMETERS):
        artefact.load(folder)
    rewrite(folder, parameters=whole)
    artefact.load(folder)


def test_a_pickle_is_never_opened(folder: Path, rewrite: Callable[..., None]) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(folder / "opened"),)

    torch.save({"a": Trap()}, folder / "trap")
    rewrite(folder, parameters=(folder / "trap").read_bytes())
    with pytest.raises(InputError, match=PARAMETERS):
        artefact.load(folder)
    assert not (folder / "opened").exists()


def test_an_artefact_is_never_overwritten(
    folder: Path, record: Manifest, networks: dict[str, PolicyNetwork]
) -> None:
    before = {name: (folder / name).read_bytes() for name in FILES}
    with pytest.raises(InputError, match="never overwritten"):
        artefact.save(folder, networks, replace(record, trials=9))
    assert {name: (folder / name).read_bytes() for name in FILES} == before


def test_a_writing_that_fails_leaves_nothing(
    tmp_path: Path,
    record: Manifest,
    networks: dict[str, PolicyNetwork],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        artefact.save(tmp_path / "runs" / "one", networks, record)
    assert list((tmp_path / "runs").iterdir()) == []


def test_networks_that_do_not_belong_to_the_manifest_are_not_saved(
    tmp_path: Path, record: Manifest, networks: dict[str, PolicyNetwork]
) -> None:
    with pytest.raises(ValueError, match="for policies"):
        artefact.save(tmp_path / "one", {"balanced": networks["balanced"]}, record)
    with pytest.raises(ValueError, match="another shape"):
        artefact.save(
            tmp_path / "one", networks, replace(record, network=replace(record.network, hidden=8))
        )
    with torch.no_grad():
        networks["balanced"].scale[0] = torch.inf
    with pytest.raises(ValueError, match="balanced/scale is not finite"):
        artefact.save(tmp_path / "one", networks, record)
    assert not (tmp_path / "one").exists()


def test_a_policy_shared_by_mandates_is_stored_once(
    tmp_path: Path, record: Manifest, networks: dict[str, PolicyNetwork]
) -> None:
    mandates = tuple(replace(mandate, policy="shared") for mandate in record.mandates)
    shared = replace(record, mandates=mandates)
    artefact.save(tmp_path / "one", {"shared": networks["balanced"]}, shared)
    assert list(artefact.load(tmp_path / "one").networks) == ["shared"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"asset": ["log_return_21", "log_return_63"]}, r"features\.asset\[1\] is log_return_63"),
        ({"market": ["market_log_volatility"]}, r"features\.market\[1\] is None"),
        ({"clip": 4.0}, r"features\.clip is 4\.0, recorded as 3\.0"),
    ],
)
def test_other_features_are_refused_with_the_first_difference(
    folder: Path, dataset: Dataset, changes: dict[str, Any], message: str
) -> None:
    loaded, asked = artefact.load(folder), dataset.features.config
    check_features(loaded, asked)
    with pytest.raises(InputError, match=message):
        check_features(loaded, replace(asked, **changes))


def test_a_mandate_with_another_limit_is_refused_with_the_limit(
    folder: Path, record: Manifest
) -> None:
    loaded = artefact.load(folder)
    check_mandates(loaded, record.mandates)
    other = list(record.mandates)
    other[1] = replace(other[1], limits=replace(other[1].limits, max_weight=0.1))
    message = r"agents\.balanced\.limits\.max_weight is 0\.1, recorded as 0\.2"
    with pytest.raises(InputError, match=message):
        check_mandates(loaded, other)


def test_the_recorded_hashes_are_the_sha256_of_the_files(folder: Path) -> None:
    files = json.loads((folder / HASHES).read_text())["files"]
    for name in (MANIFEST, PARAMETERS):
        assert files[name] == hashlib.sha256((folder / name).read_bytes()).hexdigest()
