"""An anchor at an fsspec address, such as a bucket that the gateway may add to but not change.

Object stores cannot append: each mark is an object of its own, and its name says it all.
"""

import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec

from market.errors import InputError
from risk.gateway.audit import Anchor, AnchorFailed, FileAnchor, Head, Mark, Worker
from risk.gateway.http_anchor import HttpAnchor

_NAME = re.compile(r"(\d{18})-([0-9a-f]{64})-(prepared|committed)")
_SHELF = 10_000  # records whose marks share a folder


def open_anchor(place: str) -> Anchor:
    """Return the anchor of a path, of an HTTP address, or of one with a scheme that fsspec knows.

    Raises:
        InputError: if nothing knows the scheme.
    """
    if not place:
        raise InputError("the anchor of the ledger needs a place")
    if place.startswith(("http://", "https://")):
        return HttpAnchor(place)
    return ObjectAnchor(place) if "://" in place else FileAnchor(Path(place))


class ObjectAnchor:
    """Marks as the names of objects.

    Args:
        url: of a folder or a bucket's prefix.
        patience_s: seconds that one access may take.

    Raises:
        InputError: if nothing knows its scheme.
    """

    def __init__(self, url: str, patience_s: float = 5.0) -> None:
        try:
            self._store, self._root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except (ValueError, ImportError) as error:
            raise InputError(f"anchor {url}: {error}") from None
        self._url = url
        self._patience_s = patience_s
        self._worker = Worker("anchor")

    def append(self, mark: Mark) -> None:
        """Put an object."""
        word = "committed" if mark.committed else "prepared"
        shelf = f"{mark.head.seq // _SHELF:018d}"
        name = f"{mark.head.seq:018d}-{mark.head.hash}-{word}"
        self._do(lambda: self._put(posixpath.join(self._root, shelf), name))

    def marks(self) -> Iterator[Mark]:
        """Yield all marks, by number; those of one record in any order."""
        for shelf in self._names(self._root):
            yield from self._shelf(shelf)

    def last(self) -> list[Mark]:
        """Return the marks of the last two folders."""
        return [mark for shelf in self._names(self._root)[-2:] for mark in self._shelf(shelf)]

    def _shelf(self, shelf: str) -> Iterator[Mark]:
        for name in self._names(posixpath.join(self._root, shelf)):
            found = _NAME.fullmatch(name)
            if found is None:
                raise AnchorFailed(f"anchor {self._url} holds {name}, which is no mark")
            yield Mark(Head(int(found[1]), found[2]), found[3] == "committed")

    def _names(self, folder: str) -> list[str]:
        names: list[str] = []
        self._do(lambda: names.extend(self._list(folder)))
        return sorted(names)

    def _list(self, folder: str) -> list[str]:
        try:
            found = self._store.ls(folder, detail=False)
        except FileNotFoundError:
            return []
        return [posixpath.basename(path.rstrip("/")) for path in found]

    def _put(self, folder: str, name: str) -> None:
        self._store.makedirs(folder, exist_ok=True)
        self._store.pipe_file(posixpath.join(folder, name), b"mark")

    def _do(self, task: Callable[[], None]) -> None:
        running = self._worker.run(task)
        try:
            running.result(self._patience_s)
        except TimeoutError:
            running.cancel()
            raise AnchorFailed(f"anchor {self._url} hangs for {self._patience_s} s") from None
        except Exception as error:  # each store has errors of its own
            raise AnchorFailed(f"anchor {self._url}: {error!r}") from error
