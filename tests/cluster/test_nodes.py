"""Machines that are taken away from a run: three of Ray's nodes on this one."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest

from market.compose import CONF
from training.local_ray import ENVIRONMENT

SMALL = (
    "market=synthetic", "market.sessions=800", "market.assets=5", "env.episode_sessions=21",
    "network.members=2", "tracking=none", "pretrain=none", "algorithm.starts=2",
    "algorithm.replicas=4", "algorithm.minibatch_days=21", "algorithm.checkpoint_seconds=1e-6",
)  # fmt: skip
STEPS = 3 * 2 * 4 * 21  # agents x starts x replicas x sessions, of one runner and iteration
PATIENCE_S = 180.0
REPOSITORY = str(CONF.parent)  # of the code that the processes of all nodes import
PREEMPTION = 2  # Ray's reason for a drain that nobody may refuse


@pytest.fixture
def long(soak: bool) -> None:
    """Leave out what takes half a minute more."""
    if not soak:
        pytest.skip("half a minute: only with --soak")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Start a head without a CPU to spare and two nodes with one each."""
    temporary = tempfile.mkdtemp(prefix="nodes", dir="/tmp")  # short: sockets lie in it
    for name, value in {**ENVIRONMENT, "RAY_TMPDIR": temporary, "PYTHONPATH": REPOSITORY}.items():
        monkeypatch.setenv(name, value)
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(2):
            made.add_node(num_cpus=1)
        yield made
    finally:
        for node in [*made.worker_nodes, made.head_node]:
            made.remove_node(node)
        rmtree(temporary)


@contextmanager
def training(cluster: Any, folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run `tercet train` on the cluster; it does not outlive the block."""
    environment = {**os.environ, "RAY_ADDRESS": cluster.address, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "cli", "train", "cluster=auto", *SMALL, *arguments]
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as started:
        try:
            yield started
        finally:
            started.kill()


def drain(cluster: Any, node: Any) -> None:
    """Say that a machine will be gone in a minute, as a notice about a spot machine does."""
    from ray._raylet import GcsClient

    deadline = int((time.time() + 60.0) * 1000)
    accepted, why = GcsClient(address=cluster.address).drain_node(
        node.node_id, PREEMPTION, "spot", deadline
    )
    assert accepted, why


def wait_for(what: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := what()):
        assert time.monotonic() < deadline, f"nothing within {PATIENCE_S} s"
        time.sleep(0.02)
    return found


def steps_of(run: Path) -> list[int]:
    """Return the agent steps of the states that lie there, of which one may just go."""
    found = []
    for counters in run.glob("checkpoint/*.state-*/counters.json"):
        try:
            found.append(json.loads(counters.read_text())["agent_steps"])
        except (FileNotFoundError, ValueError):
            continue
    return found


def left(run: Path, process: subprocess.Popen[str]) -> str:
    """Wait for a run to leave its machine, and return what it said."""
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == os.EX_TEMPFAIL, said
    assert said.splitlines()[-1] == (
        "Ray drains a machine that this run cannot do without; "
        f"to go on, add resume={run} to the same overrides"
    )
    assert steps_of(run)
    return said


def test_a_run_goes_on_without_its_samplers_machines_and_leaves_before_its_own_is_taken_away(
    cluster: Any, tmp_path: Path
) -> None:
    run = tmp_path / "run"

    def more_steps(count: int) -> None:
        reached = max(wait_for(lambda: steps_of(run)))
        wait_for(lambda: max(steps_of(run), default=0) >= reached + count)

    with training(cluster, tmp_path, f"out={run}", "algorithm.steps=2_000_000") as process:
        more_steps(4 * STEPS)
        dying, draining = cluster.worker_nodes
        cluster.remove_node(dying, allow_graceful=False)
        more_steps(8 * STEPS)
        drain(cluster, draining)
        time.sleep(2.0)  # longer than the time between two looks for a drain
        more_steps(8 * STEPS)
        assert process.poll() is None
        process.send_signal(signal.SIGSTOP)  # a long iteration, in which no look is taken
        drain(cluster, cluster.head_node)
        time.sleep(5.0)
        process.send_signal(signal.SIGCONT)
        said = left(run, process)
    assert "2 remote samplers, this process learns on cpu" in said


def test_a_run_leaves_before_the_machine_of_its_learner_is_taken_away(
    long: None, cluster: Any, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    actors = ("algorithm.num_env_runners=1", "algorithm.num_learners=1")
    with training(cluster, tmp_path, f"out={run}", "algorithm.steps=2_000_000", *actors) as process:
        wait_for(lambda: steps_of(run))
        for node in cluster.worker_nodes:  # the learner's is one of them
            drain(cluster, node)
        left(run, process)
