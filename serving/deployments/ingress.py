"""The HTTP service: who comes in, what is recorded; whoever computes is one hop away."""

import asyncio
from pathlib import Path
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from risk.access.tokens import load_tokens
from serving.decisions import DecisionLog
from serving.remote import ServeBackend
from serving.routing import ModelRole
from serving.settings import ServingSettings
from serving.web import make_app


@serve.ingress()
class Ingress:
    """The HTTP service.

    Args:
        settings: limits, files and timeouts.
        roles: role -> its deployment.
        sources: the deployment of artefacts and market.
    """

    def __init__(
        self,
        settings: ServingSettings,
        roles: dict[ModelRole, DeploymentHandle],
        sources: DeploymentHandle,
    ) -> None:
        self._settings = settings
        self._backend = ServeBackend(
            roles, sources, settings.web.request_timeout_s, settings.desk.stale_model_s
        )
        self._following: asyncio.Task[None] | None = None

    async def __serve_build_asgi_app__(self) -> Any:
        """Return the ASGI application; Serve calls this once in the replica's event loop."""
        await self._backend.follow()
        self._following = asyncio.create_task(self._follow())
        tokens = load_tokens(Path(str(self._settings.tokens)))
        log = DecisionLog(Path(self._settings.decisions))
        return make_app(self._backend, log, self._settings.web, tokens)

    def check_health(self) -> None:
        """Ask to be replaced where nothing follows any more."""
        if self._following is not None and self._following.done():
            raise RuntimeError("the task that follows the registry has ended")

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._settings.placement.poll_s)
            await self._backend.follow()
