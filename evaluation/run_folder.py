"""Where a run leaves its files, so that a killed run never harms the last good one."""

import errno
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evaluation.books import write_nav, write_trades
from evaluation.contest import Contest
from evaluation.report import write_report
from evaluation.summary import Opening, write
from market.dataset import Dataset
from market.errors import InputError

RUNS = Path("runs")
LATEST = "latest"
SUMMARY = "summary.json"
OPENING = "test_window.json"
LOCK = ".lock"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def open_run(out: str | None, verb: str, seed: int | None = None) -> Path:
    """Return a new, empty folder for a run.

    Args:
        out: the folder; None is `runs/<time>-<verb>-seed<seed>`.
        verb: what runs.
        seed: root of the seed tree; None where nothing is drawn.

    Raises:
        InputError: if the folder holds files already, or cannot be made.
    """
    if out is None:
        return _new_folder(verb, seed)
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        occupied = any(folder.iterdir())
    except OSError as error:
        raise InputError(f"out={folder}: {error.strerror}") from error
    if occupied:
        raise InputError(f"out={folder} is not empty: a run is never written over another")
    return folder


def _new_folder(verb: str, seed: int | None) -> Path:
    """Return a folder under `runs/` that this call has made, whoever makes others meanwhile."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    name = f"{stamp}-{verb}" if seed is None else f"{stamp}-{verb}-seed{seed}"
    folder, count = RUNS / name, 1
    while True:
        try:
            folder.mkdir(parents=True)
        except FileExistsError:  # a multirun starts several in one second
            count += 1
            folder = RUNS / f"{name}-{count}"
        except OSError as error:
            raise InputError(f"out={folder}: {error.strerror}") from error
        else:
            return folder


@contextmanager
def room_in(folder: Path) -> Iterator[None]:
    """Say in words that a disk is full, wherever in a run that is met.

    Raises:
        InputError: if something cannot be written for lack of room or of the right to write.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise InputError(f"{folder}: {error.strerror}; earlier runs are untouched") from error


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep every other run out of a folder, until this one ends in whatever way.

    Raises:
        InputError: if a running command has claimed it, or something cannot be written for lack of
            room.
    """
    with room_in(folder), (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{folder} is being written by a command that still runs") from None
        try:
            yield
        finally:
            (folder / LOCK).unlink(missing_ok=True)


def is_claimed(folder: Path) -> bool:
    """Return whether a command that still runs has claimed a folder."""
    try:
        with (folder / LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def record_opening(folder: Path, data: Dataset, command: str) -> Opening:
    """Write down that the test window is read, before anything is decided in it.

    A run that dies afterwards has still seen the window, and its record stays; a resumed run keeps
    the time of its first reading.

    Args:
        folder: of the run.
        data: the market, with the test window.
        command: as it was typed.

    Raises:
        InputError: if the record cannot be written.
    """
    first, last = (str(data.bars.dates[row]) for row in (data.test.start, data.test.stop - 1))
    record = {
        "opened": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "source": data.bars.source,
        "first": first,
        "last": last,
    }
    path = folder / OPENING
    if path.exists():
        record = json.loads(path.read_text())
    try:
        write(path, record)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    return Opening(record["opened"], _earlier_readings(folder.resolve(), record))


def _earlier_readings(folder: Path, record: Mapping[str, str]) -> int:
    """Return how many runs beside this one have read an overlapping window of the same source."""
    count = 0
    for path in folder.parent.glob(f"*/{OPENING}"):
        if path.parent == folder or path.parent.is_symlink():  # `latest` is one of the others
            continue
        other = json.loads(path.read_text())
        overlaps = other["first"] <= record["last"] and other["last"] >= record["first"]
        count += overlaps and other["source"] == record["source"]
    return count


def write_results(folder: Path, summary: Mapping[str, Any], contest: Contest) -> None:
    """Write the books, the trades, the report and, last, the summary that marks a whole run.

    Args:
        folder: of the run.
        summary: content of `summary.json`.
        contest: all books; where it is about one policy, `nav.parquet` has the one column `nav`.

    Raises:
        InputError: if the disk is full or the folder cannot be written.
    """
    one = contest.single
    shown = [contest.book(contest.agents[0])] if one else contest.columns()
    traded = [contest.book(name) for name in contest.policies]
    try:
        write_nav(folder / "nav.parquet", shown, ["nav"] if one else None)
        write_trades(folder / "trades.parquet", traded, contest.symbols, contest.fill)
        write_report(folder / "report.html", summary, contest)
        write(folder / SUMMARY, summary)
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}; earlier runs are untouched") from error


def publish(folder: Path) -> None:
    """Let `runs/latest` point to a finished run, in one step; a run elsewhere has no such link."""
    if folder.resolve().parent != RUNS.resolve():
        return
    part = RUNS / f".{LATEST}.{os.getpid()}"
    part.unlink(missing_ok=True)
    part.symlink_to(folder.name)
    part.replace(RUNS / LATEST)
