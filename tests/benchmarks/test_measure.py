import json
import time

import pytest

from benchmarks.measure import Result, Timing, interleaved, machine, record, show

RESULT = Result("demo", {"ratio": 2.5, "low": 1}, ("work", "s"), (("a", "1.0"), ("bb", "10.0")))


def test_works_are_run_in_turn_after_the_warmups() -> None:
    calls: list[str] = []
    works = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    timings = interleaved(works, repeats=3, warmups=2)
    assert "".join(calls) == "ab" * 5
    assert [len(timing.seconds) for timing in timings.values()] == [3, 3]


def test_a_timing_covers_the_work_and_not_much_more() -> None:
    found = interleaved({"nap": lambda: time.sleep(0.02), "none": lambda: None}, repeats=3)
    assert 0.02 <= found["nap"].low < 0.2
    assert found["none"].median < 0.01


def test_median_low_and_high_of_known_seconds() -> None:
    timing = Timing((3.0, 1.0, 10.0, 2.0))
    assert (timing.median, timing.low, timing.high) == (2.5, 1.0, 10.0)


@pytest.mark.parametrize(("names", "repeats"), [((), 1), (("a",), 0)])
def test_timing_nothing_is_refused(names: tuple[str, ...], repeats: int) -> None:
    with pytest.raises(ValueError, match="nothing to time"):
        interleaved(dict.fromkeys(names, lambda: None), repeats)


def test_the_last_line_is_one_flat_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    show(RESULT)
    *lines, last = capsys.readouterr().out.splitlines()
    assert lines == ["work     s", "a      1.0", "bb    10.0"]
    assert json.loads(last) == record(RESULT)
    assert json.loads(last)["ratio"] == 2.5


def test_the_record_names_the_machine() -> None:
    found = machine()
    assert found.keys() == {"device", "threads", "cores", "torch", "python"}
    assert str(found["device"]).startswith("cpu: ")
    assert found.items() <= record(RESULT).items()


def test_a_figure_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        show(Result("demo", {"ratio": float("nan")}, ("work",), ()))
