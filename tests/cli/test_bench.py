"""`tercet bench`: a table, then one JSON object as the last line; everything else on stderr."""

import json
from collections.abc import Callable

import pytest

from benchmarks.measure import Result
from cli import bench
from cli.bench import ALL, BENCHMARKS, SUBVERBS, Bench, Benchmark

SMALL = ("market=synthetic", "market.assets=4", "market.sessions=800", "repeats=1", "threads=1")


def talkative(name: str, figure: float) -> Callable[[Bench], Result]:
    """Return a benchmark that also prints, as libraries do."""

    def run(_: Bench) -> Result:
        print("noise from a library")
        return Result(name, {"seconds": figure}, (name, "s"), (("all of it", f"{figure}"),))

    return run


@pytest.fixture
def two_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {
        "kernel": Benchmark("first", talkative("kernel", 1.5)),
        "sample": Benchmark("second", talkative("sample", 2.5)),
    }
    monkeypatch.setattr(bench, "BENCHMARKS", table)


def test_the_names_are_those_of_the_issue() -> None:
    expected = {"kernel", "pettingzoo", "sample", "train", "features", "backtest", "scaling"}
    assert expected <= set(BENCHMARKS)
    assert set(SUBVERBS) == {*BENCHMARKS, ALL}


@pytest.mark.usefixtures("two_benchmarks")
def test_the_last_line_is_json_and_noise_goes_to_stderr(tercet) -> None:
    result = tercet("bench", "sample", "threads=1")
    assert result.code == 0
    *table, last = result.out.splitlines()
    assert table == ["sample       s", "all of it  2.5"]
    found = json.loads(last)
    assert (found["benchmark"], found["seconds"], found["threads"]) == ("sample", 2.5, 1)
    assert "noise from a library" in result.err


@pytest.mark.usefixtures("two_benchmarks")
def test_all_of_them_end_in_one_object_by_name(tercet) -> None:
    result = tercet("bench", "all", "threads=1")
    found = json.loads(result.out.splitlines()[-1])
    assert {name: one["seconds"] for name, one in found.items()} == {"kernel": 1.5, "sample": 2.5}
    assert all("device" in one for one in found.values())
    assert "noise" not in result.out


def test_a_backtest_is_timed_with_its_optimisers_apart(tercet) -> None:
    result = tercet("bench", "backtest", *SMALL)
    assert result.code == 0, result.err
    found = json.loads(result.out.splitlines()[-1])
    assert 0.0 < found["seconds_low"] <= found["seconds"] <= found["seconds_high"]
    assert found["optimiser_seconds"] > 0.0
    assert found["seconds"] < found["contest_seconds"]
    assert (found["agents"], found["assets"], found["cost_scales"]) == (3, 4, 4)
    assert (found["rule_baselines"], found["optimiser_baselines"]) == (7, 3)


def test_a_market_without_traded_values_is_refused_in_one_line(tercet) -> None:
    result = tercet("bench", "backtest", "market.assumed_adv=null")
    assert result.code == 2
    assert "market.assumed_adv" in result.err.splitlines()[-1]
