"""Every route of the service and what it needs, declared once."""

from risk.access.routes import PAGES, Route
from risk.access.tokens import Role

ROUTES = (
    Route("POST", "/v1/allocations", Role.allocate, body=True),
    Route("GET", "/v1/allocations/{decision_id}", Role.read),
    Route("GET", "/v1/models", Role.read),
    Route("POST", "/v1/refresh", Role.admin),
    Route("GET", "/healthz", None),
    Route("GET", "/readyz", None),
    Route("GET", "/metrics", Role.read),
    *PAGES,
)
