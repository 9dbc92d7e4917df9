"""Lists that come in pages: all of them, or nothing."""

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from urllib.parse import parse_qs, urlsplit

import pytest

from brokers.alpaca import AlpacaBroker
from brokers.pages import PAGES
from brokers.settings import AlpacaSettings, Keys
from risk.gateway.broker import OutcomeUnknown, Unavailable
from risk.gateway.records import OrderRequest, Side

BEGIN = datetime(2023, 6, 1, 14, tzinfo=UTC)
LONG_AGO = datetime(2023, 1, 1, tzinfo=UTC)


def nanoseconds(moment: int) -> str:
    """Return a time as Alpaca writes it, so many nanoseconds after the beginning."""
    seconds, rest = divmod(moment, 10**9)
    return f"{BEGIN + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def at(text: str) -> int:
    """Return the nanoseconds after the beginning of a time."""
    head, _, rest = text.replace("+00:00", "Z").rstrip("Z").partition(".")
    seconds = (datetime.fromisoformat(head).replace(tzinfo=UTC) - BEGIN).total_seconds()
    return int(seconds) * 10**9 + int(f"{rest:0<9}")


def order(number: int, moment: int) -> dict[str, object]:
    return {
        "id": f"id-{number}", "client_order_id": f"c-{number}", "submitted_at": nanoseconds(moment),
        "symbol": "SPY", "asset_class": "us_equity", "qty": "1", "filled_qty": "0", "side": "buy",
        "time_in_force": "day", "status": "new",
    }  # fmt: skip


def fill(number: int, moment: int) -> dict[str, object]:
    return {
        "activity_type": "FILL", "id": f"f-{number}", "order_id": "o", "symbol": "SPY",
        "side": "buy", "qty": "1", "price": "1.5", "transaction_time": nanoseconds(moment),
    }  # fmt: skip


class Lists:
    """Alpaca's lists, as its documentation cuts them, or worse.

    Args:
        cap: the most that a page has, whatever was asked for.
    """

    def __init__(self, cap: int = 10**9) -> None:
        self.cap = cap
        self.orders: list[dict[str, object]] = []
        self.fills: list[dict[str, object]] = []
        self.others: dict[str, object] = {}
        self.follows = True  # the place where the last page ended

    def __call__(self, connection, request):
        url = urlsplit(request.split()[1])
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        pages = {"/v2/orders": self._orders, "/v2/account/activities/FILL": self._fills}
        if url.path in pages and request.startswith("GET"):
            answer = pages[url.path](query)
        else:
            answer = self.others[url.path]
        body = json.dumps(answer).encode()
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    def _orders(self, query):
        after = at(query["after"]) if self.follows and "after" in query else -(10**30)
        assert query["direction"] == "asc"
        found = [item for item in self.orders if at(item["submitted_at"]) > after]
        return found[: min(int(query["limit"]), self.cap)]

    def _fills(self, query):
        assert query["direction"] == "asc"
        ids = [item["id"] for item in self.fills]
        token = query.get("page_token") if self.follows else None
        start = 0 if token is None else ids.index(token) + 1
        return self.fills[start:][: min(int(query["page_size"]), self.cap)]


@pytest.fixture
def listed(wire):
    """Return a function that gives lists and a broker that reads them."""

    def start(**options) -> tuple[Lists, AlpacaBroker]:
        lists = Lists(**options)
        url = wire(lists).url
        return lists, AlpacaBroker(AlpacaSettings(url, url, "K", "S", 1.0, 1.0), Keys("k", "s"))

    return start


def ids(orders) -> list[str]:
    return [item.broker_id for item in orders]


@pytest.mark.parametrize("count", [0, 1, 499, 500, 501, 1_203])
def test_every_order_of_every_page_is_there_once(listed, count):
    lists, broker = listed()
    lists.orders = [order(number, number * 10**9) for number in range(count)]
    expected = [f"id-{number}" for number in range(count)]
    assert ids(broker.orders(LONG_AGO)) == expected
    assert ids(broker.open_orders()) == expected


def test_a_page_that_is_shorter_than_it_was_asked_to_be_is_not_the_last(listed):
    lists, broker = listed(cap=20)
    lists.orders = [order(number, number * 10**9) for number in range(95)]
    lists.fills = [fill(number, number) for number in range(95)]
    assert len(broker.orders(LONG_AGO)) == 95
    assert len(broker.fills(LONG_AGO)) == 95


def test_orders_of_one_instant_are_not_lost_between_pages(listed):
    lists, broker = listed()
    # 300 orders in one nanosecond, across the end of the first page, and 300 in one microsecond
    moments = [*range(400), *[10**9] * 300, *(2 * 10**9 + number for number in range(300))]
    lists.orders = [order(number, moment) for number, moment in enumerate(moments)]
    assert len(set(ids(broker.orders(LONG_AGO)))) == 1_000


def test_more_orders_of_one_instant_than_a_page_holds_are_not_half_a_list(listed):
    lists, broker = listed()
    lists.orders = [order(number, 5) for number in range(501)]
    with pytest.raises(Unavailable, match="nothing new"):
        broker.orders(LONG_AGO)


def test_an_order_that_comes_while_pages_are_turned_is_there(listed):
    lists, broker = listed()
    lists.orders = [order(number, number * 10**9) for number in range(500)]
    turn = lists._orders

    def turning(query):
        page = turn(query)
        if len(lists.orders) == 500:
            lists.orders.append(order(500, 500 * 10**9))
        return page

    lists._orders = turning
    assert len(broker.orders(LONG_AGO)) == 501


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 350])
def test_every_fill_of_every_page_is_there_once_in_its_order(listed, count):
    lists, broker = listed()
    lists.fills = [fill(number, number // 3) for number in range(count)]
    fills = broker.fills(LONG_AGO)
    assert {item.execution_id for item in fills} == {f"f-{number}" for number in range(count)}
    assert [item.at for item in fills] == sorted(item.at for item in fills)
    assert len(fills) == count


def test_a_broker_that_gives_the_same_page_again_has_no_list(listed):
    lists, broker = listed()
    lists.follows = False
    lists.fills = [fill(number, number) for number in range(3)]
    lists.orders = [order(number, number) for number in range(600)]
    with pytest.raises(Unavailable, match="twice"):
        broker.fills(LONG_AGO)
    with pytest.raises(Unavailable, match="nothing new"):
        broker.orders(LONG_AGO)


def test_a_list_without_an_end_is_given_up(listed):
    lists, broker = listed(cap=1)
    lists.fills = [fill(number, number) for number in range(PAGES + 1)]
    with pytest.raises(Unavailable, match="no end"):
        broker.fills(LONG_AGO)


def test_one_item_that_cannot_be_read_makes_the_list_unreadable(listed):
    lists, broker = listed()
    lists.orders = [order(0, 0), order(1, 1) | {"qty": "nonsense"}]
    lists.fills = [fill(0, 0), fill(1, 1) | {"price": None}]
    for read in (broker.orders, broker.fills):
        with pytest.raises(Unavailable):
            read(LONG_AGO)


@pytest.mark.parametrize("answer", [{}, {"orders": []}, None, "[]", 0])
def test_what_is_no_list_is_not_an_empty_one(listed, answer):
    lists, broker = listed()
    lists._orders = lists._fills = lambda query: answer
    lists.others["/v2/positions"] = answer
    calls = (lambda: broker.orders(LONG_AGO), lambda: broker.fills(LONG_AGO), broker.positions)
    for call in calls:
        with pytest.raises(Unavailable):
            call()


def position(symbol: str = "SPY") -> dict[str, str]:
    return {
        "symbol": symbol, "asset_class": "us_equity", "qty": "3", "side": "long",
        "avg_entry_price": "1", "current_price": "2",
    }  # fmt: skip


@pytest.mark.parametrize(("long", "short"), [("6", "0"), ("0", "-6"), ("0.01", "0")])
def test_no_position_at_all_is_not_believed_to_an_account_that_holds_something(listed, long, short):
    lists, broker = listed()
    lists.others["/v2/positions"] = []
    lists.others["/v2/account"] = {"long_market_value": long, "short_market_value": short}
    with pytest.raises(Unavailable, match="none listed"):
        broker.positions()


def test_no_position_at_all_is_believed_to_an_account_of_cash_alone(listed):
    lists, broker = listed()
    lists.others["/v2/positions"] = []
    lists.others["/v2/account"] = {"long_market_value": "0", "short_market_value": "0.00"}
    assert broker.positions() == {}
    lists.others["/v2/account"] = {}
    with pytest.raises(Unavailable):
        broker.positions()


def test_a_name_that_is_listed_twice_is_no_position(listed):
    lists, broker = listed()
    lists.others["/v2/positions"] = [position(), position()]
    with pytest.raises(Unavailable, match="twice"):
        broker.positions()
    lists.others["/v2/positions"] = [position(), position("QQQ")]
    assert {name: held.quantity for name, held in broker.positions().items()} == {
        "SPY": Decimal(3), "QQQ": Decimal(3)
    }  # fmt: skip


def test_a_cancel_of_all_that_left_some_is_an_unknown_outcome(listed):
    lists, broker = listed()
    lists.others["/v2/orders"] = [{"id": "a", "status": 200}, {"id": "b", "status": 500}]
    with pytest.raises(OutcomeUnknown, match="1 of 2"):
        broker.cancel_all()
    lists.others["/v2/orders"] = [{"id": "a", "status": 200}, {"id": "b"}]
    with pytest.raises(OutcomeUnknown):
        broker.cancel_all()


def test_a_suspension_that_the_broker_does_not_confirm_is_an_unknown_outcome(listed):
    lists, broker = listed()
    for answer in ({"suspend_trade": False}, {}, {"suspend_trade": "true"}):
        lists.others["/v2/account/configurations"] = answer
        with pytest.raises(OutcomeUnknown):
            broker.suspend(True)


OURS = OrderRequest("c-1", "SPY", Side.buy, Decimal(1), None)


def test_an_answer_that_is_about_our_order_is_ours(listed):
    lists, broker = listed()
    lists.others["/v2/orders"] = lists.others["/v2/orders:by_client_order_id"] = order(1, 0)
    assert broker.submit(OURS) == broker.order("c-1")


@pytest.mark.parametrize(
    "changes",
    [{"client_order_id": "c-2"}, {"symbol": "QQQ"}, {"side": "sell"}, {"qty": "2"},
     {"limit_price": "1"}],
)  # fmt: skip
def test_an_answer_about_another_order_says_nothing_of_ours(listed, changes):
    lists, broker = listed()
    lists.others["/v2/orders"] = order(1, 0) | changes
    with pytest.raises(OutcomeUnknown, match="of another order"):
        broker.submit(OURS)


def test_a_look_up_that_finds_another_id_found_nothing_we_asked_for(listed):
    lists, broker = listed()
    lists.others["/v2/orders:by_client_order_id"] = order(2, 0)
    with pytest.raises(Unavailable, match="of another order"):
        broker.order("c-1")


@pytest.mark.parametrize("answer", [None, [], {}, {"id": "x"}, "accepted", [order(1, 0)]])
def test_an_answer_that_is_no_order_says_nothing_of_ours(listed, answer):
    lists, broker = listed()
    lists.others["/v2/orders"] = answer
    with pytest.raises(OutcomeUnknown):
        broker.submit(OURS)


def test_sessions_beyond_those_asked_for_are_left_out(listed):
    lists, broker = listed()
    days = ["2023-06-05", "2023-06-02", "2023-06-01", "2023-05-31"]
    lists.others["/v2/calendar"] = [
        {"date": day, "open": "09:30", "close": "16:00"} for day in days
    ]
    sessions = broker.calendar(date(2023, 6, 1), date(2023, 6, 2))
    assert [hours.session.day for hours in sessions] == [1, 2]
