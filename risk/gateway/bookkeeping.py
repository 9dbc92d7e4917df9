"""The gateway's own books: shares and cash as executions and activities explain them.

They begin with what the broker has at the first comparison, and every later change has its cause:
an execution, or an activity such as a dividend, a fee or a split. What is left is a difference,
which a person looks into; `take_over` then makes the broker's word the new beginning.
"""

from collections.abc import Iterable
from decimal import Decimal

from risk.gateway.reading import Reading
from risk.gateway.records import Activity, Fill, Side
from risk.gateway.writer import Writer

CENT = Decimal("0.01")
ZERO = Decimal(0)


def cash_flow(fill: Fill) -> Decimal:
    """Return the change of the cash by an execution: its notional to the cent, and its commission.

    >>> from datetime import UTC, datetime
    >>> at = datetime(2024, 1, 2, 15, tzinfo=UTC)
    >>> fill = Fill("1", "2", None, "A", Side.buy, Decimal(3), Decimal("9.9951"), Decimal(1), at)
    >>> cash_flow(fill)
    Decimal('-30.99')
    """
    notional = (fill.quantity * fill.price).quantize(CENT)
    return (-notional if fill.side is Side.buy else notional) - fill.commission


def book_fill(writer: Writer, fill: Fill) -> bool:
    """Book an execution on its order, the positions and the cash; False if it was known."""
    new = writer.add_fill(fill)
    if new:
        signed = fill.quantity if fill.side is Side.buy else -fill.quantity
        _change_shares(writer, fill.symbol, signed)
        _change_cash(writer, cash_flow(fill))
    return new


def book_activities(writer: Writer, activities: Iterable[Activity]) -> tuple[Activity, ...]:
    """Book activities, each once, and return the new ones.

    Of shares only what the company itself did is booked: those that somebody moved stay a
    difference, which stops trading until a person has looked.
    """
    new = tuple(activity for activity in activities if writer.add_activity(activity))
    for activity in new:
        _change_cash(writer, activity.cash)
        if activity.corporate and activity.symbol is not None and activity.shares:
            _change_shares(writer, activity.symbol, activity.shares)
    return new


def open_cash(writer: Writer, books: Reading, activities: Iterable[Activity]) -> None:
    """Begin the cash with what the broker has; the activities so far are in it already."""
    for activity in activities:
        writer.add_activity(activity)
    writer.set_cash(books.account.cash)


def take_over(writer: Writer, books: Reading, activities: Iterable[Activity]) -> None:
    """Begin shares and cash anew with what the broker has."""
    writer.set_positions(books.held)
    open_cash(writer, books, activities)


def _change_shares(writer: Writer, symbol: str, signed: Decimal) -> None:
    held = writer.positions()
    held[symbol] = held.get(symbol, ZERO) + signed
    writer.set_positions(held)


def _change_cash(writer: Writer, change: Decimal) -> None:
    cash = writer.cash()
    if cash is not None and change:
        writer.set_cash(cash + change)
