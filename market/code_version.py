"""Which code is running, for whatever is written down to be understood later."""

import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

_QUIET: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 10}


def commit() -> str:
    """Return the git commit of the code, its version outside a checkout, or "unknown"."""
    here = Path(__file__).resolve()
    git = ["git", "-C", str(here.parent)]
    try:
        # A package installed inside somebody else's checkout is not a file of that checkout.
        subprocess.run([*git, "ls-files", "--error-unmatch", here.name], check=True, **_QUIET)
        found = subprocess.run(
            [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            check=True,
            **_QUIET,
        )
        return str(found.stdout).strip()
    except (OSError, subprocess.SubprocessError):
        try:
            return metadata.version("tercet")
        except metadata.PackageNotFoundError:
            return "unknown"
