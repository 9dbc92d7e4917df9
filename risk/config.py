"""Schemas of the configuration groups `limits`, `exits` and `breakers`."""

from hydra.core.config_store import ConfigStore

from risk.breakers import BreakerRules
from risk.exits import ExitRules
from risk.limits import Limits


def register() -> None:
    """Store the schemas that the YAML files of these groups start from."""
    store = ConfigStore.instance()
    store.store(group="limits", name="limits_schema", node=Limits)
    store.store(group="exits", name="exits_schema", node=ExitRules)
    store.store(group="breakers", name="breakers_schema", node=BreakerRules)
