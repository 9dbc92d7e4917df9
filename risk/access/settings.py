"""What one HTTP service takes on."""

from dataclasses import dataclass, fields


@dataclass(slots=True)
class GuardSettings:
    """The limits of the guard in front of a service; nothing here can be switched off."""

    max_body_bytes: int  # of a request
    max_depth: int  # of nested JSON brackets
    max_in_flight: int  # requests in work at once; more are told to come back
    requests_per_minute: int  # of one token
    failures_per_minute: int  # without a valid token, of all callers together
    body_timeout_s: float  # for a body to arrive

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if not 0 < value < float("inf"):
                raise ValueError(f"web.{item.name} must be a positive number, was {value}")
