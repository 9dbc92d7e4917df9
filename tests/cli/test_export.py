"""`tercet export`: ONNX files that were compared with torch, or none and one line."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import hydra
import pytest

from agents import artefact
from agents.manifest import Stage
from agents.onnx_export import TOLERANCE
from agents.registry import Registry
from benchmarks import untrained
from cli import export
from cli.config import TrainConfig, register
from market.build import build
from market.compose import CONF, typed
from training.train import make_society

SMALL = ("market=synthetic", "market.assets=5", "market.sessions=700")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an artefact whose agents learned nothing, of which two share a policy."""
    register()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        shared = "agents.aggressive.policy=balanced"
        composed = hydra.compose("train", [*SMALL, shared])
    config = typed(composed, TrainConfig).configuration()
    data = build(config.market, config.quality, config.features)
    made = tmp_path_factory.mktemp("export") / "artefact"
    untrained.save(made, make_society(data, config), data, config)
    return made


def test_each_policy_becomes_one_file_that_acts_as_torch(
    tercet: Callable, folder: Path, tmp_path: Path
) -> None:
    result = tercet("export", f"path={folder}", "out=onnx", *SMALL)
    assert result.code == 0, result.err
    policies = ["conservative", "balanced"]
    assert sorted(path.name for path in (tmp_path / "onnx").iterdir()) == sorted(
        f"{policy}.onnx" for policy in policies
    )
    found = json.loads(result.out.splitlines()[-1])
    assert list(found["policies"]) == policies
    assert found["artefact_sha256"] == artefact.load(folder).sha256
    states = {policy: one["states"] for policy, one in found["policies"].items()}
    assert states["balanced"] == 2 * states["conservative"] > 200
    for one in found["policies"].values():
        assert one["max_abs_diff"] <= TOLERANCE
        assert min(one["onnx_ms"], one["torch_ms"]) > 0.0


def test_a_folder_that_holds_files_is_left_alone(
    tercet: Callable, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "mine").write_text("mine")
    result = tercet("export", f"path={folder}", "out=onnx", *SMALL)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "not empty" in result.err
    assert [path.name for path in (tmp_path / "onnx").iterdir()] == ["mine"]


def test_what_cannot_be_exported_is_refused_in_one_line(
    tercet: Callable, folder: Path, tmp_path: Path
) -> None:
    for arguments, words in {
        ("path=nowhere",): "nowhere",
        ("policy=equal_weight",): "only trained policies",
        ("policy=champion", "policy.registry=none"): "champion",
    }.items():
        result = tercet("export", *arguments, *SMALL)
        assert (result.code, result.err.count("\n")) == (2, 1)
        assert words in result.err
    assert not (tmp_path / "runs").exists()


def test_agents_at_their_rule_have_nothing_to_export(
    tercet: Callable, folder: Path, tmp_path: Path
) -> None:
    whole = artefact.load(folder).manifest
    ruled = replace(whole, stages=dict.fromkeys(whole.stages, Stage.rule))
    artefact.save(tmp_path / "ruled", {}, ruled)
    result = tercet("export", "path=ruled", *SMALL)
    assert result.code == 2
    assert "rule" in result.err


def test_without_the_extra_one_line_says_what_to_install(
    tercet: Callable, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "EXTRA", ("onnx", "a_package_that_nobody_has"))
    result = tercet("export", f"path={folder}", *SMALL)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "a_package_that_nobody_has" in result.err
    assert "tercet[onnx]" in result.err


def test_the_champion_is_exported_by_its_role(
    tercet: Callable, folder: Path, tmp_path: Path
) -> None:
    entry = Registry(tmp_path / "registry").promote(folder, "the first")
    result = tercet("export", "policy=champion", "policy.registry=registry", "out=onnx", *SMALL)
    assert result.code == 0, result.err
    assert json.loads(result.out.splitlines()[-1])["artefact_sha256"] == entry.sha256
