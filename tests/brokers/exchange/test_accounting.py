"""Whatever happens to an account, what it holds is the sum of its activities, to the cent."""

import tempfile
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brokers.exchange import events
from brokers.exchange.exchange import Exchange
from brokers.exchange.order_filter import OrderFilter
from brokers.exchange.records import Rejection
from market.bars import Bars

EVERY_ORDER = OrderFilter("all", 500, None, None, False, False, None, None)
SYMBOLS = st.sampled_from(["A", "B"])
PRICES = st.decimals("40", "130", places=2)

SHARES = st.one_of(st.integers(1, 400).map(Decimal), st.decimals("0.001", "50", places=9))
SIMPLE = st.fixed_dictionaries(
    {
        "symbol": SYMBOLS,
        "side": st.sampled_from(["buy", "sell"]),
        "qty": SHARES.map(str),
        "type": st.just("market"),
    }
)
LIMIT = st.builds(
    lambda order, price: order | {"type": "limit", "limit_price": str(price)}, SIMPLE, PRICES
)
STOP = st.builds(
    lambda order, price: order | {"type": "stop", "stop_price": str(price)}, SIMPLE, PRICES
)
BRACKET = st.builds(
    lambda symbol, qty, stop, profit: {
        "symbol": symbol,
        "side": "buy",
        "qty": str(qty),
        "type": "market",
        "order_class": "bracket",
        "stop_loss": {"stop_price": str(stop)},
        "take_profit": {"limit_price": str(profit)},
    },
    SYMBOLS,
    st.integers(1, 100),
    st.decimals("40", "99", places=2),
    st.decimals("51", "130", places=2),
)
STEPS = st.one_of(
    st.tuples(st.just("order"), SIMPLE | LIMIT | STOP | BRACKET),
    st.tuples(st.just("advance"), st.integers(1, 400)),
    st.tuples(st.just("cancel"), st.integers(0, 9)),
    st.tuples(st.just("replace"), st.tuples(st.integers(0, 9), st.integers(1, 50))),
    st.tuples(st.just("close"), SYMBOLS),
    st.tuples(st.just("split"), st.tuples(SYMBOLS, st.sampled_from(["2", "0.1", "1.5", "3"]))),
    st.tuples(st.just("dividend"), st.tuples(SYMBOLS, st.decimals("0.001", "2", places=3))),
    st.tuples(st.just("cash"), st.decimals("-500", "500", places=2).filter(bool)),
    st.tuples(st.just("shares"), st.tuples(SYMBOLS, st.decimals("0.1", "9", places=4))),
    st.tuples(st.just("share_per_step"), st.sampled_from(["0", "0.3", "1"])),
)


def carry_out(exchange: Exchange, step: tuple[str, Any]) -> None:
    kind, what = step
    floor = exchange.floor
    exchange.now()
    if kind == "order":
        exchange.submit(what | {"time_in_force": "day"})
    elif kind == "advance":
        exchange.move_clock(exchange.now() + timedelta(minutes=what))
    elif kind in ("cancel", "replace"):
        found = floor.store.open_orders()
        place, shares = (what, None) if kind == "cancel" else what
        if place < len(found):
            if shares is None:
                exchange.cancel(found[place].id)
            else:
                exchange.replace(found[place].id, {"qty": Decimal(shares)})
    elif kind == "close":
        exchange.close_position(what, None, None)
    elif kind == "split":
        events.split(floor, what[0], Decimal(what[1]))
    elif kind == "dividend":
        events.dividend(floor, *what)
    elif kind == "cash":
        events.move_cash(floor, what)
    elif kind == "shares":
        events.move_shares(floor, *what)
    else:
        floor.terms = type(floor.terms)(Decimal(what), *map(Decimal, ("2", "1", "1", "0.005")))


def check_books(exchange: Exchange) -> None:
    """Compare account, positions and orders with what the activities alone amount to."""
    cash, shares = Decimal(100_000), defaultdict[str, Decimal](Decimal)
    filled = defaultdict[str, Decimal](Decimal)
    for activity in exchange.activities():
        quantity = Decimal(activity.get("qty", "0"))
        if activity["activity_type"] == "FILL":
            direction = 1 if activity["side"] == "buy" else -1
            notional = (quantity * Decimal(activity["price"])).quantize(Decimal("0.01"))
            cash -= direction * notional + Decimal(activity["commission"])
            shares[activity["symbol"]] += direction * quantity
            filled[activity["order_id"]] += quantity
            assert Decimal(activity["cum_qty"]) == filled[activity["order_id"]]
        else:
            cash += Decimal(activity["net_amount"])
            if activity["activity_type"] in ("SPLIT", "ACATS"):
                shares[activity["symbol"]] += quantity
    account, positions = exchange.account(), exchange.positions()
    assert Decimal(account["cash"]) == cash
    assert {item["symbol"]: Decimal(item["qty"]) for item in positions} == {
        symbol: held for symbol, held in shares.items() if held
    }
    values = [Decimal(position["market_value"]) for position in positions]
    assert Decimal(account["equity"]) == cash + sum(values)
    for position, value in zip(positions, values, strict=True):
        price = Decimal(position["current_price"])
        assert value == (Decimal(position["qty"]) * price).quantize(Decimal("0.01"))
        assert Decimal(position["qty_available"]) >= 0
    for order in exchange.orders(EVERY_ORDER):
        done, wanted = Decimal(order["filled_qty"]), Decimal(order["qty"])
        assert done == filled.get(order["id"], Decimal(0))
        assert 0 <= done <= wanted
        assert (order["status"] == "filled") == (done == wanted)
        assert not (order["status"] == "new" and done)


def check_promises(exchange: Exchange) -> None:
    """Check that nothing is sold that is not held, and nothing bought with money of others."""
    assert Decimal(exchange.account()["buying_power"]) >= 0
    assert all(Decimal(position["qty"]) > 0 for position in exchange.positions())


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=st.lists(STEPS, min_size=5, max_size=25))
def test_an_account_is_the_sum_of_its_activities(
    known_days: Bars, settings_with: Callable[..., Any], steps: list[tuple[str, Any]]
):
    costs = {"half_spread_bp": 2.0, "slippage_bp": 1.0, "commission_bp": 1.0}
    start = {"start": "2023-06-01T13:00:00+00:00", "commission_per_share": 0.005}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "exchange.sqlite"
        exchange = Exchange(path, known_days, "XNYS", settings_with(**costs, **start))
        try:
            for step in steps:
                with suppress(Rejection):  # a refusal in Alpaca's words: nothing may have happened
                    carry_out(exchange, step)
                check_books(exchange)
                check_promises(exchange)
        finally:
            exchange.close()
