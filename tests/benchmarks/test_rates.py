"""Rates count what each timed run has done."""

import time

import pytest

from benchmarks.rates import Rate, rates


def test_a_rate_is_what_was_done_over_the_time_that_it_took() -> None:
    done = iter([1_000_000, 30, 10, 20])  # the first one is the warm-up

    def work() -> int:
        time.sleep(0.02)
        return next(done)

    found = rates({"work": work}, repeats=3)["work"]
    assert list(found.every) == sorted(found.every)
    assert 30 / 0.02 > found.high > found.median > found.low > 0.0


def test_the_middle_rate_of_an_even_number_is_the_lower_one() -> None:
    rate = Rate([1.0, 2.0, 3.0, 40.0])
    assert (rate.low, rate.median, rate.high) == (1.0, 2.0, 40.0)


def test_a_row_says_how_many_times_the_other_rate_it_is() -> None:
    assert Rate([3000.0]).row("ours", Rate([200.0]))[-1] == "15.0"
    assert Rate([3000.0]).spread("ours") == {"ours_low": 3000.0, "ours_high": 3000.0}


def test_work_that_fails_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        rates({"work": lambda: 1 // 0}, repeats=1)
