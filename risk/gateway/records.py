"""What gateway, ledger and brokers say to each other: plain records, money and shares as Decimal.

Nothing here computes. A quantity is in shares and > 0, its direction is the side; a position is
signed. Times are aware datetimes in UTC.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum


class Side(Enum):
    """The direction of an order."""

    buy = "buy"
    sell = "sell"


class OrderState(Enum):
    """Where an order is on its way; see `TERMINAL` for the ends."""

    intent = "intent"  # durable, with its id; nothing was sent
    in_flight = "in_flight"  # durable before the first byte is sent
    unknown = "unknown"  # sent, and the answer proves nothing
    refused = "refused"  # the broker said no, in words that prove it
    working = "working"  # the broker has it
    filled = "filled"
    partly_done = "partly_done"  # ended with some of its quantity filled
    cancelled = "cancelled"
    expired = "expired"
    dropped = "dropped"  # never sent: halted, expired or refused by a check before it could be


TERMINAL = frozenset(
    {
        OrderState.refused,
        OrderState.filled,
        OrderState.partly_done,
        OrderState.cancelled,
        OrderState.expired,
        OrderState.dropped,
    }
)


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """One order as it is sent; always DAY, so that nothing outlives its session.

    Args:
        client_order_id: a pure function of account, decision, symbol and leg.
        symbol: of the allow-list.
        side: buy or sell.
        quantity: shares, > 0.
        limit_price: account currency per share, > 0; None is a market order.
    """

    client_order_id: str
    symbol: str
    side: Side
    quantity: Decimal
    limit_price: Decimal | None


class BrokerStatus(Enum):
    """What a broker says of an order."""

    working = "working"  # accepted, in whatever form, and not ended
    filled = "filled"
    cancelled = "cancelled"
    expired = "expired"
    rejected = "rejected"


@dataclass(frozen=True, slots=True)
class BrokerOrder:
    """An order as the broker has it.

    Args:
        broker_id: the broker's own id.
        client_order_id: ours, or whatever a stranger used.
        symbol: of the order.
        side: of the order.
        quantity: shares, > 0.
        filled: shares so far.
        average_price: of what was filled; None before the first fill.
        limit_price: None is a market order.
        status: see above.
        submitted_at: UTC.
    """

    broker_id: str
    client_order_id: str
    symbol: str
    side: Side
    quantity: Decimal
    filled: Decimal
    average_price: Decimal | None
    limit_price: Decimal | None
    status: BrokerStatus
    submitted_at: datetime


@dataclass(frozen=True, slots=True)
class Fill:
    """One execution.

    Args:
        execution_id: the broker's id of it; fills are counted once by it.
        broker_id: of the order.
        client_order_id: of the order, where the broker says it.
        symbol: of the order.
        side: of the order.
        quantity: shares, > 0.
        price: account currency per share, > 0.
        commission: account currency, >= 0.
        at: UTC.
    """

    execution_id: str
    broker_id: str
    client_order_id: str | None
    symbol: str
    side: Side
    quantity: Decimal
    price: Decimal
    commission: Decimal
    at: datetime


@dataclass(frozen=True, slots=True)
class Activity:
    """What changed an account beside its executions: a dividend, a fee, a split, a transfer.

    Args:
        id: the broker's id of it; activities are counted once by it.
        kind: the broker's word for it.
        symbol: of the name that it concerns; None for the account's cash alone.
        shares: signed change of the position; 0 where there is none, or the broker does not say it.
        cash: signed change of the cash, account currency.
        corporate: the company did it, so nobody has to be asked; shares that somebody moved are
            never taken for our own.
        day: of the broker's books.
    """

    id: str
    kind: str
    symbol: str | None
    shares: Decimal
    cash: Decimal
    corporate: bool
    day: date


@dataclass(frozen=True, slots=True)
class Position:
    """What the account holds of a name.

    Args:
        symbol: of the name.
        quantity: shares, signed.
        average_price: paid per share.
        price: the broker's last one.
    """

    symbol: str
    quantity: Decimal
    average_price: Decimal
    price: Decimal


@dataclass(frozen=True, slots=True)
class Account:
    """The account as the broker sees it.

    Args:
        id: the broker's id of it.
        paper: the broker itself says that no real money is in it.
        currency: such as USD.
        cash: account currency, may be < 0.
        equity: cash and positions.
        last_equity: at the last close.
        buying_power: account currency.
        multiplier: of the buying power; 1 is a cash account.
        no_shorting: the broker refuses short sales.
        suspended: the broker refuses new orders because it was asked to (`suspend_trade`).
        blocked: the broker refuses trading for reasons of its own.
    """

    id: str
    paper: bool
    currency: str
    cash: Decimal
    equity: Decimal
    last_equity: Decimal
    buying_power: Decimal
    multiplier: Decimal
    no_shorting: bool
    suspended: bool
    blocked: bool


@dataclass(frozen=True, slots=True)
class Asset:
    """What may be done with a name.

    Args:
        symbol: of the name.
        tradable: orders are accepted now; False also while it is halted.
        fractionable: parts of shares are accepted.
        shortable: short sales are accepted.
        easy_to_borrow: its shares can be borrowed at once.
    """

    symbol: str
    tradable: bool
    fractionable: bool
    shortable: bool
    easy_to_borrow: bool


@dataclass(frozen=True, slots=True)
class Quote:
    """A price to trade near.

    Args:
        symbol: of the name.
        bid: account currency per share; None where there is none.
        ask: account currency per share; None where there is none.
        last: of the last trade or close.
        at: UTC.
    """

    symbol: str
    bid: Decimal | None
    ask: Decimal | None
    last: Decimal
    at: datetime


@dataclass(frozen=True, slots=True)
class BrokerClock:
    """The broker's time and whether its market is open."""

    now: datetime
    is_open: bool
    next_open: datetime
    next_close: datetime


@dataclass(frozen=True, slots=True)
class SessionHours:
    """A session of the broker's calendar, UTC."""

    session: date
    open: datetime
    close: datetime


@dataclass(frozen=True, slots=True)
class Decision:
    """What somebody asks the gateway to reach: an allocation and how.

    Args:
        id: sha256 of the decision, hexadecimal.
        account: the broker's id of the account.
        as_of: session at whose close it was decided.
        expires_at: UTC; not a byte is sent after it.
        model_sha256: of the artefact.
        weights: symbol -> fraction of NAV; cash is what they leave, under no name.
        agents: agent -> (share, its own weights).
        body_sha256: of the canonical request: another body under the same id is refused.
    """

    id: str
    account: str
    as_of: date
    expires_at: datetime
    model_sha256: str
    weights: Mapping[str, Decimal]
    agents: Mapping[str, tuple[Decimal, Mapping[str, Decimal]]]
    body_sha256: str
