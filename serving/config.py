"""Schema of the configuration group `serving`."""

from hydra.core.config_store import ConfigStore

from serving.settings import ServingSettings


def register() -> None:
    """Store the schema that the YAML files of this group start from."""
    ConfigStore.instance().store(group="serving", name="serving_schema", node=ServingSettings)
