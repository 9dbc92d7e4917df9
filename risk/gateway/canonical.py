"""One spelling for everything that is hashed or stored: canonical JSON, numbers and times."""

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum

MOST_DIGITS = 60  # in front of the point or behind it: more is no sum of money or shares


def number(value: Decimal) -> str:
    """Return a number without exponent, exact to its last digit.

    Raises:
        TypeError: for anything but a Decimal, a float above all.
        ValueError: for NaN, infinity and what has more than 60 digits on a side.

    >>> number(Decimal("1E+3")), number(Decimal("-0.00")), number(Decimal("0.10"))
    ('1000', '0', '0.10')
    """
    if not isinstance(value, Decimal):
        raise TypeError(f"money and shares are Decimal, was {type(value).__name__} {value!r}")
    if not value.is_finite():
        raise ValueError(f"a number must be finite, was {value}")
    if value == 0:
        return "0"
    exponent = value.as_tuple().exponent
    if value.adjusted() >= MOST_DIGITS or not -MOST_DIGITS <= int(exponent) <= MOST_DIGITS:
        raise ValueError(f"a number has at most {MOST_DIGITS} digits on a side, was {value:.6E}")
    return format(value, "f")


def moment(at: datetime) -> str:
    """Return an aware time in UTC with microseconds.

    >>> moment(datetime(2024, 1, 2, 14, 30, tzinfo=UTC))
    '2024-01-02T14:30:00.000000+00:00'
    """
    if at.tzinfo is None:
        raise ValueError(f"a time needs a time zone, was {at}")
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def canonical(value: object) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, ASCII, numbers as strings.

    Raises:
        TypeError: for a type that has no one spelling.
        ValueError: for NaN, infinity and times without a zone.

    >>> canonical({"b": Decimal("1.50"), "a": [None, True, 3]})
    '{"a":[null,true,3],"b":"1.50"}'
    """
    return json.dumps(
        value,
        default=_spell,
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=True,
        allow_nan=False,
    )


def _spell(value: object) -> object:
    if isinstance(value, Decimal):
        return number(value)
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no canonical form: {value!r}")
