"""Every route and what it needs, declared once: the guard enforces it, the OpenAPI page says it."""

import re
from dataclasses import dataclass

from serving.tokens import Role

OTHER = "other"  # the metrics' label of what is no route


@dataclass(frozen=True, slots=True)
class Route:
    """One route.

    Args:
        method: of HTTP.
        path: as FastAPI writes it.
        role: the least role; None is open to everybody and says nothing but whether it works.
        body: a JSON body is read.
        browser: also opens to HTTP Basic with a token as the password, for a browser cannot send
            a bearer token by itself. Never with a route that changes anything: a browser
            would send those credentials for any page that asks it to.
    """

    method: str
    path: str
    role: Role | None
    body: bool = False
    browser: bool = False

    def matches(self, path: str) -> bool:
        """Return whether a path is this route's, to its last character."""
        return _pattern(self.path).fullmatch(path) is not None


ROUTES = (
    Route("POST", "/v1/allocations", Role.allocate, body=True),
    Route("GET", "/v1/allocations/{decision_id}", Role.read),
    Route("GET", "/v1/models", Role.read),
    Route("POST", "/v1/refresh", Role.admin),
    Route("GET", "/healthz", None),
    Route("GET", "/readyz", None),
    Route("GET", "/metrics", Role.read),
    Route("GET", "/openapi.json", Role.read, browser=True),
    Route("GET", "/docs", Role.read, browser=True),
    Route("GET", "/docs/{asset}", Role.read, browser=True),
)

_PATTERNS: dict[str, re.Pattern[str]] = {}


def routes_at(path: str) -> list[Route]:
    """Return the routes of a path, one for each of its methods."""
    return [route for route in ROUTES if route.matches(path)]


def label(path: str) -> str:
    """Return the route's path for a metric; few, whatever is asked for.

    >>> label("/v1/allocations/abc"), label("/etc/passwd")
    ('/v1/allocations/{decision_id}', 'other')
    """
    found = routes_at(path)
    return found[0].path if found else OTHER


def _pattern(path: str) -> re.Pattern[str]:
    if path not in _PATTERNS:
        _PATTERNS[path] = re.compile(re.sub(r"\\{\w+\\}", "[A-Za-z0-9._-]{1,64}", re.escape(path)))
    return _PATTERNS[path]
