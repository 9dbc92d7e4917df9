"""JSON from strangers, read strictly: amounts, names and sessions as exactly what they must be.

The models refuse whatever they do not know. Their messages never repeat a value that was
sent: what a hostile body contains stays out of logs and answers.
"""

import contextlib
import json
import re
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from risk.access.errors import NotAnswered, Reason

LARGEST = Decimal(10) ** 12  # account currency or shares; more is a mistake of units
_UNSIGNED = r"[0-9]{1,12}(\.[0-9]{1,18})?"
_NUMBER = re.compile(f"-?{_UNSIGNED}", re.ASCII)
_SHOWN_PROBLEMS = 3


def _decimal(value: Any) -> Decimal:
    """Return the exact decimal of a JSON number, or of a plain decimal in a string.

    Python's own reading of a string is wider than any bank's: spaces, underscores, digits of
    other scripts, exponents of a thousand million.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise PydanticCustomError("number", "must be a number or a decimal string")
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        raise PydanticCustomError("number", "must be a plain decimal such as 1234.5")
    exact = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if not (exact.is_finite() and abs(exact) < LARGEST):
        raise PydanticCustomError("number", "must be a finite number below 1e12")
    return exact


def _session(value: Any) -> date:
    """Return an ISO date; pydantic's own reading takes a string of seconds since 1970 for one."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        with contextlib.suppress(ValueError):
            return date.fromisoformat(value)
    raise PydanticCustomError("session", "must be a date such as 2022-12-28")


def _not_negative(value: Decimal) -> Decimal:
    if value < 0:
        raise PydanticCustomError("number", "must not be negative")
    return value


def _number_schema(minimum: dict[str, float], pattern: str) -> WithJsonSchema:
    number = {"type": "number", "exclusiveMaximum": float(LARGEST), **minimum}
    return WithJsonSchema({"anyOf": [number, {"type": "string", "pattern": f"^{pattern}$"}]})


Money = Annotated[
    Decimal,
    BeforeValidator(_decimal),
    _number_schema({"exclusiveMinimum": -float(LARGEST)}, f"-?{_UNSIGNED}"),
]
Shares = Annotated[
    Decimal,
    BeforeValidator(_decimal),
    AfterValidator(_not_negative),
    _number_schema({"minimum": 0.0}, _UNSIGNED),
]
Session = Annotated[
    date,
    BeforeValidator(_session),
    WithJsonSchema({"type": "string", "format": "date", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"}),
]
SYMBOL = r"^[A-Z0-9.^/_=-]{1,16}$"
Symbol = Annotated[str, StringConstraints(pattern=SYMBOL)]
AccountId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]


def _whole(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be a whole number")
    return value


WHOLE = BeforeValidator(_whole)
"""Of an int, behind its limits: a JSON number without a fraction, neither true nor "1"."""


class Strict(BaseModel):
    """What knows its members, and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Message = TypeVar("Message", bound=Strict)


def strict(model: type[Message], body: bytes) -> Message:
    """Return the message in a body.

    Raises:
        NotAnswered: bad_request where it is no JSON; invalid where it is another message.
    """
    _require_unambiguous(body)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False, include_context=False)
        shown = "; ".join(f"{_place(p['loc'])} {p['msg']}" for p in problems[:_SHOWN_PROBLEMS])
        raise NotAnswered(Reason.invalid, shown) from None


def canonical_json(record: Any) -> bytes:
    """Return JSON with sorted keys, without spaces, in ASCII."""
    return json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def plain(value: Decimal) -> str:
    """Return a decimal without exponent, trailing zeros or a negative zero.

    >>> plain(Decimal("1.50")), plain(Decimal("-0")), plain(Decimal("1E+3"))
    ('1.5', '0', '1000')
    """
    text = format(value, "f")
    whole = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if value == 0 else whole


def _require_unambiguous(body: bytes) -> None:
    """Refuse what readers of JSON read differently: a key given twice, NaN, another encoding."""
    try:
        json.loads(body.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
    except NotAnswered:
        raise
    except (ValueError, RecursionError):
        raise NotAnswered(Reason.bad_request, "the body is not JSON in UTF-8") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise NotAnswered(Reason.bad_request, "a JSON object gives one key twice")
    return record


def _no_constant(name: str) -> None:
    raise NotAnswered(Reason.bad_request, f"{name} is not JSON")


def _place(location: tuple[int | str, ...]) -> str:
    """Return where a problem is; keys are the sender's words and are shown as short plain text."""
    words = [str(part) for part in location[:4] if part != "[key]"]  # pydantic's word for a key
    return ".".join(re.sub(r"[^\w.:-]", "?", word, flags=re.ASCII)[:32] for word in words) or "body"
