"""What a person sees while training runs: a bar with the time left, or a line now and then."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 10.0


class Narrator:
    """Tells how far each phase is, on a terminal as a bar, elsewhere as plain lines."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stderr, highlight=False, soft_wrap=True)
        self._bar = (
            Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f} %"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=self._console,
                transient=True,
            )
            if sys.stdout.isatty() and self._console.is_terminal
            else None
        )
        self._task: TaskID | None = None
        self._phase, self._total = "", 1.0
        self._started = self._spoke = 0.0

    def __enter__(self) -> "Narrator":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, line: str) -> None:
        """Show one line that stays."""
        self._console.print(line, markup=False)

    def phase(self, name: str, total: float, done: float = 0.0) -> None:
        """Begin a phase of `total` units of work, some of them perhaps done before."""
        self._phase, self._total, self._first = name, total, done
        self._started = self._spoke = time.monotonic()
        if self._bar is None:
            self.say(f"{name} ...")
            return
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(name, total=total, note="")
        self._bar.update(self._task, completed=done)

    def advance(self, done: float, note: str) -> None:
        """Say that `done` units of the phase are behind us."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, note=note)
            return
        now = time.monotonic()
        if now - self._spoke < SECONDS_BETWEEN_LINES:
            return
        self._spoke = now
        if done < self._total:
            left = (now - self._started) * (self._total - done) / max(done - self._first, 1e-9)
            share = done / self._total
            self.say(f"{self._phase}: {share:.0%}, about {left:.0f} s left, {note}")
