"""Schemas of the configuration groups `market`, `quality` and `features`."""

from hydra.core.config_store import ConfigStore

from market.features import FeatureConfig
from market.quality import QualityRules
from market.sources.embedded import EmbeddedMarket
from market.sources.files import FilesMarket
from market.sources.synthetic import SyntheticMarket


def register() -> None:
    """Store the schemas that the YAML files of these groups start from."""
    store = ConfigStore.instance()
    store.store(group="market", name="embedded_schema", node=EmbeddedMarket)
    store.store(group="market", name="files_schema", node=FilesMarket)
    store.store(group="market", name="synthetic_schema", node=SyntheticMarket)
    store.store(group="quality", name="quality_schema", node=QualityRules)
    store.store(group="features", name="features_schema", node=FeatureConfig)
