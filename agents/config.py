"""Schemas of the configuration groups that belong to the agents."""

from hydra.core.config_store import ConfigStore

from agents import ensemble
from agents.mandates import Mandate, RewardWeights
from agents.network_spec import NetworkConfig
from agents.policies import ArtefactPolicy, BaselinePolicy, ChampionPolicy, FixedPolicy


def register() -> None:
    """Store the schemas that the YAML files of these groups start from."""
    store = ConfigStore.instance()
    store.store(group="agent", name="mandate_schema", node=Mandate)
    store.store(group="reward", name="reward_schema", node=RewardWeights)
    store.store(group="network", name="network_schema", node=NetworkConfig)
    store.store(group="ensemble", name="fixed_schema", node=ensemble.Fixed)
    store.store(group="ensemble", name="inverse_volatility_schema", node=ensemble.InverseVolatility)
    store.store(group="ensemble", name="hedge_schema", node=ensemble.Hedge)
    store.store(group="ensemble", name="regime_schema", node=ensemble.RegimeGated)
    store.store(group="policy", name="artefact_schema", node=ArtefactPolicy)
    store.store(group="policy", name="champion_schema", node=ChampionPolicy)
    store.store(group="policy", name="fixed_schema", node=FixedPolicy)
    store.store(group="policy", name="baseline_schema", node=BaselinePolicy)
