"""Going in good order: on Ctrl-C, on SIGTERM, and before Ray takes a machine away.

A pass of reinforcement learning can only be gone on with between two of its iterations: in the
middle of one the weights have taken some of its steps. So while it runs, whoever asks is answered
after the iteration, and who asks twice at once.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from types import FrameType

DRAINED = os.EX_TEMPFAIL  # exit code: the same command goes on elsewhere
SECONDS_BETWEEN_LOOKS = 0.5


class Leave(SystemExit):
    """The end of this process in good order, before its work is done."""

    def __init__(self, reason: str, code: int) -> None:
        super().__init__(code)
        self.reason = reason


@contextmanager
def leaving_on_signals() -> Iterator[None]:
    """Let SIGTERM end this process as Ctrl-C does; both take effect at once.

    Only a program's main thread hears signals; in any other nothing changes.
    """
    with _handling(_leave):
        yield


class Notice:
    """What has asked a pass to end.

    Args:
        nodes: Ray's ids of the machines without which it cannot go on.
    """

    def __init__(self, nodes: Collection[str]) -> None:
        self._nodes = set(nodes)
        self._signal: int | None = None
        self._looked = -SECONDS_BETWEEN_LOOKS

    @contextmanager
    def deferring(self) -> Iterator[None]:
        """Keep the first signal in mind, until the end at most; a second takes effect at once."""
        with _handling(self._note):
            yield
        if self._signal is not None:
            self.obey()

    def given(self) -> bool:
        """Return whether the pass is to end now."""
        return self._signal is not None or self._drained()

    def obey(self) -> None:
        """End it.

        Raises:
            KeyboardInterrupt: after Ctrl-C.
            Leave: after SIGTERM, or where Ray drains one of the machines.
        """
        if self._signal is not None:
            _leave(self._signal, None)
        raise Leave("Ray drains a machine that this run cannot do without", DRAINED)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None:
            _leave(number, frame)
        self._signal = number

    def _drained(self) -> bool:
        now = time.monotonic()
        if now - self._looked < SECONDS_BETWEEN_LOOKS:
            return False
        self._looked = now
        # Ray has no public name for this; its own libraries ask in the same way.
        from ray._private.state import state

        return not self._nodes.isdisjoint(state.get_draining_nodes())


def _leave(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise Leave(f"ended by {signal.Signals(number).name}", 128 + number)


@contextmanager
def _handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.signal(each, handler) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, previous in before.items():
            signal.signal(each, previous)
