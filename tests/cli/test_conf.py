"""Every file in conf/ composes and becomes the objects that it describes."""

import sys
from pathlib import Path

import pytest

from cli.config import CONF

# Groups that are composed into an agent, and where.
WITHIN_AN_AGENT = {"limits", "exits", "breakers", "reward"}
NEEDS = {
    "market/files": ("market.path=prices.csv",),
    "policy/artefact": ("policy.path=nowhere",),
    "policy/fixed": ("policy.weights={AAPL:0.5}",),
}
FILES = sorted(path.relative_to(CONF).with_suffix("").as_posix() for path in CONF.rglob("*.yaml"))


def command(file: str) -> tuple[str, ...]:
    """Return the verb and the override that compose a file; `--cfg` runs nothing."""
    group, _, choice = file.rpartition("/")
    if not group:
        return (file,)
    verb = "backtest" if group == "policy" else "train"
    if group in WITHIN_AN_AGENT:
        return (verb, f"{group}@agents.balanced.{group}={choice}")
    if group == "agent":
        return (verb, f"+agent@agents.{choice}={choice}")
    return (verb, f"{group}={choice}", *NEEDS.get(file, ()))


@pytest.mark.parametrize("file", [file for file in FILES if file != "make_env"])
def test_a_file_becomes_its_objects(file: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    from cli.config import register

    register()
    GlobalHydra.instance().clear()
    verb, *overrides = command(file)
    if file.startswith("agent/") and file.removeprefix("agent/") in (
        "conservative",
        "balanced",
        "aggressive",
    ):
        overrides = []  # these are in the default society
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        composed = hydra.compose(verb, overrides)
    built = hydra.utils.instantiate(composed, _convert_="object")
    assert type(built).__name__.lower().startswith(verb)
