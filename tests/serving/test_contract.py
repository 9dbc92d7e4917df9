"""The service against its own OpenAPI description: generated requests, right ones and wrong ones.

Schemathesis' own checks judge each answer: no server error, a status, headers and a body as they
were described, right questions answered, wrong ones refused, and nothing without a valid token (it
repeats what was answered without one and with a wrong one).
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    negative_data_rejection,
    positive_data_acceptance,
)

from agents.policies import ArtefactPolicy

ADMIN = {"Authorization": f"Bearer admin-{'x' * 16}"}
TOO_LARGE = 413
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
    operations = described(shop.app)
    assert operations.keys() == SHARES.keys()
    seen: Counter[int] = Counter()
    for label, operation in operations.items():
        for mode in GenerationMode if SHARES[label] else [GenerationMode.POSITIVE]:
            send(operation, mode, max(1, round(cases * SHARES[label])), seen, [])
    assert sum(seen.values()) >= cases
    assert {200, 400, 401, 404, 422} <= seen.keys() <= {200, 400, 401, 404, TOO_LARGE, 415, 422}


@pytest.mark.timeout(1800)
def test_a_real_model_keeps_to_it_too(
    open_shop: Callable[..., Any], world: Any, tmp_path: Path, soak: bool
) -> None:
    """Of right questions it may refuse those for a symbol or a session that there is not."""
    plan = world.plan(ArtefactPolicy(str(world.artefact(1))), tmp_path)
    operation = described(open_shop(backend=world.backend(plan)).app)["POST /v1/allocations"]
    seen: Counter[int] = Counter()
    cases = 1_000 if soak else 100
    send(operation, GenerationMode.POSITIVE, cases, seen, [positive_data_acceptance])
    assert {200, 422} == seen.keys()


def described(app: Any) -> dict[str, Any]:
    """Return the operations that the description names."""
    document = schemathesis.openapi.from_asgi("/openapi.json", app, headers=ADMIN)
    return {found.ok().label: found.ok() for found in document.get_all_operations()}


def send(
    operation: Any, mode: GenerationMode, cases: int, seen: Counter[int], excluded: list[Any]
) -> None:
    """Send so many requests of one kind and count the answers by their status."""

    @settings(
        max_examples=cases, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def sent(case: Any) -> None:
        reply = case.call(headers=ADMIN)
        # Schemathesis knows no refusal for size: a question of a megabyte has it before any other.
        large = [negative_data_rejection] if reply.status_code == TOO_LARGE else []
        case.validate_response(reply, headers=ADMIN, excluded_checks=[*excluded, *large])
        seen[reply.status_code] += 1

    sent()
