"""The model in one role: follows what is wanted, and answers from one whole artefact or not at all.

A new model or new data are loaded beside the old ones, and one assignment swaps them: a question
is answered by the old or by the new, never by parts of both.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from agents.artefact import Artefact, parse
from envs.batch import EnvSettings
from market.errors import InputError
from market.suggest import nearest
from risk.access.errors import NotAnswered, Reason
from serving.desk import Desk
from serving.questions import Opinion, Question
from serving.routing import ModelRole, Wanted
from serving.settings import DeskSettings
from serving.sources import Sources, Universe

logger = logging.getLogger(__name__)

DESKS_KEPT = 4  # of other universes than the whole one


class Model:
    """An artefact and its desks in one version of the market's data.

    Args:
        trained: the artefact.
        version: of the market's data.
        desk: over all names.
        open_desk: makes the desk of another universe.
    """

    def __init__(
        self, trained: Artefact, version: str, desk: Desk, open_desk: Callable[[Universe], Desk]
    ) -> None:
        self.trained = trained
        self.version = version
        self.desk = desk
        self._open_desk = open_desk
        self._others: OrderedDict[Universe, Desk] = OrderedDict()
        self._opening = threading.Lock()

    def at_hand(self, universe: Universe) -> Desk | None:
        """Return the desk of a universe where it is open."""
        return self.desk if universe is None else self._others.get(universe)

    def desk_for(self, universe: Universe) -> Desk:
        """Return the desk of a universe, opening it first where that must be.

        Raises:
            NotAnswered: if a name is unknown, or the universe cannot be used.
        """
        found = self.at_hand(universe)
        if found is not None:
            return found
        assert universe is not None, "the desk over all names is always open"
        known = self.desk.symbols
        for symbol in universe:
            if symbol not in known:
                hint = nearest(symbol, known)
                raise NotAnswered(Reason.unknown_symbol, f"universe: no {symbol}{hint}")
        ordered = tuple(symbol for symbol in known if symbol in set(universe))
        with self._opening:
            found = self._others.get(universe)
            if found is None:
                found = self.desk if ordered == known else self._open_desk(ordered)
                self._others[universe] = found
                if len(self._others) > DESKS_KEPT:
                    self._others.popitem(last=False)
        return found


class Seat:
    """Who answers in a role.

    Args:
        role: champion or challenger.
        sources: of artefacts and market.
        settings: what is fresh enough.
        env: costs and capital of the model books.
        exchange: whose calendar holds.
        cash_rate: annual, earned on positive cash.
        clock: tells the time, with its zone.
    """

    def __init__(
        self,
        role: ModelRole,
        sources: Sources,
        settings: DeskSettings,
        env: EnvSettings,
        exchange: str,
        cash_rate: float,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.role = role
        self._sources, self._settings, self._env = sources, settings, env
        self._exchange, self._cash_rate, self._clock = exchange, cash_rate, clock
        self._model: Model | None = None
        self._wanted: Wanted | None = None
        self._problem: NotAnswered | None = None  # why what is wanted cannot be served
        self._confirmed = -float("inf")  # monotonic time at which the wanted was last known
        self._following = threading.Lock()

    def follow(self) -> None:
        """Look once at what is wanted, and load it where it is not what is there."""
        with self._following:
            try:
                wanted = self._sources.wanted()
            except NotAnswered as error:
                logger.warning("%s cannot learn what is wanted: %s", self.role.value, error)
                return
            try:
                self._load(wanted)
            except (NotAnswered, InputError) as error:
                self._problem = _as_not_answered(error)
                logger.error("%s cannot be loaded: %s", self.role.value, error)
            else:
                self._problem = None
            self._wanted = wanted
            self._confirmed = time.monotonic()

    def ready_for(self, question: Question) -> bool:
        """Return whether the answer is at hand, so that nobody has to wait for it."""
        model = self._model
        desk = None if model is None else model.at_hand(question.universe)
        if desk is None:
            return False
        try:
            return desk.known(desk.row(question.as_of, self._clock()))
        except NotAnswered:
            return True  # a refusal is quick too

    def opinion(self, question: Question) -> Opinion:
        """Return the answer to a question.

        Raises:
            NotAnswered: if there is no whole and current model, or no such answer.
        """
        model = self._current()
        desk, now = model.desk_for(question.universe), self._clock()
        return desk.opinion(desk.row(question.as_of, now), now)

    def unready(self) -> str | None:
        """Return why no question can be answered now, or None."""
        try:
            self._current()
        except NotAnswered as error:
            return error.detail
        return None

    def status(self) -> dict[str, Any]:
        """Return what is loaded and what is wanted."""
        model, wanted = self._model, self._sha256(self._wanted)
        return {
            "role": self.role.value,
            "sha256": None if model is None else model.trained.sha256,
            "wanted": wanted,
            "problem": self.unready() if wanted is not None or model is not None else None,
            "data_until": None if model is None else model.desk.last_session,
            "agents": [] if model is None else [m.name for m in model.trained.manifest.mandates],
        }

    def _current(self) -> Model:
        """Return the model where it may answer.

        Raises:
            NotAnswered: if none is wanted or loaded, what is wanted cannot be loaded, or it is
                too long ago that anybody said what is wanted.
        """
        if self._problem is not None:
            raise self._problem.again()
        silent = time.monotonic() - self._confirmed
        if self._model is None:
            raise NotAnswered(Reason.no_model, f"there is no {self.role.value}")
        if silent > self._settings.stale_model_s:
            raise NotAnswered(
                Reason.stale_model,
                f"for {silent:.0f} s nobody could say which model is the {self.role.value}",
            )
        return self._model

    def _sha256(self, wanted: Wanted | None) -> str | None:
        if wanted is None:
            return None
        return wanted.champion if self.role is ModelRole.champion else wanted.challenger

    def _load(self, wanted: Wanted) -> None:
        """Bring the model to what is wanted."""
        sha256, model = self._sha256(wanted), self._model
        if sha256 is None:
            self._model = None
            return
        same = model is not None and model.trained.sha256 == sha256
        if same and model is not None and model.version == wanted.market:
            return
        trained = (
            model.trained
            if same and model is not None
            else parse(self._sources.contents(sha256), f"artefact {sha256[:12]}")
        )
        self._model = self._open(trained)
        logger.info("%s is now %s", self.role.value, sha256)

    def _open(self, trained: Artefact) -> Model:
        features = trained.manifest.features
        snapshot = self._sources.snapshot(features, None)

        def desk_of(universe: Universe) -> Desk:
            data = self._sources.snapshot(features, universe).data
            return Desk(trained, data, self._settings, self._env, self._exchange, self._cash_rate)

        desk = Desk(
            trained, snapshot.data, self._settings, self._env, self._exchange, self._cash_rate
        )
        with suppress(NotAnswered):  # the first caller of the day need not wait; refused anyway
            desk.opinion(desk.last_row, self._clock())
        return Model(trained, snapshot.version, desk, desk_of)


def _as_not_answered(error: NotAnswered | InputError) -> NotAnswered:
    if isinstance(error, NotAnswered):
        return error
    return NotAnswered(Reason.stale_model, str(error))
