"""Lists that come in pages: all of them, or an error."""

from collections.abc import Callable
from typing import TypeVar

PAGES = 40  # of one list: beyond them something is wrong
Item = TypeVar("Item")


def all_pages(
    page: Callable[[dict[str, Item]], list[Item]], identity: Callable[[Item], str]
) -> list[Item]:
    """Return every item of a list.

    A page without anything new is the end; a short one is not, for a server may give fewer than it
    was asked for.

    Args:
        page: returns what is new behind what was found.
        identity: of an item.

    Raises:
        ValueError: if there is no end.
    """
    found: dict[str, Item] = {}
    for _ in range(PAGES):
        new = page(found)
        if not new:
            return list(found.values())
        found |= {identity(item): item for item in new}
    raise ValueError(f"no end after {PAGES} pages")
