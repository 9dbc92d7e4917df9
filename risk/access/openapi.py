"""The OpenAPI description, and the page that shows it without reaching for another server."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from starlette.responses import HTMLResponse, Response

from risk.access.errors import NotAnswered, Reason
from risk.access.refusals import Refusal
from risk.access.routes import Route
from risk.access.signed import SCHEME

_SCHEMAS = "#/components/schemas/"
_ALWAYS = (Reason.internal,)
_CLOSED = (
    Reason.unauthenticated,
    Reason.forbidden,
    Reason.too_many_requests,
    Reason.busy,
)
_BODY = (
    Reason.bad_request,
    Reason.request_timeout,
    Reason.too_large,
    Reason.unsupported_media_type,
    Reason.invalid,
)
_UNUSED = ("HTTPValidationError", "ValidationError")  # FastAPI's own refusal, which is not ours
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Tercet</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="page"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
# The whole address: a relative one fails in a browser that was given the password in the URL.
_START = """\
const url = location.origin + location.pathname.replace(/docs$/, "openapi.json");
SwaggerUIBundle({url, dom_id: "#page"});
"""
_ASSETS = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'"
)

# One scheme, not two: tools that test a service know how to leave out a bearer token.
_SIGNING = (
    f"A token, or a signature in its place: {SCHEME} key=<12 digits of the key's sha256>, time=<ms "
    "since 1970>, nonce=<32 hex digits>, digest=<sha256 of the body>, signature=<Ed25519 over "
    "method, host, target, time, nonce and digest>"
)


def description(
    api: FastAPI,
    version: str,
    what: str,
    routes: Sequence[Route],
    bodies: Mapping[str, type[BaseModel]],
) -> dict[str, Any]:
    """Return the OpenAPI description of an application's routes.

    Args:
        api: with all of them.
        version: of the product.
        what: the service is, in one sentence.
        routes: what each needs and refuses, which the guard enforces.
        bodies: path -> what is read there.
    """
    document = get_openapi(title="Tercet", version=version, description=what, routes=api.routes)
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    read: list[type[BaseModel]] = [*bodies.values(), Refusal]
    for model in read:
        schema = model.model_json_schema(ref_template=_SCHEMAS + "{model}")
        schemas |= schema.pop("$defs", {})
        schemas[model.__name__] = schema
    for name in _UNUSED:
        schemas.pop(name, None)
    bearer = {"type": "http", "scheme": "bearer", "description": _SIGNING}
    components["securitySchemes"] = {"bearer": bearer}
    for route in routes:
        operation = document["paths"].get(route.path, {}).get(route.method.lower())
        if operation is not None:
            _complete(operation, route, bodies)
    return document


def add_pages(api: FastAPI, document: dict[str, Any]) -> None:
    """Answer the routes of `risk.access.routes.PAGES`."""
    text = json.dumps(document, sort_keys=True).encode()

    async def described() -> Response:
        return Response(text, media_type="application/json")

    async def shown() -> Response:
        return page()

    async def part(asset: str) -> Response:
        return await asyncio.to_thread(_asset, asset)

    for path, answer in (("/openapi.json", described), ("/docs", shown), ("/docs/{asset}", part)):
        api.get(path, include_in_schema=False)(answer)


def page() -> Response:
    """Return the page that shows the description; its script asks for nothing elsewhere."""
    return HTMLResponse(_PAGE, headers={"Content-Security-Policy": _POLICY})


def _asset(name: str) -> Response:
    """Return a file of the page.

    Raises:
        NotAnswered: not_found where there is no such file.
    """
    if name == "start.js":
        return Response(_START, media_type="text/javascript")
    if name not in _ASSETS:
        raise NotAnswered(Reason.not_found, "there is nothing at this path")
    content = (files("fastapi_offline") / "static" / name).read_bytes()
    return Response(content, media_type=_ASSETS[name])


def _complete(
    operation: dict[str, Any], route: Route, bodies: Mapping[str, type[BaseModel]]
) -> None:
    """Say what a route needs, reads and refuses."""
    reasons = list(_ALWAYS)
    operation["summary"] = operation.pop("description")
    if route.role is not None:
        reasons += _CLOSED
        operation["security"] = [{"bearer": [route.role.name]}]
        operation["description"] = f"Needs the role {route.role.name}."
    if route.body:
        reasons += _BODY
        schema = {"$ref": _SCHEMAS + bodies[route.path].__name__}
        content = {"application/json": {"schema": schema}}
        operation["requestBody"] = {"required": True, "content": content}
    responses = operation["responses"]
    if route.conflicts:
        reasons.append(Reason.conflict)
    if "{" in route.path:
        reasons.append(Reason.not_found)
        responses.pop("422", None)  # an id of another form is one that is not found
    reasons.append(Reason.store_failed)
    for reason in sorted(reasons, key=lambda reason: reason.status):
        responses[str(reason.status)] = _refusal(reason.status)


def _refusal(status: int) -> dict[str, Any]:
    words = sorted(reason.value[1] for reason in Reason if reason.status == status)
    answer: dict[str, Any] = {
        "description": ", ".join(words),
        "content": {"application/json": {"schema": {"$ref": _SCHEMAS + Refusal.__name__}}},
    }
    if status in (429, 503):
        seconds = {"schema": {"type": "integer", "minimum": 1}, "required": True}
        answer["headers"] = {"Retry-After": seconds}
    return answer
