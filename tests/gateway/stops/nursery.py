"""Forks real commands from one warm process: a fork costs a tenth of a new interpreter.

Reads a JSON line for each job and answers with one. A command is `tercet <words>`, run in its own
folder with its output in a file; it may be given a moment at which it stops itself, as if by
chance. No thread and no connection is ever in this process.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import cli.__main__
import cli.gateway
import cli.kill
from risk.gateway.ledger import Ledger
from risk.gateway.writer import Writer


def main() -> None:
    """Do one job after the other, until nobody asks any more."""
    for line in sys.stdin:
        job = json.loads(line)
        act = {"run": _run, "wait": _wait}[job.pop("do")]
        print(json.dumps(act(**job)), flush=True)


def _run(words: list[str], folder: str, log: str, stops_at: str | None) -> int:
    """Fork a command, and return its process id."""
    child = os.fork()
    if child == 0:
        try:
            _be(words, Path(folder), log, stops_at)
        finally:
            os._exit(70)  # nothing of this process goes on in a child
    return child


def _wait(process: int, hang: bool) -> int | None:
    """Return how a child ended, as `subprocess` says it; None while it lives."""
    found, status = os.waitpid(process, 0 if hang else os.WNOHANG)
    return None if found == 0 else os.waitstatus_to_exitcode(status)


def _be(words: list[str], folder: Path, log: str, stops_at: str | None) -> None:
    os.setpgid(0, 0)
    os.chdir(folder)
    with open(os.devnull, "rb") as nothing, open(log, "wb", buffering=0) as output:
        os.dup2(nothing.fileno(), 0)
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    if stops_at is not None:
        _stop_at(stops_at)
    sys.argv = ["tercet", *words]
    code = cli.__main__.main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _stop_at(moment: str) -> None:
    """Let this process stop itself, once, at a moment of the first order that it sends."""
    moved, commit = Writer.set_order, Ledger._commit
    done: list[str] = []
    going = [False]

    def stop() -> None:
        if going[0]:
            going[0] = False
            os.kill(os.getpid(), signal.SIGSTOP)

    def set_order(self: Writer, name: str, state: Any, **more: Any) -> None:
        moved(self, name, state, **more)
        if state.name == "in_flight" and not done:
            going[0] = True
            done.append(name)
            if moment == "before the commit":  # the write lock of the database is held
                stop()

    def committed(self: Ledger, *how: Any) -> None:
        commit(self, *how)
        if moment == "after the commit":  # in flight on the disk, and not sent yet
            stop()

    Writer.set_order, Ledger._commit = set_order, committed  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
