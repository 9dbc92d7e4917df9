"""Runs an application as a server of this process."""

import socket
import threading
import time
from collections.abc import Callable

import uvicorn

from market.errors import InputError
from risk.access.refusals import App


def listening_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 is any free one.

    Raises:
        InputError: if the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise InputError(f"cannot listen on {host}:{port}: {error.strerror}") from None


def address(listener: socket.socket) -> str:
    """Return the URL of a socket that listens."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def serve(app: App, listener: socket.socket, ended: Callable[[], bool]) -> None:
    """Answer until Ctrl-C, SIGTERM, or the end that is asked for every half second."""
    server = uvicorn.Server(
        uvicorn.Config(
            app, ws="none", lifespan="off", log_level="warning", timeout_graceful_shutdown=3
        )
    )

    def watch() -> None:
        while not server.should_exit:
            if ended():
                server.should_exit = True
            time.sleep(0.5)

    threading.Thread(target=watch, name="end", daemon=True).start()
    server.run(sockets=[listener])
