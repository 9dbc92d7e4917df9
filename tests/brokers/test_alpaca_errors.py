"""What an error answer proves: only the broker's own words refuse."""

import json
from time import time

import pytest
import requests

from brokers.alpaca_errors import WINDOW_S, NotFound, line, meaning
from risk.gateway.broker import DuplicateId, OutcomeUnknown, Refused, Unauthorised


def response(status: int, body: object, **headers: str) -> requests.Response:
    made = requests.Response()
    made.status_code = status
    made._content = body if isinstance(body, bytes) else json.dumps(body).encode()
    made.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return made


def said(code: int, message: str) -> dict[str, object]:
    return {"code": code, "message": message}


REFUSED = [
    (403, said(40310000, "insufficient buying power"), Refused),
    (403, said(40310000, "potential wash trade detected"), Refused),
    (422, said(42210000, "qty must be > 0"), Refused),
    (422, said(40010001, "qty must be > 0"), Refused),  # the code of duplicates has other uses
    (400, said(40010000, "request body format is invalid"), Refused),
    (404, said(40410000, "order not found"), NotFound),
    (404, said(40410000, "order not found for client_order_id x"), NotFound),
    (422, said(40010001, "client_order_id must be unique"), DuplicateId),
    (422, said(40010001, "Client order ID was used"), DuplicateId),
    (429, said(42910000, "rate limit exceeded"), Refused),
    (429, b"<html>slow down</html>", Refused),
    (429, b"", Refused),
]
UNAUTHORISED = [
    (401, said(40110000, "request is not authorized")),
    (401, b""),
    (403, {"message": "forbidden."}),
    (403, {"message": "access denied"}),
    (403, said(40310000, "forbidden.")),
]
NOTHING_PROVEN = [
    *((status, said(50010000, "internal server error")) for status in (500, 502, 503, 504)),
    *((status, said(40810000, "no")) for status in (402, 405, 408, 409, 410, 413, 418, 425, 499)),
    *((status, b"<html>blocked</html>") for status in (400, 403, 404, 422)),
    (422, b""),
    (422, []),
    (422, "client_order_id must be unique"),
    (422, {"message": "no"}),
    (422, {"code": 40010001}),
    (422, {"code": "40010001", "message": "no"}),
    (422, {"code": 40010001, "message": ""}),
    (422, {"code": 40010001, "message": {"text": "no"}}),
    (422, {"code": True, "message": "no"}),
    (404, {"message": "endpoint not found."}),
    (403, {"error": "forbidden"}),
    # An order under an error status: Alpaca did that once, and the order was there.
    (422, {"id": "1", "client_order_id": "x", "status": "accepted"}),
    (422, b"[" * 100_000),
]


@pytest.mark.parametrize(("status", "body", "kind"), REFUSED)
def test_the_brokers_own_words_refuse(status, body, kind):
    assert type(meaning(response(status, body))) is kind


@pytest.mark.parametrize(("status", "body"), UNAUTHORISED)
def test_keys_that_are_not_accepted_are_no_refusal_of_the_order(status, body):
    assert type(meaning(response(status, body))) is Unauthorised


@pytest.mark.parametrize(("status", "body"), NOTHING_PROVEN)
def test_whatever_else_proves_nothing(status, body):
    assert type(meaning(response(status, body))) is OutcomeUnknown


def test_a_refusal_carries_its_code_and_words():
    answer = meaning(response(403, said(40310000, "insufficient\nbuying power")))
    assert isinstance(answer, Refused)
    assert (answer.code, answer.detail) == (40310000, "insufficient buying power")
    assert answer.retry_after is None


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (said(42910000, "slow down"), 42910000, "slow down"),
        ({"message": "slow down"}, 429, "slow down"),
        ({"code": True}, 429, "too many requests"),
        (b"<html>", 429, "too many requests"),
    ],
)
def test_a_rate_limit_refuses_even_without_words(body, code, words):
    answer = meaning(response(429, body))
    assert isinstance(answer, Refused)
    assert (answer.code, answer.detail) == (code, words)


def test_what_proves_nothing_still_says_what_came():
    assert str(meaning(response(502, b"<html>bad\ngateway"))) == "HTTP 502: <html>bad gateway"
    assert str(meaning(response(401, b""))) == "HTTP 401: the keys are not accepted"


def waits(**headers: str) -> float | None:
    answer = meaning(response(429, b"{}", **headers))
    assert isinstance(answer, Refused)
    return answer.retry_after


def test_the_wait_is_what_the_broker_says():
    assert waits(Retry_After="7") == 7.0
    assert waits(Retry_After="0") == 0.0
    assert waits(Retry_After="0.25") == 0.25
    assert waits(Retry_After="7", X_RateLimit_Reset=str(int(time()) + 60)) == 7.0


def test_the_wait_ends_when_the_window_does():
    assert waits(X_RateLimit_Reset=str(int(time()) + 60)) == pytest.approx(60.0, abs=1.5)
    assert waits(X_RateLimit_Reset=str(int(time()) - 60)) == 0.0


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "soon", "", "1e3", "٧", "+1", ".5", "9" * 13])
def test_a_wait_that_is_no_number_is_as_long_as_the_brokers_window(text):
    assert waits(Retry_After=text) == WINDOW_S == 60.0
    assert waits(X_RateLimit_Reset=text) == WINDOW_S


def test_a_limit_without_a_wait_is_waited_for_all_the_same():
    assert waits() == WINDOW_S


def test_no_wait_is_longer_than_an_hour():
    assert waits(Retry_After="3600") == waits(Retry_After="3601") == 3600.0
    assert waits(X_RateLimit_Reset="9" * 12) == 3600.0


def test_words_become_one_line_of_a_terminal():
    assert line("a\r\n\x1b[31m b\x00\u2028c") == "a [31m b c"
    assert line("x" * 300) == "x" * 300
    assert line("x" * 301) == "x" * 300 + "..."
    assert line(ValueError("odd\nthing")) == "ValueError: odd thing"


def test_the_cause_is_named_instead_of_its_wrappings():
    with pytest.raises(requests.exceptions.ConnectionError) as caught:
        requests.get("http://127.0.0.1:1", timeout=1)
    assert "max retries" not in line(caught.value).lower()
    assert "refused" in line(caught.value)
