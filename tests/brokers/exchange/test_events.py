"""What happens to an account from outside, through the administration."""

from decimal import Decimal
from typing import Any

import pytest
import requests
from alpaca.data.requests import StockLatestQuoteRequest
from alpaca.trading.enums import OrderSide, TimeInForce
from alpaca.trading.models import NonTradeActivity
from alpaca.trading.requests import LimitOrderRequest, MarketOrderRequest

from brokers.exchange.settings import ClockMode


@pytest.fixture
def client(venue):
    client = venue.trading_client()
    client.submit_order(
        MarketOrderRequest(symbol="S000", qty=10, side=OrderSide.BUY, time_in_force=TimeInForce.DAY)
    )
    return client


def quote(venue, symbol: str = "S000") -> Any:
    request = StockLatestQuoteRequest(symbol_or_symbols=symbol)
    return venue.data_client().get_stock_latest_quote(request).get(symbol)


def test_a_split_changes_shares_and_prices_and_not_what_they_are_worth(venue, client):
    before, price = client.get_open_position("S000"), quote(venue).ask_price
    order = client.submit_order(
        LimitOrderRequest(
            symbol="S000", qty=1, side=OrderSide.BUY, limit_price=1, time_in_force=TimeInForce.DAY
        )
    )
    venue.admin("POST", "/splits", {"symbol": "S000", "ratio": "4"})
    after = client.get_open_position("S000")
    assert after.qty == "40"
    assert Decimal(after.cost_basis) == Decimal(before.cost_basis)
    assert abs(Decimal(after.market_value) - Decimal(before.market_value)) < Decimal("0.01")
    assert abs(Decimal(after.lastday_price) * 4 - Decimal(before.lastday_price)) < Decimal("0.001")
    assert quote(venue).ask_price == pytest.approx(price / 4, abs=0.011)
    assert client.get_order_by_id(order.id).status == "canceled"
    [activity] = client.get("/account/activities", {"activity_types": "SPLIT"})
    assert (NonTradeActivity(**activity).qty, activity["ratio"]) == (30.0, "4")


def test_a_dividend_pays_for_every_share(venue, client):
    before = Decimal(client.get_account().cash)
    venue.admin("POST", "/dividends", {"symbol": "S000", "per_share": "0.255"})
    assert Decimal(client.get_account().cash) - before == Decimal("2.55")
    [activity] = client.get("/account/activities/DIV")
    assert NonTradeActivity(**activity).net_amount == 2.55


def test_cash_and_shares_come_from_elsewhere(venue, client):
    before = Decimal(client.get_account().cash)
    venue.admin("POST", "/cash", {"amount": "-250.50"})
    venue.admin("POST", "/shares", {"symbol": "S001", "qty": "7"})
    assert before - Decimal(client.get_account().cash) == Decimal("250.50")
    assert client.get_open_position("S001").qty == "7"


def test_an_order_of_somebody_else_passes_faults_and_records(venue, client):
    venue.fault("status", times=None, path=None, method=None)
    body = {"symbol": "S001", "qty": "2", "side": "buy", "type": "market", "time_in_force": "day"}
    foreign = venue.admin("POST", "/orders", body | {"client_order_id": "by hand"})
    venue.clear_faults()
    assert str(client.get_order_by_client_id("by hand").id) == foreign["id"]
    assert sum(sent["method"] == "POST" for sent in venue.sent()) == 1  # the fixture's own


def test_told_prices_can_be_wrong_while_true_ones_fill(venue, client):
    true = quote(venue)
    venue.admin("PUT", "/quotes/S000", {"factor": "100"})
    assert quote(venue).ask_price == pytest.approx(true.ask_price * 100)
    assert Decimal(client.get_open_position("S000").current_price) < 100
    venue.admin("PUT", "/quotes/S000", {"absent": True})
    assert quote(venue) is None
    venue.admin("PUT", "/quotes/S000", {})
    assert quote(venue) == true


def test_a_frozen_feed_tells_the_old_price_with_its_old_time(venue):
    venue.admin("PUT", "/quotes/S000", {"frozen": True})
    before, other = quote(venue), quote(venue, "S001")
    venue.advance(3600)
    assert quote(venue) == before
    assert quote(venue, "S001").timestamp > other.timestamp


def test_the_account_can_be_given_a_number_that_is_not_of_paper(venue, client):
    venue.admin("PATCH", "/account", {"account_number": "123456789"})
    assert client.get_account().account_number == "123456789"


def test_terms_can_change_while_the_exchange_runs(venue, client):
    venue.admin("PATCH", "/terms", {"share_per_step": 0})
    order = client.submit_order(
        MarketOrderRequest(symbol="S001", qty=3, side=OrderSide.BUY, time_in_force=TimeInForce.DAY)
    )
    venue.advance(600)
    assert client.get_order_by_id(order.id).filled_qty == "0"
    venue.admin("PATCH", "/terms", {"share_per_step": 1})
    venue.advance(60)
    assert client.get_order_by_id(order.id).filled_qty == "3"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/splits", {"symbol": "S000", "ratio": "0"}),
        ("POST", "/splits", {"symbol": "NOBODY", "ratio": "2"}),
        ("POST", "/splits", {"symbol": "S000"}),
        ("POST", "/dividends", {"symbol": "S000", "per_share": "-1"}),
        ("POST", "/cash", {"amount": "much"}),
        ("POST", "/shares", {"symbol": 1, "qty": "1"}),
        ("PUT", "/clock", {"now": "2023-06-01"}),
        ("PUT", "/clock", {"now": "2020-01-01T00:00:00+00:00"}),
        ("PUT", "/clock", {"advance_s": -1}),
        ("PUT", "/clock", {}),
        ("PUT", "/assets/S000", {"tradable": "no"}),
        ("PUT", "/assets/NOBODY", {"tradable": False}),
        ("PUT", "/quotes/S000", {"freeze": True}),
        ("PATCH", "/terms", {"share_per_step": 2}),
        ("PATCH", "/account", {"cash": "1000000"}),
        ("PUT", "/keys", {"key": ""}),
    ],
)
def test_an_administration_that_makes_no_sense_is_422(venue, method: str, path: str, body: Any):
    headers = venue.trading_client()._get_auth_headers()
    answer = requests.request(
        method, f"{venue.url}/admin{path}", json=body, headers=headers, timeout=10
    )
    assert answer.status_code == 422, answer.text


def test_a_clock_on_the_wall_runs_by_itself_and_is_not_driven(open_venue):
    venue = open_venue(clock=ClockMode.wall)
    client = venue.trading_client()
    first = client.get_clock().timestamp
    second = client.get_clock().timestamp
    assert first < second
    assert f"{first:%Y-%m-%d %H:%M}" == "2023-06-01 10:00"
    headers = client._get_auth_headers()
    answer = requests.put(
        f"{venue.url}/admin/clock", json={"advance_s": 1}, headers=headers, timeout=10
    )
    assert answer.status_code == 409
    order = client.submit_order(
        MarketOrderRequest(symbol="S001", qty=3, side=OrderSide.BUY, time_in_force=TimeInForce.DAY)
    )
    assert client.get_order_by_id(order.id).filled_qty == "3"
