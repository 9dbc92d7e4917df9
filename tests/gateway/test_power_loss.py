"""What is sent is on the disk before its first byte, as the operating system saw it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.crashes.mother import Outside
from benchmarks.crashes.venue import KEY, ORDERS, SECRET, Watched
from benchmarks.crashes.venue import prepare as prepare_account
from brokers.exchange.serve import application, running

REPOSITORY = Path(__file__).resolve().parents[2]
WAL, ANCHOR = "ledger.sqlite-wal>", "anchor>"
CALLS = "fdatasync,fsync,pwrite64,write,sendto"


def traced(folder: Path, url: str) -> list[str]:
    """Live once under strace, and return what it asked of the operating system, in order."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed: nobody else can say in which order things happened")
    log = folder / "calls"
    watched = [strace, "-f", "-y", "-s", "5000", "-e", f"trace={CALLS}", "-o", str(log)]
    done = subprocess.run(
        [*watched, sys.executable, "-m", "benchmarks.crashes.alone", str(folder), url],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    if "ptrace" in done.stderr:
        pytest.skip(f"strace may not look here: {done.stderr.strip()[:200]}")
    assert done.returncode == 0, done.stderr[-2000:]
    return log.read_text(errors="replace").splitlines()


def test_every_order_is_durably_in_flight_before_its_first_byte_is_sent(tmp_path: Path) -> None:
    exchange = Watched(tmp_path / "exchange.sqlite", lambda: None)
    with running(application(exchange, KEY, SECRET)) as url:
        prepare_account(Outside(tmp_path, url))
        calls = traced(tmp_path, url)
    exchange.close()
    written = in_flight = posts = 0  # writes that no sync has followed yet; those of this order
    anchored = True
    for call in calls:
        if WAL in call and "pwrite64(" in call:
            written += 1
            in_flight += "in_flight" in call
        elif WAL in call and re.search(r"fdatasync\(.*= 0", call):
            written = 0
        elif ANCHOR in call and "pwrite64(" in call:
            anchored = False
        elif ANCHOR in call and re.search(r"fsync\(.*= 0", call):
            anchored = True
        elif "sendto(" in call and '"POST /v2/orders ' in call:
            posts += 1
            assert in_flight and written == 0 and anchored, (posts, in_flight, written, anchored)
            in_flight = 0
    print(f"{posts} orders, each after the fdatasync of the log that puts it in flight")
    assert posts == ORDERS
