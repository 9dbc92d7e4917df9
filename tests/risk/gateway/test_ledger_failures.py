"""Processes that are killed, stopped and doubled; disks that are full, locked or damaged."""

import json
import os
import random
import shutil
import signal
import sqlite3
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select, text

from risk.gateway import schema
from risk.gateway.audit import AnchorFailed, FileAnchor, Head, Mark
from risk.gateway.ledger import Ledger
from risk.gateway.records import OrderState
from risk.gateway.storage import LedgerFailed, StaleEpoch
from risk.gateway.verify import verify

NOW = datetime(2024, 3, 5, 15, 0, tzinfo=UTC)
NOBODY = 65534


def note(ledger: Ledger, epoch: int, words: str = "x") -> None:
    with ledger.writing(epoch) as writer:
        writer.audit("note", "test", {"words": words})


def rows(ledger: Ledger) -> dict[str, list[Any]]:
    with ledger.reading() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(select(table))]
            for table in schema.metadata.sorted_tables
        }


@pytest.fixture
def sqlite_ledger(tmp_path: Path, anchor: FileAnchor) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db", anchor)
    ledger.migrate()
    yield ledger
    ledger.close()


# Killed


def test_a_kill_at_any_point_leaves_all_of_a_transaction_or_nothing(
    ledger: Ledger, url: str, anchor: FileAnchor, child: Callable[[], Any], soak: bool
) -> None:
    nursery = child()
    kept = 0
    step = 1 if url.startswith("sqlite") or soak else 4
    for point in range(1, 400, step):
        job = {"url": url, "anchor": str(anchor.path), "at": point, "name": f"d{point}"}
        status = nursery.ask(fork={"job": "crash", **job})
        found = ledger.decision(f"d{point}")
        assert len(ledger.orders(f"d{point}")) == (0 if found is None else 5)
        assert verify(ledger, anchor).problems == ()
        kept += found is not None
        if status == 0:
            break
        assert status == -signal.SIGKILL, point
    assert status == 0 and point > 40
    assert 1 <= kept <= 5  # killed after the commit, and not killed at all


def test_a_kill_within_the_first_migration_leaves_nothing_of_it(
    url: str, anchor: FileAnchor, child: Callable[..., Any]
) -> None:
    nursery = child()
    ledger = Ledger(url, anchor)
    for point in range(1, 200, 7):
        job = {"job": "migrate", "url": url, "anchor": str(anchor.path), "at": point}
        status = nursery.ask(fork=job)
        if status == 0:
            break
        assert status == -signal.SIGKILL
        with pytest.raises(LedgerFailed):
            ledger.latch()
    assert status == 0 and point > 20
    assert ledger.acquire("gateway") == 1
    ledger.close()


def test_processes_that_migrate_at_once_do_not_disturb_each_other(
    url: str, anchor: FileAnchor, child: Callable[..., Any]
) -> None:
    job = {"job": "migrate", "url": url, "anchor": str(anchor.path), "at": 0}
    others = [child() for _ in range(3)]
    for other in others:
        other.tell(**job)
    assert [other.hear() for other in others] == ["kept"] * 3


def test_the_log_is_on_the_disk_before_a_transaction_returns(
    sqlite_ledger: Ledger, anchor: FileAnchor, child: Callable[..., Any], tmp_path: Path
) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed, so the calls to the disk cannot be seen")
    seen = tmp_path / "calls"
    calls = "trace=write,pwrite64,fsync,fdatasync"
    traced = child("strace", "-f", "-y", "-s", "12", "-e", calls, "-o", str(seen))
    try:
        url = f"sqlite:///{tmp_path}/ledger.db"
        traced.ask(job="open_ledger", url=url, anchor=str(anchor.path))
    except AssertionError:
        pytest.skip("strace may not look into processes here")
    traced.ask(job="acquire", owner="traced")
    told = len(seen.read_text().splitlines())
    assert traced.ask(job="basket", name="d") == "kept"
    lines = seen.read_text().splitlines()[told:]

    def places(call: str, name: str) -> list[int]:
        return [k for k, line in enumerate(lines) if call in line and f"{name}>" in line]

    logged, synced = places("pwrite64(", "ledger.db-wal"), places("sync(", "ledger.db-wal")
    marked, anchored = places("pwrite64(", "anchor"), places("fsync(", "anchor")
    (answered,) = [k for k, line in enumerate(lines) if "kept" in line]
    assert marked[0] < anchored[0] < synced[-1], "prepared before it was committed"
    assert logged[-1] < synced[-1] < marked[1] < anchored[1] < answered


# Stopped, doubled


def test_a_second_gateway_is_refused_on_a_file_until_the_first_is_dead(
    sqlite_ledger: Ledger, anchor: FileAnchor, child: Callable[[], Any], tmp_path: Path
) -> None:
    first = child()
    first.ask(job="open_ledger", url=f"sqlite:///{tmp_path}/ledger.db", anchor=str(anchor.path))
    assert first.ask(job="acquire", owner="first") == 1
    for act in (signal.SIGSTOP, signal.SIGCONT):
        os.kill(first.process.pid, act)
        with pytest.raises(LedgerFailed, match="in use by another gateway"):
            sqlite_ledger.acquire("second")
    sqlite_ledger.trip("stopping needs nobody's leave", "person", NOW)
    first.process.kill()
    first.process.wait()
    assert sqlite_ledger.acquire("second") == 2
    assert sqlite_ledger.latch().tripped


def test_a_gateway_that_wakes_up_behind_another_writes_nothing(
    ledger: Ledger, url: str, anchor: FileAnchor, child: Callable[[], Any]
) -> None:
    sleeper = child()
    sleeper.ask(job="open_ledger", url=url, anchor=str(anchor.path))
    assert sleeper.ask(job="acquire", owner="sleeper") == 1
    assert sleeper.ask(job="basket", name="before") == "kept"
    os.kill(sleeper.process.pid, signal.SIGSTOP)
    if url.startswith("sqlite"):  # somebody tidied up the lock that seemed to be in the way
        Path(url.removeprefix("sqlite:///") + ".lock").unlink()
    epoch = ledger.acquire("second")
    sleeper.tell(job="basket", name="after")
    os.kill(sleeper.process.pid, signal.SIGCONT)
    name, words = sleeper.hear()
    assert name == StaleEpoch.__name__ and "second took" in words
    assert ledger.decision("before") is not None
    assert ledger.decision("after") is None
    note(ledger, epoch)
    assert verify(ledger, anchor).ok


def test_after_a_trip_is_committed_no_order_goes_in_flight(
    ledger: Ledger, url: str, anchor: FileAnchor, child: Callable[[], Any]
) -> None:
    other = child()
    other.ask(job="open_ledger", url=url, anchor=str(anchor.path))
    epoch = other.ask(job="acquire", owner="other")
    assert other.ask(job="basket", name="b") == "kept"
    with ledger.writing(epoch) as writer:
        writer.set_latch(True, "for the race", "person", NOW)
    other.tell(job="race", name="b-0")
    while not ledger.orders(states=[OrderState.in_flight, OrderState.unknown]):
        time.sleep(0.001)
    ledger.trip("now", "person", NOW)
    assert other.hear() > 0
    with ledger.reading() as connection:
        bodies = connection.execute(select(schema.audit.c.body).order_by(schema.audit.c.seq))
        records = [json.loads(body)["payload"] for (body,) in bodies]
    begun = [k for k, record in enumerate(records) if record.get("state") == "in_flight"]
    tripped = [k for k, record in enumerate(records) if record.get("state") == "tripped"]
    assert len(begun) > 0 and len(tripped) == 1
    assert begun[-1] < tripped[0]


def test_a_writer_that_is_stopped_in_a_transaction_does_not_stop_readers(
    ledger: Ledger,
    url: str,
    anchor: FileAnchor,
    child: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = child()
    other.ask(job="open_ledger", url=url, anchor=str(anchor.path))
    epoch = other.ask(job="acquire", owner="other")
    assert other.ask(job="hold", name="held", seconds=60) == "holding"
    os.kill(other.process.pid, signal.SIGSTOP)
    assert ledger.decision("held") is None
    start = time.monotonic()
    with pytest.raises(LedgerFailed):
        note(ledger, epoch)
    assert 4.5 < time.monotonic() - start < 7
    other.process.kill()
    other.process.wait()
    note(ledger, epoch)
    assert ledger.decision("held") is None


# Locked


@pytest.mark.parametrize("held_s", [0.5, 30.0])
def test_a_locked_file_is_waited_for_five_seconds_and_no_longer(
    sqlite_ledger: Ledger, tmp_path: Path, held_s: float, soak: bool
) -> None:
    if held_s > 5 and not soak:
        pytest.skip("a writer that is stopped in a transaction shows it too; runs with --soak")
    epoch = sqlite_ledger.acquire("gateway")
    note(sqlite_ledger, epoch)
    locker = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None, check_same_thread=False)
    locker.execute("BEGIN EXCLUSIVE")
    release = threading.Timer(held_s, locker.rollback)
    release.start()
    start = time.monotonic()
    try:
        if held_s < 5:
            note(sqlite_ledger, epoch)
            assert time.monotonic() - start >= held_s * 0.9
        else:
            with pytest.raises(LedgerFailed, match="locked"):
                note(sqlite_ledger, epoch)
            assert 4.5 < time.monotonic() - start < 6.5
            assert sqlite_ledger.epoch() == epoch  # reading goes on
    finally:
        release.join()
        locker.close()
    note(sqlite_ledger, epoch)
    assert verify(sqlite_ledger, sqlite_ledger.anchor).ok


# Full, read-only, replaced


def test_a_database_that_may_not_grow_refuses_writes_keeps_reads_and_recovers(
    sqlite_ledger: Ledger,
) -> None:
    epoch = sqlite_ledger.acquire("gateway")
    note(sqlite_ledger, epoch, "before")
    engine = sqlite_ledger._storage.writer
    engine.dispose()

    def limit(connection: sqlite3.Connection, _: object) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count={pages + 2}")

    event.listen(engine, "connect", limit)
    before = verify(sqlite_ledger, sqlite_ledger.anchor).records
    with pytest.raises(LedgerFailed, match="full"):
        note(sqlite_ledger, epoch, "x" * 50_000)
    found = verify(sqlite_ledger, sqlite_ledger.anchor)
    assert (found.problems, found.records) == ((), before)
    event.remove(engine, "connect", limit)
    engine.dispose()
    note(sqlite_ledger, epoch, "x" * 50_000)
    assert verify(sqlite_ledger, sqlite_ledger.anchor).records == before + 1


@pytest.mark.parametrize("kilobytes", [0, 1, 8, 33, 64, 100, 120])
def test_a_disk_that_is_full_at_any_point_leaves_no_torn_state(
    sqlite_ledger: Ledger,
    anchor: FileAnchor,
    child: Callable[[], Any],
    tmp_path: Path,
    kilobytes: int,
) -> None:
    other = child()
    other.ask(job="open_ledger", url=f"sqlite:///{tmp_path}/ledger.db", anchor=str(anchor.path))
    other.ask(job="acquire", owner="other")
    outcome = other.ask(job="starve", kilobytes=kilobytes, name="starved")
    kept = sqlite_ledger.decision("starved") is not None
    assert len(sqlite_ledger.orders("starved")) == 5 * kept
    assert verify(sqlite_ledger, anchor).problems == ()
    if kilobytes <= 33:
        assert outcome[0] == LedgerFailed.__name__
    assert other.ask(job="read") == [f"starved-{k}" for k in range(5 * kept)]
    assert other.ask(job="basket", name="afterwards") == "kept"
    assert verify(sqlite_ledger, anchor).problems == ()


def test_a_read_only_folder_refuses_writes(anchor: FileAnchor, child: Callable[[], Any]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="ledger"))  # its parents let everybody through
    try:
        url = f"sqlite:///{folder}/ledger.db"
        ledger = Ledger(url, anchor)
        ledger.migrate()
        epoch = ledger.acquire("gateway")
        note(ledger, epoch)
        ledger.close()
        other = child()
        other.ask(job="open_ledger", url=url, anchor=str(anchor.path))
        for path in (*folder.iterdir(), folder):
            path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o222 | 0o555)
        if os.geteuid() == 0:
            other.ask(job="as_nobody")
        assert other.ask(job="acquire", owner="nobody")[0] == LedgerFailed.__name__
        assert other.ask(job="trip", reason="?")[0] == LedgerFailed.__name__
        assert Ledger(url, anchor).epoch() == epoch
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_a_file_that_goes_away_while_it_is_used_is_not_written_to(
    sqlite_ledger: Ledger, tmp_path: Path, how: str
) -> None:
    epoch = sqlite_ledger.acquire("gateway")
    path = tmp_path / "ledger.db"
    copy = shutil.copy(path, tmp_path / "copy.db")
    path.unlink()
    if how == "replaced":
        Path(copy).rename(path)
    with pytest.raises(LedgerFailed):
        note(sqlite_ledger, epoch)


# Damaged, or older than it should be


def damaged(original: Path, copy: Path, offset: int, bit: int) -> None:
    content = bytearray(original.read_bytes())
    content[offset] ^= 1 << bit
    copy.write_bytes(content)


def test_damage_anywhere_in_the_file_is_found_or_harmless(
    sqlite_ledger: Ledger, anchor: FileAnchor, tmp_path: Path, soak: bool
) -> None:
    epoch = sqlite_ledger.acquire("gateway")
    for number in range(10):
        note(sqlite_ledger, epoch, f"note {number}")
    sqlite_ledger.close()
    original, broken = tmp_path / "ledger.db", tmp_path / "broken.db"
    healthy = Ledger(f"sqlite:///{original}", anchor)
    expected = rows(healthy)
    healthy.close()
    assert not (tmp_path / "ledger.db-wal").exists()
    size = original.stat().st_size
    draw = random.Random(5)
    drawn = (draw.randrange(size) for _ in range(4000 if soak else 100))
    offsets = [*range(100 if soak else 60), *drawn]
    found = 0
    for offset in offsets:
        damaged(original, broken, offset, draw.randrange(8))
        ledger = Ledger(f"sqlite:///{broken}", anchor)
        try:
            if (broken_now := not verify(ledger, anchor).ok) is False:
                assert rows(ledger) == expected, offset
            found += broken_now
        except LedgerFailed:
            found += 1
        finally:
            ledger.close()
            for path in tmp_path.glob("broken.db*"):
                path.unlink()
    assert found > 20


def test_a_log_that_lost_its_end_is_refused_at_the_start(
    sqlite_ledger: Ledger, anchor: FileAnchor, tmp_path: Path
) -> None:
    epoch = sqlite_ledger.acquire("gateway")
    for number in range(5):
        note(sqlite_ledger, epoch, f"note {number}")
    for name in ("ledger.db", "ledger.db-wal"):  # as a power failure would find them
        shutil.copy(tmp_path / name, tmp_path / name.replace("ledger", "copy"))
    log = tmp_path / "copy.db-wal"
    damaged(log, log, log.stat().st_size - 2000, 3)
    copy = Ledger(f"sqlite:///{tmp_path}/copy.db", anchor)
    with pytest.raises(LedgerFailed, match="older copy was restored"):
        copy.acquire("gateway")
    assert not verify(copy, anchor).ok
    copy.close()


def test_yesterday_s_copy_is_refused_at_the_start_and_found_by_verify(
    ledger: Ledger, anchor: FileAnchor
) -> None:
    epoch = ledger.acquire("gateway")
    before = rows(ledger)
    note(ledger, epoch)
    with ledger._storage.writer.begin() as connection:
        kept = len(before["audit"])
        connection.execute(text(f"DELETE FROM audit WHERE seq > {kept}"))
    assert rows(ledger) == before
    assert any("knows record" in problem for problem in verify(ledger, anchor).problems)
    with pytest.raises(LedgerFailed, match="older copy was restored"):
        ledger.acquire("gateway")


def test_a_lost_or_foreign_anchor_is_refused_at_the_start(
    ledger: Ledger, anchor: FileAnchor
) -> None:
    ledger.acquire("gateway")
    anchor.path.unlink()
    with pytest.raises(LedgerFailed, match="never heard of"):
        ledger.acquire("gateway")
    assert not verify(ledger, anchor).ok


# The anchor


def test_nothing_is_committed_that_the_anchor_does_not_take(
    ledger: Ledger, anchor: FileAnchor
) -> None:
    epoch = ledger.acquire("gateway")
    before = rows(ledger)
    kept = anchor.path.read_bytes()
    anchor.path.unlink()
    anchor.path.parent.rmdir()
    with pytest.raises(LedgerFailed, match="anchor"):
        note(ledger, epoch)
    assert rows(ledger) == before
    anchor.path.parent.mkdir()
    anchor.path.write_bytes(kept)
    note(ledger, epoch)
    assert verify(ledger, anchor).ok


def test_an_anchor_that_hangs_is_given_up(ledger: Ledger, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    stuck = Ledger(str(ledger._storage._url.render_as_string(hide_password=False)), Hanging(pipe))
    start = time.monotonic()
    with pytest.raises(LedgerFailed, match="hangs for"):
        stuck.trip("?", "test", NOW)
    assert time.monotonic() - start < 2
    assert not ledger.latch().tripped
    stuck.close()


class Hanging(FileAnchor):
    """A disk that does not answer: to open a pipe that nobody reads blocks for ever."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, patience_s=0.3)

    def append(self, mark: Mark) -> None:
        task = self._worker.run(lambda: self.path.open("wb").close())
        try:
            task.result(self._patience_s)
        except TimeoutError:
            super().append(mark)  # queued behind it


def test_a_line_that_was_torn_is_cut_off_by_the_next(anchor: FileAnchor) -> None:
    anchor.append(Mark(Head(1, "a" * 64), True))
    with anchor.path.open("ab") as file:
        file.write(b"committed 2 abc")
    assert [mark.head.seq for mark in anchor.marks()] == [1]
    anchor.append(Mark(Head(3, "c" * 64), False))
    assert [(mark.head.seq, mark.committed) for mark in anchor.marks()] == [(1, True), (3, False)]
    assert anchor.last() == list(anchor.marks())


def test_what_is_no_mark_is_no_anchor(anchor: FileAnchor) -> None:
    anchor.path.write_text("committed 1 " + "g" * 64 + "\n")
    with pytest.raises(AnchorFailed):
        list(anchor.marks())
    anchor.path.write_bytes(b"x" * 10_000)
    with pytest.raises(AnchorFailed):
        anchor.append(Mark(Head(1, "a" * 64), True))


def test_a_long_anchor_is_read_from_its_end(anchor: FileAnchor) -> None:
    for seq in range(1, 3):
        anchor.append(Mark(Head(seq, "a" * 64), True))
    line = anchor.path.read_bytes().splitlines(keepends=True)[0]
    anchor.path.write_bytes(line * 2000 + b"committed 7 " + b"b" * 64 + b"\n")
    last = anchor.last()
    assert last[-1].head.seq == 7
    assert 500 < len(last) < 2000
