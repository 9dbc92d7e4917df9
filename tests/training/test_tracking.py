"""Keys and their explanations agree; what W&B was given is read back from its offline file."""

import json
import re
import struct
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from wandb.proto import wandb_internal_pb2

from market.build import build
from training.configuration import Configuration
from training.settings import NoTracking, WandbSettings
from training.tracking import KEYS, SilentTracker, grouped, tracking
from training.train import run

METRICS = Path(__file__).parents[2] / "docs" / "metrics.md"
SETTINGS = WandbSettings("tercet", None, None, None)
BLOCK, HEADER = 32 * 1024, struct.Struct("<IHB")
WHOLE, LAST = 1, 4  # kinds of a piece that ends a record


def offline_records(folder: Path) -> list[Any]:
    """Return the records of a run's only offline file, once it is whole.

    W&B's own process writes it, and a moment longer than the run lasts.
    """
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    deadline = time.monotonic() + 20.0
    while True:
        records = list(whole_records(path.read_bytes()))
        if records and records[-1].WhichOneof("record_type") == "exit":
            return records
        assert time.monotonic() < deadline, f"{path} has no end"
        time.sleep(0.05)


def whole_records(content: bytes) -> Iterator[Any]:
    """Yield the records of a LevelDB log as far as they are there.

    A record's pieces have checksum, length and kind in front; none crosses the end of a block.
    """
    assert not content or content.startswith(b":W&B")
    at, record = 7, b""
    while at + HEADER.size <= len(content):
        if BLOCK - at % BLOCK < HEADER.size:  # too little is left of the block for a piece
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = HEADER.unpack_from(content, at)
        at += HEADER.size + length
        if at > len(content):
            return
        record += content[at - length : at]
        if kind in (WHOLE, LAST):
            yield wandb_internal_pb2.Record.FromString(record)
            record = b""


class Tracked(NamedTuple):
    """What an offline file holds."""

    run: Any
    config: dict[str, Any]
    history: list[dict[str, Any]]
    summary: dict[str, Any]
    artefacts: dict[str, Any]
    system: set[str]


def values(items: Any) -> dict[str, Any]:
    return {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


def read_back(folder: Path) -> Tracked:
    found = Tracked(None, {}, [], {}, {}, set())
    for record in offline_records(folder):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found = found._replace(run=record.run)
            found.config.update(values(record.run.config.update))
        elif kind == "config":
            found.config.update(values(record.config.update))
        elif kind == "history":
            found.history.append(values(record.history.item))
        elif kind == "summary":
            found.summary.update(values(record.summary.update))
        elif kind == "artifact":
            found.artefacts[record.artifact.type] = record.artifact
        elif kind == "stats":
            found.system.update(item.key for item in record.stats.item)
    return found


def explained(section: str) -> list[str]:
    text = METRICS.read_text().split(f"## {section}")[1].split("\n## ")[0]
    return re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)


@pytest.fixture(scope="module")
def trained(
    configuration: Callable[..., Configuration],
    compose: Callable[..., Any],
    ray_here: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Path, Configuration, dict[str, Any], Tracked]]:
    """Run once with W&B offline, and give the folder, what it was made of, and what was tracked."""
    folder = tmp_path_factory.mktemp("tracked") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("WANDB_API_KEY", raising=False)
        patch.setattr("sys.argv", ["tercet", "market.cache=redis://:secret@host"])
        labelled = WandbSettings("tercet", "sweep", "fold-1", "trial-7")
        config = configuration(seed=3, tracking=labelled)
        cluster = compose("cluster=local")["cluster"]
        folder, summary = run(config, cluster, str(folder), None, "tercet train")
    yield folder, config, summary, read_back(folder)


def test_every_logged_key_is_explained_and_nothing_else_is() -> None:
    assert explained("Logged while training") == list(KEYS)


def test_a_run_is_found_by_experiment_fold_seed_and_trial(trained) -> None:
    folder, _, _, tracked = trained
    assert (tracked.run.project, tracked.run.run_group) == ("tercet", "sweep")
    assert (tracked.run.display_name, tracked.run.job_type) == (folder.name, "trial")
    labels = {"experiment": "sweep", "fold": "fold-1", "seed": 3, "trial": "trial-7"}
    assert set(tracked.run.tags) == {f"{name}={value}" for name, value in labels.items()}
    assert {name: tracked.config[name] for name in labels} == labels
    assert tracked.run.run_id == (folder / "wandb" / "id").read_text()


def test_the_whole_configuration_and_the_hash_of_the_data_are_kept(trained) -> None:
    _, config, summary, tracked = trained
    bars = build(config.market, config.quality, config.features).bars
    assert tracked.config["data_sha256"] == bars.sha256 == summary["data"]["sha256"]
    for name, value in config.to_json().items():
        assert tracked.config[name] == value


def test_every_explained_key_is_in_the_history_or_the_summary(trained) -> None:
    _, config, summary, tracked = trained
    history = {key for row in tracked.history for key in row}
    policy = next(iter(config.agents))
    for key in KEYS:
        for part in ("inner", "final"):
            for stage in ("warm_start", "rl"):
                written = key.replace("<pass>", part).replace("<stage>", stage)
                assert re.sub("<agent>|<policy>", policy, written) in history
    for book, row in {**summary["agents"], **summary["baselines"]}.items():
        assert set(row) >= set(explained("Performance measures"))
        for measure, value in row.items():
            assert tracked.summary[f"test/{book}/{measure}"] == pytest.approx(value, rel=1e-9)
    for name in (*explained("Doubts"), *explained("The sealed test window")):
        if not name.startswith("…"):
            kept = name.split(".")[0]
            assert json.dumps(tracked.summary[kept]) == json.dumps(summary[kept])


def test_figures_and_files_are_kept_and_the_hashes_are_those_of_the_files(trained) -> None:
    folder, _, summary, tracked = trained
    drawn = {key.split("/")[1] for key in tracked.summary if key.startswith("plots/")}
    assert drawn == {"curves", "weights-ensemble", *(f"weights-{n}" for n in summary["agents"])}
    media = folder.glob("wandb/offline-run-*/files/media/plotly/plots/*.json")
    assert all(json.loads(path.read_text())["data"] for path in media)
    policy = json.loads(tracked.artefacts["policy"].metadata)["sha256"]
    assert {"manifest.json", "policy.safetensors", "sha256.json"} <= set(policy)
    assert policy.items() >= tracked.summary["artefact_sha256"].items()
    for kind, root in (("policy", folder / "artefact"), ("results", folder)):
        hashes = json.loads(tracked.artefacts[kind].metadata)["sha256"]
        files = {entry.path: entry for entry in tracked.artefacts[kind].manifest.contents}
        assert set(files) == set(hashes)
        for name, recorded in hashes.items():
            assert recorded == sha256((root / name).read_bytes()).hexdigest()
            assert Path(files[name].local_path) == (root / name).resolve()


def test_system_metrics_are_kept_and_no_password_is(trained) -> None:
    folder, _, _, tracked = trained
    assert "memory_percent" in tracked.system
    for path in (folder / "wandb").rglob("*"):
        assert not path.is_file() or b":secret@" not in path.read_bytes(), path


def test_no_tracking_leaves_no_file(tmp_path: Path) -> None:
    with tracking(NoTracking(), tmp_path, {"seed": 1}, "0") as tracker:
        tracker.log({"inner/agent_steps": 1.0})
    assert isinstance(tracker, SilentTracker)
    assert not list(tmp_path.iterdir())


def test_wandb_without_a_key_says_nothing_and_a_resumed_run_stays_the_same_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with (
        pytest.raises(KeyboardInterrupt),
        tracking(SETTINGS, tmp_path, {"seed": 1}, "0") as tracker,
    ):
        tracker.log({"inner/agent_steps": 1.0})
        raise KeyboardInterrupt
    first = read_back(tmp_path)
    assert first.run.run_group == tmp_path.name  # alone
    assert first.history[0]["inner/agent_steps"] == 1.0
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    folder.rename(tmp_path / "before")
    with tracking(SETTINGS, tmp_path, {"seed": 1}, "0") as tracker:
        tracker.log({"inner/agent_steps": 2.0})
    assert read_back(tmp_path).run.run_id == first.run.run_id
    assert capfd.readouterr() == ("", "")


def test_names_that_the_user_gave_stay_in_a_group() -> None:
    assert grouped(NoTracking(), "sweep", "1") == NoTracking()
    assert grouped(SETTINGS, "sweep") == WandbSettings("tercet", "sweep", None, None)
    named = WandbSettings("tercet", "mine", None, "best")
    assert grouped(named, "sweep", "1") == named
