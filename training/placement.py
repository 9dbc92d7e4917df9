"""What the parts of reinforcement learning occupy, and whether the cluster has room for them.

RLlib asks for its actors one by one and waits for ever, without a word, for those that cannot be
placed. So all of them are asked for here first, as one placement group, which is given back.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from market.errors import InputError
from training.settings import ClusterSettings, RLSettings

Bundle = dict[str, float]  # what one actor occupies on one node, by Ray's name of the resource

NAMES = {"CPU": "CPUs", "GPU": "GPUs"}
PATIENCE_SECONDS = 10.0  # for resources that the cluster has, but something else holds
SECONDS_BETWEEN_MESSAGES = 60.0


class ActorsLostError(RuntimeError):
    """A learner, or every sampler, died and does not come back; the message is one line."""


def sized(settings: RLSettings, joined: bool) -> RLSettings:
    """Return settings with as many runners and learners as there is room for, where none are given.

    A cluster gets a learner for every GPU of the other nodes, unless this machine has one itself,
    and a sampler for every CPU that is left, but the one that this process needs. Without a
    cluster all is done here.

    Args:
        settings: of the algorithm.
        joined: to a cluster; Ray runs then.
    """
    nodes = _spare_resources() if joined else []
    if settings.num_learners is None:
        gpus = int(sum(node.get("GPU", 0.0) for node in nodes[1:]))
        remote = settings.device != "cpu" and not torch.cuda.is_available() and gpus > 0
        device = "cuda" if remote else settings.device
        settings = replace(settings, num_learners=gpus if remote else 0, device=device)
    if settings.num_env_runners is None:
        # One that is asked to occupy nothing computes all the same.
        share = settings.num_cpus_per_env_runner or 1.0
        places = sum(int(node.get("CPU", 0.0) // share) for node in nodes)
        taken = sum(
            bundle.get("CPU", 0.0) for bundle in bundles(replace(settings, num_env_runners=0))
        )
        settings = replace(settings, num_env_runners=max(places - math.ceil(taken / share), 0))
    return settings


def _spare_resources() -> list[Bundle]:
    """Return what every node has: this one first, without the CPU that this process needs."""
    import ray

    here = ray.get_runtime_context().get_node_id()
    alive = sorted(
        (node for node in ray.nodes() if node["Alive"]), key=lambda node: node["NodeID"] != here
    )
    mine, *others = [dict(node["Resources"]) for node in alive]
    return [{**mine, "CPU": max(mine.get("CPU", 0.0) - 1.0, 0.0)}, *others]


def chosen_device(device: str) -> str:
    """Return "cpu" or "cuda" for `algorithm.device`.

    Raises:
        InputError: if this machine has not what is asked for.
    """
    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise InputError("algorithm.device=cuda: torch finds no CUDA device on this machine")
    if device == "auto":
        return "cuda" if there else "cpu"
    return device


def learner_device(settings: RLSettings) -> str:
    """Return the device of the learners; remote ones may have a GPU that is not here."""
    remote = bool(settings.num_learners) and settings.device == "cuda"
    return "cuda" if remote else chosen_device(settings.device)


def runner_device(settings: RLSettings) -> str:
    """Return the device of the samplers."""
    if not settings.num_env_runners:
        return chosen_device(settings.device)
    return "cuda" if runner_gpus(settings) > 0.0 else "cpu"


def runner_gpus(settings: RLSettings) -> float:
    """Return what each remote sampler occupies of a GPU."""
    if not settings.num_env_runners or learner_device(settings) == "cpu":
        return 0.0
    return settings.num_gpus_per_env_runner


def learner_gpus(settings: RLSettings) -> int:
    """Return the GPUs of each learner: RLlib gives it one at most."""
    return int(learner_device(settings) == "cuda")


def driver_gpus(settings: RLSettings) -> float:
    """Return the GPUs of the process that drives a run: one where it learns itself, and on one.

    With `device=auto` that is where the cluster has any. Ray runs.
    """
    import ray

    if settings.num_learners or settings.device == "cpu":
        return 0.0
    there = ray.cluster_resources().get("GPU", 0.0) > 0.0
    return float(there or settings.device == "cuda")


def bundles(settings: RLSettings) -> list[Bundle]:
    """Return what each remote actor occupies; this process needs no room of its own."""
    runner = {"CPU": settings.num_cpus_per_env_runner, "GPU": runner_gpus(settings)}
    gpus = learner_gpus(settings)
    learner = {"CPU": 0.0 if gpus else 1.0, "GPU": float(gpus)}
    actors = [runner] * (settings.num_env_runners or 0) + [learner] * (settings.num_learners or 0)
    needed = [{name: value for name, value in actor.items() if value > 0.0} for actor in actors]
    return [bundle for bundle in needed if bundle]


def require_room(
    settings: RLSettings, cluster: ClusterSettings, say: Callable[[str], None]
) -> None:
    """Return when the cluster has room for all actors at once, each on one of its nodes.

    Ray runs already.

    Raises:
        InputError: if it has not, and the run is not to wait; within half a minute.
    """
    needed = bundles(settings)
    if not needed:
        return
    from ray.util.placement_group import (
        get_current_placement_group,
        placement_group,
        remove_placement_group,
    )

    if get_current_placement_group() is not None:
        return  # a task that holds room for its actors already
    if not cluster.wait and lacking(needed) is not None:
        raise _refusal(settings, needed)
    group = placement_group(needed)
    spoke = -SECONDS_BETWEEN_MESSAGES
    try:
        while not group.wait(timeout_seconds=1.0 if cluster.wait else PATIENCE_SECONDS):
            if not cluster.wait:
                raise _refusal(settings, needed)
            if time.monotonic() - spoke >= SECONDS_BETWEEN_MESSAGES:
                say(f"waiting: {_shortage(settings, needed)}")
                spoke = time.monotonic()
    finally:
        remove_placement_group(group)


def described(settings: RLSettings) -> str:
    """Return one line with who samples and who learns."""
    runners, learners = settings.num_env_runners, settings.num_learners
    sampled = f"{runners} remote samplers" if runners else "this process samples"
    learned = f"{learners} remote learners" if learners else "this process learns"
    return f"{sampled}, {learned} on {learner_device(settings)}"


def lacking(needed: Sequence[Bundle]) -> str | None:
    """Return what the whole cluster has too little of, in words; None if it could hold all.

    Ray runs.
    """
    import ray

    there = ray.cluster_resources()
    for name, total in _sum(needed).items():
        if total > there.get(name, 0.0):
            return f"{total:g} {NAMES[name]}, there are {there.get(name, 0.0):g}"
    return None


def _sum(needed: Sequence[Bundle]) -> Bundle:
    return {name: sum(bundle.get(name, 0.0) for bundle in needed) for name in NAMES}


def _refusal(settings: RLSettings, needed: list[Bundle]) -> InputError:
    return InputError(f"{_shortage(settings, needed)}; cluster.wait=true waits for more")


def _shortage(settings: RLSettings, needed: list[Bundle]) -> str:
    """Return one line with what is needed and what there is."""
    import ray

    def listed(resources: Bundle) -> str:
        return " and ".join(f"{resources.get(n, 0.0):g} {text}" for n, text in NAMES.items())

    nodes = sum(node["Alive"] for node in ray.nodes())
    return (
        f"algorithm.num_env_runners={settings.num_env_runners} and "
        f"algorithm.num_learners={settings.num_learners} need {listed(_sum(needed))}; available "
        f"are {listed(ray.available_resources())} of {listed(ray.cluster_resources())} (nodes: "
        f"{nodes}, and each actor needs its share on one)"
    )
