"""What the official client does when it is left alone, and that the self-test would notice."""

import json
import socket
import threading
from decimal import Decimal
from time import monotonic

import pytest
import requests
from alpaca.common.exceptions import APIError
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import OrderSide, TimeInForce
from alpaca.trading.requests import MarketOrderRequest

from brokers.alpaca import AlpacaBroker
from brokers.one_shot import OneShotAdapter, Timeouts
from brokers.settings import AlpacaSettings, Keys
from risk.gateway.broker import BrokerError


def answering(status: int, body: bytes):
    def script(connection, request):
        head = f"HTTP/1.1 {status} So\r\nContent-Length: {len(body)}\r\n"
        head += "Location: http://127.0.0.1:1\r\n\r\n"
        connection.sendall(head.encode() + body)

    return script


def plain(url: str) -> TradingClient:
    client = TradingClient("k", "s", url_override=url)
    client._retry_wait = 0  # of its three seconds
    return client


def market_order(quantity: Decimal) -> MarketOrderRequest:
    return MarketOrderRequest(
        symbol="SPY", qty=quantity, side=OrderSide.BUY, time_in_force=TimeInForce.DAY
    )


@pytest.fixture
def broker() -> AlpacaBroker:
    url = "http://127.0.0.1:1"
    return AlpacaBroker(AlpacaSettings(url, url, "K", "S", 2.0, 5.0), Keys("k", "s"))


@pytest.mark.parametrize("status", [429, 504])
def test_the_official_client_alone_sends_an_order_four_times(wire, status):
    server = wire(answering(status, b"{}"))
    with pytest.raises(APIError):
        plain(server.url).submit_order(market_order(Decimal(1)))
    assert len(server.requests) == 4


def test_the_official_client_cannot_be_told_not_to_repeat():
    class Client(TradingClient):
        def __init__(self):
            super(TradingClient, self).__init__("http://x", "k", "s", retry_attempts=0)

    assert Client()._retry == 3


def test_the_official_client_alone_waits_for_ever(wire):
    server = wire(lambda connection, request: connection.recv(1))
    client = plain(server.url)
    thread = threading.Thread(target=client.get_account, daemon=True)
    thread.start()
    thread.join(1.0)
    assert thread.is_alive()
    assert client._session.get_adapter(server.url).max_retries.total == 0


def test_the_official_client_alone_takes_a_redirection_for_an_answer(wire):
    server = wire(answering(302, b'{"suspend_trade": true}'))
    answer = TradingClient("k", "s", url_override=server.url, raw_data=True).get_account()
    assert answer == {"suspend_trade": True}


def test_the_official_client_alone_makes_floats_of_quantities(wire):
    server = wire(answering(500, b"{}"))
    with pytest.raises(APIError):
        plain(server.url).submit_order(market_order(Decimal("123456.1234567891234")))
    body = json.loads(server.requests[0].partition("\r\n\r\n")[2], parse_float=str)
    assert body["qty"] != "123456.1234567891234"


def test_the_self_test_passes_in_a_few_seconds_and_leaves_nothing(broker):
    threads = threading.active_count()
    prefixes = [set(client._session.adapters) for client in (broker._trading, broker._data)]
    began = monotonic()
    broker.self_test()
    assert monotonic() - began < 4.0
    after = [set(client._session.adapters) for client in (broker._trading, broker._data)]
    assert after == prefixes == [{"https://", "http://"}] * 2
    end = monotonic() + 3.0
    while threading.active_count() > threads and monotonic() < end:
        pass
    assert threading.active_count() <= threads


@pytest.mark.parametrize("which", ["_trading", "_data"])
def test_the_self_test_finds_a_client_that_repeats(broker, which):
    client = getattr(broker, which)
    client._retry, client._retry_wait = 1, 0
    with pytest.raises(BrokerError, match="sent 2 times instead of once"):
        broker.self_test()


@pytest.mark.parametrize("which", ["_trading", "_data"])
def test_the_self_test_finds_a_session_that_was_replaced(broker, which):
    getattr(broker, which)._session = requests.Session()
    with pytest.raises(BrokerError, match="lost their timeouts"):
        broker.self_test()


@pytest.mark.parametrize(
    "adapter", [requests.adapters.HTTPAdapter(), OneShotAdapter(Timeouts(2.0, 50.0))]
)
def test_the_self_test_finds_timeouts_that_are_not_ours(broker, adapter):
    broker._trading._session.mount("http://127.0.0.1:1", adapter)
    with pytest.raises(BrokerError, match="lost their timeouts"):
        broker.self_test()


def test_the_self_test_finds_a_transport_that_repeats(broker):
    adapter = OneShotAdapter(Timeouts(2.0, 5.0))
    adapter.max_retries = requests.adapters.Retry(1)
    broker._trading._session.mount("http://", adapter)
    with pytest.raises(BrokerError, match="may be repeated"):
        broker.self_test()


def test_the_self_test_finds_a_proxy(broker):
    broker._data._session.trust_env = True
    with pytest.raises(BrokerError, match="proxy"):
        broker.self_test()


def test_the_self_test_finds_floats(broker, monkeypatch):
    monkeypatch.setattr(
        OneShotAdapter, "build_response", requests.adapters.HTTPAdapter.build_response
    )
    with pytest.raises(BrokerError, match="digits"):
        broker.self_test()


def test_the_self_test_finds_timeouts_that_are_not_obeyed(broker, monkeypatch):
    send = requests.adapters.HTTPAdapter.send
    monkeypatch.setattr(
        requests.adapters.HTTPAdapter,
        "send",
        lambda self, request, **options: send(self, request, **options | {"timeout": (5, 5)}),
    )
    monkeypatch.setattr(Timeouts, "total_s", property(lambda self: 60.0))
    with pytest.raises(BrokerError, match="without an end"):
        broker.self_test()


def test_the_self_test_finds_an_end_in_time_that_is_not_kept(broker, monkeypatch):
    monkeypatch.setattr(Timeouts, "total_s", property(lambda self: 60.0))
    with pytest.raises(BrokerError, match="without an end"):
        broker.self_test()


def test_the_self_test_finds_a_client_that_has_changed(broker, monkeypatch):
    monkeypatch.setattr(broker._trading, "_request", lambda method, path: None)
    with pytest.raises(BrokerError, match="alpaca-py has changed"):
        broker.self_test()


def test_the_self_test_needs_no_proxy_and_no_names(broker, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setattr(socket, "getfqdn", lambda *_: pytest.fail("a name was looked up"))
    broker.self_test()
