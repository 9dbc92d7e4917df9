"""Ray on this machine alone: quiet, without a dashboard, on loopback and behind its token."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

OBJECT_STORE_BYTES = 512 * 1024**2

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Whatever its name says, 0 makes every part of Ray bind to 127.0.0.1, on Linux too.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}

# They announce deprecations inside RLlib, that local authentication is on, and every death of an
# actor at length; what matters is raised, or told by `training.society_ppo`.
NOISY_LOGGERS = ("ray", "ray.rllib", "ray.serve", "ray.tune")


@contextmanager
def local_ray(
    cpus: int | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Start Ray, and shut it down at the end; where a program has started it, use it as it is.

    To be entered before anything imports ray, which reads the environment once.

    Args:
        cpus: that Ray may hand out to actors; None is those of this machine.
        environment: further variables for Ray and all its processes.
    """
    for name, value in {**ENVIRONMENT, **(environment or {})}.items():
        os.environ.setdefault(name, value)
    import ray

    for name in NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if ray.is_initialized():
        yield
        return
    ray.init(
        address="local",
        num_cpus=cpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        configure_logging=False,
        object_store_memory=OBJECT_STORE_BYTES,
    )
    try:
        yield
    finally:
        ray.shutdown()
