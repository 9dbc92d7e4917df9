"""What remote samplers send is counted as Ray sends it, and the projection is its formula."""

import numpy as np
import pytest

from benchmarks.cluster import Iteration, Measured, Projection, _bytes, projection


def test_bytes_count_arrays_once_and_whole() -> None:
    array = np.zeros((1000, 3), dtype=np.float32)
    assert array.nbytes < _bytes({"a": array}) < array.nbytes + 500
    assert _bytes({"a": array, "b": array}) < array.nbytes + 500


def test_synchronising_is_all_that_is_neither_playing_nor_learning() -> None:
    one = Iteration(steps=1000, sample_s=1.5, own_s=1.2, learn_s=2.0, publish_s=0.5)
    assert one.sync_s == pytest.approx(0.8)
    assert one.rate == pytest.approx(250.0)


def test_the_projection_is_made_of_what_one_sampler_was_measured_with() -> None:
    iteration = Iteration(steps=1000, sample_s=1.25, own_s=1.0, learn_s=3.0, publish_s=0.5)
    found = projection(Measured(1, (iteration,), up=1_240_000_000, down=10_000_000))
    assert found == Projection(1.0, 3.0, pytest.approx(1.0), 0.25, 0.5)
    assert found.efficiency(8, learners_grow=True) == pytest.approx(4.0 / (4.0 + 10.0 + 0.5))
    assert found.efficiency(8, learners_grow=False) == pytest.approx(4.0 / (25.0 + 10.0 + 0.5))


def test_no_network_and_nothing_to_take_in_loses_nothing() -> None:
    assert Projection(1.0, 1.0, 0.0, 0.0, 0.0).efficiency(256, learners_grow=True) == 1.0
