"""Processes beside a benchmark: an exchange to trade at, a gateway to be killed."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

KEY, SECRET = "paper", "paper"  # of the exchange as conf/paper_exchange.yaml has it
HEADERS = {"APCA-API-KEY-ID": KEY, "APCA-API-SECRET-KEY": SECRET}
STARTS_WITHIN_S = 60.0


@contextmanager
def service(folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run a verb that serves, until the block ends.

    Args:
        folder: to run in; what it says goes to a file there.
        words: the verb and its overrides.

    Returns:
        The process, and where it listens.

    Raises:
        SystemExit: if it does not start; its last words are shown.
    """
    root = str(Path(__file__).resolve().parents[1])
    keys = {"TERCET_PAPER_KEY_ID": KEY, "TERCET_PAPER_SECRET_KEY": SECRET}
    log = folder / f"{words[0]}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli", *words], cwd=folder, stdout=output, stderr=output,
            env=os.environ | keys | {"PYTHONPATH": root},
        )  # fmt: skip
    try:
        end = time.monotonic() + STARTS_WITHIN_S
        while (found := re.search(r" on (http://\S+)", log.read_text())) is None:
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"tercet {' '.join(words)}\n{log.read_text()[-2000:]}")
            time.sleep(0.005)
        yield process, found[1]
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a process as a power failure would: nothing of it runs any more."""
    process.send_signal(signal.SIGKILL)
    process.wait()


class Administration:
    """What drives the exchange.

    Args:
        url: of it.
    """

    def __init__(self, url: str) -> None:
        self._url, self._session = url, requests.Session()
        self._session.headers.update(HEADERS)

    def drive(self, **how: str | float) -> None:
        """Move its clock: `to=next_open`, or `advance_s=...`."""
        self._ask("PUT", "/admin/clock", how)

    def bar_shorts(self) -> None:
        """Let it refuse what would sell short, as an account of the gateway must."""
        self._ask("PATCH", "/v2/account/configurations", {"no_shorting": True})

    def asked(self) -> int:
        """Return how many requests of traders came in since the last question, and forget them."""
        sent = self._ask("GET", "/admin/sent")
        self._ask("DELETE", "/admin/sent")
        return sum(one["path"].startswith("/v2") for one in sent)

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        answer = self._session.request(method, f"{self._url}{path}", json=body, timeout=30)
        answer.raise_for_status()
        return answer.json() if answer.content else None


def shared(pattern: str, words: Sequence[str]) -> list[str]:
    """Return the overrides of this command that another verb takes too."""
    return [word for word in words if re.match(pattern, word)]
