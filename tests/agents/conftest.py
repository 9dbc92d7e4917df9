"""Markets and datasets built by hand, and the mandates of `conf/` where a preset is tested."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
import torch
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

import agents.config
import risk.config
from agents import artefact
from agents.ensemble import Hedge
from agents.mandates import Mandate
from agents.manifest import HASHES, MANIFEST, PARAMETERS, Manifest, Stage, hashes_of
from agents.market_tensors import MarketTensors
from agents.network_spec import NetworkSpec
from agents.networks import PolicyNetwork
from market.bars import Bars
from market.dataset import Dataset
from market.features import FeatureConfig
from market.prepare import prepare
from market.timeframes import Timeframe

CONF = Path(__file__).resolve().parents[2] / "conf"


@dataclass
class AgentsRoot:
    """A root that holds the groups of this folder and nothing else."""

    agents: dict[str, Mandate] = MISSING
    network: Any = MISSING
    ensemble: Any = MISSING
    policy: Any = MISSING


def _compose(*overrides: str, agents_group: str = "three") -> Any:
    agents.config.register()
    risk.config.register()
    defaults = [{"agents": agents_group}, {"network": "small"}, {"ensemble": "fixed"}]
    node = {"defaults": ["agents_root_schema", *defaults, {"policy": "equal_weight"}, "_self_"]}
    store = ConfigStore.instance()
    store.store(name="agents_root_schema", node=AgentsRoot)
    store.store(name="agents_root", node=node)
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        composed = hydra.compose("agents_root", list(overrides))
    return hydra.utils.instantiate(composed, _convert_="object")


@pytest.fixture(scope="session")
def compose() -> Callable[..., AgentsRoot]:
    """Compose the groups of this folder with overrides, as objects."""
    return _compose


@pytest.fixture(scope="session")
def presets() -> dict[str, Mandate]:
    """Every mandate that `conf/agents` names."""
    mandates = _compose("agents=five").agents
    return {**mandates, **_compose("agents=free").agents}


@pytest.fixture(scope="session")
def draw_market() -> Callable[..., MarketTensors]:
    return _draw_market


def _draw_market(
    seed: int = 0, sessions: int = 40, assets: int = 12, calm: bool = False, gaps: bool = False
) -> MarketTensors:
    """Draw a market; a calm one has so little volatility that no volatility limit binds."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        drawn = torch.rand(shape, generator=generator, dtype=torch.float64)
        return low + (high - low) * drawn

    every = (sessions, assets)
    level = 0.05 if calm else 0.4
    close = uniform(-0.02, 0.02, *every).cumsum(0).exp()
    returns = torch.zeros(every, dtype=torch.float64)
    returns[1:] = close[1:] / close[:-1] - 1.0
    investable = torch.ones(every, dtype=torch.bool)
    if gaps:
        investable = uniform(0.0, 1.0, *every) < 0.7
    return MarketTensors(
        open=close,
        close=close,
        tradable=investable,
        investable=investable,
        payout=torch.full(every, torch.nan, dtype=torch.float64),
        reference_return=returns.mean(-1),
        reference_night=returns.mean(-1),
        volatility=uniform(0.05, level, *every),
        market_volatility=uniform(0.02, level, sessions),
        beta=uniform(0.5, 1.5, *every),
        idiosyncratic_volatility=uniform(0.02, level, *every),
        momentum=uniform(-0.3, 0.6, *every),
        adv=None,
        asset_features=torch.randn((*every, 5), generator=generator).clamp(-3, 3),
        market_features=torch.randn((sessions, 3), generator=generator).clamp(-3, 3),
        sector_of=torch.arange(assets) % 6,
        n_sectors=6,
    )


FEATURES = FeatureConfig(
    asset=["log_return_21", "momentum_12_1"],
    ranks=[],
    indicators=[],
    timeframes=[Timeframe.daily],
    market=["market_log_volatility", "trend_200"],
    clip=3.0,
)


def _draw_bars(seed: int = 0, sessions: int = 900, assets: int = 7) -> Bars:
    """Draw closes with a late listing, a delisting and two sessions without a price."""
    rng = np.random.default_rng(seed)
    scale = np.linspace(0.006, 0.02, assets)
    market = 0.008 * rng.standard_normal((sessions, 1))
    close = 50.0 * np.exp(
        np.cumsum(0.0003 + market + scale * rng.standard_normal((sessions, assets)), 0)
    )
    listed = np.ones_like(close, dtype=bool)
    listed[:300, 1] = False
    listed[700:, 2] = False
    close[~listed] = np.nan
    close[400:402, 3] = np.nan
    dates = np.busday_offset("2010-01-04", np.arange(sessions)).astype("datetime64[D]")
    symbols = ("AAA", "BRK.B", "CCC", "DDD", "EEE", "FFF", "GGG")[:assets]
    return Bars(dates, symbols, close, np.isfinite(close), listed, source="drawn")


@pytest.fixture(scope="session")
def featurise() -> Callable[..., Dataset]:
    """Prepare bars; keywords change the features."""

    def prepared(bars: Bars, train: slice = slice(0, 600), **features: Any) -> Dataset:
        config = replace(FEATURES, **features)
        return prepare(bars, train, slice(625, len(bars.dates)), config)

    return prepared


@pytest.fixture(scope="session")
def dataset(featurise: Callable[..., Dataset]) -> Dataset:
    return featurise(_draw_bars())


SPEC = NetworkSpec(2, 2, 2, 5, 2, 4, 0.2, False)


@pytest.fixture(scope="session")
def record(presets: dict[str, Mandate], dataset: Dataset) -> Manifest:
    mandates = tuple(presets[name] for name in ("conservative", "balanced", "aggressive"))
    stages = {"conservative": Stage.rule, "balanced": Stage.warm_start, "aggressive": Stage.rl}
    return Manifest(
        mandates=mandates,
        stages=stages,
        network=SPEC,
        features=dataset.features,
        ensemble=Hedge(1.0, 0.2),
        universe=dataset.bars.symbols,
        data_sha256=dataset.bars.sha256,
        code_version="0.1.0",
        assumed_adv={"AAA": 1e6},
        metrics={"sharpe": 0.75, "calmar": None},
        trials=3,
    )


@pytest.fixture
def networks() -> dict[str, PolicyNetwork]:
    """Return a new network for each policy that is played by one."""
    generator = torch.Generator().manual_seed(0)
    return {name: PolicyNetwork(SPEC, generator) for name in ("balanced", "aggressive")}


@pytest.fixture
def folder(tmp_path: Path, record: Manifest, networks: dict[str, PolicyNetwork]) -> Path:
    """Return the folder of a good artefact."""
    artefact.save(tmp_path / "runs" / "one", networks, record)
    return tmp_path / "runs" / "one"


@pytest.fixture(scope="session")
def rewrite() -> Callable[..., None]:
    """Replace files and make the hashes right again, as somebody with the tools could."""
    return _rewrite


def _rewrite(folder: Path, **contents: bytes) -> None:
    named = {MANIFEST: contents.get("manifest"), PARAMETERS: contents.get("parameters")}
    whole = {name: new or (folder / name).read_bytes() for name, new in named.items()}
    for name, content in whole.items():
        (folder / name).write_bytes(content)
    (folder / HASHES).write_bytes(hashes_of(whole))


@pytest.fixture(scope="session")
def edit() -> Callable[[Path, Callable[[dict[str, Any]], Any]], None]:
    """Change the manifest's record, with right hashes."""

    def change_record(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
        found = json.loads((folder / MANIFEST).read_text())
        change(found)
        _rewrite(folder, manifest=json.dumps(found).encode())

    return change_record
