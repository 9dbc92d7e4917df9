"""Ray's autoscaler follows what a run asks for: up while it trains, down after it.

Its machines are played by Ray's own provider `fake_multinode`, each of them a node of Ray's on this
machine. That is what `ray.cluster_utils.AutoscalingCluster` starts; but it ends every other Ray of
the machine first, and Ray's wheel lacks the file that it begins from.
"""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import rmtree
from typing import NamedTuple

import pytest

from market.compose import CONF
from training.local_ray import ENVIRONMENT

SMALL = (
    "market=synthetic", "market.sessions=800", "market.assets=5", "env.episode_sessions=21",
    "network.members=2", "tracking=none", "pretrain=none", "algorithm.starts=2",
    "algorithm.replicas=4", "algorithm.minibatch_days=21", "algorithm.steps=10_080",
)  # fmt: skip
SAMPLERS = 2
STORE_BYTES = 100 * 1024**2  # of a node
PATIENCE_S = 240.0

MAPPINGS = ("auth", "docker", "file_mounts")  # what a machine that is played has none of
LISTS = (
    "initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands",
    "head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files",
    "rsync_exclude", "rsync_filter",
)  # fmt: skip


class Head(NamedTuple):
    """A head that may start nodes of one CPU."""

    address: str
    environment: dict[str, str]


@pytest.fixture
def head(soak: bool) -> Iterator[Head]:
    """Start a head without CPUs, and with it an autoscaler that may have a few nodes."""
    if not soak:
        pytest.skip("a minute or two: only with --soak")
    folder = Path(tempfile.mkdtemp(prefix="scale", dir="/tmp"))  # short: sockets lie in it
    address = f"127.0.0.1:{free_port()}"
    environment = {
        **os.environ, **ENVIRONMENT, "RAY_TMPDIR": str(folder), "OMP_NUM_THREADS": "1",
        "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_enable_autoscaler_v2": "0", "PYTHONPATH": str(CONF.parent),
    }  # fmt: skip
    (folder / "scaling.yaml").write_text(json.dumps(scaling(address)))
    command = [
        str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", "--num-cpus=0",
        f"--port={address.rpartition(':')[2]}", f"--object-store-memory={STORE_BYTES}",
        f"--autoscaling-config={folder}/scaling.yaml", "--include-dashboard=false",
    ]  # fmt: skip
    with (folder / "log").open("w") as log:
        started = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        wait_for(lambda: "Ray runtime started" in (folder / "log").read_text())
        yield Head(address, environment)
    finally:
        started.send_signal(signal.SIGTERM)
        started.wait(PATIENCE_S)
        for process in processes_that_mention(folder):  # nodes that the autoscaler did not end
            os.kill(process, signal.SIGKILL)
        rmtree(folder, ignore_errors=True)


def scaling(address: str) -> dict[str, object]:
    return {
        "cluster_name": "played",
        "provider": {
            "type": "fake_multinode",
            "gcs_address": address,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "head_node_type": "ray.head.default",
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "sampler": {
                "resources": {"CPU": 1, "object_store_memory": STORE_BYTES},
                "node_config": {},
                "min_workers": 0,
                "max_workers": SAMPLERS + 1,
            },
        },
        "max_workers": SAMPLERS + 1,
        "upscaling_speed": 10.0,
        "idle_timeout_minutes": 0.05,
        "file_mounts_sync_continuously": False,
        **{name: {} for name in MAPPINGS},
        **{name: [] for name in LISTS},
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def processes_that_mention(folder: Path) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if f"{folder}/".encode() in words:
            found.append(int(process.name))
    return found


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S} s"
        time.sleep(0.1)


def nodes_beside(head: Head) -> int:
    """Return how many nodes live beside the head, as a process of its own is told."""
    script = (
        "from ray._raylet import GcsClient; "
        f"nodes = GcsClient(address={head.address!r}).get_all_node_info().values(); "
        "print(sum(node.state == 0 for node in nodes) - 1)"
    )
    told = subprocess.run(
        [sys.executable, "-c", script],
        env=head.environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(told.stdout.split()[-1])


def test_nodes_come_for_the_samplers_of_a_run_and_go_after_it(head: Head, tmp_path: Path) -> None:
    assert nodes_beside(head) == 0
    command = [
        sys.executable, "-m", "cli", "train", *SMALL, "cluster=auto", "cluster.wait=true",
        f"algorithm.num_env_runners={SAMPLERS}", f"out={tmp_path}/run",
    ]  # fmt: skip
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**head.environment, "RAY_ADDRESS": head.address},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        try:
            wait_for(lambda: nodes_beside(head) == SAMPLERS)
            _, said = run.communicate(timeout=PATIENCE_S)
        finally:
            run.kill()
    assert run.returncode == 0, said
    assert f"waiting: algorithm.num_env_runners={SAMPLERS}" in said
    assert f"{SAMPLERS} remote samplers" in said
    wait_for(lambda: nodes_beside(head) == 0)
