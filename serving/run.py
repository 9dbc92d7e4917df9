"""Run the application on the Ray that is there: what `tercet serve` does."""

import json
import logging
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from market.errors import InputError
from serving.blueprint import Blueprint

READY_S = 30.0
GONE_S = 5.0
QUIET = {"log_level": "WARNING", "enable_access_log": False}

ENVIRONMENT = {
    # A replica's own event loop also routes and answers Serve: two threads fewer a request.
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serving.fallback.middlewares",
    "OMP_NUM_THREADS": "1",
}
"""Of Ray's processes, to be set before Ray starts."""


@contextmanager
def serving(plan: Blueprint, host: str, port: int) -> Iterator[str]:
    """Serve until the end of the block; yields the address once every part runs.

    Ray must have been started, with `ENVIRONMENT`.

    Args:
        plan: what is served.
        host: address to listen on.
        port: of HTTP, 1 to 65535.

    Raises:
        InputError: if the address is taken, or the application does not start.
    """
    _require_free(host, port)
    signal.signal(signal.SIGTERM, _interrupt)  # after Ray has set its own handler, which aborts
    from ray import serve
    from ray.serve.config import ProxyLocation

    from serving.app import NAME, build

    logging.getLogger("ray.serve").setLevel(logging.ERROR)  # the import has set it to INFO
    try:
        serve.start(
            proxy_location=ProxyLocation.HeadOnly,
            http_options={"host": host, "port": port},
            logging_config=QUIET,
        )
        serve.run(build(plan.to_json()), name=NAME, route_prefix="/", logging_config=QUIET)
    except RuntimeError as error:
        raise InputError(f"the application does not start: {_line(error)}") from error
    try:
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        _require_answers(address)
        yield address
    finally:
        # Answers under way are given; what takes longer to go ends with Ray.
        serve.delete(NAME, _blocking=False)
        end = time.monotonic() + GONE_S
        while NAME in serve.status().applications and time.monotonic() < end:
            time.sleep(0.1)


def until_stopped() -> None:
    """Wait for Ctrl-C or SIGTERM."""
    with suppress(KeyboardInterrupt):
        threading.Event().wait()


def config_file(plan: Blueprint, host: str, port: int) -> dict[str, Any]:
    """Return what `serve deploy` reads: the same application on a cluster."""
    return {
        "proxy_location": "HeadOnly",
        "http_options": {"host": host, "port": port},
        "applications": [
            {
                "name": "tercet",
                "route_prefix": "/",
                "import_path": "serving.app:build",
                "args": plan.to_json(),
            }
        ],
    }


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _require_answers(address: str) -> None:
    """Refuse to go on where the champion or the data cannot be used."""
    try:
        with urlopen(f"{address}/readyz", timeout=READY_S):
            return
    except HTTPError as error:
        reason = json.load(error)["error"]["reason"]
        raise InputError(f"the service cannot answer: {reason}") from error


def _require_free(host: str, port: int) -> None:
    """Refuse an address that cannot be listened on, before anything starts."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InputError(f"host={host} port={port}: {error.strerror}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:500]
