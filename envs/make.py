"""From `conf/` to an environment; the only module of this folder that meets Hydra."""

import logging

import hydra
from hydra.core.global_hydra import GlobalHydra

import agents.config
import envs.config
import market.config
import risk.config
from agents.mandates import society
from agents.market_tensors import MarketTensors
from agents.observation import ObservationSpec
from envs.batch import BatchEnv
from envs.config import MakeEnvConfig, Window
from envs.costs import require_traded_value
from envs.market_env import MarketEnv
from market.build import build
from market.compose import CONF, typed

logger = logging.getLogger(__name__)


def make_env(*overrides: str) -> MarketEnv:
    """Build the PettingZoo environment that `conf/make_env.yaml` and the overrides describe.

    Args:
        overrides: as on the command line, such as "market=synthetic", "agents=five",
            "env.costs.spread_bp=2", "window=test".

    Raises:
        InputError: if a value is out of range or the market's data cannot be used.
        hydra.errors.HydraException: if an override names nothing.
    """
    config = _compose(list(overrides))
    dataset = build(config.market, config.quality, config.features)
    require_traded_value(config.env.costs, dataset)
    tensors = MarketTensors.build(dataset)
    rows = dataset.train
    if config.window is Window.test:
        rows = dataset.test
        first, last = dataset.bars.dates[rows.start], dataset.bars.dates[rows.stop - 1]
        logger.warning("this environment reads the sealed test window, %s to %s", first, last)
    batch = BatchEnv(tensors, society(config.agents), config.env, rows, config.market.cash_rate)
    spec = ObservationSpec(
        n_assets=tensors.n_assets,
        asset_features=tensors.asset_features.shape[-1],
        market_features=tensors.market_features.shape[-1],
        clip=dataset.features.clip,
    )
    return MarketEnv(batch, spec)


def register_schemas() -> None:
    """Store the schemas of everything that an environment is built from."""
    for package in (market, risk, agents, envs):
        package.config.register()


def _compose(overrides: list[str]) -> MakeEnvConfig:
    """Compose and instantiate, also from inside a Hydra application."""
    register_schemas()
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            composed = hydra.compose("make_env", overrides)
        return typed(composed, MakeEnvConfig)
    finally:
        if outer is not None:
            GlobalHydra.instance().clear()
            GlobalHydra.instance().initialize(outer)
