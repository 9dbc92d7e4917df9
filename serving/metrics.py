"""What Prometheus reads from one HTTP ingress, in a collector of its own.

Labels are few whatever is asked: routes and codes are from tables, models are those promoted.
"""

from collections.abc import Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_LATENCY_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_DISTANCE = (0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


class Metrics:
    """The counters of one process."""

    def __init__(self) -> None:
        self._collector = CollectorRegistry()
        self._requests = Counter(
            "tercet_requests", "Answers", ["route", "code"], registry=self._collector
        )
        self._latency = Histogram(
            "tercet_request_seconds",
            "From the request's head to the end of its answer, in seconds",
            ["route"],
            buckets=_LATENCY_S,
            registry=self._collector,
        )
        self._decisions = Counter(
            "tercet_decisions", "New decisions", ["model_sha256"], registry=self._collector
        )
        self._unavailable = Counter(
            "tercet_unavailable", "Answers with 503", ["reason"], registry=self._collector
        )
        self._shadow_distance = Histogram(
            "tercet_shadow_distance",
            "Half the L1 distance of a challenger's weights from those served, fraction of NAV",
            buckets=_DISTANCE,
            registry=self._collector,
        )
        self._shadows_lost = Counter(
            "tercet_shadows_lost", "Shadow answers not recorded", registry=self._collector
        )
        self._data_age = Gauge(
            "tercet_data_age_sessions",
            "Sessions completed since that of the last answer for the last session",
            registry=self._collector,
        )
        self._models = Gauge(
            "tercet_model",
            "1 for a model that answers, 0 for one that is wanted and cannot",
            ["role", "sha256"],
            registry=self._collector,
        )

    def answered(self, route: str, code: str, seconds: float) -> None:
        """Count an answer of a route of `serving.routes`."""
        self._requests.labels(route, code).inc()
        self._latency.labels(route).observe(seconds)

    def decided(self, model_sha256: str) -> None:
        """Count a new decision."""
        self._decisions.labels(model_sha256).inc()

    def unavailable(self, reason: str) -> None:
        """Count an answer with 503."""
        self._unavailable.labels(reason).inc()

    def shadowed(self, distance: float) -> None:
        """Note how far a challenger's weights lie from those served, as a fraction of NAV."""
        self._shadow_distance.observe(distance)

    def shadow_lost(self) -> None:
        """Count a shadow answer that was not recorded."""
        self._shadows_lost.inc()

    def aged(self, sessions: int) -> None:
        """Note the age of the data that the last answer for the last session rests on."""
        self._data_age.set(sessions)

    def text(self, models: Sequence[dict[str, Any]]) -> bytes:
        """Return all of it in Prometheus' text format.

        Args:
            models: as `serving.questions.Backend.models` gives them.
        """
        self._models.clear()
        for model in models:
            sha256 = model["sha256"] or model["wanted"]
            self._models.labels(model["role"], sha256).set(model["problem"] is None)
        return generate_latest(self._collector)
