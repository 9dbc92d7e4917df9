"""What a broker must be able to do, and the four ways in which it can fail.

Narrow on purpose: a second broker is one file.
"""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Protocol

from risk.gateway.records import (
    Account,
    Activity,
    Asset,
    BrokerClock,
    BrokerOrder,
    Fill,
    OrderRequest,
    Position,
    Quote,
    SessionHours,
)


class BrokerError(Exception):
    """A broker did not do what it was asked; the message is one line for a person."""


class Refused(BrokerError):
    """The broker said no, in words that prove that nothing was done.

    Args:
        code: the broker's own code, or the HTTP status.
        detail: its words.
        retry_after: seconds, where it said so (a rate limit).
    """

    def __init__(self, code: int, detail: str, retry_after: float | None = None) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.retry_after = retry_after


class DuplicateId(Refused):
    """The client order id was used before: the order is there, whoever put it."""


class OutcomeUnknown(BrokerError):
    """The request may have been carried out; only asking can tell."""


class Unavailable(BrokerError):
    """A read failed: nothing is known, which is never the same as nothing being there."""


class Unauthorised(BrokerError):
    """The keys are wrong, or were revoked: asking again cannot help."""


class Broker(Protocol):
    """One account at one broker. No call blocks longer than its timeout, and none repeats itself.

    Reads raise `Unavailable` or `Unauthorised`. `submit` and `cancel` also raise `Refused`, and
    `OutcomeUnknown` for everything else.
    """

    def account(self) -> Account:
        """Return the account."""
        ...

    def clock(self) -> BrokerClock:
        """Return the broker's time."""
        ...

    def calendar(self, first: date, last: date) -> Sequence[SessionHours]:
        """Return the sessions in [first, last]."""
        ...

    def asset(self, symbol: str) -> Asset:
        """Return what may be done with a name; an unknown one is `Refused`."""
        ...

    def quotes(self, symbols: Sequence[str]) -> dict[str, Quote]:
        """Return quotes by symbol; a name without one is missing."""
        ...

    def positions(self) -> dict[str, Position]:
        """Return every position by symbol."""
        ...

    def submit(self, order: OrderRequest) -> BrokerOrder:
        """Send an order once."""
        ...

    def order(self, client_order_id: str) -> BrokerOrder | None:
        """Return an order by our id; None is what the broker finds now, and proves nothing."""
        ...

    def orders(self, after: datetime) -> Sequence[BrokerOrder]:
        """Return all orders, open and ended, that were submitted after a time, oldest first."""
        ...

    def open_orders(self) -> Sequence[BrokerOrder]:
        """Return every open order, whoever put it."""
        ...

    def fills(self, after: datetime) -> Sequence[Fill]:
        """Return the executions after a time, oldest first."""
        ...

    def activities(self, after: date) -> Sequence[Activity]:
        """Return what changed the account beside executions, after a day, oldest first."""
        ...

    def cancel(self, broker_id: str) -> None:
        """Ask for the end of an order."""
        ...

    def cancel_all(self) -> None:
        """Ask for the end of every open order."""
        ...

    def suspend(self, suspended: bool) -> None:
        """Let the broker itself refuse, or accept, new orders."""
        ...

    def self_test(self) -> None:
        """Check that timeouts hold and that nothing is sent twice; raise `BrokerError` if not."""
        ...
