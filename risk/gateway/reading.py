"""What the broker says of the account, read in one go."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from risk.gateway.broker import Broker
from risk.gateway.records import Account, BrokerOrder, Position


@dataclass(frozen=True, slots=True)
class Reading:
    """The account, what it holds, and what may still fill.

    Args:
        at: UTC, before anything was read.
        account: with its cash.
        positions: by symbol.
        open_orders: whoever put them.
    """

    at: datetime
    account: Account
    positions: Mapping[str, Position]
    open_orders: tuple[BrokerOrder, ...]

    @property
    def held(self) -> dict[str, Decimal]:
        """Return signed shares by symbol."""
        return {name: one.quantity for name, one in self.positions.items()}


def read(broker: Broker, at: datetime) -> Reading:
    """Ask the broker now.

    Orders come first: what fills meanwhile is then counted twice, and never missed.

    Raises:
        BrokerError: if part of it cannot be read.
    """
    orders = tuple(broker.open_orders())
    return Reading(at, broker.account(), broker.positions(), orders)
