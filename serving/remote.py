"""The sources and seats of other processes, reached through Ray Serve's handles.

A refusal travels as a value: Ray wraps what is raised in an error of its own.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import ray
from ray.exceptions import RayActorError, RayError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle

from agents.manifest import Contents
from market.features import FeatureSpec
from risk.access.errors import NotAnswered, Reason
from serving.questions import Opinion, Question
from serving.routing import ModelRole, Wanted, described, in_shadow, role_for
from serving.sources import Snapshot, Universe

logger = logging.getLogger(__name__)

ATTEMPTS = 2  # a question changes nothing: when a replica dies with it, another one is asked
WANTED_S = 5.0  # for a few words
LOADED_S = 300.0  # for a market that is being read
STATUS_S = 2.0

Value = TypeVar("Value")


class RemoteSources:
    """Sources in a deployment of their own; see `serving.sources.Sources`.

    To be used from threads; the calls themselves are made in the replica's event loop, the one
    place where Ray Serve allows them whatever it is tuned for.

    Args:
        handle: of the deployment of sources.
        loop: of the replica.
    """

    def __init__(self, handle: DeploymentHandle, loop: asyncio.AbstractEventLoop) -> None:
        self._handle, self._loop = handle, loop

    def wanted(self) -> Wanted:
        """Return what is to be served now."""

        def ask() -> Awaitable[Any]:  # even looking the method up belongs into the event loop
            answer: Awaitable[Any] = self._handle.wanted.remote()
            return answer

        found: Wanted = self._received(ask, WANTED_S)
        return found

    def contents(self, sha256: str) -> Contents:
        """Return the verified bytes of an artefact."""
        references = self._received(lambda: self._handle.contents.remote(sha256), WANTED_S)
        found: Contents = _fetched(references[0])
        return found

    def snapshot(self, features: FeatureSpec, universe: Universe) -> Snapshot:
        """Return the market, featurised by a policy's own record."""
        version, reference = self._received(
            lambda: self._handle.snapshot.remote(features.to_json(), universe), LOADED_S
        )
        return Snapshot(version, _fetched(reference))

    def _received(self, ask: Callable[[], Awaitable[Any]], timeout_s: float) -> Any:
        """Return the value of a call; raises as `_awaited`."""
        return asyncio.run_coroutine_threadsafe(_awaited(ask, timeout_s), self._loop).result()


class ServeBackend:
    """The deployments behind the ingress; see `serving.questions.Backend`.

    Args:
        roles: role -> its deployment; a role without one is never asked.
        sources: the deployment of sources.
        answer_s: the longest that one answer may take.
        stale_model_s: without word of which model is wanted, until answers end.
    """

    def __init__(
        self,
        roles: Mapping[ModelRole, DeploymentHandle],
        sources: DeploymentHandle,
        answer_s: float,
        stale_model_s: float,
    ) -> None:
        self._roles, self._sources = roles, sources
        self._answer_s, self._stale_model_s = answer_s, stale_model_s
        self._wanted: Wanted | None = None
        self._confirmed = -float("inf")

    async def follow(self) -> None:
        """Look once at what is wanted."""
        try:
            self._wanted = await _awaited(self._sources.wanted.remote, WANTED_S)
            self._confirmed = time.monotonic()
        except NotAnswered as error:
            logger.warning("the ingress cannot learn what is wanted: %s", error)

    async def opinion(self, question: Question) -> Opinion:
        """Return what the model that serves this account says."""
        return await self._ask(role_for(question, self._current()), question)

    async def shadow(self, question: Question) -> Opinion | None:
        """Return what a challenger in shadow says; None where there is none."""
        if not in_shadow(self._current()) or ModelRole.challenger not in self._roles:
            return None
        return await self._ask(ModelRole.challenger, question)

    async def models(self) -> list[dict[str, Any]]:
        """Return what is loaded and wanted in each role, as one replica of it tells."""
        statuses = [
            await _awaited(handle.status.remote, STATUS_S) for handle in self._roles.values()
        ]
        return described(statuses, self._current().share)

    async def unready(self) -> str | None:
        """Return why no question can be answered now, or None."""
        try:
            self._current()
            found: str | None = await _awaited(
                self._roles[ModelRole.champion].unready.remote, STATUS_S
            )
        except NotAnswered as error:
            return error.detail
        return found

    async def refresh(self) -> None:
        """Look at the registry and at the data now; one replica of each role follows at once."""
        await _awaited(self._sources.refresh.remote, WANTED_S)
        await self.follow()
        for handle in self._roles.values():
            await _awaited(handle.refresh.remote, LOADED_S)

    def _current(self) -> Wanted:
        silent = time.monotonic() - self._confirmed
        if self._wanted is None or silent > self._stale_model_s:
            raise NotAnswered(Reason.stale_model, "nobody can say which model is the champion")
        return self._wanted

    async def _ask(self, role: ModelRole, question: Question) -> Opinion:
        handle = self._roles.get(role)
        if handle is None:
            raise NotAnswered(Reason.no_model, f"there is no place for a {role.value} here")
        opinion: Opinion = await _awaited(
            lambda: handle.opinion.remote(question), self._answer_s, ATTEMPTS
        )
        return opinion


async def _awaited(
    ask: Callable[[], Awaitable[Any]], timeout_s: float, attempts: int = ATTEMPTS
) -> Any:
    """Return the value of a call, asking again where a replica died with it.

    Raises:
        NotAnswered: as the value, or because the call failed.
    """
    for attempt in range(attempts):
        try:
            async with asyncio.timeout(timeout_s):
                return _value(await ask())
        except RayActorError as error:
            logger.warning("a replica failed: %s", type(error).__name__)
            if attempt + 1 == attempts:
                raise NotAnswered(Reason.replica_failed, "a replica failed") from error
        except Exception as error:
            raise _failure(error, timeout_s) from error
    raise AssertionError("the last attempt returns or raises")


def _fetched(reference: ray.ObjectRef) -> Any:
    """Return what lies in the object store."""
    try:
        return ray.get(reference, timeout=LOADED_S)
    except RayError as error:
        raise NotAnswered(
            Reason.replica_failed, "the sources were lost while they were read"
        ) from error


def _value(answer: Any) -> Any:
    if isinstance(answer, NotAnswered):
        raise answer
    return answer


def _failure(error: Exception, timeout_s: float) -> NotAnswered:
    """Name the failure of a call; a defect of ours is logged with its traceback."""
    if isinstance(error, NotAnswered):
        return error
    if isinstance(error, TimeoutError):
        return NotAnswered(Reason.too_slow, f"no answer within {timeout_s:g} s")
    if isinstance(error, BackPressureError):
        return NotAnswered(Reason.busy, "too many questions are waiting")
    if isinstance(error, RayActorError | RayServeException):
        return NotAnswered(Reason.replica_failed, "no replica could be reached")
    logger.error("a replica failed with a defect", exc_info=error)
    return NotAnswered(Reason.replica_failed, "a replica failed; its log says why")
