"""The bound is the slower of computing and moving, for what is counted."""

import pytest

from benchmarks import defaults, roofline
from benchmarks.roofline import Cost, Peaks
from benchmarks.synthetic_market import random_walk, society
from training.society import Society

ROWS = slice(0, 300)
PEAKS = Peaks(bandwidth=1e10, gemm={"float32": 1e11, "float64": 5e10}, narrow_gemm={})


def made(assets: int) -> Society:
    settings = defaults.settings(episode_sessions=8)
    return society(random_walk(300, assets), defaults.mandates(), settings)


def test_the_slower_of_computing_and_moving_bounds_the_rate() -> None:
    moving = Cost(double=1.0, single=1.0, bytes=1000.0, unfused_bytes=5000.0)
    assert moving.bound(PEAKS) == pytest.approx(1e7)
    computing = Cost(double=5e4, single=1e5, bytes=1000.0, unfused_bytes=5000.0)
    assert computing.bound(PEAKS) == pytest.approx(1.0 / (1e-6 + 1e-6))


def test_the_kernel_moves_at_least_its_books_twice() -> None:
    """Shares and tilt are read and written (float64), the action read, book features written."""
    assets = 20
    cost = roofline.kernel_cost(made(assets).env(ROWS))
    positions = 2 * 2 * 8 * assets + 4 * (assets + 1) + 4 * 2 * assets
    assert positions < cost.bytes < 2 * positions
    assert cost.bytes < cost.unfused_bytes


def test_the_kernels_work_grows_with_the_assets_and_no_faster() -> None:
    small, large = (roofline.kernel_cost(made(assets).env(ROWS)) for assets in (40, 80))
    assert 1.8 < large.double / small.double < 2.0
    assert 1.8 < large.bytes / small.bytes < 2.0


def test_sampling_costs_more_than_its_kernel_and_every_part_is_set_against_its_bound() -> None:
    settings = defaults.algorithm(starts=2, replicas=4, device="cpu")
    reached = {"kernel": 1e5, "sampling": 1e4, "learning": 1e3}
    figures = roofline.run(PEAKS, made(5), ROWS, settings, reached).figures
    bounds = {part: figures[f"{part}_bound_per_s"] for part in reached}
    assert bounds["sampling"] < bounds["kernel"]  # type: ignore[operator]
    for part, rate in reached.items():
        share = figures[f"{part}_share"]
        assert share == pytest.approx(rate / bounds[part], abs=1e-4)  # type: ignore[operator]


def test_peaks_are_positive_for_any_size() -> None:
    found = roofline.peaks("cpu", 4096, 16, (2, 64, 8), 1)
    assert found.bandwidth > 0.0
    assert min(*found.gemm.values(), *found.narrow_gemm.values()) > 0.0
    assert len(found.result().rows) == 1 + 2 * len(roofline.DTYPES)
