"""Rates of work that is timed in turn with other work: agent steps a second.

An agent step is one decision of one book.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.measure import Timing, interleaved

COLUMNS = ("", "agent-steps/s", "slowest", "fastest", "ratio")


@dataclass(frozen=True, slots=True)
class Rate:
    """Agent steps a second of repeated runs, in ascending order."""

    every: Sequence[float]

    @property
    def median(self) -> float:
        """Return the middle rate, the lower one of two."""
        return self.every[(len(self.every) - 1) // 2]

    @property
    def low(self) -> float:
        """Return the slowest run's."""
        return self.every[0]

    @property
    def high(self) -> float:
        """Return the fastest run's."""
        return self.every[-1]

    def spread(self, name: str) -> dict[str, float]:
        """Return the figures of the slowest and the fastest run."""
        return {f"{name}_low": self.low, f"{name}_high": self.high}

    def row(self, name: str, beside: "Rate") -> tuple[str, ...]:
        """Return a line of a table: the rate, its spread and how many times the other it is."""
        return (
            name,
            f"{self.median:,.0f}",
            f"{self.low:,.0f}",
            f"{self.high:,.0f}",
            f"{self.median / beside.median:.1f}",
        )


def rates(works: Mapping[str, Callable[[], int]], repeats: int) -> dict[str, Rate]:
    """Run every piece of work in turn, `repeats` times, and return its rates.

    Args:
        works: name -> work that returns the agent steps of one run.
        repeats: timed runs of each.
    """
    counted = {name: _Counted(work) for name, work in works.items()}
    timings = interleaved(counted, repeats)
    return {name: work.rate(timings[name]) for name, work in counted.items()}


class _Counted:
    """Work that remembers how much of it each run has done."""

    def __init__(self, work: Callable[[], int]) -> None:
        self._work = work
        self._done: list[int] = []

    def __call__(self) -> None:
        self._done.append(self._work())

    def rate(self, timing: Timing) -> Rate:
        """Return the rates of the runs that were timed: the last ones."""
        done = self._done[-len(timing.seconds) :]
        every = [steps / seconds for steps, seconds in zip(done, timing.seconds, strict=True)]
        return Rate(sorted(every))
