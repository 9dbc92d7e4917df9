"""What a training run is configured with, as one record."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from agents.ensemble import Mixer
from agents.mandates import Mandate
from agents.network_spec import NetworkConfig
from envs.batch import EnvSettings
from market.cache import without_password
from market.features import FeatureConfig
from market.load import MarketConfig
from market.quality import QualityRules
from training.settings import (
    NoAlgorithm,
    NoPretrain,
    NoTracking,
    RankerSettings,
    RLSettings,
    SelectionSettings,
    WandbSettings,
)


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything that a run is configured with; see the configuration groups of these names."""

    market: MarketConfig
    quality: QualityRules
    features: FeatureConfig
    agents: Mapping[str, Mandate]
    env: EnvSettings
    network: NetworkConfig
    pretrain: RankerSettings | NoPretrain
    algorithm: RLSettings | NoAlgorithm
    selection: SelectionSettings
    ensemble: Mixer
    tracking: NoTracking | WandbSettings
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Return all values as JSON types, with the name of each choice and without a password."""
        record: dict[str, Any] = json.loads(json.dumps(asdict(self), default=_enum_name))
        for group in ("market", "pretrain", "algorithm", "ensemble", "tracking"):
            record[group]["kind"] = type(getattr(self, group)).__name__
        if self.market.cache is not None:
            record["market"]["cache"] = without_password(self.market.cache)
        return record

    def record(self, data_sha256: str) -> dict[str, Any]:
        """Return all that two runs must have in common for one to go on with the other.

        Args:
            data_sha256: of the bars, which a file or a vendor may have changed meanwhile.
        """
        return self.to_json() | {"data_sha256": data_sha256}

    @property
    def identity(self) -> str:
        """Return a hash of all that decides what is trained; where it is tracked does not."""
        record = self.to_json()
        del record["tracking"]
        return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _enum_name(value: object) -> str:
    if isinstance(value, Enum):
        return value.name
    raise TypeError(f"{value!r} is no JSON type")
