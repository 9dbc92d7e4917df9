"""A cache for arrays that are slow to make; losing it costs time, never a result.

What it holds is trusted as far as the folder or the Redis is: it is checked for damage, not for a
forger. `market.cache` is the folder, or the URL of a Redis.
"""

import logging
import os
import re
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Protocol
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

Arrays = dict[str, NDArray[Any]]

REDIS = ("redis", "rediss", "unix")

# Everything that a damaged npz raises; an object array is refused as a ValueError.
CORRUPT = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


class ArrayCache(Protocol):
    """Keeps named groups of arrays under a key."""

    @property
    def shared(self) -> bool:
        """Whether other machines use it, where a path and a time name other content."""
        ...

    def array_group(self, key: str, build: Callable[[], Arrays]) -> Arrays:
        """Return the arrays stored under a key, building and storing them where there are none."""
        ...


def open_cache(where: str | None) -> ArrayCache | None:
    """Return the cache in a folder or in a Redis, or None where there is none.

    Args:
        where: a folder, or a URL that begins with redis://, rediss:// or unix://.

    Raises:
        InputError: if a URL has an option that redis-py does not know.
    """
    if where is None:
        return None
    if "://" not in where:
        return Cache(where)
    from market.redis_cache import RedisCache  # a tenth of a second, for those who use it

    return RedisCache(where)


def check_where(where: str) -> None:
    """Refuse a URL that cannot be meant, with nothing imported or connected.

    Raises:
        ValueError: if the scheme is none of Redis', the port no number or the database none.

    >>> check_where("redis://localhost:6379/0"), check_where("~/.cache/tercet")
    (None, None)
    """
    if "://" not in where:
        return
    shown = without_password(where)
    try:
        url = urlsplit(where)
        port_is_odd = url.port == 0
    except ValueError as error:
        raise ValueError(f"market.cache: {shown}: {error}") from None
    if url.scheme not in REDIS:
        raise ValueError(f"market.cache must be a folder or begin with redis://, was {shown}")
    if url.scheme == "unix":
        if not url.path:
            raise ValueError(f"market.cache: {shown} names no socket")
    elif port_is_odd or not re.fullmatch(r"(/\d*)?", url.path):
        raise ValueError(f"market.cache must look like redis://host:6379/0, was {shown}")


def without_password(where: str) -> str:
    """Return the same folder or URL as it may be shown: without user, password and options.

    >>> without_password("rediss://me:secret@cache:6379/0?password=secret")
    'rediss://cache:6379/0'
    """
    return re.sub(r"://[^/?]*@", "://", where).partition("?")[0] if "://" in where else where


class Cache:
    """Named groups of arrays in one folder, a file per key.

    Args:
        folder: where the files lie; made at the first write. `~` is the home folder.
    """

    shared = False

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
            stored = read_archive(path) if path.exists() else None
        except CORRUPT as error:
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


def read_archive(source: Path | IO[bytes]) -> Arrays:
    """Return the arrays of an npz.

    Raises:
        An error of `CORRUPT`: if it is damaged or would need pickle.
    """
    with np.load(source, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
