"""The mother as a test or a benchmark sees her: cases go in, what came of them comes out."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
MEMORY = Path("/dev/shm")


@contextmanager
def workplace() -> Iterator[Path]:
    """Give a folder in memory, where there is one: a killed process loses nothing of it either."""
    where = MEMORY if os.access(MEMORY, os.W_OK) else None
    with TemporaryDirectory(dir=where, prefix="tercet-crashes-") as name:
        yield Path(name)


class Mother:
    """A warmed process that lives and kills.

    Args:
        folder: for its cases.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._count = folder, 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.crashes.mother"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def run(self, **asked: Any) -> dict[str, Any]:
        """Run a case, and return what came of it.

        Raises:
            RuntimeError: if the mother herself has died.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        self._count += 1
        asked["folder"] = str(self._folder / f"case{self._count}")
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the mother died of {asked}")
        found: dict[str, Any] = json.loads(answer)
        return found

    def close(self) -> None:
        """Let it end."""
        self._process.communicate(timeout=30)
