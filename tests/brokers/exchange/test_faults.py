"""Every fault of the plan, as the official client and as a bare connection see it."""

import socket
import time
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from alpaca.common.exceptions import APIError
from alpaca.trading.enums import OrderSide, TimeInForce
from alpaca.trading.requests import LimitOrderRequest
from pydantic import ValidationError

BEFORE_OR_AFTER = ["status", "reset", "html", "empty", "slow"]


def order(client_order_id: str = "one") -> LimitOrderRequest:
    return LimitOrderRequest(
        symbol="S000",
        qty=1,
        side=OrderSide.BUY,
        limit_price=1.0,
        time_in_force=TimeInForce.DAY,
        client_order_id=client_order_id,
    )


def submit(venue) -> Any:
    """Return what the official client makes of an order: the order or its exception."""
    client = venue.trading_client()
    client._retry = 0  # its own repetitions are the subject of one test only
    try:
        return client.submit_order(order())
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what the test looks at
        return error


def live(venue) -> int:
    return len(venue.trading_client().get_orders())


@pytest.mark.parametrize("kind", BEFORE_OR_AFTER)
@pytest.mark.parametrize("after", [False, True])
def test_only_a_fault_after_acceptance_leaves_an_order(venue, kind: str, after: bool):
    venue.fault(kind, after=after, status=502, seconds=0.01)
    submit(venue)
    assert live(venue) == (1 if after or kind == "slow" else 0)
    assert venue.sent()[0]["fault"] == kind


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_status_comes_with_its_words_and_its_pause(venue, status: int):
    venue.fault("status", status=status, retry_after=3, code=42910000, message="too many")
    error = submit(venue)
    assert isinstance(error, APIError)
    assert (error.status_code, error.code, error.message) == (status, 42910000, "too many")
    assert error.response.headers["retry-after"] == "3"


def test_a_reset_is_a_reset(venue):
    venue.fault("reset", after=True)
    assert isinstance(submit(venue), requests.exceptions.ConnectionError)


def test_a_truncated_answer_ends_early(venue):
    venue.fault("truncated")
    assert isinstance(submit(venue), requests.exceptions.ChunkedEncodingError)
    assert live(venue) == 1


def test_silence_lasts_until_the_client_hangs_up(venue):
    client = venue.trading_client()
    for after, orders in ((False, 0), (True, 1)):
        venue.fault("silence", after=after)
        with pytest.raises(requests.exceptions.ReadTimeout):
            client._session.post(
                f"{venue.url}/v2/orders",
                json=order().to_request_fields(),
                headers=client._get_default_headers(),
                timeout=0.2,
            )
        assert live(venue) == orders


def test_an_unknown_status_is_nothing_the_client_can_read(venue):
    venue.fault("unknown_enum")
    assert isinstance(submit(venue), ValidationError)
    assert live(venue) == 1
    venue.fault("unknown_enum", method="GET", path="/v2/orders")
    with pytest.raises(ValidationError):
        live(venue)


def test_a_slow_answer_is_late(venue):
    venue.fault("slow", seconds=0.3)
    started = time.monotonic()
    submit(venue)
    assert time.monotonic() - started >= 0.3


def test_a_hidden_order_is_found_when_its_time_is_up(venue):
    venue.fault("hide", seconds=0.4)
    client = venue.trading_client()
    hidden = submit(venue)
    for look_up in (
        lambda: client.get_order_by_client_id("one"),
        lambda: client.get_order_by_id(hidden.id),
        lambda: client.cancel_order_by_id(hidden.id),
    ):
        with pytest.raises(APIError) as missing:
            look_up()
        assert missing.value.status_code == 404
    assert live(venue) == 0
    assert submit(venue).code == 40010001  # only the repeated id tells
    time.sleep(0.4)
    assert client.get_order_by_client_id("one").id == hidden.id
    assert live(venue) == 1


def test_the_official_client_repeats_an_accepted_order_after_a_504(venue):
    venue.fault("status", status=504, after=True, times=3)
    client = venue.trading_client()
    client._retry_wait = 0.0
    anonymous = order()
    anonymous.client_order_id = None
    client.submit_order(anonymous)
    assert live(venue) == 4
    assert [sent["carried_out"] for sent in venue.sent() if sent["method"] == "POST"] == [200] * 4


def test_with_an_id_it_sees_a_refusal_of_the_order_that_lives(venue):
    venue.fault("status", status=504, after=True)
    client = venue.trading_client()
    client._retry_wait = 0.0
    with pytest.raises(APIError, match="client_order_id must be unique"):
        client.submit_order(order())
    assert live(venue) == 1


def test_faults_hit_the_matches_they_were_asked_to(venue):
    client = venue.trading_client()
    venue.fault("status", status=503, method="GET", path="/v2/clock", nth=2, times=2)
    outcomes = []
    for _ in range(5):
        client.get_account()  # another path, never hit
        try:
            client.get_clock()
            outcomes.append(200)
        except APIError as error:
            outcomes.append(error.status_code)
    assert outcomes == [200, 503, 503, 200, 200]
    [fault] = venue.admin("GET", "/faults")
    assert (fault["matched"], fault["hit"]) == (5, 2)


def test_a_fault_of_some_seconds_goes_away(venue):
    client = venue.trading_client()
    client._retry = 0
    venue.fault("status", status=429, method="GET", path="/v2/clock", times=None, for_s=0.3)
    with pytest.raises(APIError):
        client.get_clock()
    time.sleep(0.3)
    client.get_clock()


def test_cleared_faults_are_gone(venue):
    venue.fault("status", times=None)
    venue.clear_faults()
    submit(venue)
    assert live(venue) == 1


def test_what_was_sent_is_kept_word_for_word(venue):
    before = time.monotonic()
    submit(venue)
    [sent] = venue.sent()
    assert (sent["method"], sent["path"], sent["number"]) == ("POST", "/v2/orders", 1)
    assert '"client_order_id": "one"' in sent["body"]
    assert before <= sent["monotonic_s"] <= time.monotonic()
    venue.admin("DELETE", "/sent")
    assert venue.sent() == []


def test_a_request_whose_end_never_comes_reaches_nobody(venue):
    """Its sender was killed in between: no half of an order, and none in what was sent."""
    address = urlsplit(venue.url)
    head = "POST /v2/orders HTTP/1.1\r\nHost: x\r\nContent-Length: 400\r\n\r\n"
    for half in ("", '{"symbol": "S000"'):
        with socket.create_connection((address.hostname, address.port)) as connection:
            connection.sendall((head + half).encode())
    submit(venue)
    assert [(one["method"], one["carried_out"]) for one in venue.sent()] == [("POST", 200)]
    assert live(venue) == 1


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "flood"},
        {},
        {"kind": "reset", "path": "("},
        {"kind": "reset", "nth": "first"},
        {"kind": "reset", "surprise": 1},
        {"kind": "reset", "after": 1},
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(venue, fault: dict[str, Any]):
    client = venue.trading_client()
    answer = requests.post(
        f"{venue.url}/admin/faults", json=fault, headers=client._get_auth_headers(), timeout=10
    )
    assert answer.status_code == 422
    assert venue.admin("GET", "/faults") == []
