"""Going in good order: when a signal takes effect, and as what."""

import os
import signal
import threading

import pytest

from training.leaving import Leave, Notice, leaving_on_signals

pytestmark = pytest.mark.usefixtures("ray_here")


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (15, Leave)])
def test_the_first_signal_waits_and_the_second_does_not(
    number: int, error: type[BaseException]
) -> None:
    notice, reached = Notice(()), []
    with pytest.raises(error), notice.deferring():
        assert not notice.given()
        os.kill(os.getpid(), number)
        reached.append(notice.given())
        os.kill(os.getpid(), number)
        reached.append("never")
    assert reached == [True]


def test_a_signal_that_nobody_has_looked_for_takes_effect_at_the_end() -> None:
    after = []
    with pytest.raises(Leave) as left:
        with Notice(()).deferring():
            os.kill(os.getpid(), signal.SIGTERM)
        after.append("never")
    assert not after
    assert (left.value.code, left.value.reason) == (143, "ended by SIGTERM")


def test_outside_of_a_pass_a_signal_takes_effect_at_once_and_what_was_there_comes_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Leave), leaving_on_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("not reached")
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_thread_hears_no_signals_and_runs_all_the_same() -> None:
    done = []

    def work() -> None:
        with leaving_on_signals(), Notice(()).deferring():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]
