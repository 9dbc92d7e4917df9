"""Room for remote runners and learners: asked for before them, refused in a line, or waited for."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from market.errors import InputError
from training import placement
from training.settings import ClusterSettings, RLSettings

NOW = ClusterSettings(join=False, wait=False, checkpoints=None)
LATER = ClusterSettings(join=False, wait=True, checkpoints=None)


@pytest.fixture
def rl(settings: Callable[..., Any]) -> Callable[..., RLSettings]:
    def build(**values: Any) -> RLSettings:
        chosen: RLSettings = settings("algorithm", "ppo", **{"device": "cpu", **values})
        return chosen

    return build


def silent(line: str) -> None:
    raise AssertionError(f"nothing is to be said, not {line!r}")


def test_the_device_is_the_best_there_is_unless_one_is_asked_for() -> None:
    there = torch.cuda.is_available()
    assert placement.chosen_device("auto") == ("cuda" if there else "cpu")
    assert placement.chosen_device("cpu") == "cpu"
    if not there:
        with pytest.raises(InputError, match=r"algorithm\.device=cuda: torch finds no CUDA device"):
            placement.chosen_device("cuda")


def test_nothing_is_needed_where_this_process_does_it_all(rl: Callable[..., RLSettings]) -> None:
    assert placement.bundles(rl()) == []


def test_each_actor_needs_its_own_share_of_one_node(rl: Callable[..., RLSettings]) -> None:
    settings = rl(num_env_runners=2, num_cpus_per_env_runner=0.5, num_learners=1)
    assert placement.bundles(settings) == [{"CPU": 0.5}, {"CPU": 0.5}, {"CPU": 1.0}]


def test_remote_learners_on_cuda_need_a_gpu_each_and_runners_the_share_they_ask_for(
    rl: Callable[..., RLSettings],
) -> None:
    settings = rl(num_env_runners=1, num_gpus_per_env_runner=0.25, num_learners=2, device="cuda")
    assert placement.bundles(settings) == [{"CPU": 1.0, "GPU": 0.25}, {"GPU": 1.0}, {"GPU": 1.0}]
    assert placement.runner_device(settings) == placement.learner_device(settings) == "cuda"
    without = rl(num_env_runners=1, num_learners=2, device="cuda")
    assert placement.runner_device(without) == "cpu"


def test_no_gpu_is_asked_for_on_a_cpu(rl: Callable[..., RLSettings]) -> None:
    settings = rl(num_env_runners=1, num_gpus_per_env_runner=0.5, num_learners=1)
    assert placement.bundles(settings) == [{"CPU": 1.0}, {"CPU": 1.0}]


def test_without_a_cluster_this_process_does_what_is_not_asked_of_others(
    rl: Callable[..., RLSettings],
) -> None:
    placed = placement.sized(rl(), joined=False)
    assert (placed.num_env_runners, placed.num_learners) == (0, 0)
    asked = rl(num_env_runners=3, num_learners=2)
    assert placement.sized(asked, joined=False) == asked


@pytest.mark.parametrize(
    ("values", "runners"),
    [
        ({}, 3),
        ({"num_cpus_per_env_runner": 0.0}, 3),
        ({"num_cpus_per_env_runner": 0.5}, 6),
        ({"num_cpus_per_env_runner": 2.0}, 1),
        ({"num_learners": 2}, 1),
        ({"num_learners": 9}, 0),
        ({"num_env_runners": 1}, 1),
    ],
)
def test_a_cluster_of_four_cpus_gets_a_sampler_on_each_that_nothing_else_needs(
    ray_here: None, rl: Callable[..., RLSettings], values: dict[str, Any], runners: int
) -> None:
    placed = placement.sized(rl(**values), joined=True)
    assert placed.num_env_runners == runners
    assert placed.num_learners == values.get("num_learners", 0)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"num_env_runners": 100}, ("num_env_runners=100", "need 100 CPUs", "4 CPUs")),
        ({"num_learners": 9}, ("num_learners=9", "need 9 CPUs", "of 4 CPUs")),
        ({"num_learners": 2, "device": "cuda"}, ("need 0 CPUs and 2 GPUs", "4 CPUs and 0 GPUs")),
        ({"num_env_runners": 1, "num_cpus_per_env_runner": 4.5}, ("need 4.5 CPUs",)),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="the words are those of a machine without")
def test_what_the_cluster_never_has_is_refused_at_once(
    ray_here: None, rl: Callable[..., RLSettings], values: dict[str, Any], words: tuple[str, ...]
) -> None:
    started = time.monotonic()
    with pytest.raises(InputError) as refused:
        placement.require_room(rl(**values), NOW, silent)
    assert time.monotonic() - started < placement.PATIENCE_SECONDS / 2
    line = str(refused.value)
    assert "\n" not in line
    for word in (*words, "cluster.wait=true"):
        assert word in line


def test_room_that_something_else_holds_is_refused_or_waited_for(
    ray_here: None, rl: Callable[..., RLSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.util.placement_group import placement_group, remove_placement_group

    settings, said = rl(num_env_runners=2), []
    placement.require_room(settings, NOW, silent)  # there is room, and none of it is kept
    held = placement_group([{"CPU": 3.0}])
    assert held.wait(timeout_seconds=10.0)
    monkeypatch.setattr(placement, "PATIENCE_SECONDS", 1.0)
    with pytest.raises(InputError, match=r"need 2 CPUs .* available are 1 CPUs .* of 4 CPUs"):
        placement.require_room(settings, NOW, silent)

    release = threading.Timer(2.5, lambda: remove_placement_group(held))
    release.start()
    placement.require_room(settings, LATER, said.append)
    release.join()
    assert len(said) == 1
    assert said[0].startswith("waiting: algorithm.num_env_runners=2")
