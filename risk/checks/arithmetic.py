"""Decimal arithmetic in which what is missing or no number can never pass a check.

Inside `exactly()` a NaN makes every comparison false instead of raising, as it does for floats,
and a condition is written `not proposed <= allowed`. Precision and rounding are pinned there, so
that a verdict is the same wherever it is replayed.
"""

from contextlib import AbstractContextManager
from datetime import timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext

from risk.gateway.verdict import ReasonCode, Violation, shown

NAN = Decimal("NaN")
ZERO = Decimal(0)
ONE = Decimal(1)

_EXACT = Context(prec=40, rounding=ROUND_HALF_EVEN, Emin=-999_999, Emax=999_999, traps=[])
_MICROSECOND = timedelta(microseconds=1)
_MICROSECONDS_PER_S = Decimal(1_000_000)


def exactly() -> AbstractContextManager[Context]:
    """Return the context that every verdict is computed in."""
    return localcontext(_EXACT)


def number(value: Decimal | None) -> Decimal:
    """Return a value, NaN where it is missing."""
    return NAN if value is None else value


def largest(one: Decimal, other: Decimal) -> Decimal:
    """Return the larger value, NaN if either is: `max` would depend on their order."""
    if one >= other:
        return one
    return other if other >= one else NAN


def gap(value: Decimal, reference: Decimal) -> Decimal:
    """Return how far a price is from a reference, as a fraction of it; NaN where either is <= 0.

    >>> gap(Decimal("101"), Decimal("100"))
    Decimal('0.01')
    """
    if not (value > 0 and reference > 0):
        return NAN
    return abs(value / reference - ONE)


def seconds(duration: timedelta) -> Decimal:
    """Return a duration in seconds, exactly."""
    return Decimal(duration // _MICROSECOND) / _MICROSECONDS_PER_S


def breach(
    code: ReasonCode, limit: str, allowed: object, proposed: object, symbol: str = ""
) -> Violation:
    """Return a violation that shows both values exactly."""
    return Violation(code, limit, shown(allowed), shown(proposed), symbol)


Found = tuple[Violation, ...]


def above(
    code: ReasonCode,
    limit: str,
    allowed: Decimal | int,
    proposed: Decimal | int | None,
    symbol: str = "",
) -> Found:
    """Return a violation unless a value is known and at most what is allowed."""
    if proposed is not None and proposed <= allowed:
        return ()
    return (breach(code, limit, allowed, proposed, symbol),)


def below(
    code: ReasonCode,
    limit: str,
    allowed: Decimal | int,
    proposed: Decimal | int | None,
    symbol: str = "",
) -> Found:
    """Return a violation unless a value is known and at least what is allowed."""
    if proposed is not None and proposed >= allowed:
        return ()
    return (breach(code, limit, allowed, proposed, symbol),)


def unless(
    holds: bool | None, code: ReasonCode, allowed: object, proposed: object, symbol: str = ""
) -> Found:
    """Return a violation unless something is known and true."""
    return () if holds is True else (breach(code, "", allowed, proposed, symbol),)
