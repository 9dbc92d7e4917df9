"""Alpaca's JSON becomes records exactly, or is refused."""

import json
import logging
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokers.alpaca_orders import STATUSES, body_of, fill_of, has_known_status, is_about, order_of
from brokers.alpaca_records import (
    account_of,
    asset_of,
    clock_of,
    holds_something,
    position_of,
    quotes_of,
    session_of,
)
from risk.gateway.records import BrokerStatus, OrderRequest, Side

TIME = "2023-06-01T14:00:00.123456789Z"
AT = datetime(2023, 6, 1, 14, 0, 0, 123456, tzinfo=UTC)
ORDER = {
    "id": "61e69015-8549-4bfd-b9c3-01e75843f47d",
    "client_order_id": "ours",
    "submitted_at": TIME,
    "symbol": "SPY",
    "asset_class": "us_equity",
    "notional": None,
    "qty": "10.5",
    "filled_qty": "0",
    "filled_avg_price": None,
    "type": "limit",
    "side": "buy",
    "time_in_force": "day",
    "limit_price": "101.50",
    "status": "new",
}
ACCOUNT = {
    "account_number": "PA3ABCDEFGH",
    "status": "ACTIVE",
    "currency": "USD",
    "cash": "-12.34",
    "equity": "100000.00",
    "last_equity": "99999.99",
    "buying_power": "1",
    "multiplier": "1",
    "long_market_value": "0",
    "short_market_value": "0",
    "trading_blocked": False,
    "account_blocked": False,
    "trade_suspended_by_user": False,
}
TERMS = {"no_shorting": True, "suspend_trade": False}
FILL = {
    "activity_type": "FILL",
    "id": "20230601100000000::8efc7b9a",
    "order_id": ORDER["id"],
    "symbol": "SPY",
    "side": "sell_short",
    "qty": "2.5",
    "price": "101.4999",
    "transaction_time": TIME,
    "type": "partial_fill",
}
POSITION = {
    "symbol": "SPY",
    "asset_class": "us_equity",
    "qty": "3",
    "side": "long",
    "avg_entry_price": "100.01",
    "current_price": "101",
}
ASSET = {
    "class": "us_equity",
    "symbol": "SPY",
    "status": "active",
    "tradable": True,
    "shortable": False,
    "easy_to_borrow": False,
    "fractionable": True,
}
QUOTE = {"t": TIME, "bp": Decimal("101.01"), "ap": Decimal("101.02")}
TRADE = {"t": TIME, "p": Decimal("101.015")}
NO_NUMBERS = ["NaN", "Infinity", "1e9", "1_0", "١", " 1", "1 ", "+1", "0x1", "", "1,5", ".5", "5.",
              "9" * 16, True, [], {}, 1.5, 10**15, Decimal("1e15"),
              Decimal("NaN"), Decimal("-Infinity")]  # fmt: skip


def account(paper_url: bool = True, terms: object = TERMS, **changes: object):
    return account_of(ACCOUNT | changes, terms, paper_url)


def without(raw: dict[str, object], name: str) -> dict[str, object]:
    return {key: value for key, value in raw.items() if key != name}


def test_an_order_keeps_every_digit():
    order = order_of(ORDER)
    assert (str(order.quantity), str(order.limit_price)) == ("10.5", "101.50")
    assert (order.client_order_id, order.symbol, order.side) == ("ours", "SPY", Side.buy)
    assert (order.filled, order.average_price) == (Decimal(0), None)
    assert order.submitted_at == AT
    assert order.submitted_at.tzinfo is UTC


VALUES = {"long_market_value", "short_market_value"}
PARTS = [
    (order_of, ORDER, {"filled_avg_price", "notional", "type", "time_in_force"}),
    (lambda raw: account_of(raw, TERMS, True), ACCOUNT, VALUES),
    (lambda raw: account_of(ACCOUNT, raw, True), TERMS, set()),
    (holds_something, ACCOUNT, set(ACCOUNT) - VALUES),
    (fill_of, FILL, {"type"}),
    (position_of, POSITION, set()),
    (lambda raw: asset_of(raw, "SPY"), ASSET, set()),
    (lambda raw: quotes_of({"SPY"}, {"quotes": {"SPY": raw}}, {"trades": {"SPY": TRADE}}), QUOTE,
     set()),
    (lambda raw: quotes_of({"SPY"}, {"quotes": {"SPY": QUOTE}}, {"trades": {"SPY": raw}}), TRADE,
     set()),
]  # fmt: skip


@pytest.mark.parametrize(("build", "raw", "optional"), PARTS)
def test_a_member_that_is_missing_or_null_or_odd_is_refused(build, raw, optional):
    build(raw)
    for name in set(raw) - optional - {"limit_price"}:
        with pytest.raises(ValueError, match=name):
            build(without(raw, name))
        for odd in (None, [], {}, 1.5, "", "\ud800"):
            with pytest.raises(ValueError):
                build(raw | {name: odd})


@pytest.mark.parametrize("build", [part[0] for part in PARTS])
@pytest.mark.parametrize("raw", [[], "order", 1, True, [ORDER]])
def test_what_is_no_object_is_refused(build, raw):
    with pytest.raises(ValueError):
        build(raw)


@pytest.mark.parametrize("odd", NO_NUMBERS)
def test_a_quantity_or_price_that_is_no_plain_number_is_refused(odd):
    for build, raw, name in (
        (order_of, ORDER, "qty"),
        (order_of, ORDER, "filled_qty"),
        (order_of, ORDER, "limit_price"),
        (fill_of, FILL, "price"),
        (position_of, POSITION, "qty"),
    ):
        with pytest.raises(ValueError, match=name):
            build(raw | {name: odd})


@pytest.mark.parametrize("name", ["qty", "limit_price"])
@pytest.mark.parametrize("value", ["0", "-1", "-0.0"])
def test_an_order_of_nothing_or_less_is_refused(name, value):
    with pytest.raises(ValueError, match=name):
        order_of(ORDER | {name: value})


@given(st.decimals("0.000000001", "999999999999999", places=9))
def test_every_quantity_survives_the_way_there_and_back(quantity):
    request = OrderRequest("ours", "SPY", Side.buy, quantity, quantity)
    body = json.loads(json.dumps(body_of(request)))
    answer = order_of(ORDER | {"qty": body["qty"], "limit_price": body["limit_price"]})
    assert (answer.quantity, answer.limit_price) == (quantity, quantity)
    assert is_about(answer, request)


def test_an_exponent_is_written_out():
    body = body_of(OrderRequest("ours", "SPY", Side.sell, Decimal("1E+3"), None))
    assert body == {
        "symbol": "SPY", "qty": "1000", "side": "sell", "type": "market", "time_in_force": "day",
        "client_order_id": "ours",
    }  # fmt: skip


@pytest.mark.parametrize("number", ["0", "-0", "-5", "NaN", "sNaN", "Infinity", "-Infinity"])
def test_an_order_that_cannot_be_written_down_is_never_sent(number):
    with pytest.raises(ValueError, match="quantity must be above 0"):
        body_of(OrderRequest("ours", "SPY", Side.buy, Decimal(number), None))
    with pytest.raises(ValueError, match="limit_price must be above 0"):
        body_of(OrderRequest("ours", "SPY", Side.buy, Decimal(1), Decimal(number)))


@pytest.mark.parametrize(("name", "symbol"), [("", "SPY"), ("ours", "")])
def test_an_order_without_its_id_or_symbol_is_never_sent(name, symbol):
    with pytest.raises(ValueError, match="needs its id and its symbol"):
        body_of(OrderRequest(name, symbol, Side.buy, Decimal(1), None))


def test_a_limit_is_written_down_as_one():
    body = body_of(OrderRequest("ours", "SPY", Side.buy, Decimal(1), Decimal("1.50")))
    assert (body["type"], body["limit_price"]) == ("limit", "1.50")


@pytest.mark.parametrize("side", ["hold", "BUY", "sell_to_open"])
def test_a_side_that_nobody_knows_is_refused(side):
    for build, raw in ((order_of, ORDER), (fill_of, FILL)):
        with pytest.raises(ValueError, match="side is"):
            build(raw | {"side": side})


@pytest.mark.parametrize(
    "changes",
    [
        {"client_order_id": "theirs"},
        {"symbol": "QQQ"},
        {"side": "sell"},
        {"qty": "10.6"},
        {"limit_price": "101.51"},
        {"limit_price": None},
    ],
)
def test_an_answer_that_differs_in_anything_is_about_another_order(changes):
    request = OrderRequest("ours", "SPY", Side.buy, Decimal("10.50"), Decimal("101.5"))
    assert is_about(order_of(ORDER), request)
    assert not is_about(order_of(ORDER | changes), request)


def test_every_status_of_the_official_client_is_known():
    from alpaca.trading.enums import OrderStatus

    assert {status.value for status in OrderStatus} == set(STATUSES)


@pytest.mark.parametrize("status", sorted(STATUSES))
def test_a_status_ends_an_order_only_where_it_says_so(status):
    ended = {
        "filled": BrokerStatus.filled,
        "canceled": BrokerStatus.cancelled,
        "replaced": BrokerStatus.cancelled,
        "expired": BrokerStatus.expired,
        "rejected": BrokerStatus.rejected,
    }
    done = {"filled_qty": "10.5", "filled_avg_price": "101"} if status == "filled" else {}
    raw = ORDER | {"status": status, "time_in_force": "gtc"} | done
    assert order_of(raw).status is ended.get(status, BrokerStatus.working)
    assert has_known_status(raw)


def test_a_day_order_whose_day_is_done_has_expired():
    assert order_of(ORDER | {"status": "done_for_day"}).status is BrokerStatus.expired


def test_a_status_that_nobody_knows_counts_as_working_and_is_told(caplog):
    raw = ORDER | {"status": "teleported"}
    with caplog.at_level(logging.WARNING):
        assert order_of(raw).status is BrokerStatus.working
    assert "teleported" in caplog.text
    assert not has_known_status(raw)


@pytest.mark.parametrize(
    ("filled", "status"),
    [("10.6", "filled"), ("10.4", "filled"), ("0", "filled"), ("-1", "canceled"),
     ("11", "canceled"), ("11", "new")],
)  # fmt: skip
def test_fills_that_contradict_the_order_are_refused(filled, status):
    with pytest.raises(ValueError, match="filled_qty"):
        order_of(ORDER | {"filled_qty": filled, "status": status, "filled_avg_price": "1"})


@pytest.mark.parametrize("price", [None, "0", "-1"])
def test_a_fill_without_a_price_is_refused(price):
    with pytest.raises(ValueError, match="filled_avg_price"):
        order_of(ORDER | {"filled_qty": "1", "filled_avg_price": price})


def test_the_price_of_no_fills_is_none():
    assert order_of(ORDER | {"filled_avg_price": "0"}).average_price is None


def test_a_strangers_order_by_value_is_refused_while_it_works():
    by_value = ORDER | {"qty": None, "notional": "500"}
    with pytest.raises(ValueError, match="qty"):
        order_of(by_value)
    filled = {"filled_qty": "4.9", "filled_avg_price": "102", "status": "filled"}
    assert order_of(by_value | filled).quantity == Decimal("4.9")
    assert order_of(by_value | {"status": "canceled"}).quantity == 0


@pytest.mark.parametrize("kind", ["us_option", "crypto", "crypto_perp"])
def test_options_and_coins_are_no_shares(kind):
    for build, raw in ((order_of, ORDER), (position_of, POSITION)):
        with pytest.raises(ValueError, match="asset_class"):
            build(raw | {"asset_class": kind})


def test_a_fill_is_exact_and_costs_what_it_says():
    fill = fill_of(FILL)
    assert (fill.execution_id, fill.broker_id) == (FILL["id"], ORDER["id"])
    assert (str(fill.quantity), str(fill.price), fill.side) == ("2.5", "101.4999", Side.sell)
    assert (fill.commission, fill.at, fill.client_order_id) == (Decimal(0), AT, None)
    assert fill_of(FILL | {"commission": "0.35"}).commission == Decimal("0.35")
    assert fill_of(FILL | {"commission": "0"}).commission == 0
    for name, odd in (("commission", "-1"), ("qty", "0"), ("price", "-1")):
        with pytest.raises(ValueError, match=name):
            fill_of(FILL | {name: odd})


def test_another_activity_is_no_fill():
    with pytest.raises(ValueError, match="activity_type"):
        fill_of(FILL | {"activity_type": "DIV"})


@pytest.mark.parametrize("quantity", ["-3", "3"])
def test_a_short_position_is_below_zero_however_it_is_written(quantity):
    assert position_of(POSITION | {"qty": quantity, "side": "short"}).quantity == -3


@pytest.mark.parametrize("changes", [{"qty": "-3"}, {"qty": "0"}, {"side": "flat"}])
def test_a_position_that_contradicts_itself_is_refused(changes):
    with pytest.raises(ValueError):
        position_of(POSITION | changes)


def test_paper_is_what_account_number_and_address_agree_on():
    assert account().paper
    assert not account(paper_url=False).paper
    assert not account(account_number="123456789").paper
    assert account().id == "PA3ABCDEFGH"


def test_an_account_that_may_not_trade_says_so():
    assert not (account().blocked or account().suspended)
    assert account(trading_blocked=True).blocked
    assert account(account_blocked=True).blocked
    for status in ("INACTIVE", "ACCOUNT_CLOSED", "from tomorrow on"):
        assert account(status=status).blocked
    assert account(trade_suspended_by_user=True).suspended
    assert account(terms=TERMS | {"suspend_trade": True}).suspended
    assert not account(status="PAPER_ONLY").blocked
    assert account(status="PAPER_ONLY", account_number="123456789").blocked


def test_an_account_keeps_every_digit():
    found = account()
    assert (str(found.cash), str(found.equity)) == ("-12.34", "100000.00")
    assert (found.multiplier, found.no_shorting) == (Decimal(1), True)


def test_an_asset_that_is_not_active_is_not_tradable():
    assert asset_of(ASSET, "SPY").tradable
    for changes in ({"tradable": False}, {"status": "inactive"}, {"class": "crypto"}):
        assert not asset_of(ASSET | changes, "SPY").tradable
    with pytest.raises(ValueError, match="symbol"):
        asset_of(ASSET | {"symbol": "QQQ"}, "SPY")


def test_a_clock_is_told_in_utc():
    raw = {
        "timestamp": "2023-06-01T10:00:00.123456789-04:00",
        "is_open": True,
        "next_open": "2023-06-02T09:30:00-04:00",
        "next_close": "2023-06-01T16:00:00-04:00",
    }
    clock = clock_of(raw)
    assert (clock.now, clock.is_open) == (AT, True)
    assert clock.next_close == datetime(2023, 6, 1, 20, tzinfo=UTC)
    for name in raw:
        with pytest.raises(ValueError, match=name):
            clock_of(without(raw, name))
    with pytest.raises(ValueError, match="timestamp"):
        clock_of(raw | {"timestamp": "2023-06-01T10:00:00"})


@pytest.mark.parametrize(
    ("day", "opens", "closes", "utc"),
    [
        ("2023-03-10", "09:30", "16:00", (14, 21)),  # the last session of winter time
        ("2023-03-13", "09:30", "16:00", (13, 20)),
        ("2023-11-03", "09:30", "16:00", (13, 20)),
        ("2023-11-06", "09:30", "16:00", (14, 21)),
        ("2023-07-03", "09:30", "13:00", (13, 17)),  # half a day
    ],
)
def test_a_session_of_new_york_is_told_in_utc(day, opens, closes, utc):
    hours = session_of({"date": day, "open": opens, "close": closes})
    assert hours.session == date.fromisoformat(day)
    assert (hours.open.hour, hours.open.minute, hours.close.hour) == (utc[0], 30, utc[1])
    for end in (opens, "09:00"):
        with pytest.raises(ValueError, match="close"):
            session_of({"date": day, "open": opens, "close": end})


def test_a_quote_is_as_old_as_the_older_of_its_prices():
    later = "2023-06-01T14:05:00Z"
    for quote, trade in (({"t": later}, {}), ({}, {"t": later})):
        found = quotes_of(
            frozenset({"SPY"}),
            {"quotes": {"SPY": QUOTE | quote}},
            {"trades": {"SPY": TRADE | trade}},
        )
        assert found["SPY"].at == AT


def test_a_side_of_a_quote_where_nobody_is_has_no_price():
    quotes = {"quotes": {"SPY": QUOTE | {"bp": 0}}}
    found = quotes_of(frozenset({"SPY"}), quotes, {"trades": {"SPY": TRADE}})["SPY"]
    assert (found.bid, found.ask, found.last) == (None, Decimal("101.02"), Decimal("101.015"))


def test_a_name_without_quote_or_trade_is_missing_and_one_not_asked_for_too():
    symbols = frozenset({"SPY", "QQQ", "IWM"})
    quotes = {"quotes": {"SPY": QUOTE, "QQQ": QUOTE, "DIA": QUOTE, "IWM": None}}
    trades = {"trades": {"SPY": TRADE, "DIA": TRADE, "IWM": TRADE}}
    assert set(quotes_of(symbols, quotes, trades)) == {"SPY"}


@pytest.mark.parametrize("answer", [None, [], {}, {"quotes": None}, {"quotes": []}, {"trades": {}}])
def test_an_answer_without_quotes_is_not_one_of_no_quotes(answer):
    with pytest.raises(ValueError, match="quotes: no object"):
        quotes_of(frozenset({"SPY"}), answer, {"trades": {"SPY": TRADE}})


@pytest.mark.parametrize("changes", [{"bp": -1}, {"ap": -1}])
def test_a_price_below_zero_is_refused(changes):
    with pytest.raises(ValueError):
        quotes_of(
            frozenset({"SPY"}), {"quotes": {"SPY": QUOTE | changes}}, {"trades": {"SPY": TRADE}}
        )


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)


@given(st.data())
def test_whatever_json_comes_is_a_record_or_a_value_error(data):
    build, raw, _ = data.draw(st.sampled_from(PARTS))
    broken = raw | {data.draw(st.sampled_from(sorted(raw))): data.draw(values)}
    try:
        build(broken)
    except ValueError as error:
        assert str(error)
