"""JSON as exactly the kinds of values that were expected, or a refusal.

Everything raises ValueError, in one line that names the member, for what it cannot vouch for.
"""

import re
from datetime import UTC, datetime
from decimal import Decimal

NUMBER = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,18})?")
LARGEST = Decimal(10) ** 15


class Members:
    """The members of one JSON object, each read as exactly one kind of value, or refused."""

    def __init__(self, what: str, raw: object) -> None:
        if not isinstance(raw, dict):
            raise ValueError(f"{what}: no object but {raw!r:.80}")
        self._what, self._raw = what, raw

    def named_by(self, name: str) -> "Members":
        """Return the same, speaking of the object by a member of it."""
        return Members(f"{self._what} {self.text(name):.40}", self._raw)

    def text(self, name: str) -> str:
        """Return a string that is not empty and that every terminal, log and database takes."""
        value = self._raw.get(name)
        if not isinstance(value, str) or not value or not value.isprintable():
            raise self.odd(name)
        return value

    def optional_text(self, name: str) -> str | None:
        """Return a string, or None where there is none, or an empty one."""
        return None if self._raw.get(name) in (None, "") else self.text(name)

    def flag(self, name: str) -> bool:
        """Return a truth value."""
        value = self._raw.get(name)
        if not isinstance(value, bool):
            raise self.odd(name)
        return value

    def number(self, name: str) -> Decimal:
        """Return a number as it was written."""
        value = self._raw.get(name)
        if isinstance(value, str) and NUMBER.fullmatch(value):
            return Decimal(value)
        if isinstance(value, int | Decimal) and not isinstance(value, bool):
            exact = Decimal(value)
            if exact.is_finite() and abs(exact) < LARGEST:
                return exact
        raise self.odd(name)

    def optional_number(self, name: str) -> Decimal | None:
        """Return a number, or None where there is none."""
        return None if self._raw.get(name) is None else self.number(name)

    def positive(self, name: str) -> Decimal:
        """Return a number above 0."""
        value = self.number(name)
        if not value > 0:
            raise self.odd(name)
        return value

    def time(self, name: str) -> datetime:
        """Return a time in UTC, to the microsecond below."""
        try:
            value = datetime.fromisoformat(self.text(name))
        except ValueError:
            raise self.odd(name) from None
        if value.tzinfo is None:
            raise self.odd(name)
        return value.astimezone(UTC)

    def odd(self, name: str) -> ValueError:
        """Return the error of a member that is not what it should be."""
        return ValueError(f"{self._what}: {name} is {self._raw.get(name)!r:.80}")


def items(what: str, raw: object) -> list[object]:
    """Return a JSON list."""
    if not isinstance(raw, list):
        raise ValueError(f"{what}: no list but {raw!r:.80}")
    return raw
