"""The shape of a policy network, readable without torch (configuration, manifest)."""

from dataclasses import dataclass


@dataclass(slots=True)
class NetworkConfig:
    """The part of a network's shape that a user chooses."""

    members: int  # networks averaged within one policy, >= 1
    hidden: int  # width of each member, >= 1
    dropout: float  # share of the encoder's units dropped in supervised training, in [0, 1)
    attention: bool  # assets look at each other by attention instead of through their mean

    def __post_init__(self) -> None:
        for name in ("members", "hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"network.{name} must be at least 1, was {getattr(self, name)}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"network.dropout must be in [0, 1), was {self.dropout}")


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """Everything that fixes the parameters' shapes; the number of assets is not part of it."""

    asset_features: int
    market_features: int
    book_asset: int
    book: int
    members: int
    hidden: int
    dropout: float
    attention: bool

    def __post_init__(self) -> None:
        for name in ("asset_features", "market_features", "members", "hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"network.{name} must be at least 1, was {getattr(self, name)}")
