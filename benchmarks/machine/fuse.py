"""Deaths of a process that is only pretended: at any byte to the broker, at any commit.

A process ends within whatever it is doing, and nothing of it runs afterwards. So what ends it here
is no `Exception`, and once dead it can neither send nor commit, whatever its `finally` blocks try.
"""

from collections import deque
from collections.abc import Iterable, Sequence

from risk.gateway.audit import Anchor, Mark


class Killed(BaseException):
    """The process is gone."""


class Fuse:
    """Counts what the process does, and ends it in the middle of it."""

    def __init__(self) -> None:
        self._left: deque[int] = deque()
        self.dead = False

    def light(self, counts: Sequence[int]) -> None:
        """Let it die after so many acts, and so many acts after it was started again, and so on."""
        self._left = deque(counts)

    def burn(self) -> None:
        """Count one act.

        Raises:
            Killed: if it was the last one.
        """
        if self.dead:
            raise Killed
        if self._left:
            self._left[0] -= 1
            if self._left[0] <= 0:
                self._left.popleft()
                self.dead = True
                raise Killed

    def bury(self) -> None:
        """Let a new process begin."""
        self.dead = False

    def put_out(self) -> None:
        """Let nothing die any more."""
        self._left.clear()


class KeptMarks:
    """An anchor in the memory of who looks on: it outlives every process that is pretended."""

    def __init__(self) -> None:
        self._marks: list[Mark] = []

    def begin(self, marks: Iterable[Mark]) -> None:
        """Forget all marks but these."""
        self._marks = list(marks)

    def append(self, mark: Mark) -> None:
        """Keep a mark."""
        self._marks.append(mark)

    def marks(self) -> Iterable[Mark]:
        """Return all marks."""
        return tuple(self._marks)

    def last(self) -> list[Mark]:
        """Return the last marks."""
        return self._marks[-100:]


class FusedAnchor:
    """An anchor before and after each of whose marks the process may die.

    The ledger marks a transaction before and after its commit, so these are the four moments around
    one: nothing written, announced, committed, told.

    Args:
        anchor: that keeps the marks.
        fuse: of the process.
    """

    def __init__(self, anchor: Anchor, fuse: Fuse) -> None:
        self._anchor, self._fuse = anchor, fuse

    def append(self, mark: Mark) -> None:
        """Keep a mark, if the process lives to do it."""
        self._fuse.burn()
        self._anchor.append(mark)
        self._fuse.burn()

    def marks(self) -> Iterable[Mark]:
        """Return all marks."""
        return self._anchor.marks()

    def last(self) -> list[Mark]:
        """Return the last marks."""
        return self._anchor.last()
