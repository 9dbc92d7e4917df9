"""Which orders a request for a list wants."""

from dataclasses import dataclass
from datetime import datetime

from brokers.exchange.records import OPEN, ExchangeOrder


@dataclass(frozen=True, slots=True)
class OrderFilter:
    """Which orders a list is of.

    Args:
        status: open, closed or all.
        limit: at most so many.
        after: submitted later; None is any time.
        until: submitted no later.
        descending: the newest first.
        nested: legs under their entry, not beside it.
        side: buy or sell; None is both.
        symbols: names; None is all.
    """

    status: str
    limit: int
    after: datetime | None
    until: datetime | None
    descending: bool
    nested: bool
    side: str | None
    symbols: frozenset[str] | None

    def admits(self, order: ExchangeOrder) -> bool:
        """Return whether the list has an order; its times are left to the store."""
        return (
            self.status in ("all", "open" if order.status in OPEN else "closed")
            and not (self.nested and order.parent_id)
            and self.side in (None, order.side.value)
            and (self.symbols is None or order.symbol in self.symbols)
        )
