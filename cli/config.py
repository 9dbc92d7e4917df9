"""The root schemas of the verbs."""

from dataclasses import dataclass, fields
from datetime import date
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

import serving.config
import training.config
from agents.policies import ArtefactPolicy, ChampionPolicy
from brokers.exchange.settings import ExchangeSettings
from cli import account_config
from envs.fitted_costs import Doubt
from envs.make import register_schemas
from market.errors import InputError
from serving.gateway_client import Mode
from training.cluster_file import ClusterFile
from training.configuration import Configuration

if TYPE_CHECKING:
    from serving.blueprint import Blueprint


@dataclass(slots=True)
class DoctorConfig:
    """The root of `conf/doctor.yaml`."""

    market: Any = MISSING  # MarketConfig
    quality: Any = MISSING  # QualityRules
    broker: Any = MISSING  # AlpacaSettings
    out: str = MISSING  # folder that runs are written to
    registry: str = MISSING  # folder of the artefacts that may serve


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
    resume: str | None = MISSING  # interrupted run to go on with: its folder, or auto


@dataclass(slots=True)
class TuneConfig(TrainConfig):
    """The root of `conf/tune.yaml`."""

    tune: Any = MISSING  # Search


@dataclass(slots=True)
class BenchConfig(TrainingConfig):
    """The root of `conf/bench.yaml`."""

    serving: Any = MISSING  # ServingSettings
    gateway: Any = MISSING  # GatewayLimits
    execution: Any = MISSING  # ExecutionSettings
    policy: Any = None  # ArtefactPolicy | ChampionPolicy; None is one that learned nothing
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
    policy: Any = MISSING  # one of agents.policies
    seed: int = MISSING
    out: str | None = MISSING  # folder; null is runs/<id>

    def __post_init__(self) -> None:
        _require_seed(self.seed)


@dataclass(slots=True)
class AnsweringConfig:
    """What every verb is configured with that answers for an account."""

    market: Any = MISSING  # MarketConfig
    quality: Any = MISSING  # QualityRules
    env: Any = MISSING  # EnvSettings: costs and capital of the model books
    policy: Any = MISSING  # ChampionPolicy | ArtefactPolicy
    serving: Any = MISSING  # ServingSettings

    def blueprint(self) -> "Blueprint":
        """Return the record that `serving` takes.

        Raises:
            InputError: if the policy was not trained.
        """
        from serving.blueprint import Blueprint  # web libraries, for the verbs that answer only

        if not isinstance(self.policy, ArtefactPolicy | ChampionPolicy):
            raise InputError("only trained policies are served: policy=champion or policy=artefact")
        return Blueprint(self.market, self.quality, self.env, self.policy, self.serving)


@dataclass(slots=True)
class ServeConfig(AnsweringConfig):
    """The root of `conf/serve.yaml`."""

    host: str = MISSING  # address to listen on
    port: int = MISSING
    print_config: bool = MISSING  # print what `serve deploy` reads, and start nothing

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535:
            raise ValueError(f"port must be in [1, 65535], was {self.port}")


@dataclass(slots=True)
class AllocateConfig(AnsweringConfig):
    """The root of `conf/allocate.yaml`."""

    as_of: str | None = MISSING  # session, ISO date; null is the last completed one
    account: Any = MISSING  # {id, cash, positions} or a JSON file with them; null is advice
    universe: list[str] | None = MISSING  # names to choose from; null is all
    explain: bool = MISSING  # print what was wanted and what changed it, too


@dataclass(slots=True)
class GatewayAccess:
    """Where an account's gateway is, and how to be let in."""

    url: str = MISSING
    tokens: str = MISSING  # file with a token of the role allocate, or a PEM key to sign with
    timeout_s: float = MISSING  # for each of its answers, > 0

    def __post_init__(self) -> None:
        if not self.timeout_s > 0.0:
            raise ValueError(f"gateway.timeout_s must be above 0, was {self.timeout_s}")


@dataclass(slots=True)
class ServerAccess:
    """Where allocations are asked for, and how to be let in."""

    url: str | None = MISSING  # of `tercet serve`; null allocates in this process
    tokens: str = MISSING  # file with a token of the role allocate, or a PEM key to sign with
    timeout_s: float = MISSING  # for each of its answers, > 0

    def __post_init__(self) -> None:
        if not self.timeout_s > 0.0:
            raise ValueError(f"server.timeout_s must be above 0, was {self.timeout_s}")


@dataclass(slots=True)
class RebalanceConfig(AnsweringConfig):
    """The root of `conf/rebalance.yaml`."""

    mode: Mode = MISSING
    account: str | None = MISSING  # id that the gateway's account must have; live needs it
    confirm: str | None = MISSING  # the same id again, for live; null asks for it
    server: ServerAccess = MISSING
    gateway: GatewayAccess = MISSING
    poll_s: float = MISSING  # between two questions about the orders, > 0
    wait_s: float = MISSING  # for their end; the gateway goes on without us
    out: str | None = MISSING  # folder; null is runs/<id>

    def __post_init__(self) -> None:
        for name in ("poll_s", "wait_s"):
            value = getattr(self, name)
            if not value > 0.0:
                raise ValueError(f"{name} must be above 0, was {value}")


@dataclass(slots=True)
class ExportConfig:
    """The root of `conf/export.yaml`."""

    market: Any = MISSING  # MarketConfig: on whose test window an export is checked
    quality: Any = MISSING  # QualityRules
    env: Any = MISSING  # EnvSettings: costs and capital of the books that are replayed there
    policy: Any = MISSING  # ChampionPolicy | ArtefactPolicy
    path: str | None = MISSING  # folder of an artefact; null is what the policy names
    out: str | None = MISSING  # folder; null is runs/<id>


@dataclass(slots=True)
class PromoteConfig:
    """The root of `conf/promote.yaml`; each subverb takes some of the keys."""

    subverb: str = MISSING  # what to change, as it was typed; "" makes a champion
    registry: str = MISSING  # folder
    path: str | None = MISSING  # folder of the artefact
    reason: str | None = MISSING  # why; kept with the change
    share: float | None = MISSING  # of the accounts that a challenger answers; null is shadow
    public_key: str | None = MISSING  # PEM file of who must have signed the artefact
    private_key: str | None = MISSING  # PEM file to sign the registry's copy with


@dataclass(slots=True)
class CostsConfig:
    """The root of `conf/costs.yaml`."""

    env: Any = MISSING  # EnvSettings: its costs are the model to start from
    control: Any = MISSING  # ControlSettings: of the account whose fills are read
    doubt: Doubt = MISSING
    least_trades: int = MISSING  # for a fit, >= 3
    since: str | None = MISSING  # session, ISO date, of the first trade; null is all
    out: str = MISSING  # JSON file

    def __post_init__(self) -> None:
        if self.least_trades < 3:
            raise ValueError(f"least_trades must be at least 3, was {self.least_trades}")
        if self.since is not None:
            try:
                date.fromisoformat(self.since)
            except ValueError:
                raise ValueError(f"since must be a date, YYYY-MM-DD, was {self.since}") from None


@dataclass(slots=True)
class PaperExchangeConfig:
    """The root of `conf/paper_exchange.yaml`."""

    market: Any = MISSING  # MarketConfig: prices and calendar
    quality: Any = MISSING  # QualityRules
    exchange: ExchangeSettings = MISSING
    database: str = MISSING  # SQLite file; made where there is none
    host: str = MISSING  # address to listen on
    port: int = MISSING  # 0 is any free one

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port must be in [0, 65535], was {self.port}")


@dataclass(slots=True)
class ClusterFileConfig(ClusterFile):
    """The root of `conf/cluster_file.yaml`."""


def _require_seed(seed: int) -> None:
    if seed < 0:
        raise ValueError(f"seed must be at least 0, was {seed}")


def register() -> None:
    """Store every schema that a file in `conf/` starts from."""
    register_schemas()
    training.config.register()
    serving.config.register()
    account_config.register()
    store = ConfigStore.instance()
    store.store(name="doctor_schema", node=DoctorConfig)
    store.store(name="train_schema", node=TrainConfig)
    store.store(name="tune_schema", node=TuneConfig)
    store.store(name="backtest_schema", node=BacktestConfig)
    store.store(name="bench_schema", node=BenchConfig)
    store.store(name="promote_schema", node=PromoteConfig)
    store.store(name="export_schema", node=ExportConfig)
    store.store(name="serve_schema", node=ServeConfig)
    store.store(name="allocate_schema", node=AllocateConfig)
    store.store(name="rebalance_schema", node=RebalanceConfig)
    store.store(name="costs_schema", node=CostsConfig)
    store.store(name="paper_exchange_schema", node=PaperExchangeConfig)
    store.store(name="cluster_file_schema", node=ClusterFileConfig)
