"""The service against its own OpenAPI description: generated requests, right ones and wrong ones.

Schemathesis' own checks judge each answer: no server error, a status, headers and a body as they
were described, right questions answered, wrong ones refused, and nothing without a valid token (it
repeats what was answered without one and with a wrong one).
"""

from collections import Counter
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.generation import GenerationMode

ADMIN = {"Authorization": f"Bearer admin-{'x' * 16}"}
SHARES = {  # of the cases, of each kind; what takes no input has one case
    "POST /v1/allocations": 0.35,
    "GET /v1/allocations/{decision_id}": 0.1,
    "GET /v1/models": 0.02,
    "POST /v1/refresh": 0.02,
    "GET /metrics": 0.02,
    "GET /healthz": 0.0,
    "GET /readyz": 0.0,
}


@pytest.mark.timeout(1800)
def test_the_service_keeps_to_its_description_whatever_is_sent(shop: Any, soak: bool) -> None:
    cases = 10_000 if soak else 1_000
    document = schemathesis.openapi.from_asgi("/openapi.json", shop.app, headers=ADMIN)
    operations = {found.ok().label: found.ok() for found in document.get_all_operations()}
    assert operations.keys() == SHARES.keys()
    seen: Counter[int] = Counter()
    for label, operation in operations.items():
        for mode in GenerationMode if SHARES[label] else [GenerationMode.POSITIVE]:
            answers(operation, mode, max(1, round(cases * SHARES[label])), seen)
    assert sum(seen.values()) >= cases
    assert {200, 400, 401, 404, 422} <= seen.keys() <= {200, 400, 401, 404, 415, 422}


def answers(operation: Any, mode: GenerationMode, cases: int, seen: Counter[int]) -> None:
    """Send so many requests of one kind and count the answers by their status."""

    @settings(
        max_examples=cases, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def sent(case: Any) -> None:
        seen[case.call_and_validate(headers=ADMIN).status_code] += 1

    sent()
