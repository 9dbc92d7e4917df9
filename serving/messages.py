"""The question as it goes over the wire: what is accepted, and its canonical form."""

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from risk.access.strict import (
    SYMBOL,
    AccountId,
    Money,
    Session,
    Shares,
    Strict,
    Symbol,
    canonical_json,
    plain,
    strict,
)
from serving.questions import Question

MAX_NAMES = 10_000


def _unique(symbols: list[str]) -> list[str]:
    if len(set(symbols)) != len(symbols):
        raise PydanticCustomError("unique", "must not name a symbol twice")
    return symbols


class Account(Strict):
    """Whose allocation it is, and what the account holds now."""

    id: AccountId
    cash: Money  # account currency
    positions: Annotated[
        dict[Symbol, Shares],
        Field(max_length=MAX_NAMES, json_schema_extra={"propertyNames": {"pattern": SYMBOL}}),
    ]  # shares, >= 0


class AllocationRequest(Strict):
    """The question what this account should hold after the close of `as_of`."""

    as_of: Session | None = None  # a session; None: the last completed
    account: Account | None = None  # None: advice, which no account can execute
    universe: (
        Annotated[
            list[Symbol],
            Field(min_length=2, max_length=MAX_NAMES, json_schema_extra={"uniqueItems": True}),
            AfterValidator(_unique),
        ]
        | None
    ) = None  # None: all names of the market


def parse(body: bytes) -> AllocationRequest:
    """Return the question in a body.

    Raises:
        NotAnswered: bad_request where it is no JSON; invalid where it is another question.
    """
    return strict(AllocationRequest, body)


def canonical(request: AllocationRequest) -> bytes:
    """Return the same bytes for the same question, however it was written.

    The session is no part of it: "the last completed one" and that one by its date are one
    question, and the decision's identity names the session beside these bytes.
    """
    account = None
    if request.account is not None:
        held = request.account.positions
        account = {
            "id": request.account.id,
            "cash": plain(request.account.cash),
            "positions": {symbol: plain(shares) for symbol, shares in held.items() if shares},
        }
    universe = None if request.universe is None else sorted(request.universe)
    return canonical_json({"account": account, "universe": universe})


def to_question(request: AllocationRequest) -> Question:
    """Return what a replica has to know: the account's money decides identity, not weights."""
    return Question(
        as_of=None if request.as_of is None else request.as_of.isoformat(),
        account=None if request.account is None else request.account.id,
        universe=None if request.universe is None else tuple(sorted(request.universe)),
    )
