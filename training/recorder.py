"""Writes every trial of a running search into the ledger, as Ray Tune tells of it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ray.tune.callback import Callback
from ray.tune.experiment import Trial

from evaluation.trial_ledger import State, TrialLedger, Tried
from training.progress import Narrator
from training.search_space import Setting
from training.trial import ERROR, RUNG, SCORE


class Recorder(Callback):  # type: ignore[misc]  # Ray Tune is untyped
    """Keeps the rows of one search, those of before an interruption among them.

    Args:
        ledger: that is written to.
        blank: a row of the search without a trial: its run, data and seed.
        identify: setting of a trial -> hash of its configuration.
        rungs: times that a trial is judged.
        trials: of the whole search.
        narrator: for people.
        track: is given each trial that is over.
    """

    def __init__(
        self,
        ledger: TrialLedger,
        blank: Tried,
        identify: Callable[[Setting], str],
        rungs: int,
        trials: int,
        narrator: Narrator,
        track: Callable[[Tried], None],
    ) -> None:
        self._ledger, self._blank, self._identify = ledger, blank, identify
        self._rungs, self._narrator, self._track = rungs, narrator, track
        self._latest = {tried.trial: tried for tried in ledger.of_run(blank.run)}
        self._narrator.phase("search", float(trials), float(self._over))

    def __reduce__(self) -> tuple[type[Callback], tuple[()]]:
        """Leave nothing in the files that Ray Tune would go on from: the ledger is the record."""
        return Callback, ()

    @property
    def known(self) -> int:
        """Return how many trials have begun."""
        return len(self._latest)

    def unfinished(self) -> dict[str, Setting]:
        """Return the settings of the trials that were interrupted, by their names."""
        rows = self._latest.values()
        return {row.trial: row.settings for row in rows if row.state is State.running}

    def done(self) -> list[Tried]:
        """Return the trials that were judged as often as they were to be."""
        return [row for row in self._latest.values() if row.state is State.done]

    def judged(self) -> list[Tried]:
        """Return the trials that are over and were judged at least once."""
        over = (State.done, State.stopped)
        return [row for row in self._latest.values() if row.state in over]

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Write down that a trial begins, or goes on under another setting."""
        self._row(str(trial), trial.config)

    def on_trial_result(
        self,
        iteration: int,
        trials: list[Trial],
        trial: Trial,
        result: Mapping[str, Any],
        **info: Any,
    ) -> None:
        """Write down a score. Its setting is the result's: the trial may have got another one."""
        row = self._row(str(trial), result["config"])
        error = result[ERROR]
        self._write(
            replace(
                row,
                score=result[SCORE],
                standard_error=None if math.isnan(error) else error,
                scores={**row.scores, result[RUNG]: result[SCORE]},
            )
        )

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Write down that a trial has ended, or was stopped."""
        row = self._latest[str(trial)]
        state = State.done if self._rungs in row.scores else State.stopped
        self._write(replace(row, state=state))
        self._track(row)
        self._tell(row, state)

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Write down why a trial has failed."""
        row = self._latest[str(trial)]
        lines = str(trial.get_pickled_error()).strip().splitlines()
        self._write(replace(row, state=State.failed, error=lines[-1] if lines else "no message"))
        self._tell(row, State.failed)

    @property
    def _over(self) -> int:
        return sum(row.state is not State.running for row in self._latest.values())

    def _row(self, trial: str, setting: Setting) -> Tried:
        """Return the row of a trial under a setting, which begins where there is none."""
        last, configuration = self._latest.get(trial), self._identify(setting)
        if last is not None and last.configuration == configuration:
            return last
        if last is not None:
            self._ledger.write(replace(last, state=State.left))
        row = replace(self._blank, trial=trial, configuration=configuration, settings=dict(setting))
        self._write(row)
        return row

    def _write(self, row: Tried) -> None:
        self._ledger.write(row)
        self._latest[row.trial] = row

    def _tell(self, row: Tried, state: State) -> None:
        best = max((row.score for row in self.done() if row.score is not None), default=math.nan)
        shown = "no score" if row.score is None else f"score {row.score:+.2f}"
        self._narrator.advance(
            float(self._over), f"trial {row.trial} {state.name}, {shown}, best {best:+.2f}"
        )
