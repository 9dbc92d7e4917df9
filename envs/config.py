"""Schemas of the configuration groups `env` and `env/costs`, and of `conf/make_env.yaml`."""

from dataclasses import dataclass
from enum import Enum
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from envs.batch import EnvSettings
from envs.costs import CostModel


class Window(Enum):
    """Which sessions an environment may visit."""

    train = "train"
    test = "test"


@dataclass(slots=True)
class FittedCosts:
    """A choice of `env/costs` that is read from a file."""

    _target_: str
    path: str  # that `tercet costs` has written


@dataclass(slots=True)
class MakeEnvConfig:
    """The root of `conf/make_env.yaml`."""

    market: Any = MISSING  # MarketConfig
    quality: Any = MISSING  # QualityRules
    features: Any = MISSING  # FeatureConfig
    env: Any = MISSING  # EnvSettings
    agents: Any = MISSING  # dict[str, Mandate]
    window: Window = MISSING


def register() -> None:
    """Store the schemas that the YAML files of these groups start from."""
    store = ConfigStore.instance()
    store.store(name="make_env_schema", node=MakeEnvConfig)
    store.store(group="env", name="env_schema", node=EnvSettings)
    store.store(group="env/costs", name="costs_schema", node=CostModel)
    store.store(group="env/costs", name="fitted_costs_schema", node=FittedCosts)
