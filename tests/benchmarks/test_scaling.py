from dataclasses import fields, replace

import pytest

from benchmarks.scaling import STUDIES, Sizes, run, slope

AXES = {"environment steps": "assets", "sampling and learning": "days"}
TINY = {
    name: replace(
        study,
        axes={AXES.get(name, "features"): study.axes[AXES.get(name, "features")]},
        base=replace(study.base, environments=2, assets=4, features=3, days=2),
        least=replace(study.least, environments=2, assets=4, features=3, days=2),
    )
    for name, study in STUDIES.items()
}


def test_the_exponent_of_a_power_is_that_power() -> None:
    sizes = (3, 6, 12, 24)
    assert slope(sizes, [7.0 * size**1.5 for size in sizes]) == pytest.approx(1.5)


def test_a_fixed_cost_lowers_the_exponent() -> None:
    sizes = (3, 6, 12, 24)
    assert slope(sizes, [100.0 + size for size in sizes]) < 0.1


def test_everything_that_can_grow_is_doubled() -> None:
    doubled = {axis for study in STUDIES.values() for axis in study.axes}
    assert doubled == {item.name for item in fields(Sizes)}


def test_every_axis_has_an_exponent_its_times_and_its_fixed_cost() -> None:
    result = run("cpu", repeats=1, studies=TINY)
    names = ("assets", "days", "features")
    for name in names:
        assert isinstance(result.figures[f"exponent_{name}"], float)
        assert result.figures[f"fixed_{name}"] > 0.0
        times = result.figures[f"seconds_{name}"]
        smallest = min(times)
        assert list(times) == [smallest * 2**i for i in range(4)]
    assert len(result.rows) == len(names)
