"""The root schemas of the verbs that handle an account: they need neither torch nor Ray."""

from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

import brokers.config
import market.config
import risk.config
from risk.gateway.alarms import AlertSettings
from risk.gateway.settings import ServiceSettings


@dataclass(slots=True)
class GatewayConfig:
    """The root of `conf/gateway.yaml`; each subverb takes some of the keys."""

    subverb: str = MISSING  # what to do, as it was typed; "" runs the service
    market: Any = MISSING  # MarketConfig: the second opinion on prices, and the calendar
    quality: Any = MISSING  # QualityRules
    broker: Any = MISSING  # AlpacaSettings
    gateway: Any = MISSING  # GatewayLimits
    strategy: Any = MISSING  # StrategyRules
    execution: Any = MISSING  # ExecutionSettings
    control: Any = MISSING  # ControlSettings
    service: ServiceSettings = MISSING
    account: str | None = MISSING  # id of the account, typed to arm it
    reason: str | None = MISSING  # why, kept with the change
    file: str | None = MISSING  # JSON file of new limits; null shows those in force
    alerts: AlertSettings = MISSING
    proposal: str | None = MISSING  # id of proposed limits, to sign
    person: str | None = MISSING  # who signs, as service.persons names them
    key: str | None = MISSING  # PEM file of that person's private key
    model: str | None = MISSING  # sha256 of an artefact, for the ramp
    stage: int | None = MISSING  # of the ramp, from 0
    session: str | None = MISSING  # ISO date of the orders to look at; null is the last with any


@dataclass(slots=True)
class KillConfig:
    """The root of `conf/kill.yaml`."""

    broker: Any = MISSING  # AlpacaSettings
    control: Any = MISSING  # ControlSettings
    reason: str = MISSING  # why; kept in the ledger and in the HALT file


def register() -> None:
    """Store every schema that these verbs are composed of."""
    for package in (market, risk, brokers):
        package.config.register()
    store = ConfigStore.instance()
    store.store(name="gateway_schema", node=GatewayConfig)
    store.store(name="kill_schema", node=KillConfig)
