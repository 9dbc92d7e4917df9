"""Settings of the served application: what YAML holds and `serve deploy` carries as JSON."""

from dataclasses import dataclass

from risk.access.settings import GuardSettings


@dataclass(slots=True)
class DeskSettings:
    """When an answer may be given, and how long it may be executed."""

    max_age: int  # sessions that may be missing at the end of the data, >= 0
    execution_minutes: int  # after the next session's opening; its close ends them too, > 0
    stale_model_s: float  # without word of which model is wanted, until answers end, > 0
    retry_data_s: int  # told to a caller whose data are stale or bad, >= 1

    def __post_init__(self) -> None:
        if self.max_age < 0:
            raise ValueError(f"serving.desk.max_age must be at least 0, was {self.max_age}")
        for name in ("execution_minutes", "stale_model_s", "retry_data_s"):
            value = getattr(self, name)
            if not 0 < value < float("inf"):
                raise ValueError(f"serving.desk.{name} must be a positive number, was {value}")


@dataclass(slots=True)
class PlacementSettings:
    """How many processes serve; each is one actor of the Ray cluster."""

    ingress: int  # HTTP replicas, >= 1
    champion: int  # replicas of the model that answers, >= 1
    challenger: int  # replicas of the model that is tried, >= 0; 0 is no place for one
    cpus: float  # that each of them reserves on its node, >= 0
    poll_s: float  # between two looks at the registry and at the data, > 0

    def __post_init__(self) -> None:
        for name, least in (("ingress", 1), ("champion", 1), ("challenger", 0), ("cpus", 0)):
            value = getattr(self, name)
            if not value >= least:
                raise ValueError(f"serving.placement.{name} must be at least {least}, was {value}")
        if not 0.0 < self.poll_s < float("inf"):
            raise ValueError(f"serving.placement.poll_s must be > 0, was {self.poll_s}")


@dataclass(slots=True)
class WebSettings(GuardSettings):
    """What one HTTP ingress takes on; a question with every name of the universe has ~1 MB."""

    request_timeout_s: float  # for an answer to be found
    max_shadows: int  # challenger's answers in work at once; more are not recorded


@dataclass(slots=True)
class ServingSettings:
    """The root of `conf/serving`."""

    desk: DeskSettings
    placement: PlacementSettings
    web: WebSettings
    decisions: str  # SQLite file of all answers
    tokens: str | None  # file with a role and a token a line; null makes one with a random token
    public_key: str | None  # PEM file of who must have signed an artefact; null does not ask
