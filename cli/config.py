"""The root schemas of the verbs, and the one place where YAML becomes typed objects."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig

import training.config
from envs.make import CONF, register_schemas, typed
from training.configuration import Configuration

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
class TrainingConfig:
    """What every verb is configured with that builds agents in order to train them."""

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

    def __post_init__(self) -> None:
        _require_seed(self.seed)

    def configuration(self) -> Configuration:
        """Return the record that `training` takes."""
        return Configuration(
            **{item.name: getattr(self, item.name) for item in fields(Configuration)}
        )


@dataclass(slots=True)
class TrainConfig(TrainingConfig):
    """The root of `conf/train.yaml`."""

    cluster: Any = MISSING  # ClusterSettings
    out: str | None = MISSING  # run folder; null is runs/<id>
    resume: str | None = MISSING  # folder of an interrupted run to go on with


@dataclass(slots=True)
class BenchConfig(TrainingConfig):
    """The root of `conf/bench.yaml`."""

    subverb: str = MISSING  # the benchmark, as it was typed
    repeats: int = MISSING  # timed runs of each piece of work, >= 1
    threads: int = MISSING  # of torch in each process, >= 1
    processes: int = MISSING  # that play the kernel at once on a CPU, >= 1
    device: str = MISSING  # cpu, cuda, or auto: cuda where there is one

    def __post_init__(self) -> None:
        TrainingConfig.__post_init__(self)  # super() fails in a dataclass with slots
        for name in ("repeats", "threads", "processes"):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"{name} must be at least 1, was {value}")
        if self.device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"device must be auto, cpu or cuda, was {self.device}")


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
    store.store(name="bench_schema", node=BenchConfig)


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
