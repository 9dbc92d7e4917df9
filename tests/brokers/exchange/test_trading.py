"""When orders are filled, at which price, and how they end: by hand, on a path that is known."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from brokers.exchange.exchange import Exchange
from brokers.exchange.records import Rejection

Go = Callable[[Exchange, float], None]
NEXT_OPEN, CLOSE, NEXT_CLOSE = 1440, 390, 1440 + 390


def send(exchange: Exchange, **changes: Any) -> str:
    """Send an order for ten of A, at the market where nothing else is said; return its id."""
    body = {"symbol": "A", "qty": "10", "side": "buy", "type": "market", "time_in_force": "day"}
    if "limit_price" in changes:
        body["type"] = "limit"
    if "stop_price" in changes:
        body["type"] = "stop"
    identity: str = exchange.submit(body | changes)["id"]
    return identity


def state(exchange: Exchange, identity: str) -> tuple[str, str, str | None]:
    """Return status, filled shares and average price of an order."""
    order = exchange.order("id", identity)
    price = order["filled_avg_price"]
    shown = None if price is None else f"{Decimal(price).normalize():f}"
    return order["status"], order["filled_qty"], shown


def cash(exchange: Exchange) -> Decimal:
    return Decimal(exchange.account()["cash"])


def test_a_market_order_is_filled_at_the_ask_and_beyond_by_the_slippage(
    make_exchange: Callable[..., Exchange],
):
    exchange = make_exchange(half_spread_bp=10.0, slippage_bp=20.0)
    bought = send(exchange)
    assert state(exchange, bought) == ("filled", "10", "100.3002")  # 100.10 x 1.002
    sold = send(exchange, side="sell")
    assert state(exchange, sold) == ("filled", "10", "99.7002")  # 99.90 x 0.998
    assert cash(exchange) == Decimal("100000") - Decimal("1003.00") + Decimal("997.00")


def test_commissions_are_rounded_up_to_the_cent(make_exchange: Callable[..., Exchange]):
    exchange = make_exchange(commission_bp=1.0, commission_per_share=0.0035)
    send(exchange, qty="7")
    # 700 x 0.0001 + 7 x 0.0035 = 0.0945
    assert cash(exchange) == Decimal("100000") - 700 - Decimal("0.10")
    assert exchange.activities()[0]["commission"] == "0.10"


def test_a_buy_limit_waits_until_the_price_has_come_down(exchange: Exchange, minute: Go):
    order = send(exchange, limit_price="95")
    minute(exchange, 64)
    assert state(exchange, order) == ("new", "0", None)
    minute(exchange, 65)  # half way from 100 to 90
    assert state(exchange, order) == ("filled", "10", "95")


def test_a_sell_limit_gets_its_price_or_better(exchange: Exchange, minute: Go):
    send(exchange)
    order = send(exchange, side="sell", limit_price="104.99")
    minute(exchange, 194)
    assert state(exchange, order)[0] == "new"
    minute(exchange, 230)  # the path passes 104.99 between two minutes: the first one is better
    status, _, price = state(exchange, order)
    assert status == "filled"
    assert Decimal("104.99") <= Decimal(str(price)) < Decimal("105.20")


def test_slippage_never_goes_beyond_a_limit(make_exchange: Callable[..., Exchange]):
    exchange = make_exchange(slippage_bp=100.0)
    assert state(exchange, send(exchange, limit_price="100.50"))[2] == "100.5"
    assert state(exchange, send(exchange, limit_price="102"))[2] == "101"


def test_a_stop_becomes_a_market_order_at_its_price(exchange: Exchange, minute: Go):
    send(exchange)
    order = send(exchange, side="sell", stop_price="92")
    minute(exchange, 103)
    assert state(exchange, order)[0] == "new"
    minute(exchange, 104)  # 100 - 104 / 13
    assert state(exchange, order) == ("filled", "10", "92")


def test_a_triggered_stop_goes_on_when_the_price_has_turned(
    make_exchange: Callable[..., Exchange], minute: Go
):
    exchange = make_exchange(share_per_step=1.0)
    send(exchange)
    exchange.floor.terms = type(exchange.floor.terms)(*map(Decimal, ("0.5", "0", "0", "0", "0")))
    order = send(exchange, side="sell", stop_price="90")
    minute(exchange, 130)
    assert state(exchange, order) == ("partially_filled", "5", "90")
    minute(exchange, 131)
    assert state(exchange, order)[:2] == ("filled", "10")


def test_partial_fills_come_one_a_step(make_exchange: Callable[..., Exchange], minute: Go):
    exchange = make_exchange(share_per_step=0.3)
    order = send(exchange)
    filled = [state(exchange, order)[1]]
    for minutes in range(1, 4):
        minute(exchange, minutes)
        filled.append(state(exchange, order)[1])
    assert filled == ["3", "6", "9", "10"]
    assert state(exchange, order)[0] == "filled"
    leaves = [item["leaves_qty"] for item in exchange.activities()]
    assert leaves == ["7", "4", "1", "0"]


def test_a_share_too_small_for_a_whole_one_still_fills_one(
    make_exchange: Callable[..., Exchange], minute: Go
):
    exchange = make_exchange(share_per_step=0.01)
    assert state(exchange, send(exchange))[1] == "1"
    assert state(exchange, send(exchange, qty="0.5"))[1] == "0.005"


def test_with_a_share_of_zero_nothing_is_filled(make_exchange: Callable[..., Exchange], minute: Go):
    exchange = make_exchange(share_per_step=0.0)
    order = send(exchange)
    minute(exchange, CLOSE)
    assert state(exchange, order) == ("expired", "0", None)


def test_the_rest_of_an_order_expires_at_the_close(
    make_exchange: Callable[..., Exchange], minute: Go
):
    exchange = make_exchange(share_per_step=0.1)
    minute(exchange, 385)
    order = send(exchange)
    minute(exchange, 389)
    assert state(exchange, order)[:2] == ("partially_filled", "5")
    minute(exchange, CLOSE)
    assert state(exchange, order)[:2] == ("expired", "6")
    assert [position["qty"] for position in exchange.positions()] == ["6"]
    minute(exchange, NEXT_CLOSE)
    assert state(exchange, order)[:2] == ("expired", "6")


def test_an_order_after_the_close_is_filled_at_the_next_open(exchange: Exchange, minute: Go):
    minute(exchange, CLOSE)
    order = send(exchange)
    assert state(exchange, order) == ("accepted", "0", None)
    minute(exchange, NEXT_OPEN - 0.001)
    assert state(exchange, order)[0] == "accepted"
    minute(exchange, NEXT_OPEN)
    assert state(exchange, order) == ("filled", "10", "105")


def test_one_jump_over_a_day_is_the_same_as_every_minute_of_it(
    make_exchange: Callable[..., Exchange], minute: Go
):
    stories = []
    for moments in (range(0, NEXT_CLOSE, 7), [NEXT_CLOSE]):
        exchange = make_exchange(share_per_step=0.2, half_spread_bp=3.0, slippage_bp=1.0)
        send(exchange, limit_price="97")
        send(exchange, symbol="B")
        for moment in [*moments, NEXT_CLOSE]:
            minute(exchange, moment)
        stories.append(
            [
                {name: item.get(name) for name in ("transaction_time", "symbol", "qty", "price")}
                for item in exchange.activities()
            ]
        )
    assert stories[0] == stories[1]
    assert len(stories[0]) == 10


def test_a_halted_name_is_not_filled_and_its_orders_stay(exchange: Exchange, minute: Go):
    order = send(exchange, limit_price="95")
    exchange.remember("flags:A", '{"tradable": false}')
    minute(exchange, 130)
    assert state(exchange, order)[0] == "new"
    exchange.remember("flags:A", "{}")
    minute(exchange, 131)
    assert state(exchange, order)[0] == "filled"


BRACKET = {
    "order_class": "bracket",
    "take_profit": {"limit_price": "108"},
    "stop_loss": {"stop_price": "85"},
}


def legs(exchange: Exchange, identity: str) -> list[tuple[str, str, str]]:
    nested = exchange.order("id", identity, nested=True)["legs"]
    return [(leg["status"], leg["qty"], leg["filled_qty"]) for leg in nested]


def test_one_exit_of_a_bracket_cancels_the_other(exchange: Exchange, minute: Go):
    bracket = send(exchange, **BRACKET)
    assert legs(exchange, bracket) == [("new", "10", "0"), ("new", "10", "0")]
    minute(exchange, 260)
    assert legs(exchange, bracket) == [("filled", "10", "10"), ("canceled", "10", "0")]
    assert exchange.positions() == []


def test_the_other_exit_of_a_bracket_limits_the_loss(exchange: Exchange, minute: Go):
    bracket = send(exchange, **(BRACKET | {"stop_loss": {"stop_price": "91"}}))
    minute(exchange, 260)
    assert legs(exchange, bracket) == [("canceled", "10", "0"), ("filled", "10", "10")]
    assert cash(exchange) == Decimal("100000") - 1000 + Decimal("910.00")


def test_an_exit_that_is_filled_in_part_leaves_less_to_the_other(
    make_exchange: Callable[..., Exchange], minute: Go
):
    exchange = make_exchange(share_per_step=0.4)
    bracket = send(exchange, **BRACKET)
    assert legs(exchange, bracket)[0][0] == "held"  # until the entry is filled wholly
    minute(exchange, 3)
    minute(exchange, 247)  # 108 is reached
    assert legs(exchange, bracket) == [("partially_filled", "10", "4"), ("new", "6", "0")]
    minute(exchange, 249)
    assert legs(exchange, bracket) == [("filled", "10", "10"), ("canceled", "2", "0")]


def test_the_legs_of_a_cancelled_entry_are_cancelled(exchange: Exchange):
    bracket = send(exchange, limit_price="95", **BRACKET)
    assert [leg[0] for leg in legs(exchange, bracket)] == ["held", "held"]
    exchange.cancel(bracket)
    assert [leg[0] for leg in legs(exchange, bracket)] == ["canceled", "canceled"]


def test_the_exits_of_a_bracket_expire_with_its_session(exchange: Exchange, minute: Go):
    wide = BRACKET | {"take_profit": {"limit_price": "200"}}
    bracket = send(exchange, **wide)
    minute(exchange, CLOSE)
    assert [leg[0] for leg in legs(exchange, bracket)] == ["expired", "expired"]
    assert [position["qty"] for position in exchange.positions()] == ["10"]


def test_margin_lets_sell_short_whole_shares_only(make_exchange: Callable[..., Exchange]):
    exchange = make_exchange(multiplier=2)
    assert exchange.account()["shorting_enabled"]
    with pytest.raises(Rejection, match="fractional orders cannot be sold short"):
        send(exchange, side="sell", qty="0.5")
    send(exchange, side="sell")
    [position] = exchange.positions()
    assert (position["qty"], position["side"], position["market_value"]) == (
        "-10",
        "short",
        "-1000.00",
    )
    account = exchange.account()
    assert account["cash"] == "101000.00"
    assert account["equity"] == "100000.00"
    assert account["buying_power"] == "199000.00"
    with pytest.raises(Rejection, match="insufficient qty available"):
        send(exchange, qty="11")  # would turn the position over
    send(exchange, qty="10")
    assert exchange.positions() == []


def test_the_owner_s_wish_not_to_sell_short_is_kept(make_exchange: Callable[..., Exchange]):
    exchange = make_exchange(multiplier=2)
    exchange.configure({"no_shorting": True})
    with pytest.raises(Rejection, match="not allowed to short"):
        send(exchange, side="sell")


def test_a_wrong_configuration_changes_nothing(exchange: Exchange):
    with pytest.raises(Rejection):
        exchange.configure({"suspend_trade": "yes"})
    assert not exchange.configuration()["suspend_trade"]


def test_time_does_not_run_back(exchange: Exchange, minute: Go):
    minute(exchange, 5)
    with pytest.raises(Rejection, match="time cannot run back"):
        minute(exchange, 4)


def test_an_accepted_order_can_still_be_turned_down(exchange: Exchange):
    order = send(exchange, limit_price="95")
    assert exchange.reject(order)["status"] == "rejected"
    assert exchange.order("id", order)["failed_at"] is not None
    assert exchange.account()["buying_power"] == "100000.00"
    with pytest.raises(Rejection, match="already in"):
        exchange.reject(order)
