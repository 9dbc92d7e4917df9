"""The audit chain: records that each hold the hash of the one before, and an anchor outside.

Each state has its record in the same transaction. The anchor, a file on another path, hears of a
transaction twice: `prepared` before it is committed, `committed` after. So nothing is committed
that the anchor did not hear of: a record that it does not know was put there by somebody else. And
what it heard to be committed must be in the ledger: where it is not, somebody removed it, changed
it, or restored an older copy. A transaction that was prepared and is not there never happened.
"""

import errno
import fcntl
import os
import queue
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from risk.gateway.canonical import canonical
from risk.gateway.durable import settle

START = "0" * 64  # the hash before the first record
_LINE = re.compile(r"(prepared|committed) (\d{1,18}) ([0-9a-f]{64})")
_TAIL = 1 << 16  # bytes of an anchor that are enough to compare heads


class AnchorFailed(OSError):
    """The anchor does not take what it must hear; nothing may be committed."""


@dataclass(frozen=True, slots=True)
class Head:
    """The last record of a chain: its number, from 1, and its hash; 0 of none."""

    seq: int
    hash: str


@dataclass(frozen=True, slots=True)
class Mark:
    """What an anchor heard: a transaction that ends with `head` is prepared, or committed."""

    head: Head
    committed: bool


def link(fields: dict[str, object]) -> tuple[str, str]:
    """Return a record as canonical JSON, and its hash."""
    body = canonical(fields)
    return body, digest(body)


def digest(body: str) -> str:
    """Return the hash of a record's text."""
    return sha256(body.encode()).hexdigest()


class Anchor(Protocol):
    """Remembers heads of the chain where the ledger's owner cannot change them."""

    def append(self, mark: Mark) -> None:
        """Write a mark durably, within seconds; `AnchorFailed` if that cannot be said."""
        ...

    def marks(self) -> Iterable[Mark]:
        """Return all marks, oldest first; `AnchorFailed` if they cannot be read."""
        ...

    def last(self) -> list[Mark]:
        """Return the last marks, oldest first: as many as are quickly read."""
        ...


class FileAnchor:
    """Marks as lines of a file, which should lie on another disk or belong to another user.

    Args:
        path: of the file.
        patience_s: seconds that one write may take.
    """

    def __init__(self, path: Path, patience_s: float = 5.0) -> None:
        self.path = path.absolute()
        self._patience_s = patience_s
        self._worker = Worker(f"anchor {path.name}")

    def append(self, mark: Mark) -> None:
        """Write a mark; a disk that hangs is given up after `patience_s`."""
        line = mark_line(mark)
        task = self._worker.run(lambda: _append(self.path, line))
        try:
            task.result(self._patience_s)
        except TimeoutError:
            task.cancel()
            raise AnchorFailed(f"anchor {self.path} hangs for {self._patience_s} s") from None
        except OSError as error:
            raise AnchorFailed(f"anchor {self.path}: {error.strerror}") from error

    def marks(self) -> Iterator[Mark]:
        """Yield all marks; a last line that a power failure tore is no mark."""
        try:
            with self.path.open("rb") as file:
                for line in file:
                    yield from parse_mark(line, str(self.path))
        except FileNotFoundError:
            return
        except OSError as error:
            raise AnchorFailed(f"anchor {self.path}: {error.strerror}") from error

    def last(self) -> list[Mark]:
        """Return the marks of the last 64 KiB."""
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _TAIL))
                if size > _TAIL:
                    file.readline()  # half of one
                return [mark for line in file for mark in parse_mark(line, str(self.path))]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise AnchorFailed(f"anchor {self.path}: {error.strerror}") from error


def mark_line(mark: Mark) -> bytes:
    """Return a mark as a line."""
    word = "committed" if mark.committed else "prepared"
    return f"{word} {mark.head.seq} {mark.head.hash}\n".encode()


def parse_mark(line: bytes, place: str) -> Iterator[Mark]:
    """Yield the mark of a line; one that a power failure tore has no end, and is none.

    Raises:
        AnchorFailed: if the line, found at `place`, is no mark.
    """
    if not line.endswith(b"\n"):
        return
    found = _LINE.fullmatch(line[:-1].decode("ascii", "replace"))
    if found is None:
        raise AnchorFailed(f"anchor {place} holds a line that is no mark")
    yield Mark(Head(int(found[2]), found[3]), found[1] == "committed")


def _append(path: Path, line: bytes) -> None:
    """Append a line and wait for the disk; what a failure left of another one is cut off first."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        end = _whole_end(descriptor)
        os.ftruncate(descriptor, end)
        if os.pwrite(descriptor, line, end) != len(line):
            raise OSError(errno.ENOSPC, "no room for a whole line")
        os.fsync(descriptor)
        if end == 0:
            settle(path.parent)
    finally:
        os.close(descriptor)


def _whole_end(descriptor: int) -> int:
    """Return where the last whole line ends."""
    size = os.fstat(descriptor).st_size
    start = max(0, size - 4096)
    end = os.pread(descriptor, size - start, start).rfind(b"\n") + 1
    if end == 0 and start > 0:
        raise OSError(errno.EINVAL, "it holds a line that is no mark")
    return start + end


class Worker:
    """One thread that may hang for ever without taking its caller or the end of the process along.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: queue.SimpleQueue[tuple[Callable[[], None], Future[None]]] | None = None
        self._lock = threading.Lock()

    def run(self, task: Callable[[], None]) -> "Future[None]":
        """Queue a task; one whose caller gave up before it began is not begun."""
        with self._lock:
            if self._tasks is None:
                self._tasks = queue.SimpleQueue()
                threading.Thread(
                    target=_work, args=(self._tasks,), name=self._name, daemon=True
                ).start()
        future: Future[None] = Future()
        self._tasks.put((task, future))
        return future


def _work(tasks: "queue.SimpleQueue[tuple[Callable[[], None], Future[None]]]") -> None:
    while True:
        task, future = tasks.get()
        if not future.set_running_or_notify_cancel():
            continue
        try:
            future.set_result(task())
        except BaseException as error:  # noqa: BLE001 it is raised where the result is asked for
            future.set_exception(error)
