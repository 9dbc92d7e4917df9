"""The least that a Ray Serve application of two deployments does: the yardstick of ours."""

from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request
from starlette.responses import Response

CONCURRENT = 1024  # as ours: else Serve would let the callers queue


class Inner:
    """Answers with nothing."""

    async def answer(self, body: bytes) -> bytes:
        """Return an empty JSON object."""
        return b"{}"


class Outer:
    """Passes a body on to the inner deployment, and its answer back."""

    def __init__(self, inner: DeploymentHandle) -> None:
        self._inner = inner

    async def __call__(self, request: Request) -> Response:
        """Return what the inner deployment says."""
        answer = await self._inner.answer.remote(await request.body())
        return Response(answer, media_type="application/json")


def build(outer: int, inner: int, cpus: float) -> Application:
    """Return the application.

    Args:
        outer: replicas that speak HTTP.
        inner: replicas behind them.
        cpus: that each of them reserves.
    """

    def deployed(kind: type, replicas: int) -> serve.Deployment:
        return serve.deployment(
            kind,
            num_replicas=replicas,
            max_ongoing_requests=CONCURRENT,
            ray_actor_options={"num_cpus": cpus},
        )

    return deployed(Outer, outer).bind(deployed(Inner, inner).bind())
