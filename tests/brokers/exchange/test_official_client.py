"""The official client, pointed at the exchange by `url_override` alone."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from alpaca.common.exceptions import APIError
from alpaca.data.requests import (
    StockLatestQuoteRequest,
    StockLatestTradeRequest,
    StockSnapshotRequest,
)
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import (
    AccountStatus,
    OrderClass,
    OrderSide,
    OrderStatus,
    PositionSide,
    QueryOrderStatus,
    TimeInForce,
)
from alpaca.trading.models import TradeActivity
from alpaca.trading.requests import (
    ClosePositionRequest,
    GetCalendarRequest,
    GetOrderByIdRequest,
    GetOrdersRequest,
    LimitOrderRequest,
    MarketOrderRequest,
    ReplaceOrderRequest,
    StopLossRequest,
    StopOrderRequest,
    TakeProfitRequest,
)

BUY, SELL, DAY = OrderSide.BUY, OrderSide.SELL, TimeInForce.DAY


@pytest.fixture
def client(venue) -> TradingClient:
    return venue.trading_client()


def market_order(side: OrderSide, qty: float, **more: Any) -> MarketOrderRequest:
    return MarketOrderRequest(symbol="S000", qty=qty, side=side, time_in_force=DAY, **more)


def limit_order(side: OrderSide, qty: float, price: float, **more: Any) -> LimitOrderRequest:
    return LimitOrderRequest(
        symbol="S000", qty=qty, side=side, limit_price=price, time_in_force=DAY, **more
    )


def test_a_new_account_is_paper_and_holds_its_cash(client: TradingClient):
    account = client.get_account()
    assert account.account_number.startswith("PA")
    assert account.status is AccountStatus.ACTIVE
    assert account.cash == account.equity == account.last_equity == "100000.00"
    assert account.buying_power == "100000.00"
    assert account.multiplier == "1"
    assert not (account.trading_blocked or account.trade_suspended_by_user)
    assert account.daytrade_count is None  # gone since 2026


def test_the_clock_and_the_calendar_agree(client: TradingClient):
    clock = client.get_clock()
    assert clock.timestamp == datetime(2023, 6, 1, 14, 0, tzinfo=UTC)
    assert clock.is_open
    assert clock.next_close == datetime(2023, 6, 1, 20, 0, tzinfo=UTC)
    assert clock.next_open == datetime(2023, 6, 2, 13, 30, tzinfo=UTC)
    days = client.get_calendar(GetCalendarRequest(start=date(2023, 7, 1), end=date(2023, 7, 5)))
    assert [(str(day.date), f"{day.open:%H:%M}", f"{day.close:%H:%M}") for day in days] == [
        ("2023-07-03", "09:30", "13:00"),  # half a day before the Fourth of July
        ("2023-07-05", "09:30", "16:00"),
    ]


def test_assets_are_found_by_symbol_and_by_id(client: TradingClient):
    assets = client.get_all_assets()
    assert [asset.symbol for asset in assets] == ["S000", "S001", "S002", "S003", "S004"]
    assert client.get_asset("S003") == client.get_asset(assets[3].id) == assets[3]
    with pytest.raises(APIError) as refused:
        client.get_asset("NOBODY")
    assert refused.value.status_code == 404


def test_the_configuration_is_read_changed_and_kept(client: TradingClient):
    found = client.get_account_configurations()
    assert not (found.no_shorting or found.suspend_trade)
    found.suspend_trade = True
    assert client.set_account_configurations(found).suspend_trade
    assert client.get_account().trade_suspended_by_user
    with pytest.raises(APIError, match="new orders are rejected by user request"):
        client.submit_order(market_order(BUY, 1))
    found.suspend_trade = False
    client.set_account_configurations(found)
    assert client.submit_order(market_order(BUY, 1)).status is OrderStatus.NEW


def test_a_market_order_is_filled_and_becomes_a_position(client: TradingClient):
    sent = client.submit_order(market_order(BUY, 10.5, client_order_id="mine"))
    assert (sent.qty, sent.filled_qty, sent.status) == ("10.5", "0", OrderStatus.NEW)
    found = client.get_order_by_client_id("mine")
    assert found == client.get_order_by_id(sent.id)
    assert (found.filled_qty, found.status) == ("10.5", OrderStatus.FILLED)
    position = client.get_open_position("S000")
    assert [position] == client.get_all_positions()
    assert (position.qty, position.side) == ("10.5", PositionSide.LONG)
    assert Decimal(position.avg_entry_price) == Decimal(found.filled_avg_price)
    account = client.get_account()
    assert Decimal(account.equity) == Decimal(account.cash) + Decimal(position.market_value)
    assert Decimal(account.cash) < 100_000


def test_a_fill_is_an_activity_that_the_client_s_own_model_reads(client: TradingClient):
    sent = client.submit_order(market_order(BUY, 3))
    [raw] = client.get("/account/activities/FILL")
    fill = TradeActivity(**raw)
    assert (fill.order_id, fill.qty, fill.cum_qty, fill.leaves_qty) == (sent.id, 3.0, 3.0, 0.0)
    assert (fill.symbol, fill.side, fill.order_status) == ("S000", BUY, OrderStatus.FILLED)


def test_activities_come_in_pages_without_a_gap_or_a_repeat(client: TradingClient):
    for _ in range(7):
        client.submit_order(market_order(BUY, 1))
    everything = [item["id"] for item in client.get("/account/activities", {"direction": "asc"})]
    paged: list[str] = []
    while True:
        query = {"direction": "asc", "page_size": 3} | ({"page_token": paged[-1]} if paged else {})
        page = client.get("/account/activities", query)
        if not page:
            break
        paged += [item["id"] for item in page]
    assert paged == everything
    assert len(set(paged)) == 7
    assert everything == sorted(everything)


def test_lists_of_orders_are_cut_by_state_time_and_number(client: TradingClient):
    done = client.submit_order(market_order(BUY, 1))
    waiting = [client.submit_order(limit_order(BUY, 1, 1 + n)) for n in range(3)]

    def listed(**wanted: Any) -> list[UUID]:
        return [order.id for order in client.get_orders(GetOrdersRequest(**wanted))]

    newest_first = [order.id for order in reversed(waiting)]
    assert listed() == newest_first
    assert listed(status=QueryOrderStatus.CLOSED) == [done.id]
    assert listed(status=QueryOrderStatus.ALL) == [*newest_first, done.id]
    assert listed(status=QueryOrderStatus.ALL, direction="asc", limit=2) == [
        done.id,
        waiting[0].id,
    ]
    assert listed(after=waiting[0].submitted_at) == newest_first[:2]
    assert listed(until=waiting[0].submitted_at) == [waiting[0].id]
    assert listed(symbols=["S001"]) == []
    assert listed(side=SELL) == []


def test_pages_of_orders_by_time_miss_none(client: TradingClient):
    sent = [client.submit_order(limit_order(BUY, 1, 1.0)).id for _ in range(9)]
    found: list[UUID] = []
    after = datetime(2000, 1, 1, tzinfo=UTC)
    while page := client.get_orders(GetOrdersRequest(after=after, limit=4, direction="asc")):
        found += [order.id for order in page]
        after = page[-1].submitted_at
    assert found == sent


def test_an_order_is_cancelled_once(client: TradingClient):
    order = client.submit_order(limit_order(BUY, 1, 1.0))
    client.cancel_order_by_id(order.id)
    assert client.get_order_by_id(order.id).status is OrderStatus.CANCELED
    with pytest.raises(APIError) as refused:
        client.cancel_order_by_id(order.id)
    assert (refused.value.status_code, refused.value.code) == (422, 42210000)


def test_all_orders_are_cancelled_at_once(client: TradingClient):
    sent = {client.submit_order(limit_order(BUY, 1, 1.0)).id for _ in range(3)}
    assert {answer.id for answer in client.cancel_orders()} == sent
    assert client.get_orders() == []
    assert client.get_account().buying_power == "100000.00"


def test_a_replaced_order_points_to_its_successor(client: TradingClient):
    order = client.submit_order(limit_order(BUY, 2, 1.0))
    after = client.replace_order_by_id(order.id, ReplaceOrderRequest(limit_price=2.0, qty=3))
    assert (after.limit_price, after.qty, after.replaces) == ("2", "3", order.id)
    before = client.get_order_by_id(order.id)
    assert (before.status, before.replaced_by) == (OrderStatus.REPLACED, after.id)
    assert [found.id for found in client.get_orders()] == [after.id]


def test_positions_are_closed_in_part_and_wholly(client: TradingClient):
    client.submit_order(market_order(BUY, 10))
    client.close_position("S000", ClosePositionRequest(percentage="25"))
    assert client.get_open_position("S000").qty == "7.5"
    client.close_position("S000", ClosePositionRequest(qty="2.5"))
    assert client.get_open_position("S000").qty == "5"
    [closed] = client.close_all_positions(cancel_orders=True)
    assert (closed.symbol, closed.status) == ("S000", 200)
    with pytest.raises(APIError) as missing:
        client.get_open_position("S000")
    assert missing.value.status_code == 404
    assert client.get_all_positions() == []


def test_a_bracket_comes_with_its_two_legs(client: TradingClient):
    order = client.submit_order(
        market_order(
            BUY,
            5,
            order_class=OrderClass.BRACKET,
            take_profit=TakeProfitRequest(limit_price=90.0),
            stop_loss=StopLossRequest(stop_price=22.5),
        )
    )
    assert [leg.status for leg in order.legs] == [OrderStatus.HELD, OrderStatus.HELD]
    found = client.get_order_by_id(order.id, GetOrderByIdRequest(nested=True))
    assert found.status is OrderStatus.FILLED
    assert [(leg.status, leg.side) for leg in found.legs] == [(OrderStatus.NEW, SELL)] * 2
    assert client.get_open_position("S000").qty_available == "0"


def test_a_stop_waits_for_its_price(client: TradingClient):
    order = client.submit_order(
        StopOrderRequest(symbol="S000", qty=1, side=BUY, stop_price=900.0, time_in_force=DAY)
    )
    assert client.get_order_by_id(order.id).status is OrderStatus.NEW


def test_the_history_of_the_portfolio_has_every_close(venue, client: TradingClient):
    client.submit_order(market_order(BUY, 100))
    equities = []
    for _ in range(3):
        venue.go_to("next_close")
        equities.append(float(client.get_account().equity))
    history = client.get_portfolio_history()
    assert history.equity == equities
    assert history.base_value == 100_000.0
    assert history.profit_loss == pytest.approx([equity - 100_000.0 for equity in equities])


def test_the_equity_of_the_last_close_stays_until_the_next_day(venue, client: TradingClient):
    client.submit_order(market_order(BUY, 1000))
    venue.go_to("next_close")
    at_close = client.get_account().equity
    assert client.get_account().last_equity == "100000.00"
    venue.go_to("next_open")
    assert client.get_account().last_equity == at_close


def test_the_data_client_reads_quotes_trades_and_snapshots(venue):
    client = venue.data_client()
    symbols = ["S000", "S001", "NOBODY"]
    quotes = client.get_stock_latest_quote(StockLatestQuoteRequest(symbol_or_symbols=symbols))
    trades = client.get_stock_latest_trade(StockLatestTradeRequest(symbol_or_symbols=symbols))
    assert set(quotes) == set(trades) == {"S000", "S001"}
    for symbol, quote in quotes.items():
        assert quote.bid_price <= trades[symbol].price <= quote.ask_price
        assert quote.timestamp == datetime(2023, 6, 1, 14, 0, tzinfo=UTC)
    snapshot = client.get_stock_snapshot(StockSnapshotRequest(symbol_or_symbols="S001"))["S001"]
    assert snapshot.latest_quote.ask_price == quotes["S001"].ask_price


def test_orders_that_come_at_night_wait_for_the_open(open_venue: Callable[..., Any]):
    venue = open_venue(start="2023-06-01T23:00:00+00:00")
    client = venue.trading_client()
    order = client.submit_order(market_order(BUY, 1))
    assert order.status is OrderStatus.ACCEPTED
    assert not client.get_clock().is_open
    venue.advance(3600)
    assert client.get_order_by_id(order.id).status is OrderStatus.ACCEPTED
    venue.go_to("next_open")
    found = client.get_order_by_id(order.id)
    assert found.status is OrderStatus.FILLED
    assert found.filled_at == datetime(2023, 6, 2, 13, 30, tzinfo=UTC)
