"""What is refused, with Alpaca's status and code; nothing that is refused leaves an order."""

from typing import Any

import pytest
import requests

GOOD = {
    "symbol": "S000",
    "qty": "1",
    "side": "buy",
    "type": "market",
    "time_in_force": "day",
    "client_order_id": "one",
}
LIMIT = GOOD | {"type": "limit", "limit_price": "10"}
BRACKET = GOOD | {
    "order_class": "bracket",
    "take_profit": {"limit_price": "90"},
    "stop_loss": {"stop_price": "20"},
}


@pytest.fixture
def session(venue) -> requests.Session:
    session = requests.Session()
    client = venue.trading_client()
    session.headers.update(
        {"APCA-API-KEY-ID": client._api_key, "APCA-API-SECRET-KEY": client._secret_key}
    )
    return session


def post(venue, session: requests.Session, body: Any) -> tuple[int, int | None, str]:
    """Send an order; return status, code and message."""
    data = body if isinstance(body, bytes) else None
    json = None if isinstance(body, bytes) else body
    answer = session.post(f"{venue.url}/v2/orders", json=json, data=data, timeout=10)
    content = answer.json()
    return answer.status_code, content.get("code"), content.get("message", "")


def orders(venue, session: requests.Session) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = session.get(
        f"{venue.url}/v2/orders?status=all", timeout=10
    ).json()
    return found


MALFORMED = {
    "no quantity": GOOD | {"qty": None},
    "negative": GOOD | {"qty": "-5"},
    "negative number": GOOD | {"qty": -5.0},
    "zero": GOOD | {"qty": "0"},
    "negative zero": GOOD | {"qty": -0.0},
    "too fine": GOOD | {"qty": "0.0000000001"},
    "too large": GOOD | {"qty": "1000000000001"},
    "beyond every exponent": GOOD | {"qty": "1e400"},
    "words": GOOD | {"qty": "ten"},
    "not a number": GOOD | {"qty": "NaN"},
    "infinite": GOOD | {"qty": "Infinity"},
    "a truth": GOOD | {"qty": True},
    "a list": GOOD | {"qty": [1]},
    "arabic digits": GOOD | {"qty": "١"},
    "notional": GOOD | {"qty": None, "notional": "100"},
    "no side": GOOD | {"side": None},
    "a third side": GOOD | {"side": "hold"},
    "no symbol": GOOD | {"symbol": ""},
    "unknown symbol": GOOD | {"symbol": "NOBODY"},
    "look-alike symbol": GOOD | {"symbol": "Ѕ000"},
    "lower case": GOOD | {"symbol": "s000"},
    "good till cancelled": GOOD | {"time_in_force": "gtc"},
    "extended hours": GOOD | {"extended_hours": True},
    "trailing stop": GOOD | {"type": "trailing_stop"},
    "limit without its price": LIMIT | {"limit_price": None},
    "market with a limit price": GOOD | {"limit_price": "10"},
    "limit of zero": LIMIT | {"limit_price": "0"},
    "limit below zero": LIMIT | {"limit_price": "-1"},
    "long id": GOOD | {"client_order_id": "x" * 129},
    "id of control characters": GOOD | {"client_order_id": "a\x00b"},
    "id that is a number": GOOD | {"client_order_id": 7},
    "bracket without a stop": BRACKET | {"stop_loss": None},
    "bracket whose profit is a text": BRACKET | {"take_profit": "90"},
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
def test_an_order_that_makes_no_sense_is_422(venue, session: requests.Session, body: Any):
    status, code, _ = post(venue, session, body)
    assert (status, code) == (422, 40010001)
    assert orders(venue, session) == []


FORBIDDEN_BY_RULE = {
    "sub-penny limit": LIMIT | {"limit_price": "10.001"},
    "fractional bracket": BRACKET | {"qty": "1.5"},
    "profit below the price": BRACKET | {"take_profit": {"limit_price": "30"}},
    "loss above the price": BRACKET | {"stop_loss": {"stop_price": "60"}},
    "buy stop below the price": GOOD | {"type": "stop", "stop_price": "20"},
    "sell stop above the price": GOOD | {"type": "stop", "stop_price": "90", "side": "sell"},
}


@pytest.mark.parametrize("body", FORBIDDEN_BY_RULE.values(), ids=FORBIDDEN_BY_RULE.keys())
def test_an_order_against_a_rule_is_422(venue, session: requests.Session, body: Any):
    status, code, _ = post(venue, session, body)
    assert (status, code) == (422, 42210000)
    assert orders(venue, session) == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"1", b"[" * 50_000, b'{"qty": NaN}', b"\xff"])
def test_a_body_that_is_no_object_is_400(venue, session: requests.Session, body: bytes):
    assert post(venue, session, body)[0] == 400


def test_a_body_that_is_too_large_is_413(venue, session: requests.Session):
    assert post(venue, session, GOOD | {"padding": "x" * 70_000})[0] == 413


def test_an_id_is_unique_for_ever(venue, session: requests.Session):
    assert post(venue, session, LIMIT)[0] == 200
    again = post(venue, session, LIMIT | {"qty": "2"})
    assert again == (422, 40010001, "client_order_id must be unique")
    [order] = orders(venue, session)
    session.delete(f"{venue.url}/v2/orders/{order['id']}", timeout=10)
    assert post(venue, session, LIMIT)[0] == 422
    assert len(orders(venue, session)) == 1


def test_a_purchase_beyond_the_buying_power_is_403(venue, session: requests.Session):
    assert post(venue, session, GOOD | {"qty": "1000000000000"})[:2] == (403, 40310000)
    limit = LIMIT | {"limit_price": "10", "client_order_id": "a"}
    assert post(venue, session, limit | {"qty": "10000"})[0] == 200  # exactly the cash
    status, code, message = post(venue, session, limit | {"qty": "1", "client_order_id": "b"})
    assert (status, code, message) == (403, 40310000, "insufficient buying power")


def test_what_an_open_order_has_reserved_is_free_again_after_its_end(
    venue, session: requests.Session
):
    limit = LIMIT | {"qty": "10000"}
    post(venue, session, limit)
    assert session.get(f"{venue.url}/v2/account", timeout=10).json()["buying_power"] == "0.00"
    session.delete(f"{venue.url}/v2/orders", timeout=10)
    assert post(venue, session, limit | {"client_order_id": "again"})[0] == 200


def test_selling_what_is_not_held_is_403(venue, session: requests.Session):
    status, code, message = post(venue, session, GOOD | {"side": "sell"})
    assert (status, code, message) == (403, 40310000, "account is not allowed to short")


def test_shares_are_sold_once(venue, session: requests.Session):
    post(venue, session, GOOD | {"qty": "5"})
    sale = LIMIT | {"side": "sell", "limit_price": "900"}
    assert post(venue, session, sale | {"qty": "3", "client_order_id": "two"})[0] == 200
    status, code, message = post(venue, session, sale | {"qty": "3", "client_order_id": "three"})
    assert (status, code) == (403, 40310000)
    assert message == "insufficient qty available for order (requested: 3, available: 2)"
    assert post(venue, session, sale | {"qty": "2", "client_order_id": "four"})[0] == 200


@pytest.mark.parametrize(
    ("first", "second", "refused"),
    [
        (LIMIT, GOOD | {"side": "sell"}, True),
        (LIMIT, LIMIT | {"side": "sell", "limit_price": "10"}, True),
        (LIMIT, LIMIT | {"side": "sell", "limit_price": "10.01"}, False),
        (LIMIT, GOOD | {"symbol": "S001", "side": "sell"}, False),
    ],
)
def test_an_order_that_could_meet_our_own_is_403(
    venue, session: requests.Session, first: Any, second: Any, refused: bool
):
    for symbol in ("S000", "S001"):
        shares = GOOD | {"symbol": symbol, "qty": "5", "client_order_id": f"before {symbol}"}
        assert post(venue, session, shares)[0] == 200
    assert post(venue, session, first)[0] == 200
    status, code, message = post(venue, session, second | {"client_order_id": "second"})
    expected = (403, 40310000) if refused else (200, None)
    assert (status, code) == expected
    assert ("wash trade" in message) == refused


def test_names_that_are_halted_or_whole_are_refused(venue, session: requests.Session):
    venue.admin("PUT", "/assets/S000", {"tradable": False})
    assert post(venue, session, GOOD)[2] == 'asset "S000" is not tradable'
    venue.admin("PUT", "/assets/S000", {"fractionable": False})
    assert post(venue, session, GOOD | {"qty": "0.5"})[:2] == (403, 40310000)
    assert post(venue, session, GOOD)[0] == 200


def test_a_blocked_account_trades_nothing(venue, session: requests.Session):
    venue.admin("PATCH", "/account", {"blocked": True})
    assert post(venue, session, GOOD)[2] == "account is blocked from trading"


def test_keys_are_asked_for_before_the_body_is_read(venue, session: requests.Session):
    url = f"{venue.url}/v2/orders"
    assert requests.post(url, data=b"{", timeout=10).status_code == 401
    wrong = dict(session.headers) | {"APCA-API-SECRET-KEY": "wrong"}
    assert requests.post(url, data=b"{", headers=wrong, timeout=10).status_code == 403
    assert requests.get(f"{venue.url}/admin/sent", timeout=10).status_code == 401


def test_rotated_keys_refuse_the_trader_and_not_the_administration(
    venue, session: requests.Session
):
    venue.admin("PUT", "/keys", {"key": "new", "secret": "newer"})
    assert post(venue, session, GOOD)[0] == 403
    assert venue.sent()[-1]["carried_out"] == 403
    new = {"APCA-API-KEY-ID": "new", "APCA-API-SECRET-KEY": "newer"}
    assert requests.get(f"{venue.url}/v2/account", headers=new, timeout=10).status_code == 200


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=501", "limit=x", "status=some", "direction=up", "after=yesterday"],
)
def test_a_list_that_makes_no_sense_is_422(venue, session: requests.Session, query: str):
    assert session.get(f"{venue.url}/v2/orders?{query}", timeout=10).status_code == 422


@pytest.mark.parametrize(
    "path",
    ["/orders/none", "/orders:by_client_order_id?client_order_id=none", "/positions/S000"],
)
def test_what_is_not_there_is_404(venue, session: requests.Session, path: str):
    answer = session.get(f"{venue.url}/v2{path}", timeout=10)
    assert (answer.status_code, answer.json()["code"]) == (404, 40410000)
