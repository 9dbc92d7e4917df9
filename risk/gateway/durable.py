"""Make a new name in a folder outlive a power failure."""

import os
from pathlib import Path


def settle(folder: Path) -> None:
    """Wait until the names in a folder are on the disk.

    Raises:
        OSError: if that cannot be said.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
