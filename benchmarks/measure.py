"""Time pieces of work one beside the other, and print what was found.

It needs only the standard library and torch, so that it runs on a machine that has no more.
"""

import gc
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True, slots=True)
class Timing:
    """The times of repeated runs of one piece of work."""

    seconds: tuple[float, ...]  # at least one

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)

    @property
    def low(self) -> float:
        """Seconds of the fastest run."""
        return min(self.seconds)

    @property
    def high(self) -> float:
        """Seconds of the slowest run."""
        return max(self.seconds)


@dataclass(frozen=True, slots=True)
class Result:
    """What one benchmark found."""

    benchmark: str  # its name
    figures: Mapping[str, object]  # plain numbers and words, the ones to look at first
    columns: tuple[str, ...]  # heads of the table
    rows: tuple[tuple[str, ...], ...]  # each as long as the columns


def interleaved(
    works: Mapping[str, Callable[[], object]], repeats: int, warmups: int = 1
) -> dict[str, Timing]:
    """Time every piece of work `repeats` times in turn: A B A B ...

    A machine that becomes slower in the meantime then hits all of them alike.

    Args:
        works: name -> work; what it returns is dropped. Work that was sent to a CUDA device is
            waited for.
        repeats: timed rounds, >= 1.
        warmups: rounds before, which are not counted: compilation, caches, first allocations.

    Raises:
        ValueError: if nothing would be timed.
    """
    if repeats < 1 or not works:
        raise ValueError(f"nothing to time: {len(works)} works, {repeats} repeats")
    for _ in range(warmups):
        for work in works.values():
            work()
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            gc.collect()  # else one piece of work pays for the garbage of the one before
            seconds[name].append(_seconds(work))
    return {name: Timing(tuple(found)) for name, found in seconds.items()}


def _seconds(work: Callable[[], object]) -> float:
    _finish_device()
    start = time.perf_counter()
    work()
    _finish_device()
    return time.perf_counter() - start


def _finish_device() -> None:
    """Wait for the kernels in flight; CUDA returns before it has computed."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()


def machine(device: str = "cpu") -> dict[str, object]:
    """Return what the figures were measured on.

    Args:
        device: a torch device name.
    """
    return {
        "device": _device_name(device),
        "threads": torch.get_num_threads(),
        "cores": len(os.sched_getaffinity(0)),
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }


def _device_name(device: str) -> str:
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device}: {_processor()}"


def _processor() -> str:
    """Return the processor's model as Linux names it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def record(result: Result, device: str = "cpu") -> dict[str, object]:
    """Return a result as one flat JSON object: its name, its figures, the machine."""
    return {"benchmark": result.benchmark, **machine(device), **result.figures}


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return aligned text, names to the left and numbers to the right.

    >>> print(table(("work", "s"), (("kernel", "0.5"), ("all", "12.0"))))
    work       s
    kernel   0.5
    all     12.0
    """
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    lines = []
    for row in (columns, *rows):
        name, *numbers = row
        cells = [cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)


def show(result: Result, device: str = "cpu") -> None:
    """Print the table, and as the last line of stdout the JSON object of `record`.

    Raises:
        ValueError: if a figure is not a finite number; JSON has no other.
    """
    line = json.dumps(record(result, device), allow_nan=False)
    print(table(result.columns, result.rows), line, sep="\n", flush=True)
