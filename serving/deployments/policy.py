"""One artefact with all its mandates, answering from memory."""

import asyncio
import threading
import warnings
from typing import Any

import torch
from ray.serve.handle import DeploymentHandle

from envs.batch import EnvSettings
from risk.access.errors import NotAnswered
from serving.questions import Opinion, Question
from serving.remote import RemoteSources
from serving.routing import ModelRole
from serving.seat import Seat
from serving.settings import DeskSettings


class PolicyReplica:
    """A seat that follows what is wanted in its role.

    Args:
        role: champion or challenger.
        sources: the deployment of artefacts and market.
        settings: what is fresh enough.
        env: costs and capital of the model books.
        exchange: whose calendar holds.
        cash_rate: annual, earned on positive cash.
        poll_s: between two looks at what is wanted.
    """

    async def __init__(  # type: ignore[misc]  # Ray Serve awaits it
        self,
        role: ModelRole,
        sources: DeploymentHandle,
        settings: DeskSettings,
        env: EnvSettings,
        exchange: str,
        cash_rate: float,
        poll_s: float,
    ) -> None:
        # Replicas share the cores, and small tensors gain nothing from a second thread.
        torch.set_num_threads(1)
        # Arrays in the object store are read-only, and so are tensors over them: nobody writes.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        seen = RemoteSources(sources, asyncio.get_running_loop())
        self._seat = Seat(role, seen, settings, env, exchange, cash_rate)
        self._poll_s = poll_s
        # No question reaches a replica before it holds its model.
        await asyncio.to_thread(self._seat.follow)
        self._follower = threading.Thread(target=self._follow, name="follow", daemon=True)
        self._follower.start()

    async def opinion(self, question: Question) -> Opinion | NotAnswered:
        """Return the answer, or why there is none."""
        try:
            if self._seat.ready_for(question):
                return self._seat.opinion(question)
            return await asyncio.to_thread(self._seat.opinion, question)
        except NotAnswered as error:
            return error

    async def status(self) -> dict[str, Any]:
        """Return what is loaded and wanted."""
        return self._seat.status()

    async def unready(self) -> str | None:
        """Return why no question can be answered now, or None."""
        return self._seat.unready()

    async def refresh(self) -> None:
        """Follow now."""
        await asyncio.to_thread(self._seat.follow)

    def check_health(self) -> None:
        """Ask to be replaced where nothing follows any more."""
        if not self._follower.is_alive():
            raise RuntimeError("the thread that follows the registry has ended")

    def _follow(self) -> None:
        waiting = threading.Event()
        while not waiting.wait(self._poll_s):
            self._seat.follow()
