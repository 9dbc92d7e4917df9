"""Run the console command as a user would, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def tercet(out: Path, *arguments: str) -> dict[str, Any]:
    """Run one verb into a folder and return its summary; a folder that is complete is kept.

    Raises:
        SystemExit: if the command fails; its last words are shown.
    """
    summary = out / "summary.json"
    if not summary.exists():
        command = [sys.executable, "-m", "cli", *arguments, f"out={out}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(summary.read_text())
    return found
