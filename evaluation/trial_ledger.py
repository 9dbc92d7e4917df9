"""The ledger of trials: every configuration that was tried on some data, and what it scored.

Who picks the best of many has to say how many there were. So each trial is written down before it
begins, in one SQLite file beside the run folders; a trial that fails or is stopped stays in it.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any

import pandas as pd

from market.errors import InputError

LEDGER = "trials.sqlite"
PARQUET = "trials.parquet"
PATIENCE_S = 30.0  # for another run that writes

TABLE = """
CREATE TABLE IF NOT EXISTS trials (
    run TEXT NOT NULL,             -- name of the run folder
    trial TEXT NOT NULL,           -- id within the run
    configuration TEXT NOT NULL,   -- sha256 of everything that was configured, with the seed
    data TEXT NOT NULL,            -- sha256 of the bars
    seed INTEGER NOT NULL,
    settings TEXT NOT NULL,        -- JSON, what differs between the trials of the run, by its key
    score REAL,                    -- the last one; absent until there is one
    standard_error REAL,
    scores TEXT NOT NULL,          -- JSON, rung -> score
    state TEXT NOT NULL,
    error TEXT,                    -- of a failed trial, in one line
    began TEXT NOT NULL,           -- UTC, ISO 8601
    changed TEXT NOT NULL,
    PRIMARY KEY (run, trial, configuration)
)
"""


class State(Enum):
    """How a trial stands."""

    running = "running"
    done = "done"  # judged as often as it was to be
    stopped = "stopped"  # by the scheduler, before its end
    left = "left"  # population-based training went on with other settings
    failed = "failed"
    trained = "trained"  # by `tercet train`, which judges its stages instead


@dataclass(frozen=True, slots=True)
class Tried:
    """One trial under one configuration.

    Args:
        run: name of the run folder.
        trial: id within the run.
        configuration: sha256 of everything that was configured, with the seed.
        data: sha256 of the bars.
        seed: root of the seed tree.
        settings: what differs between the trials of the run, by its key.
        score: the last one, or None.
        standard_error: of the score; None where it is undefined.
        scores: rung -> score, of every time that it was judged.
        state: how it stands.
        error: of a failed trial, in one line.
    """

    run: str
    trial: str
    configuration: str
    data: str
    seed: int
    settings: Mapping[str, Any]
    score: float | None = None
    standard_error: float | None = None
    scores: Mapping[int, float] = field(default_factory=dict)
    state: State = State.running
    error: str | None = None


class TrialLedger:
    """The trials of all runs in one folder.

    Args:
        runs: folder of the run folders.

    Raises:
        InputError: from every method, if the file cannot be read or written.
    """

    def __init__(self, runs: Path) -> None:
        self.path = runs / LEDGER

    def write(self, tried: Tried) -> None:
        """Write down how a trial stands, over what was written before of it."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        row = {
            "run": tried.run,
            "trial": tried.trial,
            "configuration": tried.configuration,
            "data": tried.data,
            "seed": tried.seed,
            "settings": json.dumps(tried.settings, sort_keys=True),
            "score": tried.score,
            "standard_error": tried.standard_error,
            "scores": json.dumps(tried.scores),
            "state": tried.state.name,
            "error": tried.error,
            "began": now,
            "changed": now,
        }
        kept = ("run", "trial", "configuration", "began")
        changed = ", ".join(f"{name} = excluded.{name}" for name in row if name not in kept)
        with self._open() as connection:
            connection.execute(
                f"INSERT INTO trials ({', '.join(row)}) VALUES ({', '.join('?' * len(row))}) "
                f"ON CONFLICT (run, trial, configuration) DO UPDATE SET {changed}",
                tuple(row.values()),
            )

    def write_once(self, tried: Tried) -> None:
        """Write down a trial, unless its configuration was tried on this data before."""
        with self._open() as connection:
            known = connection.execute(
                "SELECT 1 FROM trials WHERE data = ? AND configuration = ? LIMIT 1",
                (tried.data, tried.configuration),
            ).fetchone()
        if known is None:
            self.write(tried)

    def compared(self, data: str) -> int:
        """Return how many different configurations were tried on the data with this hash."""
        with self._open() as connection:
            (count,) = connection.execute(
                "SELECT COUNT(DISTINCT configuration) FROM trials WHERE data = ?", (data,)
            ).fetchone()
        return int(count)

    def of_run(self, run: str) -> list[Tried]:
        """Return the trials of a run, in the order in which they began."""
        return [
            Tried(
                **{
                    **{name: row[name] for name in Tried.__slots__},
                    "settings": json.loads(row["settings"]),
                    "scores": {int(r): s for r, s in json.loads(row["scores"]).items()},
                    "state": State[row["state"]],
                }
            )
            for row in self._rows(run)
        ]

    def export(self, run: str, path: Path) -> None:
        """Write the rows of a run as a Parquet file, a column for each of its settings.

        Raises:
            InputError: if the file cannot be written.
        """
        table = pd.DataFrame([dict(row) for row in self._rows(run)])
        settings = pd.DataFrame([json.loads(text) for text in table.pop("settings")])
        part = path.with_name(f".{path.name}")
        try:
            pd.concat([table, settings], axis=1).to_parquet(part, index=False)
            part.replace(path)
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from error

    def _rows(self, run: str) -> list[sqlite3.Row]:
        with self._open() as connection:
            connection.row_factory = sqlite3.Row
            return connection.execute(
                "SELECT * FROM trials WHERE run = ? ORDER BY rowid", (run,)
            ).fetchall()

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = sqlite3.connect(self.path, timeout=PATIENCE_S)
            try:
                with connection:
                    connection.execute(TABLE)
                    yield connection
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise InputError(f"{self.path}: {error}") from error
