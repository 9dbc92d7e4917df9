"""What a service declares of each route; the guard enforces it, the OpenAPI page says it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from risk.access.tokens import Role

OTHER = "other"  # the label of what is no route


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
        urgent: is let in however many requests are in work and however often its token asked.
        conflicts: what is asked for can contradict what is known.
    """

    method: str
    path: str
    role: Role | None
    body: bool = False
    browser: bool = False
    urgent: bool = False
    conflicts: bool = False

    def matches(self, path: str) -> bool:
        """Return whether a path is this route's, to its last character."""
        return _pattern(self.path).fullmatch(path) is not None


PAGES = (
    Route("GET", "/openapi.json", Role.read, browser=True),
    Route("GET", "/docs", Role.read, browser=True),
    Route("GET", "/docs/{asset}", Role.read, browser=True),
)
"""The description of a service and the page that shows it; see `risk.access.openapi`."""

_PATTERNS: dict[str, re.Pattern[str]] = {}


def routes_at(routes: Sequence[Route], path: str) -> list[Route]:
    """Return the routes of a path, one for each of its methods."""
    return [route for route in routes if route.matches(path)]


def label(routes: Sequence[Route], path: str) -> str:
    """Return the route's path for a metric; few, whatever is asked for.

    >>> label(PAGES, "/docs/abc"), label(PAGES, "/etc/passwd")
    ('/docs/{asset}', 'other')
    """
    found = routes_at(routes, path)
    return found[0].path if found else OTHER


def _pattern(path: str) -> re.Pattern[str]:
    if path not in _PATTERNS:
        _PATTERNS[path] = re.compile(re.sub(r"\\{\w+\\}", "[A-Za-z0-9._-]{1,64}", re.escape(path)))
    return _PATTERNS[path]
