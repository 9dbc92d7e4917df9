"""The nearest valid name, for error messages."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str]) -> str:
    """Return " (nearest: X)" for the known name most like `name`, or "" where none is like it.

    >>> nearest("APPL", ["AAPL", "MSFT"])
    ' (nearest: AAPL)'
    >>> nearest("clsoe", ["Date", "Close"])
    ' (nearest: Close)'
    """
    by_folded = {candidate.casefold(): candidate for candidate in known}
    matches = get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.5)
    return f" (nearest: {by_folded[matches[0]]})" if matches else ""
