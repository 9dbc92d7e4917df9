"""Every file in conf/ composes and becomes the objects that it describes."""

import json
from pathlib import Path

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra

from cli.config import register
from market.compose import CONF

# Groups that are composed into an agent, and where.
WITHIN_AN_AGENT = {"limits", "exits", "breakers", "reward"}
FIVE = {"conservative", "cautious", "balanced", "growth", "aggressive"}
COSTS = {"commission_bp": 1.0, "spread_bp": 4.0, "impact": 0.3, "borrow_rate": 0.02}
NEEDS = {
    "env/costs/fitted": ("env.costs.path=costs.json",),
    "market/files": ("market.path=prices.csv",),
    "policy/artefact": ("policy.path=nowhere",),
    "policy/fixed": ("policy.weights={AAPL:0.5}",),
    "bench": ("subverb=all",),
    "gateway": ("subverb=''",),
}
ROOTS = {
    "policy": "backtest",
    "provider": "cluster_file",
    "serving": "serve",
    "tune": "tune",
    **dict.fromkeys(("broker", "control", "execution", "gateway", "strategy"), "gateway"),
}
FILES = sorted(path.relative_to(CONF).with_suffix("").as_posix() for path in CONF.rglob("*.yaml"))


def command(file: str) -> tuple[str, ...]:
    """Return the root and the overrides that compose a file."""
    group, _, choice = file.rpartition("/")
    if not group:
        return (file, *NEEDS.get(file, ()))
    root = ROOTS.get(group, "train")
    if group in WITHIN_AN_AGENT:
        return (root, f"{group}@agents.balanced.{group}={choice}")
    if group == "agent":
        return (root, "agents=five" if choice in FIVE else f"agents={choice}")
    if root == "gateway":
        return (root, f"{group}={choice}", *NEEDS[root])
    return (root, f"{group}={choice}", *NEEDS.get(file, ()))


@pytest.mark.parametrize("file", FILES)
def test_a_file_becomes_its_objects(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("costs.json").write_text(json.dumps({"costs": COSTS}))
    register()
    GlobalHydra.instance().clear()
    root, *overrides = command(file)
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        composed = hydra.compose(root, overrides)
    built = hydra.utils.instantiate(composed, _convert_="object")
    assert type(built).__name__.lower().startswith(root.replace("_", ""))
