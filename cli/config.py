"""The root schemas of the verbs, and the one place where YAML becomes typed objects."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig

import training.config
from envs.make import CONF, register_schemas, typed

Config = TypeVar("Config")


class Failed(BaseException):
    """Carries an error out of a verb; Hydra prints what it can catch, and catches Exceptions."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(slots=True)
class DoctorConfig:
    """The root of `conf/doctor.yaml`."""

    market: Any = MISSING  # MarketConfig
    quality: Any = MISSING  # QualityRules
    out: str = MISSING  # folder that runs are written to


@dataclass(slots=True)
class TrainConfig:
    """The root of `conf/train.yaml`."""

    market: Any = MISSING  # MarketConfig
    quality: Any = MISSING  # QualityRules
    features: Any = MISSING  # FeatureConfig
    env: Any = MISSING  # EnvSettings
    agents: Any = MISSING  # dict[str, Mandate]
    network: Any = MISSING  # NetworkSettings
    pretrain: Any = MISSING  # RankerSettings | NoPretrain
    algorithm: Any = MISSING  # RLSettings | NoAlgorithm
    selection: Any = MISSING  # SelectionSettings
    ensemble: Any = MISSING  # a mixer
    tracking: Any = MISSING  # WandbSettings | NoTracking
    seed: int = MISSING
    out: str | None = MISSING  # run folder; null is runs/<id>
    resume: str | None = MISSING  # folder of an interrupted run to go on with

    def __post_init__(self) -> None:
        _require_seed(self.seed)


@dataclass(slots=True)
class BacktestConfig:
    """The root of `conf/backtest.yaml`."""

    market: Any = MISSING  # MarketConfig
    quality: Any = MISSING  # QualityRules
    features: Any = MISSING  # FeatureConfig
    env: Any = MISSING  # EnvSettings
    agents: Any = MISSING  # dict[str, Mandate]; their targets name the volatility baselines
    policy: Any = MISSING  # ArtefactPolicy | BaselinePolicy | FixedPolicy
    seed: int = MISSING
    out: str | None = MISSING  # folder; null is runs/<id>

    def __post_init__(self) -> None:
        _require_seed(self.seed)


def _require_seed(seed: int) -> None:
    if seed < 0:
        raise ValueError(f"seed must be at least 0, was {seed}")


def register() -> None:
    """Store every schema that a file in `conf/` starts from."""
    register_schemas()
    training.config.register()
    store = ConfigStore.instance()
    store.store(name="doctor_schema", node=DoctorConfig)
    store.store(name="train_schema", node=TrainConfig)
    store.store(name="backtest_schema", node=BacktestConfig)


def verb(kind: type[Config]) -> Callable[[Callable[[Config], None]], Callable[[], None]]:
    """Turn a function of a typed configuration into a Hydra application.

    Args:
        kind: the verb's root schema; `conf/<module name>.yaml` is its root file.
    """

    def decorate(run: Callable[[Config], None]) -> Callable[[], None]:
        def task(composed: DictConfig) -> None:
            try:
                run(typed(composed, kind))
            except Exception as error:
                raise Failed(error) from error

        task.__module__ = run.__module__
        name = run.__module__.rpartition(".")[2]
        application: Callable[[], None] = hydra.main(
            config_path=str(CONF), config_name=name, version_base="1.3"
        )(task)
        return application

    return decorate
