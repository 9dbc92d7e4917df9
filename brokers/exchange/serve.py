"""Runs the exchange as a server: until it is told to stop, or within a block of code."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from brokers.exchange.admin import admin_routes
from brokers.exchange.exchange import Exchange
from brokers.exchange.faults import FaultPlan
from brokers.exchange.records import Rejection
from brokers.exchange.web import Keys, rejected, trading_routes
from brokers.exchange.wire import App, Faulty, KnownConnections
from market.errors import InputError
from risk.gateway.listening import address, listening_socket

STARTS_WITHIN_S = 10.0


def application(exchange: Exchange, key: str, secret: str) -> App:
    """Return the exchange as an ASGI application.

    Args:
        exchange: that answers.
        key: of the trader and of the administration.
        secret: of both.
    """
    plan = FaultPlan()
    exchange.hidden = plan.hidden
    keys, own = Keys(key, secret), Keys(key, secret)
    routes = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    for refusal in (Rejection, InputError):
        routes.add_exception_handler(refusal, rejected)
    routes.include_router(trading_routes(exchange, keys))
    routes.include_router(admin_routes(exchange, plan, keys, own))
    return Faulty(routes, plan)


def server(app: App) -> uvicorn.Server:
    """Return a server of an application."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=KnownConnections,
            ws="none",
            lifespan="off",
            log_level="warning",
            timeout_graceful_shutdown=1,
        )
    )


@contextmanager
def running(app: App) -> Iterator[str]:
    """Serve an application on a free port of this machine while the block runs.

    Returns:
        Its URL.
    """
    with listening_socket("127.0.0.1", 0) as listener:
        runs = server(app)
        thread = threading.Thread(target=runs.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            _wait(runs)
            yield address(listener)
        finally:
            runs.should_exit = True
            thread.join()


def _wait(runs: uvicorn.Server) -> None:
    last = time.monotonic() + STARTS_WITHIN_S
    while not runs.started:
        if time.monotonic() > last:
            raise TimeoutError(f"the exchange did not start within {STARTS_WITHIN_S} s")
        time.sleep(0.005)
