"""Copies of checkpoints at an fsspec address, which outlive the machine that trains.

An object store renames nothing, and an upload may end half way. So the files of an item go first,
and its marker, with the hash of each of them, goes last: what the marker does not vouch for was
never there. Items are removed in the other order.

    <address>/<run>/config.json
    <address>/<run>/<item>/<file> ...
    <address>/<run>/<item>.whole
"""

import hashlib
import json
import posixpath
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from typing import Any

import fsspec

from market.errors import InputError

CONFIG = "config.json"
WHOLE = ".whole"  # ends the name of a marker


class StoreError(RuntimeError):
    """The store does not answer, or refuses; the message is one line."""


class Store:
    """The checkpoints of runs at one address.

    Args:
        url: a folder, or a prefix of a bucket, by any scheme that fsspec knows.

    Raises:
        InputError: if nothing knows its scheme.
    """

    def __init__(self, url: str) -> None:
        try:
            self._files, self._root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except (ValueError, ImportError) as error:
            raise InputError(f"cluster.checkpoints={url}: {error}") from None
        self._url = url

    def runs(self) -> list[str]:
        """Return the names of the runs that are kept here."""
        return [name for name in self._names("") if self.config(name) is not None]

    def config(self, run: str) -> dict[str, Any] | None:
        """Return what a run was configured with; None where there is no such run."""
        config = self._json(run, CONFIG)
        return config if isinstance(config, dict) else None

    def begin(self, run: str, config: Mapping[str, Any]) -> None:
        """Write what a run is configured with, which makes it one."""
        self._write(json.dumps(config, sort_keys=True).encode(), run, CONFIG)

    def touched(self, run: str) -> float:
        """Return when the last item of a run became whole, in seconds of the epoch; 0 if none."""
        return max((marker["written"] for marker in self._markers(run).values()), default=0.0)

    def items(self, run: str) -> list[str]:
        """Return the names of the whole items of a run."""
        return list(self._markers(run))

    def put(self, run: str, item: Path) -> None:
        """Copy a file, or the files of a folder."""
        hashes = {}
        for file in sorted(item.iterdir()) if item.is_dir() else [item]:
            content = file.read_bytes()
            hashes[file.name] = hashlib.sha256(content).hexdigest()
            self._write(content, run, item.name, file.name)
        marker = {"folder": item.is_dir(), "files": hashes, "written": time.time()}
        self._write(json.dumps(marker).encode(), run, item.name + WHOLE)

    def fetch(self, run: str, item: str, folder: Path) -> bool:
        """Copy an item into a folder, in one step; return whether it was whole."""
        marker = self._json(run, item + WHOLE)
        contents = {name: self._read(run, item, name) for name in marker["files"]}
        for name, sha256 in marker["files"].items():
            content = contents[name]
            if content is None or hashlib.sha256(content).hexdigest() != sha256:
                return False
        unfinished = folder / f".{item}"
        rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        for name, content in contents.items():
            (unfinished / name).write_bytes(content or b"")
        if marker["folder"]:
            unfinished.rename(folder / item)
        else:
            (unfinished / item).rename(folder / item)
            unfinished.rmdir()
        return True

    def drop(self, run: str, item: str) -> None:
        """Remove an item, if it is there."""
        self._remove(run, item + WHOLE)
        self._remove(run, item)

    def discard(self, run: str) -> None:
        """Remove a run and all that is kept of it."""
        self._remove(run, CONFIG)
        self._remove(run)

    def _markers(self, run: str) -> dict[str, Any]:
        names = [name.removesuffix(WHOLE) for name in self._names(run) if name.endswith(WHOLE)]
        markers = {name: self._json(run, name + WHOLE) for name in names}
        return {name: marker for name, marker in markers.items() if marker is not None}

    def _json(self, *path: str) -> Any:
        content = self._read(*path)
        try:
            return None if content is None else json.loads(content)
        except ValueError:  # its upload ended half way
            return None

    def _names(self, *path: str) -> list[str]:
        with self._answering():
            try:
                found = self._files.ls(self._path(*path), detail=False)
            except (FileNotFoundError, NotADirectoryError):
                return []
        return sorted(posixpath.basename(name.rstrip("/")) for name in found)

    def _read(self, *path: str) -> bytes | None:
        with self._answering():
            try:
                content: bytes = self._files.cat_file(self._path(*path))
            except (FileNotFoundError, NotADirectoryError):
                return None
        return content

    def _write(self, content: bytes, *path: str) -> None:
        with self._answering():
            self._files.makedirs(self._path(*path[:-1]), exist_ok=True)
            self._files.pipe_file(self._path(*path), content)

    def _remove(self, *path: str) -> None:
        with self._answering(), suppress(FileNotFoundError):
            self._files.rm(self._path(*path), recursive=True)

    def _path(self, *path: str) -> str:
        return posixpath.join(self._root, *path)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each store has errors of its own
            line = (str(error).strip() or repr(error)).splitlines()[0]
            raise StoreError(f"cluster.checkpoints={self._url}: {line}") from error
