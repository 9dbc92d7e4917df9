"""The real command, killed while it takes orders: what it answered, it has."""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from brokers.exchange.exchange import Exchange
from brokers.exchange.records import Rejection
from brokers.exchange.serve import listening_socket
from market.errors import InputError

HEADERS = {"APCA-API-KEY-ID": "paper", "APCA-API-SECRET-KEY": "paper"}


@contextmanager
def command(database: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `tercet paper-exchange`; yield the process and its URL."""
    words = ["paper-exchange", "market=synthetic", "market.sessions=300", "market.assets=3"]
    words += [f"database={database}", "port=0", "exchange.start='2000-06-01T14:00:00+00:00'"]
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", *words], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        yield process, line.split()[3]
    finally:
        process.kill()
        process.wait()


def send_until_dead(url: str, acknowledged: list[str], mark: str) -> None:
    """Send orders, one after the other, and keep the ids of those that were answered."""
    session = requests.Session()
    for number in range(100_000):
        body = {
            "symbol": "S001",
            "qty": "0.1",
            "side": "buy",
            "type": "market",
            "time_in_force": "day",
            "client_order_id": f"{mark}-{number}",
        }
        try:
            answer = session.post(f"{url}/v2/orders", json=body, headers=HEADERS, timeout=5)
        except requests.exceptions.RequestException:
            return
        if answer.status_code == 200:
            acknowledged.append(body["client_order_id"])


def test_a_killed_exchange_has_every_order_that_it_answered(tmp_path: Path, soak: bool):
    rounds = 30 if soak else 1
    database, acknowledged = tmp_path / "exchange.sqlite", list[str]()
    pauses = random.Random(5)
    for turn in range(rounds):
        with command(database) as (process, url):
            sender = threading.Thread(target=send_until_dead, args=(url, acknowledged, f"t{turn}"))
            sender.start()
            wanted = len(acknowledged) + 20
            while len(acknowledged) < wanted and sender.is_alive():
                time.sleep(pauses.uniform(0.0, 0.003))
            os.kill(process.pid, signal.SIGKILL)
            sender.join()
    with command(database) as (process, url):

        def get(path: str) -> Any:
            return requests.get(f"{url}{path}", headers=HEADERS, timeout=10).json()

        fills = []
        while page := get(
            "/v2/account/activities?direction=asc"
            + (f"&page_token={fills[-1]['id']}" if fills else "")
        ):
            fills += page
        orders = len({fill["order_id"] for fill in fills})
        assert len(fills) == orders
        assert len(acknowledged) <= orders <= len(acknowledged) + rounds  # one a kill unanswered
        assert len(acknowledged) >= 20 * rounds
        for client_order_id in acknowledged:
            found = get(f"/v2/orders:by_client_order_id?client_order_id={client_order_id}")
            assert found["status"] == "filled"
        assert get("/v2/positions")[0]["qty"] == f"{orders / 10:g}"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_a_restarted_exchange_goes_on_where_it_was(
    make_exchange, known_days, tmp_path, settings_with
):
    path = tmp_path / "kept.sqlite"
    changes = {"start": "2023-06-01T13:30:00+00:00"}
    first = Exchange(path, known_days, "XNYS", settings_with(**changes))
    body = {"symbol": "A", "qty": "10", "side": "buy", "type": "market", "time_in_force": "day"}
    order = first.submit(body | {"client_order_id": "one"})
    first.move_clock(first.hours.times(first.hours.coming(first.now()))[1])
    before = (first.account(), first.positions(), first.activities(), first.clock_answer())
    first.close()
    second = Exchange(path, known_days, "XNYS", settings_with(start=None))
    after = (second.account(), second.positions(), second.activities(), second.clock_answer())
    assert after == before
    assert second.order("client_order_id", "one")["id"] == order["id"]
    with pytest.raises(Rejection, match="client_order_id must be unique"):
        second.submit(body | {"client_order_id": "one"})
    second.close()


def test_two_exchanges_do_not_share_a_file(known_days, tmp_path, settings_with):
    path = tmp_path / "one.sqlite"
    first = Exchange(path, known_days, "XNYS", settings_with())
    with pytest.raises(InputError, match="is used by another paper exchange"):
        Exchange(path, known_days, "XNYS", settings_with())
    first.close()
    Exchange(path, known_days, "XNYS", settings_with()).close()


def test_a_file_that_is_no_database_is_refused(known_days, tmp_path, settings_with):
    path = tmp_path / "text.sqlite"
    path.write_text("this is no database, and long enough to be looked at " * 20)
    with pytest.raises(InputError, match="cannot be used"):
        Exchange(path, known_days, "XNYS", settings_with())


def test_a_port_that_is_taken_is_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"cannot listen on 127.0.0.1:{port}"):
            listening_socket("127.0.0.1", port)
