import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from risk.access.errors import NotAnswered, Reason
from serving.messages import AllocationRequest, canonical, parse, to_question

decimals = st.decimals(-(10**12) + 1, 10**12 - 1, allow_nan=False, places=4)
symbols = st.from_regex(r"[A-Z0-9.^/_=-]{1,16}", fullmatch=True)
positions = st.dictionaries(symbols, decimals.map(abs), max_size=5)


def asked(**account: Any) -> bytes:
    return json.dumps({"account": {"id": "a", "cash": 0, "positions": {}, **account}}).encode()


def refused(body: bytes) -> NotAnswered:
    with pytest.raises(NotAnswered) as caught:
        parse(body)
    return caught.value


@given(cash=decimals, held=positions)
def test_the_same_question_in_another_spelling_has_the_same_canonical_form(
    cash: Any, held: dict[str, Any]
) -> None:
    plain = {symbol: f"{shares:f}" for symbol, shares in held.items()}
    padded = {symbol: f"{shares:f}00" for symbol, shares in reversed(list(held.items()))}
    one = parse(asked(cash=f"{cash:f}", positions=plain))
    other = parse(
        json.dumps(
            {"account": {"positions": padded, "cash": f"{cash:f}0", "id": "a"}, "universe": None},
            indent=3,
        ).encode()
    )
    assert canonical(one) == canonical(other)
    assert parse_again(canonical(one)) == one.model_copy(update={"account": without_zeros(one)})


def parse_again(body: bytes) -> AllocationRequest:
    return parse(body)


def without_zeros(request: AllocationRequest) -> Any:
    assert request.account is not None
    held = {symbol: shares for symbol, shares in request.account.positions.items() if shares}
    return request.account.model_copy(update={"positions": held})


@given(cash=decimals, change=st.decimals("0.0001", "10", places=4), held=positions)
def test_another_amount_is_another_question(cash: Any, change: Any, held: dict[str, Any]) -> None:
    plain = {symbol: f"{shares:f}" for symbol, shares in held.items()}
    one = parse(asked(cash=f"{cash / 2:f}"[:30], positions=plain))
    other = parse(asked(cash=f"{cash / 2 + change:f}"[:30], positions=plain))
    assert canonical(one) != canonical(other)


def test_a_number_and_its_decimal_string_are_one_question() -> None:
    assert canonical(parse(asked(cash=0.1))) == canonical(parse(asked(cash="0.10")))
    assert canonical(parse(asked(cash=-0.0))) == canonical(parse(asked(cash=0)))
    assert canonical(parse(asked(positions={"A": 0}))) == canonical(parse(asked()))
    assert canonical(parse(asked(cash=1e11))) == canonical(parse(asked(cash=100_000_000_000)))


def test_the_order_of_the_universe_changes_neither_identity_nor_question() -> None:
    one, other = (parse(json.dumps({"universe": u}).encode()) for u in (["B", "A"], ["A", "B"]))
    assert canonical(one) == canonical(other)
    assert to_question(one) == to_question(other)


def test_the_session_is_named_beside_the_canonical_form_and_not_in_it() -> None:
    assert canonical(parse(b"{}")) == canonical(parse(b'{"as_of": "2022-12-28"}'))
    assert to_question(parse(b'{"as_of": "2022-12-28"}')).as_of == "2022-12-28"


@pytest.mark.parametrize(
    "number",
    [
        *("NaN", "Infinity", "-Infinity", "1e400", "true", "null", "[]", "{}", "1e12", "-1e12"),
        *('"NaN"', '"sNaN"', '"inf"', '"1e5"', '"1_0"', '" 1"', '"1 "', '"٣"', '""', '"0x10"'),
        *('"1e-999999999"', '"1e999999999"', '"1000000000000"', '"1."', '".5"', '"+1"', '"1\\n"'),
        "1" * 5000,
        '"' + "1" * 500_000 + '"',
        '"0.' + "1" * 500_000 + '"',
    ],
)
def test_what_is_no_plain_amount_of_money_is_refused_at_once(number: str) -> None:
    started = time.perf_counter()
    error = refused(b'{"account": {"id": "a", "positions": {}, "cash": ' + number.encode() + b"}}")
    assert error.reason in (Reason.invalid, Reason.bad_request)
    assert time.perf_counter() - started < 1.0


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", Reason.bad_request),
        (b"{", Reason.bad_request),
        (b"\xff\xfe{\x00}\x00", Reason.bad_request),
        (b"\xef\xbb\xbf{}", Reason.bad_request),
        (b'{"as_of": "2022-12-28", "as_of": "2022-12-29"}', Reason.bad_request),
        (b'{"account": {"id": "a", "id": "b", "cash": 0, "positions": {}}}', Reason.bad_request),
        (b"[" * 200_000, Reason.bad_request),
        (b"null", Reason.invalid),
        (b"[]", Reason.invalid),
        (b'"2022-12-28"', Reason.invalid),
        (b'{"asof": "2022-12-28"}', Reason.invalid),
        (b'{"as_of": 1672185600}', Reason.invalid),
        (b'{"as_of": "1672185600"}', Reason.invalid),
        (b'{"as_of": "2022-12-28T00:00:00"}', Reason.invalid),
        (b'{"as_of": "2022-02-30"}', Reason.invalid),
        (b'{"universe": []}', Reason.invalid),
        (b'{"universe": ["A"]}', Reason.invalid),
        (b'{"universe": ["A", "A"]}', Reason.invalid),
        (b'{"universe": ["A", "b"]}', Reason.invalid),
        (b'{"universe": ["A", "B\\n"]}', Reason.invalid),
        (b'{"universe": ["A", "\\ud800"]}', Reason.invalid),
        (b'{"account": {"id": "", "cash": 0, "positions": {}}}', Reason.invalid),
        (b'{"account": {"id": "a b", "cash": 0, "positions": {}}}', Reason.invalid),
        (b'{"account": {"id": "a\\n", "cash": 0, "positions": {}}}', Reason.invalid),
        (b'{"account": {"id": "../../x", "cash": 0, "positions": {}}}', Reason.invalid),
        (b'{"account": {"id": "a", "cash": 0, "positions": {"A": -1}}}', Reason.invalid),
        (b'{"account": {"id": "a", "cash": 0, "positions": {"a": 1}}}', Reason.invalid),
        (b'{"account": {"id": "a", "cash": 0}}', Reason.invalid),
    ],
)
def test_what_is_no_question_is_refused(body: bytes, reason: Reason) -> None:
    assert refused(body).reason is reason


@given(body=st.binary() | st.text().map(str.encode))
def test_any_bytes_are_a_question_or_are_refused(body: bytes) -> None:
    try:
        assert isinstance(parse(body), AllocationRequest)
    except NotAnswered as error:
        assert error.reason.status in (400, 422)


def test_a_refusal_names_the_place_in_plain_short_words_and_repeats_no_value() -> None:
    hostile = "<script>\u202e" + "x" * 10_000
    error = refused(json.dumps({hostile: hostile, "as_of": hostile}).encode())
    assert error.detail.isascii()
    assert len(error.detail) < 300
    assert "script>" not in error.detail
    assert "as_of" in error.detail
