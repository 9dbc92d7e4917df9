"""Files that change under a running service: new data are read once, bad ones once, and named."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.policies import ArtefactPolicy, ChampionPolicy
from agents.registry import Registry
from market.build import build
from market.calendar import sessions
from market.errors import InputError
from market.features import FeatureConfig, FeatureSpec
from market.load import MarketConfig
from market.prepare import prepare
from market.sources.files import FilesMarket
from risk.access.errors import NotAnswered, Reason
from serving.sources import OwnSources

SYMBOLS = ("AAA", "BBB", "CCC")


def write_prices(path: Path, last: str, wrong: float | None = None) -> None:
    """Write closes up to a day, one of which is wrong."""
    days = sessions("XNYS", np.datetime64("2014-01-02"), np.datetime64(last))
    lines = ["date,symbol,close"]
    for i, day in enumerate(days):
        for k, symbol in enumerate(SYMBOLS):
            lines.append(f"{day},{symbol},{100 + k * 10 + (i * (k + 3)) % 17 * 0.1:.4f}")
    if wrong is not None:
        lines[-1] = f"{days[-1]},{SYMBOLS[-1]},{wrong}"
    part = path.with_suffix(".part")
    part.write_text("\n".join(lines) + "\n")
    part.replace(path)


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    path = tmp_path / "prices.csv"
    write_prices(path, "2017-12-27")
    return path


@pytest.fixture
def market(prices: Path) -> MarketConfig:
    return FilesMarket(
        symbols=None,
        train=["2014-01-02", "2016-12-30"],
        test=None,
        embargo=21,
        assumed_adv=None,
        cash_rate=0.0,
        exchange="XNYS",
        cache=None,
        path=str(prices),
        columns=None,
        series=None,
        sectors=None,
        membership=None,
    )


@pytest.fixture
def features(market: MarketConfig, world: Any) -> FeatureSpec:
    config: FeatureConfig = replace(world.config.features, indicators=[], timeframes=[])
    return prepare(market.load(), slice(0, 700), slice(730, 900), config).features


@pytest.fixture
def sources(market: MarketConfig, world: Any) -> OwnSources:
    policy = ArtefactPolicy(str(world.artefact(1)))
    return OwnSources(policy, None, market, world.config.quality)


def test_a_market_is_made_once_for_all_who_ask(sources: OwnSources, features: FeatureSpec) -> None:
    assert sources.snapshot(features, None) is sources.snapshot(features, None)
    few = sources.snapshot(features, SYMBOLS[:2])
    assert few.data.bars.symbols == SYMBOLS[:2]
    assert few is sources.snapshot(features, SYMBOLS[:2])


def test_a_new_session_in_the_file_is_a_new_version(
    sources: OwnSources, features: FeatureSpec, prices: Path
) -> None:
    before = sources.snapshot(features, None)
    wanted = sources.wanted()
    write_prices(prices, "2017-12-28")
    assert sources.wanted() != wanted
    after = sources.snapshot(features, None)
    assert str(after.data.bars.dates[-1]) == "2017-12-28"
    assert str(before.data.bars.dates[-1]) == "2017-12-27"
    assert np.array_equal(after.data.asset_features[:-1], before.data.asset_features)


def test_bad_data_are_refused_with_their_reason_and_read_once(
    sources: OwnSources, features: FeatureSpec, prices: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[object] = []

    def counted(*arguments: Any) -> Any:
        reads.append(arguments)
        return build(*arguments)

    monkeypatch.setattr("serving.sources.build", counted)
    write_prices(prices, "2017-12-28", wrong=-5.0)
    for _ in range(3):
        with pytest.raises(NotAnswered) as caught:
            sources.snapshot(features, None)
        assert caught.value.reason is Reason.bad_data
        assert "CCC" in caught.value.detail and "2017-12-28" in caught.value.detail
    assert len(reads) == 1
    sources.forget_refusals()
    with pytest.raises(NotAnswered):
        sources.snapshot(features, None)
    assert len(reads) == 2
    write_prices(prices, "2017-12-28")
    assert sources.snapshot(features, None).version == sources.wanted().market


def test_a_file_that_vanishes_is_bad_data(
    sources: OwnSources, features: FeatureSpec, prices: Path
) -> None:
    prices.unlink()
    with pytest.raises(NotAnswered) as caught:
        sources.snapshot(features, None)
    assert caught.value.reason is Reason.bad_data and "prices.csv" in caught.value.detail


def test_a_registry_that_cannot_be_read_is_no_word_of_what_is_wanted(
    world: Any, market: MarketConfig, tmp_path: Path
) -> None:
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry" / "registry.sqlite").write_bytes(b"not a database" * 100)
    policy = ChampionPolicy(str(tmp_path / "registry"))
    sources = OwnSources(policy, None, market, world.config.quality)
    with pytest.raises(NotAnswered) as caught:
        sources.wanted()
    assert caught.value.reason is Reason.stale_model
    with pytest.raises(InputError):
        sources.require_champion()


def test_a_copy_that_was_damaged_in_the_registry_is_refused(
    world: Any, market: MarketConfig, tmp_path: Path
) -> None:
    registry = Registry(tmp_path / "registry")
    entry = registry.promote(world.artefact(1), "champion")
    sources = OwnSources(
        ChampionPolicy(str(tmp_path / "registry")), None, market, world.config.quality
    )
    assert sources.wanted().champion == entry.sha256
    manifest = entry.folder / "manifest.json"
    manifest.chmod(0o600)
    manifest.write_bytes(manifest.read_bytes().replace(b"0", b"1", 1))
    with pytest.raises(NotAnswered) as caught:
        sources.contents(entry.sha256)
    assert caught.value.reason is Reason.stale_model


def test_a_signature_is_asked_for_where_a_key_is_named(
    world: Any, market: MarketConfig, tmp_path: Path
) -> None:
    key = tmp_path / "key.pem"
    key.write_text("no key")
    with pytest.raises(InputError):
        OwnSources(ArtefactPolicy(str(world.artefact(1))), str(key), market, world.config.quality)


def _bad_call(make: Callable[[], object]) -> str:
    with pytest.raises(InputError) as caught:
        make()
    return str(caught.value)


def test_a_folder_that_holds_no_artefact_is_refused_at_the_start(
    world: Any, market: MarketConfig, tmp_path: Path
) -> None:
    policy = ArtefactPolicy(str(tmp_path / "nothing"))
    said = _bad_call(lambda: OwnSources(policy, None, market, world.config.quality))
    assert "nothing" in said
