"""Keys and their explanations agree; wandb stays offline without a key, and silent."""

import re
from pathlib import Path

import pytest

from training.settings import NoTracking, WandbSettings
from training.tracking import KEYS, tracking

METRICS = Path(__file__).parents[2] / "docs" / "metrics.md"


def test_every_logged_key_is_explained_and_nothing_else_is() -> None:
    section = METRICS.read_text().split("## Logged while training")[1].split("\n## ")[0]
    explained = re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)
    assert explained == list(KEYS)


def test_no_tracking_leaves_no_file(tmp_path: Path) -> None:
    with tracking(NoTracking(), tmp_path, {"seed": 1}) as tracker:
        tracker.log({"inner/agent_steps": 1.0})
        tracker.finish({"artefact_sha256": "0"})
    assert not list(tmp_path.iterdir())


def test_wandb_without_a_key_writes_offline_and_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with tracking(WandbSettings("tercet"), tmp_path, {"seed": 1}) as tracker:
        tracker.log({"inner/agent_steps": 1.0})
        tracker.finish({"artefact_sha256": "0"})
    runs = list((tmp_path / "wandb").glob("offline-run-*"))
    assert len(runs) == 1
    assert list(runs[0].glob("*.wandb"))
    assert capfd.readouterr() == ("", "")
