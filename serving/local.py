"""A backend in this process: the same seats as behind Ray Serve, without Ray.

`tercet allocate` asks it, and so does every test of an answer.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from envs.batch import EnvSettings
from serving.allocation import answer
from serving.blueprint import Blueprint
from serving.decisions import DecisionLog, Recorded
from serving.messages import parse, to_question
from serving.questions import Opinion, Question
from serving.routing import ModelRole, described, in_shadow, role_for
from serving.seat import Seat
from serving.settings import DeskSettings
from serving.sources import OwnSources


class LocalBackend:
    """Champion and challenger over one machine's sources; see `serving.questions.Backend`.

    Args:
        sources: of artefacts and market.
        settings: what is fresh enough.
        env: costs and capital of the model books.
        exchange: whose calendar holds.
        cash_rate: annual, earned on positive cash.
        clock: tells the time, with its zone.
    """

    def __init__(
        self,
        sources: OwnSources,
        settings: DeskSettings,
        env: EnvSettings,
        exchange: str,
        cash_rate: float,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._sources = sources
        self._seats = {
            role: Seat(role, sources, settings, env, exchange, cash_rate, clock)
            for role in ModelRole
        }

    async def opinion(self, question: Question) -> Opinion:
        """Return what the model that serves this account says."""
        seat = self._seats[role_for(question, self._sources.wanted())]
        return await asyncio.to_thread(self._ask, seat, question)

    async def shadow(self, question: Question) -> Opinion | None:
        """Return what a challenger in shadow says; None where there is none."""
        if not in_shadow(self._sources.wanted()):
            return None
        return await asyncio.to_thread(self._ask, self._seats[ModelRole.challenger], question)

    async def models(self) -> list[dict[str, Any]]:
        """Return what is loaded and wanted in each role."""
        share = self._sources.wanted().share
        await self.refresh()
        return described([seat.status() for seat in self._seats.values()], share)

    async def unready(self) -> str | None:
        """Return why no question can be answered now, or None."""
        seat = self._seats[ModelRole.champion]
        await asyncio.to_thread(seat.follow)
        return seat.unready()

    async def refresh(self) -> None:
        """Look at the registry and at the data now."""
        self._sources.forget_refusals()
        for seat in self._seats.values():
            await asyncio.to_thread(seat.follow)

    def _ask(self, seat: Seat, question: Question) -> Opinion:
        seat.follow()
        return seat.opinion(question)


async def recorded_answer(
    plan: Blueprint, body: bytes, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> tuple[Recorded, Opinion]:
    """Return the recorded answer to a question, as the service would give it.

    Args:
        plan: of what is asked.
        body: that a caller of the service would send.
        clock: tells the time, with its zone.

    Raises:
        NotAnswered: if the question cannot be answered.
        InputError: if artefact, market or log cannot be used.
    """
    request = parse(body)
    market = plan.market
    backend = LocalBackend(
        plan.sources(), plan.serving.desk, plan.env, market.exchange, market.cash_rate, clock
    )
    opinion = await backend.opinion(to_question(request))
    log = DecisionLog(Path(plan.serving.decisions))
    try:
        return await answer(log, request, opinion), opinion
    finally:
        log.close()
