"""The log of decisions: one SQLite file, written by any number of processes.

At most one decision per account and session is submittable, and the file itself holds that rule
(a unique index), so that no race between two servers can break it. A decision is durable before
it is answered. One thread writes for the whole process and commits for all who wait at that
moment: sixty-four callers share one flush to disk.
"""

import asyncio
import contextlib
import json
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from risk.access.errors import NotAnswered, Reason
from serving.decision_file import connect, open_file

MAX_BATCH = 256
_KNOWN_EXPLANATIONS = 4096

logger = logging.getLogger(__name__)
_Job = tuple[Callable[[sqlite3.Connection], Any], "Future[Any]"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be recorded.

    Args:
        id: its identity.
        account: None is advice, which nobody can submit.
        as_of: session, ISO date.
        model_sha256: of the artefact that answered.
        request: canonical body of the question.
        answer: JSON of the answer; its `supersedes` is the log's to fill.
        explanation_key: what the explanation depends on.
        explanation: recorded once per key.
    """

    id: str
    account: str | None
    as_of: str
    model_sha256: str
    request: str
    answer: dict[str, Any]
    explanation_key: str
    explanation: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Recorded:
    """A decision as the log has it.

    Args:
        answer: as it was first given, with what it supersedes.
        account: whose decision it is; None is advice.
        superseded_by: the later decision of the same account and session, if any.
        new: it was recorded just now.
    """

    answer: dict[str, Any]
    account: str | None
    superseded_by: str | None
    new: bool

    def status(self, now: datetime) -> str:
        """Return advice (no account's), superseded, expired, or else submittable."""
        if self.account is None:
            return "advice"
        if self.superseded_by is not None:
            return "superseded"
        expired = now > datetime.fromisoformat(self.answer["expires_at"])
        return "expired" if expired else "submittable"


class DecisionLog:
    """The decisions of one file.

    Args:
        path: of the SQLite file; it and its folder are made where they are missing.

    Raises:
        InputError: if the file cannot be opened, or is no log of this format.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writing = open_file(path)
        self._reading = connect(path)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._known: set[str] = set()
        self._reader = ThreadPoolExecutor(1, "decisions-read")
        self._writer = threading.Thread(target=self._write, name="decisions-write", daemon=True)
        self._writer.start()

    async def record(self, decision: Decision) -> Recorded:
        """Record a decision, or return it as it was recorded before.

        Another decision of the same account and session is superseded. One that was superseded
        stays so when it is asked for again, with one exception: where another model had answered
        since (a promotion that was rolled back), it takes its place again.

        Raises:
            NotAnswered: store_failed where the file is locked, full or damaged.
        """
        explanation = self._explanation_text(decision)
        text = json.dumps(decision.answer, allow_nan=False)
        row: tuple[str, str | None, str | None, bool] = await self._run(
            lambda db: _insert_or_get(db, decision, text, explanation)
        )
        self._remember(decision.explanation_key)
        answered, supersedes, superseded_by, new = row
        answer = json.loads(answered)
        answer["supersedes"] = supersedes
        return Recorded(answer, decision.account, superseded_by, new)

    async def record_shadow(
        self, decision_id: str, model_sha256: str, weights: dict[str, float], distance: float
    ) -> None:
        """Record what a challenger would have answered; a second time changes nothing."""
        row = (decision_id, model_sha256, json.dumps(weights, allow_nan=False), distance, _now())
        await self._run(
            lambda db: db.execute("INSERT OR IGNORE INTO shadows VALUES (?, ?, ?, ?, ?)", row)
        )

    async def get(self, decision_id: str) -> tuple[Recorded, dict[str, Any]] | None:
        """Return a decision and its explanation, or None where there is none of that id."""
        found = await self._read(
            "SELECT answer, supersedes, superseded_by, account, content FROM decisions "
            "JOIN explanations ON key = explanation_key WHERE id = ?",
            decision_id,
        )
        if not found:
            return None
        answered, supersedes, superseded_by, account, content = found[0]
        answer = json.loads(answered)
        answer["supersedes"] = supersedes
        return Recorded(answer, account, superseded_by, False), json.loads(content)

    async def shadows(self, decision_id: str) -> list[dict[str, Any]]:
        """Return what challengers in shadow would have answered instead of a decision."""
        found = await self._read(
            "SELECT model_sha256, weights, distance FROM shadows WHERE decision_id = ? "
            "ORDER BY recorded_at",
            decision_id,
        )
        names = ("model_sha256", "weights", "distance")
        return [dict(zip(names, (s, json.loads(w), d), strict=True)) for s, w, d in found]

    def close(self) -> None:
        """Write what waits, then close the file."""
        self._jobs.put(None)
        self._writer.join()
        self._reader.shutdown()
        self._writing.close()
        self._reading.close()

    def _explanation_text(self, decision: Decision) -> str | None:
        """Return the explanation's JSON, or None where this process has recorded it before."""
        if decision.explanation_key in self._known:
            return None
        return json.dumps(decision.explanation, allow_nan=False)

    def _remember(self, key: str) -> None:
        if len(self._known) >= _KNOWN_EXPLANATIONS:
            self._known.clear()
        self._known.add(key)

    async def _run(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        future: Future[Any] = Future()
        self._jobs.put((work, future))
        return await asyncio.wrap_future(future)

    async def _read(self, query: str, key: str) -> list[tuple[Any, ...]]:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(
                self._reader, lambda: self._reading.execute(query, (key,)).fetchall()
            )
        except sqlite3.Error as error:
            raise _refusal(error) from error

    def _write(self) -> None:
        """Take all that wait, commit once, tell all; until closed."""
        while (first := self._jobs.get()) is not None:
            batch = [first]
            while len(batch) < MAX_BATCH and not self._jobs.empty():
                job = self._jobs.get()
                if job is None:
                    self._jobs.put(None)
                    break
                batch.append(job)
            alive = [job for job in batch if job[1].set_running_or_notify_cancel()]
            if alive:
                self._commit(alive)

    def _commit(self, batch: list[_Job]) -> None:
        """Do the work in one transaction; whatever happens, everybody who waits is told."""
        db = self._writing
        try:
            db.execute("BEGIN IMMEDIATE")
            results = [work(db) for work, _ in batch]
            db.execute("COMMIT")
        except Exception as error:
            logger.exception("%s: a commit of %d records failed", self.path, len(batch))
            _roll_back(db)
            if isinstance(error, sqlite3.IntegrityError) and len(batch) > 1:
                for job in batch:  # one of them is at fault, the others are not
                    self._commit([job])
                return
            for _, future in batch:
                future.set_exception(_refusal(error) if isinstance(error, sqlite3.Error) else error)
        else:
            for (_, future), result in zip(batch, results, strict=True):
                future.set_result(result)


def _insert_or_get(
    db: sqlite3.Connection, decision: Decision, answer: str, explanation: str | None
) -> tuple[str, str | None, str | None, bool]:
    """Return answer, supersedes, superseded_by and whether it is new."""
    found = db.execute(
        "SELECT answer, supersedes, superseded_by FROM decisions WHERE id = ?", (decision.id,)
    ).fetchone()
    if found is not None and found[2] is None:
        return (*found, False)
    standing = db.execute(
        "SELECT id, model_sha256 FROM decisions "
        "WHERE account = ? AND as_of = ? AND superseded_by IS NULL",
        (decision.account, decision.as_of),
    ).fetchone()
    if found is not None and standing is not None and standing[1] == decision.model_sha256:
        return (*found, False)
    supersedes = None if standing is None else standing[0]
    db.execute("UPDATE decisions SET superseded_by = ? WHERE id = ?", (decision.id, supersedes))
    if found is not None:
        db.execute(
            "UPDATE decisions SET supersedes = ?, superseded_by = NULL WHERE id = ?",
            (supersedes, decision.id),
        )
        return found[0], supersedes, None, False
    if explanation is not None:
        db.execute(
            "INSERT OR IGNORE INTO explanations VALUES (?, ?)",
            (decision.explanation_key, explanation),
        )
    db.execute(
        "INSERT INTO decisions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)",
        (
            decision.id,
            decision.account,
            decision.as_of,
            decision.model_sha256,
            decision.request,
            answer,
            _now(),
            decision.explanation_key,
            supersedes,
        ),
    )
    return answer, supersedes, None, True


def _roll_back(db: sqlite3.Connection) -> None:
    """End a failed transaction; SQLite ends it by itself after some failures, a full disk's say."""
    if db.in_transaction:
        with contextlib.suppress(sqlite3.Error):
            db.execute("ROLLBACK")


def _refusal(error: sqlite3.Error) -> NotAnswered:
    return NotAnswered(Reason.store_failed, f"the decision cannot be recorded: {error}")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
