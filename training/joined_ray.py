"""Ray for a run: the cluster that is there, or this machine alone."""

import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from market.errors import InputError
from training.local_ray import NOISY_LOGGERS, local_ray
from training.settings import ClusterSettings

ADDRESS = "RAY_ADDRESS"
TEMPORARY = "RAY_TMPDIR"
CURRENT_CLUSTER = "ray/ray_current_cluster"  # Ray writes there where its last head is
ANSWERS_WITHIN_S = 5.0


@contextmanager
def ray_for(cluster: ClusterSettings, say: Callable[[str], None]) -> Iterator[bool]:
    """Join the cluster or start Ray here, as the settings say; yield whether it was joined.

    To be entered before anything imports ray, which reads the environment once.

    Raises:
        InputError: if there is a cluster that does not let this process in.
    """
    address = cluster_address() if cluster.join else None
    if address is None:
        if cluster.join:
            say("no cluster is there: Ray is started on this machine")
        with local_ray():
            yield False
        return
    say(f"cluster at {address}")
    with _joined(address):
        yield True


def cluster_address() -> str | None:
    """Return the address of the head that Ray itself would join; None where none answers.

    It is found without importing ray: whether Ray may use the network has to be settled before.
    """
    given = os.environ.get(ADDRESS)
    if given and given != "local":
        return given
    try:
        written = (Path(os.environ.get(TEMPORARY, "/tmp")) / CURRENT_CLUSTER).read_text().strip()
    except OSError:
        return None
    return written if _answers(written) else None


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=ANSWERS_WITHIN_S).close()
    except (OSError, ValueError):
        return False
    return True


@contextmanager
def _joined(address: str) -> Iterator[None]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    import ray

    for name in NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=False,
        )
    except (ConnectionError, RuntimeError, ray.exceptions.AuthenticationError) as error:
        line = str(error).strip().splitlines()[0]
        raise InputError(f"the cluster at {address} does not let this run in: {line}") from error
    try:
        presence = _presence()
        yield
        del presence
    finally:
        ray.shutdown()


def _presence() -> object:
    """Return an actor that does nothing on this machine, for as long as somebody holds it.

    A machine that Ray drains ends its part of Ray as soon as no work of Ray's is on it, and a
    driver is none. Without this one, the store would be gone before a checkpoint is written.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(_Presence).options(num_cpus=0, scheduling_strategy=here).remote()
    ray.get(actor.__ray_ready__.remote())
    return actor


class _Presence:
    """Works nothing."""
