"""`tercet promote`: each change is one command, and every mistake is one line."""

import shutil
from dataclasses import replace
from pathlib import Path

import hydra
import pandas as pd
import pytest
from hydra.core.global_hydra import GlobalHydra
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.manifest import PARAMETERS, identity
from agents.registry import Registry
from benchmarks import untrained
from cli.config import TrainConfig, register
from cli.promote import SUBVERBS, TAKES
from cli.words import as_typed
from market.build import build
from market.compose import CONF, typed
from training.train import make_society

MARKET = ("market=synthetic", "market.cache=null", "market.assets=4", "market.sessions=900")


@pytest.fixture(scope="session")
def untrained_artefacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the artefacts `one` and `two`, of the synthetic market."""
    folder = tmp_path_factory.mktemp("artefacts")
    register()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        composed = hydra.compose("train", [*MARKET, "network.members=2"])
    config = typed(composed, TrainConfig).configuration()
    data = build(config.market, config.quality, config.features)
    for seed, name in enumerate(("one", "two")):
        seeded = replace(config, seed=seed)
        untrained.save(folder / name, make_society(data, seeded), data, seeded)
    return folder


@pytest.fixture
def here(untrained_artefacts: Path, tmp_path: Path) -> Path:
    """Return the test's folder, with both artefacts in it."""
    for name in ("one", "two"):
        shutil.copytree(untrained_artefacts / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def registry(here: Path) -> Registry:
    return Registry(here / "runs" / "registry")


def one_line(result, *words: str) -> None:
    """Assert exit code 2 and a single line that names all of `words`."""
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("tercet: ")
    assert result.err.count("\n") == 1, result.err
    for word in words:
        assert word in result.err


def test_a_champion_comes_goes_and_comes_back(tercet, here: Path, registry: Registry):
    one, two = identity(here / "one"), identity(here / "two")
    for arguments, champion in (
        (("path=one", "reason=first"), one),
        (("path=two", "reason=second"), two),
        (("rollback", "reason=worse"), one),
    ):
        result = tercet("promote", *arguments)
        assert result.code == 0, result.err
        first = next(line for line in result.out.splitlines() if line.startswith("champion"))
        assert champion[:12] in first
        assert registry.state().champion.sha256 == champion
    assert [event.reason for event in registry.history()] == ["first", "second", "worse"]


def test_a_challenger_runs_in_shadow_unless_it_gets_a_share(tercet, registry: Registry):
    tercet("promote", "path=one", "reason=first")
    assert "challenger shadow" in tercet("promote", "challenger", "path=two", "reason=try").out
    assert registry.state().share == 0.0
    result = tercet("promote", "challenger", "path=two", "reason=more", "share=0.1")
    assert "challenger 0.1" in result.out
    assert registry.state().share == 0.1
    assert "challenger" not in tercet("promote", "retire", "reason=enough").out
    assert registry.state().challenger is None


def test_the_list_shows_roles_and_every_change(tercet, here: Path, registry: Registry):
    assert tercet("promote", "list").out == "runs/registry has no champion yet\n"
    assert not registry.folder.exists()
    tercet("promote", "path=one", "reason=first")
    tercet("promote", "challenger", "path=two", "reason=[red]try[/red]", "share=0.5")
    shown = tercet("promote", "list").out
    for words in ("champion", "challenge 0.5", "first", "[red]try[/red]", "promote"):
        assert words in shown
    assert identity(here / "two")[:12] in shown


REASONS = ["better, by far", 'it\'s the "best" (Sharpe=1.2)', "null", "a\\b\\", "1", "{x} [y] %"]


@pytest.mark.parametrize("reason", REASONS)
def test_a_reason_is_kept_as_it_was_typed(tercet, registry: Registry, reason):
    result = tercet("promote", "path=one", f"reason={reason}")
    assert result.code == 0, result.err
    assert registry.history()[0].reason == reason


@settings(deadline=None, max_examples=300)
@given(text=st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=40))
def test_words_reach_hydra_as_they_were_typed(text: str):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    (override,) = as_typed([f"reason={text}"], ["reason"])
    assert OverridesParser.create().parse_override(override).value() == text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ("reason is missing", 'reason="why"')),
        (("path=one",), ("reason is missing",)),
        (("reason=x",), ("path is missing", "path=<artefact>")),
        (("path=one", "reason="), ("reason must be one line of 1 to 500 characters",)),
        (("path=one", f"reason={'x' * 501}"), ("reason must be one line",)),
        (("path=nowhere", "reason=x"), ("nowhere/manifest.json", "No such file")),
        (("path=.", "reason=x"), ("manifest.json", "No such file")),
        (("path=one", "reason=x", "share=0.1"), ("share", "tercet promote challenger")),
        (("path=one", "reason=x", "public_key=nowhere"), ("one is not signed",)),
        (("path=one", "reason=x", "private_key=nowhere"), ("nowhere", "No such file")),
        (("path=one", "reason=x", "registry=one/manifest.json"), ("one/manifest.json",)),
        (("challenger", "path=one", "reason=x"), ("there is no champion to challenge",)),
        (("challenger", "path=one", "reason=x", "share=2"), ("share must be in [0, 1], was 2",)),
        (("challenger", "path=one", "reason=x", "share=nan"), ("share must be in [0, 1]",)),
        (("challenger", "path=one", "reason=x", "share=ten"), ("share", "ten")),
        (("rollback", "reason=x"), ("runs/registry has no previous champion",)),
        (("rollback",), ("reason is missing",)),
        (("rollback", "path=one", "reason=x"), ("path", "tercet promote challenger")),
        (("retire", "reason=x"), ("there is no challenger to retire",)),
        (("list", "reason=x"), ("reason means nothing to tercet promote list",)),
        (("rolback", "reason=x"), ("'rolback'", "nearest: rollback")),
        (("one",), ("'one'", "challenger, rollback, retire, list")),
        (("pth=one", "reason=x"), ("pth", "path")),
        (("path=one", "reason=${HOME}"), ("HOME", "reason")),
    ],
)
def test_a_promotion_that_cannot_be_is_named(tercet, here: Path, arguments, words):
    one_line(tercet("promote", *arguments), *words)
    assert not (here / "runs").exists()


def test_a_promotion_that_changes_nothing_is_named(tercet, registry: Registry):
    tercet("promote", "path=one", "reason=first")
    one_line(tercet("promote", "path=one", "reason=again"), "is the champion already")
    assert len(registry.history()) == 1


def test_a_run_in_place_of_its_artefact_is_named(tercet, here: Path):
    shutil.copytree(here / "one", here / "run" / "artefact")
    one_line(tercet("promote", "path=run", "reason=first"), "did you mean path=run/artefact?")


def test_every_subverb_says_which_keys_it_takes():
    assert set(TAKES) == set(SUBVERBS)


def test_the_help_lists_the_subverbs(tercet, capsys):
    with pytest.raises(SystemExit) as stopped:
        tercet("promote", "--help")
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith("usage: tercet promote [<subverb>] [key=value]")
    assert all(f"  {name} " in shown for name in SUBVERBS if name)


def test_the_champion_backtests_to_what_its_artefact_does(tercet, here: Path):
    tercet("promote", "path=one", "reason=first")
    shutil.move(here / "one", here / "kept")
    result = tercet("backtest", *MARKET, "policy=champion", "out=by_role")
    assert result.code == 0, result.err
    by_path = ("policy=artefact", "policy.path=kept", "out=by_path")
    assert tercet("backtest", *MARKET, *by_path).code == 0
    by_role, by_path_ = (
        pd.read_parquet(here / name / "nav.parquet") for name in ("by_role", "by_path")
    )
    pd.testing.assert_frame_equal(by_role, by_path_, check_exact=True)


def test_a_backtest_of_no_champion_says_how_to_make_one(tercet, here: Path):
    result = tercet("backtest", *MARKET, "policy=champion")
    one_line(result, "runs/registry has no champion", "tercet promote path=")
    result = tercet("backtest", *MARKET, "policy=champion", "policy.registry=elsewhere")
    one_line(result, "elsewhere has no champion")
    assert not (here / "runs").exists()


def test_a_champion_that_was_damaged_is_not_backtested(tercet, here: Path, registry: Registry):
    tercet("promote", "path=one", "reason=first")
    (registry.champion().folder / PARAMETERS).write_bytes(b"spoilt")
    one_line(tercet("backtest", *MARKET, "policy=champion"), PARAMETERS, "is damaged")
    assert [path.name for path in (here / "runs").iterdir()] == ["registry"]


def test_a_champion_of_other_mandates_is_not_backtested(tercet, here: Path):
    tercet("promote", "path=one", "reason=first")
    limit = "agents.balanced.limits.max_weight=0.11"
    one_line(tercet("backtest", *MARKET, "policy=champion", limit), "max_weight", "0.11")
