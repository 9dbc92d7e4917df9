"""Write files so that a reader never meets half of one, nor half of a folder of them."""

import os
from collections.abc import Mapping
from pathlib import Path
from shutil import rmtree
from uuid import uuid4


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder under another name, then rename it.

    Raises:
        OSError: if it exists with something in it, or cannot be written; nothing is left then.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = _beside(folder)
    part.mkdir()
    try:
        for name, content in files.items():
            _write(part / name, content)
        part.rename(folder)
    except BaseException:
        rmtree(part, ignore_errors=True)
        raise
    _settle(folder.parent)


def write_file(path: Path, content: bytes) -> None:
    """Write a file under another name, then let it take the place of one that may be there.

    Raises:
        OSError: if it cannot be written; the one before is untouched then.
    """
    part = _beside(path)
    try:
        _write(part, content)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _settle(path.parent)


def _beside(path: Path) -> Path:
    """Return a hidden name that no other process or thread uses."""
    return path.with_name(f".{path.name}.{uuid4().hex}")


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _settle(folder: Path) -> None:
    """Let a new name outlive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
