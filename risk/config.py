"""Schemas of the configuration groups of this folder."""

from hydra.core.config_store import ConfigStore

from risk.breakers import BreakerRules
from risk.exits import ExitRules
from risk.gateway.execution import ExecutionSettings
from risk.gateway.limits import GatewayLimits
from risk.gateway.settings import ControlSettings
from risk.gateway.strategy import StrategyRules
from risk.limits import Limits


def register() -> None:
    """Store the schemas that the YAML files of these groups start from."""
    store = ConfigStore.instance()
    store.store(group="limits", name="limits_schema", node=Limits)
    store.store(group="exits", name="exits_schema", node=ExitRules)
    store.store(group="breakers", name="breakers_schema", node=BreakerRules)
    store.store(group="gateway", name="gateway_limits_schema", node=GatewayLimits)
    store.store(group="execution", name="execution_schema", node=ExecutionSettings)
    store.store(group="strategy", name="strategy_schema", node=StrategyRules)
    store.store(group="control", name="control_schema", node=ControlSettings)
