"""What is told while training runs, where nobody looks at a terminal."""

import io

import pytest
from rich.console import Console

from training import progress
from training.progress import Narrator


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_plain_lines_come_every_ten_seconds_with_the_time_left(clock: list[float]) -> None:
    text = io.StringIO()
    with Narrator(Console(file=text, width=200)) as narrator:
        narrator.phase("inner pass, ppo", total=1000)
        for second in range(1, 26):
            clock[0] = 100.0 + second
            narrator.advance(second * 10.0, "fine")
    assert text.getvalue().splitlines() == [
        "inner pass, ppo ...",
        "inner pass, ppo: 10%, about 90 s left, fine",
        "inner pass, ppo: 20%, about 80 s left, fine",
    ]


def test_work_done_before_an_interruption_does_not_count_as_speed(clock: list[float]) -> None:
    text = io.StringIO()
    with Narrator(Console(file=text, width=200)) as narrator:
        narrator.phase("rl", total=1000, done=500)
        clock[0] = 110.0
        narrator.advance(600, "fine")
    assert text.getvalue().splitlines()[-1] == "rl: 60%, about 40 s left, fine"


def test_no_line_is_longer_than_it_is_written(clock: list[float]) -> None:
    text = io.StringIO()
    narrator = Narrator(Console(file=text, width=20, soft_wrap=True))
    narrator.say("balanced [rl] " + "word " * 30)
    assert text.getvalue().count("\n") == 1
    assert "[rl]" in text.getvalue()
