"""A cache on disk for arrays that are slow to make; losing it costs time, never a result."""

import logging
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

Arrays = dict[str, NDArray[Any]]

# Everything that a damaged npz raises; an object array is refused as a ValueError.
_CORRUPT = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


class Cache:
    """Named groups of arrays in one folder, a file per key.

    Args:
        folder: where the files lie; made at the first write. `~` is the home folder.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder).expanduser()

    def array_group(self, key: str, build: Callable[[], Arrays]) -> Arrays:
        """Return the arrays stored under a key, building and storing them where there are none.

        Args:
            key: a hash of everything the arrays depend on: equal keys mean equal content.
            build: makes the arrays; called at most once. No dtype may need pickle.

        Returns:
            The arrays by name, as `build` made them. A corrupt file is rebuilt, and a write that
            fails (a full disk) is logged: neither stops the caller.
        """
        path = self.folder / f"{key}.npz"
        try:
            stored = _read(path) if path.exists() else None
        except _CORRUPT as error:
            logger.warning("rebuilding the corrupt cache file %s: %s", path, error)
            stored = None
        if stored is not None:
            return stored
        arrays = build()
        try:
            self._write(path, arrays)
        except OSError as error:
            logger.warning("going on without the cache file %s: %s", path, error)
        return arrays

    def _write(self, path: Path, arrays: Mapping[str, Any]) -> None:
        """Write under a temporary name, then rename: a reader never sees half a file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=self.folder, prefix=f"{path.stem}.", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(file, **arrays)
            Path(temporary).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(temporary).unlink()
            raise


def _read(path: Path) -> Arrays:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
