"""The schemas of this folder's configuration groups."""

from hydra.core.config_store import ConfigStore

from training.cluster_file import AwsProvider, GcpProvider, OnPremiseProvider
from training.search import AshaSearch, OptunaSearch, PbtSearch, Search
from training.settings import (
    ClusterSettings,
    NoAlgorithm,
    NoPretrain,
    NoTracking,
    RankerSettings,
    RLSettings,
    SelectionSettings,
    WandbSettings,
)


def register() -> None:
    """Store the schemas that the YAML files of these groups start from."""
    store = ConfigStore.instance()
    store.store(group="pretrain", name="ranker_schema", node=RankerSettings)
    store.store(group="pretrain", name="no_pretrain_schema", node=NoPretrain)
    store.store(group="algorithm", name="rl_schema", node=RLSettings)
    store.store(group="algorithm", name="no_algorithm_schema", node=NoAlgorithm)
    store.store(group="provider", name="aws_schema", node=AwsProvider)
    store.store(group="provider", name="gcp_schema", node=GcpProvider)
    store.store(group="provider", name="on_premise_schema", node=OnPremiseProvider)
    store.store(group="cluster", name="cluster_schema", node=ClusterSettings)
    store.store(group="selection", name="selection_schema", node=SelectionSettings)
    store.store(group="tune", name="search_schema", node=Search)
    store.store(group="tune", name="asha_schema", node=AshaSearch)
    store.store(group="tune", name="optuna_schema", node=OptunaSearch)
    store.store(group="tune", name="pbt_schema", node=PbtSearch)
    store.store(group="tracking", name="wandb_schema", node=WandbSettings)
    store.store(group="tracking", name="no_tracking_schema", node=NoTracking)
