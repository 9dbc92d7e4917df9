"""How the gateway's process is set up; limits and execution have records of their own."""

from dataclasses import dataclass
from enum import Enum
from math import isfinite

from risk.access.settings import GuardSettings

LONGEST_MS = 600_000


class PermitKind(Enum):
    """Where the permit is kept."""

    ledger = "ledger"  # for processes of one machine
    redis = "redis"


class ClockKind(Enum):
    """Which clock sessions, ages of prices and lifetimes follow."""

    own = "own"
    broker = "broker"  # paper accounts only


@dataclass(slots=True)
class ControlSettings:
    """Where an account is kept and stopped: what every process of it must have alike."""

    ledger: str  # sqlite:///<path> or postgresql://...
    anchor: str  # file on another disk than the ledger, or an HTTP or fsspec address
    halt_file: str  # its presence stops everything
    permit: PermitKind
    redis: str | None  # redis://..., for permit=redis

    def __post_init__(self) -> None:
        if (self.permit is PermitKind.redis) != (self.redis is not None):
            raise ValueError("control.redis must be given with permit=redis, and only then")


@dataclass(slots=True)
class ServiceSettings:
    """What the service does, for whom, and what it may trade."""

    host: str  # address to listen on
    port: int  # 0 is any free one
    tokens: str | None  # file with a role and a token a line; null makes one with a random token
    clock: ClockKind
    auto_arm: bool  # arm at the start; paper accounts only, and never after a trip
    supervise: bool  # start the supervisor as a process of its own, too
    interval_s: float  # between two looks at broker and ledger, in (0, 30]
    models: list[str]  # sha256 of the artefacts that may be followed
    allowed: list[str] | None  # names that may be traded; null is all of the market's
    restricted: list[str]  # names that may not
    persons: dict[str, str]  # who may sign for looser limits: PEM file of an Ed25519 public key
    permit_s: float  # that a permit lives, > 0
    renew_s: float  # between two renewals, at most half of permit_s
    web: GuardSettings

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"service.port must be in [0, 65535], was {self.port}")
        if not (isfinite(self.interval_s) and 0.0 < self.interval_s <= 30.0):
            raise ValueError(f"service.interval_s must be in (0, 30], was {self.interval_s}")
        if not 0.0 < self.permit_s * 1000.0 <= LONGEST_MS:
            longest = LONGEST_MS / 1000
            raise ValueError(f"service.permit_s must be in (0, {longest:g}], was {self.permit_s}")
        if not 0.0 < self.renew_s <= self.permit_s / 2.0:
            raise ValueError(f"service.renew_s must be at most half of permit_s: {self.renew_s}")
