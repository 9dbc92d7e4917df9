"""Why a request gets no answer: every reason of our services with its HTTP status."""

from enum import Enum

RETRY_AFTER_S = 2  # a replica that died is back in seconds, a new model is loaded as fast


class Reason(Enum):
    """Machine-readable reasons; the value is the HTTP status."""

    bad_request = (400, "bad_request")
    unauthenticated = (401, "unauthenticated")
    forbidden = (403, "forbidden")
    not_found = (404, "not_found")
    method_not_allowed = (405, "method_not_allowed")
    request_timeout = (408, "request_timeout")
    conflict = (409, "conflict")
    too_large = (413, "too_large")
    unsupported_media_type = (415, "unsupported_media_type")
    invalid = (422, "invalid")
    unknown_symbol = (422, "unknown_symbol")
    not_a_session = (422, "not_a_session")
    outside_the_data = (422, "outside_the_data")
    too_many_requests = (429, "too_many_requests")
    internal = (500, "internal")
    stale_data = (503, "stale_data")
    missing_data = (503, "missing_data")
    bad_data = (503, "bad_data")
    no_model = (503, "no_model")
    stale_model = (503, "stale_model")
    replica_failed = (503, "replica_failed")
    too_slow = (503, "too_slow")
    not_ready = (503, "not_ready")
    busy = (503, "busy")
    store_failed = (503, "store_failed")

    @property
    def status(self) -> int:
        """Return the HTTP status."""
        return self.value[0]


class NotAnswered(Exception):
    """A request that is not answered as it was asked.

    Args:
        reason: which rule refused.
        detail: one line for a person; names what was seen.
        retry_after: seconds after which asking again makes sense; every 503 has one.
    """

    def __init__(self, reason: Reason, detail: str, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        if retry_after is None and reason.status == 503:
            retry_after = RETRY_AFTER_S
        self.retry_after = retry_after

    def again(self) -> "NotAnswered":
        """Return the same refusal to raise anew: one that is raised twice keeps every traceback."""
        return NotAnswered(self.reason, self.detail, self.retry_after)

    def __reduce__(self) -> tuple[type, tuple[Reason, str, int | None]]:
        """Travel between processes with all fields; an exception's own way would lose two."""
        return (NotAnswered, (self.reason, self.detail, self.retry_after))
