"""Where a life can end: around every commit, around every order that is sent.

A point is `<what> #<n> <moment>`: the n-th time in this life that something is done, and the moment
in it. What a commit does is told by the records that it adds to the audit chain.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from brokers.alpaca import AlpacaBroker
from brokers.settings import AlpacaSettings, Keys
from risk.gateway.audit import Anchor, Mark
from risk.gateway.ledger import Ledger
from risk.gateway.records import BrokerOrder, OrderRequest
from risk.gateway.writer import Writer

COMMIT = ("marking", "marked", "committed", "kept")
"""Before the anchor hears of a commit; after it; after the commit; after the anchor heard of it."""

POST = ("sending", "accepted", "answered")
"""Before the first byte; the exchange has the order, nothing came back; the answer has come."""

MILLISECONDS = " ms"
"""What a place ends with that is no point but a time after the birth: `<n> ms`."""


class Trap:
    """Names the points of one life as they are passed.

    Args:
        passing: hears of each; it may end the life.
    """

    def __init__(self, passing: Callable[[str], object]) -> None:
        self._passing = passing
        self._counts: Counter[tuple[str, str]] = Counter()

    def reach(self, what: str, moment: str) -> None:
        """Pass a point."""
        self._counts[what, moment] += 1
        self._passing(f"{what} #{self._counts[what, moment]} {moment}")


def go_on(_: str) -> None:
    """Pass a point and live."""


class TrappedAnchor:
    """An anchor with points on both sides of every mark."""

    def __init__(self, anchor: Anchor, trap: Trap) -> None:
        self._anchor, self._trap = anchor, trap
        self.what = "commit"
        self.marks, self.last = anchor.marks, anchor.last

    def append(self, mark: Mark) -> None:
        """Write a mark."""
        before, after = COMMIT[2:] if mark.committed else COMMIT[:2]
        self._trap.reach(self.what, before)
        self._anchor.append(mark)
        self._trap.reach(self.what, after)


class TrappedLedger(Ledger):
    """A ledger whose anchor knows what is being committed."""

    def __init__(self, url: str, anchor: Anchor, trap: Trap) -> None:
        self._trapped = TrappedAnchor(anchor, trap)
        checked: Anchor = self._trapped
        super().__init__(url, checked)

    def acquire(self, owner: str) -> int:
        """Take the ledger over."""
        self._trapped.what = "epoch"
        return super().acquire(owner)

    @contextmanager
    def writing(self, epoch: int) -> Iterator[Writer]:
        """Give a writer for one transaction."""
        with super().writing(epoch) as writer:
            yield writer
            self._trapped.what = _what(writer)


def _what(writer: Writer) -> str:
    """Return what a transaction does, by its first record."""
    if not writer._records:
        return "nothing"
    record = json.loads(str(writer._records[0]["body"]))
    table = str(record["kind"]).partition(".")[0]
    moved = str(record["kind"]).endswith(".update") and "state" in record["payload"]
    return f"{table} {record['payload']['state']}" if moved else table


class TrappedBroker(AlpacaBroker):
    """The account by the official client, with points around each order that is sent.

    Args:
        settings: of the client.
        keys: of the account.
        trap: that counts.
        accepted: tells, in the exchange's own process, whether it took an order since it was asked
            last; where it lives elsewhere it kills by itself, and never says so.
    """

    def __init__(
        self, settings: AlpacaSettings, keys: Keys, trap: Trap, accepted: Callable[[], bool]
    ) -> None:
        super().__init__(settings, keys)
        self._trap, self._accepted = trap, accepted

    def submit(self, order: OrderRequest) -> BrokerOrder:
        """Send an order once."""
        self._trap.reach("order", "sending")
        try:
            return super().submit(order)
        finally:
            if self._accepted():
                self._trap.reach("order", "accepted")
            self._trap.reach("order", "answered")
