"""The adapter against the paper exchange, over HTTP, in good times and in bad ones."""

import dataclasses
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from time import monotonic

import pytest

from brokers.alpaca import AlpacaBroker, connect
from brokers.settings import AlpacaSettings, Keys
from market.errors import InputError
from risk.gateway.broker import (
    DuplicateId,
    OutcomeUnknown,
    Refused,
    Unauthorised,
    Unavailable,
)
from risk.gateway.records import BrokerStatus, OrderRequest, Side

KEYS = Keys("key-of-the-tests", "secret-of-the-tests")
MORNING = datetime(2023, 6, 1, 4, tzinfo=UTC)
PATIENT_S, HASTY_S = 5.0, 0.5  # timeouts: of what shall succeed, and of what shall not
CONNECT_S, SLACK_S = 1.0, 0.5
NOBODY = "61e69015-8549-4bfd-b9c3-01e75843f47d"

BAD_ANSWERS = [
    {"kind": "status", "status": 500},
    {"kind": "status", "status": 502},
    {"kind": "status", "status": 503, "retry_after": 0},
    {"kind": "status", "status": 504},
    {"kind": "status", "status": 408},
    {"kind": "reset"},
    {"kind": "silence"},
    {"kind": "truncated"},
    {"kind": "html"},
    {"kind": "empty"},
    {"kind": "slow", "seconds": 2.0},
]


def name_of(fault: Mapping[str, object]) -> str:
    return f"{fault['kind']} {fault.get('status', '')}".strip()


def adapter(url: str, keys: Keys = KEYS, read_s: float = PATIENT_S) -> AlpacaBroker:
    return AlpacaBroker(AlpacaSettings(url, url, "KEY", "SECRET", CONNECT_S, read_s), keys)


@pytest.fixture
def broker(venue) -> AlpacaBroker:
    return adapter(venue.url)


def request(name: str = "one", quantity: str = "10", limit: str | None = None, side=Side.buy):
    price = None if limit is None else Decimal(limit)
    return OrderRequest(name, "S000", side, Decimal(quantity), price)


def patience(broker: AlpacaBroker, venue, fault: Mapping[str, object]) -> AlpacaBroker:
    """Return the broker, or one that does not wait long where there is nothing to wait for."""
    endless = fault["kind"] in ("silence", "slow")
    return adapter(venue.url, read_s=HASTY_S) if endless else broker


def waiting(broker: AlpacaBroker, name: str = "one", quantity: str = "10") -> OrderRequest:
    """Return an order to buy at half the price, which waits."""
    price = broker.quotes(["S000"])["S000"].last / 2
    return request(name, quantity, f"{price:.2f}")


def posted(venue) -> list[dict[str, str]]:
    """Return the orders that arrived at the exchange."""
    return [
        json.loads(sent["body"])
        for sent in venue.sent()
        if (sent["method"], sent["path"]) == ("POST", "/v2/orders")
    ]


def held(broker: AlpacaBroker, venue) -> None:
    """Let an order fill."""
    broker.submit(request("held"))
    venue.advance(120)
    assert broker.positions()


def test_it_connects_with_the_keys_of_the_environment(venue, monkeypatch):
    settings = AlpacaSettings(venue.url, venue.url, "SOME_KEY", "SOME_SECRET", 1.0, 5.0)
    monkeypatch.delenv("SOME_KEY", raising=False)
    with pytest.raises(InputError, match="SOME_KEY is not set"):
        connect(settings)
    monkeypatch.setenv("SOME_KEY", KEYS.key)
    monkeypatch.setenv("SOME_SECRET", KEYS.secret)
    assert connect(settings).account().paper


def test_it_brings_neither_torch_nor_ray_into_the_process():
    code = "import sys, brokers.alpaca; print({'torch', 'ray', 'hydra'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"


def test_the_account_is_papers_own(broker, venue):
    account = broker.account()
    assert account.paper
    assert account.id.startswith("PA")
    assert (account.cash, account.equity, account.multiplier) == (100_000, 100_000, 1)
    assert not (account.suspended or account.blocked)


@pytest.mark.parametrize(
    ("address", "paper"),
    [
        ("https://api.alpaca.markets", False),
        ("https://API.Alpaca.Markets.", False),
        ("https://somewhere.else", False),
        ("https://paper-api.alpaca.markets", True),
    ],
)
def test_the_same_account_is_paper_at_the_addresses_of_paper_only(broker, venue, address, paper):
    there = AlpacaBroker(
        AlpacaSettings(address, venue.url, "KEY", "SECRET", CONNECT_S, PATIENT_S), KEYS
    )
    there._trading = broker._trading  # the paper exchange answers for it
    assert there.account().paper is paper


def test_time_is_the_exchanges(broker, venue):
    clock = broker.clock()
    assert clock.now == datetime(2023, 6, 1, 14, tzinfo=UTC)
    assert clock.is_open
    assert clock.next_close == datetime(2023, 6, 1, 20, tzinfo=UTC)
    venue.go_to("next_close")
    venue.advance(1)
    assert not broker.clock().is_open


def test_the_calendar_has_half_days_and_holidays(broker):
    hours = broker.calendar(date(2023, 7, 3), date(2023, 7, 5))
    assert [(item.session.day, item.close.hour) for item in hours] == [(3, 17), (5, 20)]


def test_an_asset_is_known_or_refused(broker):
    assert broker.asset("S000").tradable
    with pytest.raises(Refused, match="not found") as caught:
        broker.asset("NOBODY")
    assert caught.value.code == 40410000


@pytest.mark.parametrize("name", ["../orders", "S000/../S001", "S000?x=1", "S000#", "%53000"])
def test_an_odd_name_does_not_reach_another_address(broker, venue, name):
    with pytest.raises((Refused, Unavailable)):
        broker.asset(name)
    (sent,) = venue.sent()
    assert sent["path"].startswith("/v2/assets/")
    assert sent["query"] == ""


def test_a_name_without_a_quote_is_missing(broker):
    quotes = broker.quotes(["S000", "S003"])
    assert set(quotes) == {"S000", "S003"}
    quote = quotes["S000"]
    assert quote.bid is not None
    assert quote.ask is not None
    assert quote.bid < quote.last < quote.ask
    assert broker.quotes([]) == {}


def test_an_order_arrives_fills_and_becomes_a_position(broker, venue):
    answer = broker.submit(request(quantity="10"))
    assert (answer.client_order_id, answer.status) == ("one", BrokerStatus.working)
    venue.advance(120)
    order = broker.order("one")
    assert order is not None
    assert (order.status, order.filled) == (BrokerStatus.filled, 10)
    (fill,) = broker.fills(MORNING)
    assert (fill.broker_id, fill.quantity, fill.side) == (answer.broker_id, 10, Side.buy)
    assert fill.price == order.average_price
    position = broker.positions()["S000"]
    assert (position.quantity, position.average_price) == (10, fill.price)
    account = broker.account()
    value = (position.quantity * position.price).quantize(Decimal("0.01"))
    assert account.equity == account.cash + value
    assert broker.open_orders() == []


def test_parts_of_shares_and_cents_arrive_digit_by_digit(broker, venue):
    sent = waiting(broker, quantity="0.123456789")
    answer = broker.submit(sent)
    (body,) = posted(venue)
    assert body["qty"] == "0.123456789"
    assert body["limit_price"] == str(sent.limit_price)
    assert body["time_in_force"] == "day"
    assert (answer.quantity, answer.limit_price) == (sent.quantity, sent.limit_price)


def test_no_number_of_any_record_is_a_float(open_venue):
    venue = open_venue(share_per_step=0.3, commission_bp=1.0, commission_per_share=0.01)
    broker = adapter(venue.url)
    broker.submit(request(quantity="7.77"))
    venue.advance(600)
    fills = broker.fills(MORNING)
    assert len(fills) > 1
    assert all(fill.commission > 0 for fill in fills)
    records = [
        broker.account(),
        *broker.positions().values(),
        *broker.quotes(["S000"]).values(),
        *broker.orders(MORNING),
        *fills,
    ]
    values = [value for record in records for value in dataclasses.asdict(record).values()]
    assert any(isinstance(value, Decimal) for value in values)
    assert not any(isinstance(value, float) for value in values)
    assert sum(fill.quantity for fill in fills) == Decimal("7.77")


def test_the_cash_is_what_the_fills_say_to_the_cent(open_venue):
    venue = open_venue(share_per_step=0.3, commission_per_share=0.01)
    broker = adapter(venue.url)
    broker.submit(request(quantity="7"))
    venue.advance(600)
    paid = sum(
        (fill.quantity * fill.price).quantize(Decimal("0.01")) + fill.commission
        for fill in broker.fills(MORNING)
    )
    assert broker.account().cash == 100_000 - paid


@pytest.mark.parametrize(
    "fault",
    [fault | {"after": after} for fault in BAD_ANSWERS for after in (False, True)
     if after or fault["kind"] != "truncated"],  # only what was carried out can be cut
    ids=lambda fault: name_of(fault) + (" after" if fault["after"] else " before"),
)  # fmt: skip
def test_a_bad_answer_to_an_order_is_an_unknown_outcome_and_only_asking_tells(broker, venue, fault):
    after = fault["after"]
    venue.fault(**fault)
    began = monotonic()
    with pytest.raises(OutcomeUnknown) as caught:
        patience(broker, venue, fault).submit(request())
    assert monotonic() - began < CONNECT_S + PATIENT_S + SLACK_S
    assert "\n" not in str(caught.value)
    assert len(posted(venue)) == 1
    found = broker.order("one")
    if fault["kind"] == "slow" and not after:
        return  # it may still come
    assert (found is not None) == after
    if after:
        with pytest.raises(DuplicateId):
            broker.submit(request())
    else:
        assert broker.submit(request()).client_order_id == "one"
    assert len(broker.orders(MORNING)) == 1


def test_a_status_that_nobody_knows_makes_the_outcome_unknown_and_the_order_works(
    broker, venue, caplog
):
    venue.fault("unknown_enum")
    with pytest.raises(OutcomeUnknown, match="status"):
        broker.submit(waiting(broker))
    venue.fault("unknown_enum", method="GET", path="/v2/orders.*", times=None)
    found = broker.order("one")
    assert found is not None
    assert found.status is BrokerStatus.working
    assert [order.status for order in broker.open_orders()] == [BrokerStatus.working]
    assert "teleported" in caplog.text


def test_a_rate_limit_refuses_and_says_how_long(broker, venue):
    venue.fault("status", status=429, retry_after=7, code=42910000, message="rate limit exceeded")
    with pytest.raises(Refused) as caught:
        broker.submit(request())
    assert (caught.value.code, caught.value.retry_after) == (42910000, 7.0)
    assert len(posted(venue)) == 1
    assert broker.order("one") is None


def test_the_same_id_is_a_duplicate_whatever_else_it_says(broker, venue):
    broker.submit(request(quantity="10"))
    for other in (request(quantity="10"), request(quantity="11"), request(side=Side.sell)):
        with pytest.raises(DuplicateId) as caught:
            broker.submit(other)
        assert caught.value.code == 40010001
    found = broker.order("one")
    assert found is not None
    assert (found.quantity, found.side) == (10, Side.buy)
    assert len(broker.orders(MORNING)) == 1


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (request(quantity="1000000"), "buying power"),
        (request(side=Side.sell), "S000|short|available"),
        (dataclasses.replace(request(), symbol="NOBODY"), "NOBODY"),
    ],
)
def test_a_refusal_is_the_brokers_own(broker, order, words):
    with pytest.raises(Refused, match=words) as caught:
        broker.submit(order)
    assert not isinstance(caught.value, DuplicateId)
    assert broker.order("one") is None


def test_an_opposite_order_is_refused_as_a_wash_trade(broker, venue):
    held(broker, venue)
    high = broker.quotes(["S000"])["S000"].ask * 2
    broker.submit(request("sell", "10", f"{high:.2f}", Side.sell))
    with pytest.raises(Refused, match="wash"):
        broker.submit(request("buy", "1"))


def test_a_hidden_order_is_not_found_and_yet_a_duplicate(broker, venue):
    venue.fault("hide", seconds=60)
    broker.submit(request())
    assert broker.order("one") is None
    with pytest.raises(DuplicateId):
        broker.submit(request())
    venue.clear_faults()
    assert broker.order("one") is not None


def reads(broker: AlpacaBroker):
    """Return every read by its path."""
    return {
        "/v2/account": broker.account,
        "/v2/account/configurations": broker.account,
        "/v2/clock": broker.clock,
        "/v2/calendar": lambda: broker.calendar(date(2023, 6, 1), date(2023, 6, 2)),
        "/v2/assets/S000": lambda: broker.asset("S000"),
        "/v2/stocks/quotes/latest": lambda: broker.quotes(["S000"]),
        "/v2/stocks/trades/latest": lambda: broker.quotes(["S000"]),
        "/v2/positions": broker.positions,
        "/v2/orders:by_client_order_id": lambda: broker.order("one"),
        "/v2/orders": lambda: broker.orders(MORNING),
        "/v2/orders?": broker.open_orders,
        "/v2/account/activities/FILL": lambda: broker.fills(MORNING),
    }


READS = [
    *(fault for fault in BAD_ANSWERS if fault["kind"] not in ("slow", "silence")),
    {"kind": "status", "status": 429, "retry_after": 1},
    {"kind": "status", "status": 403, "code": 40310000, "message": "no"},
]


@pytest.mark.parametrize("fault", READS, ids=name_of)
def test_a_read_that_fails_is_unavailable_and_never_empty(broker, venue, fault):
    broker.submit(request())
    for path, read in reads(broker).items():
        venue.clear_faults()
        venue.fault(**fault | {"method": "GET", "path": path.rstrip("?"), "after": True})
        before = len(venue.sent())
        with pytest.raises(Unavailable) as caught:
            read()
        assert "\n" not in str(caught.value)
        hit = [sent for sent in venue.sent()[before:] if sent["fault"]]
        assert len(hit) == 1
        read()  # the next one finds everything well


def test_a_read_that_is_not_answered_is_unavailable_in_time(venue):
    asked = reads(adapter(venue.url, read_s=HASTY_S))
    for path, times in Counter(path.rstrip("?") for path in asked).items():
        venue.fault("silence", method="GET", path=path, times=times)

    def seconds(read: Callable[[], object]) -> float:
        began = monotonic()
        with pytest.raises(Unavailable):
            read()
        return monotonic() - began

    with ThreadPoolExecutor(len(asked)) as pool:
        took = list(pool.map(seconds, asked.values()))
    assert min(took) >= HASTY_S
    assert max(took) < CONNECT_S + HASTY_S + SLACK_S


@pytest.mark.parametrize("page", [1, 2])
def test_a_list_of_which_one_page_fails_is_no_list(broker, venue, page):
    for number in range(3):
        broker.submit(request(str(number), "1"))
    venue.fault("status", status=500, method="GET", path="/v2/orders", nth=page)
    with pytest.raises(Unavailable):
        broker.orders(MORNING)
    assert len(broker.orders(MORNING)) == 3


def test_keys_that_are_revoked_end_everything(broker, venue):
    venue.admin("PUT", "/keys", {"key": "another", "secret": "one"})
    calls = [
        *reads(broker).values(),
        lambda: broker.submit(request()),
        lambda: broker.cancel(NOBODY),
        broker.cancel_all,
        lambda: broker.suspend(True),
    ]
    before = len(venue.sent())
    for call in calls:
        with pytest.raises(Unauthorised):
            call()
    assert len(venue.sent()) - before == len(calls)


def test_an_order_is_cancelled_once(broker, venue):
    order = broker.submit(waiting(broker))
    broker.cancel(order.broker_id)
    found = broker.order("one")
    assert found is not None
    assert found.status is BrokerStatus.cancelled
    with pytest.raises(Refused):
        broker.cancel(order.broker_id)
    with pytest.raises(Refused):
        broker.cancel(NOBODY)
    with pytest.raises(ValueError, match="UUID"):
        broker.cancel("../positions")


def test_all_open_orders_are_cancelled(broker):
    sent = {broker.submit(waiting(broker, str(number), "1")).broker_id for number in range(3)}
    assert {order.broker_id for order in broker.open_orders()} == sent
    broker.cancel_all()
    assert broker.open_orders() == []
    broker.cancel_all()  # of nothing


@pytest.mark.parametrize(
    "fault", [fault for fault in BAD_ANSWERS if fault["kind"] not in ("slow", "empty")], ids=name_of
)
def test_a_bad_answer_to_a_cancel_or_a_suspension_is_an_unknown_outcome(broker, venue, fault):
    order = broker.submit(waiting(broker))
    used = patience(broker, venue, fault)
    calls = {
        "DELETE": [lambda: used.cancel(order.broker_id), used.cancel_all],
        "PATCH": [lambda: used.suspend(True)],
    }
    if fault["kind"] == "truncated":
        calls["DELETE"].pop(0)  # its answer has no body
    for method, of_method in calls.items():
        for call in of_method:
            venue.clear_faults()
            venue.fault(**fault | {"method": method, "path": ".*"})
            before = len(venue.sent())
            with pytest.raises(OutcomeUnknown):
                call()
            assert len(venue.sent()) - before == 1


def test_a_suspended_account_refuses_orders_until_it_is_not(broker):
    broker.suspend(True)
    assert broker.account().suspended
    with pytest.raises(Refused):
        broker.submit(request())
    broker.suspend(False)
    assert not broker.account().suspended
    broker.submit(request())


def test_a_suspension_changes_nothing_else(broker, venue):
    venue.trading_client().patch("/account/configurations", {"no_shorting": True})
    broker.suspend(True)
    assert broker.account().no_shorting


def test_a_strangers_orders_are_seen(broker, venue):
    broker.submit(waiting(broker))
    client = venue.trading_client()
    client.post(
        "/orders",
        {"symbol": "S001", "qty": "2", "side": "buy", "type": "market", "time_in_force": "day",
         "order_class": "bracket", "take_profit": {"limit_price": "9999"},
         "stop_loss": {"stop_price": "1"}},
    )  # fmt: skip
    symbols = [order.symbol for order in broker.open_orders()]
    assert symbols.count("S000") == 1
    assert symbols.count("S001") >= 1
    assert {order.symbol for order in broker.orders(MORNING)} == {"S000", "S001"}


def test_orders_are_those_after_a_time_oldest_first(broker, venue):
    for number in range(3):
        broker.submit(request(str(number), "1"))
        venue.advance(60)
    orders = broker.orders(MORNING)
    assert [order.client_order_id for order in orders] == ["0", "1", "2"]
    after = broker.orders(orders[0].submitted_at + timedelta(microseconds=1))
    assert [order.client_order_id for order in after] == ["1", "2"]
    assert broker.orders(orders[2].submitted_at + timedelta(microseconds=1)) == []


def test_a_client_order_id_is_sent_as_it_is(broker):
    odd = "a&b=c/../?#%20+"
    broker.submit(request(odd))
    found = broker.order(odd)
    assert found is not None
    assert found.client_order_id == odd


def test_the_environment_puts_no_proxy_between_and_no_password_beside(wire, monkeypatch, tmp_path):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "")
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password of-something-else")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server = wire(lambda connection, _: connection.sendall(b"HTTP/1.1 204 No\r\n\r\n"))
    adapter(server.url).cancel(NOBODY)
    (sent,) = server.requests
    assert "Authorization" not in sent
    assert KEYS.secret in sent


def test_a_broker_that_is_not_there_is_unavailable_and_its_orders_unknown():
    broker = adapter("http://127.0.0.1:1")
    with pytest.raises(Unavailable, match="refused"):
        broker.account()
    with pytest.raises(OutcomeUnknown, match="refused"):
        broker.submit(request())


def test_no_error_shows_a_secret(venue):
    broker = adapter(venue.url, Keys("wrong-key", "wrong-secret"))
    with pytest.raises(Unauthorised) as caught:
        broker.account()
    assert "wrong-" not in str(caught.value)
    assert "wrong-" not in repr(vars(broker)["_settings"])


def test_wrong_keys_and_no_keys_are_both_unauthorised(venue):
    with pytest.raises(Unauthorised):
        adapter(venue.url, Keys("key-of-the-tests", "wrong")).clock()
