"""Schemas of the configuration group `broker`."""

from hydra.core.config_store import ConfigStore

from brokers.settings import AlpacaSettings


def register() -> None:
    """Store the schema that the YAML files of this group start from."""
    ConfigStore.instance().store(group="broker", name="broker_schema", node=AlpacaSettings)
