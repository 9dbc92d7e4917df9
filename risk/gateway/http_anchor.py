"""An anchor at an HTTP address, such as a write-only log of another machine.

A POST of one line adds a mark and is answered with 2xx once it is durable; a GET returns all lines,
or with `Range: bytes=-N` the last of them. Name and password may stand in the address.
"""

from collections.abc import Iterator
from urllib.parse import urlsplit

import requests

from risk.gateway.audit import AnchorFailed, Mark, mark_line, parse_mark

_TAIL = 1 << 16  # bytes that are enough to compare heads


class HttpAnchor:
    """Marks as lines that a server keeps.

    Args:
        url: that takes and gives them; every process of the account has the same.
        patience_s: seconds that one request may take between two bytes.
    """

    def __init__(self, url: str, patience_s: float = 5.0) -> None:
        parts = urlsplit(url)
        self._place = f"{parts.scheme}://{parts.hostname}{parts.path}"  # without a password
        self._url = url
        self._patience_s = patience_s

    def append(self, mark: Mark) -> None:
        """Send a mark; what the server does not confirm was not taken."""
        self._ask("POST", data=mark_line(mark))

    def marks(self) -> Iterator[Mark]:
        """Yield all marks, oldest first; a last line without an end is no mark."""
        _, text = self._ask("GET")
        for line in text.splitlines(keepends=True):
            yield from parse_mark(line, self._place)

    def last(self) -> list[Mark]:
        """Return the marks of the last 64 KiB, or all where the server has no parts."""
        status, text = self._ask("GET", headers={"Range": f"bytes=-{_TAIL}"})
        lines = text.splitlines(keepends=True)
        if status == requests.codes.partial_content and len(text) >= _TAIL:
            lines = lines[1:]  # half of one
        return [mark for line in lines for mark in parse_mark(line, self._place)]

    def _ask(
        self, method: str, data: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Return status and text of an answer."""
        try:
            answer = requests.request(
                method,
                self._url,
                data=data,
                headers=headers,
                timeout=self._patience_s,
                allow_redirects=False,
            )
        except requests.RequestException as error:  # its text would show the address
            raise AnchorFailed(f"anchor {self._place}: {type(error).__name__}") from None
        status = answer.status_code
        if headers is not None and status == requests.codes.range_not_satisfiable:
            return status, b""  # there is nothing yet
        if not 200 <= status < 300:
            raise AnchorFailed(f"anchor {self._place} answers {status}")
        return status, answer.content
