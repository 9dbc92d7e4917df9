"""Alpaca by its official client: the only module that imports it.

The client carries the addresses, paths and keys. Left alone it repeats requests after 429 and 504,
waits for ever, takes a redirection for an answer, and makes floats of money. Here it sends once, in
time, and hands out raw JSON, which becomes records elsewhere. An error proves something only where
the broker itself said so.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from urllib.parse import quote, urlsplit
from uuid import UUID

from alpaca.common.enums import Sort
from alpaca.common.exceptions import APIError
from alpaca.common.rest import RESTClient
from alpaca.data.historical.stock import StockHistoricalDataClient
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import QueryOrderStatus
from alpaca.trading.requests import GetCalendarRequest, GetOrdersRequest

from brokers import alpaca_records as read
from brokers.alpaca_activities import activity_of
from brokers.alpaca_errors import NotFound, line, meaning
from brokers.alpaca_orders import body_of, fill_of, has_known_status, is_about, order_of
from brokers.members import Members, items
from brokers.one_shot import FAILURES, OneShotAdapter, Timeouts
from brokers.pages import Item, all_pages
from brokers.self_test import check_client, check_session
from brokers.settings import LOOPBACK, AlpacaSettings, Keys, keys_from_environment
from risk.gateway.broker import (
    Broker,
    BrokerError,
    OutcomeUnknown,
    Refused,
    Unauthorised,
    Unavailable,
)
from risk.gateway.records import (
    Account,
    Activity,
    Asset,
    BrokerClock,
    BrokerOrder,
    Fill,
    OrderRequest,
    Position,
    Quote,
    SessionHours,
)

PAPER_HOSTS = ("paper-api.alpaca.markets", *LOOPBACK)
ORDERS_PER_PAGE, ACTIVITIES_PER_PAGE = 500, 100  # the most that Alpaca gives
# Of two pages of orders, which are cut by time: Alpaca counts nanoseconds, and perhaps of another
# moment than it shows. The short one is for where a page is full of the long one.
OVERLAPS = (timedelta(seconds=1), timedelta(microseconds=1))


def connect(settings: AlpacaSettings) -> Broker:
    """Return the account whose keys are in the environment; nothing is sent yet.

    Raises:
        InputError: if the keys are not set.
    """
    return AlpacaBroker(settings, keys_from_environment(settings))


class AlpacaBroker:
    """One account at Alpaca; see `risk.gateway.broker.Broker` for what each call promises."""

    def __init__(self, settings: AlpacaSettings, keys: Keys) -> None:
        self._settings = settings
        self._paper_url = urlsplit(settings.trading_url).hostname in PAPER_HOSTS
        self._timeouts = Timeouts(settings.connect_timeout_s, settings.read_timeout_s)
        self._trading = TradingClient(
            keys.key, keys.secret, raw_data=True, url_override=settings.trading_url
        )
        self._data = StockHistoricalDataClient(
            keys.key, keys.secret, raw_data=True, url_override=settings.data_url
        )
        for client in (self._trading, self._data):
            _send_once(client, self._timeouts)

    def account(self) -> Account:
        """Return the account; its id is the account number, which Alpaca shows to people."""
        with _reading("account"):
            raw = self._trading.get_account()
            terms = self._trading.get_account_configurations()
            return read.account_of(raw, terms, self._paper_url)

    def clock(self) -> BrokerClock:
        """Return the broker's time."""
        with _reading("clock"):
            return read.clock_of(self._trading.get_clock())

    def calendar(self, first: date, last: date) -> Sequence[SessionHours]:
        """Return the sessions in [first, last]."""
        with _reading("calendar"):
            raw = self._trading.get_calendar(GetCalendarRequest(start=first, end=last))
            sessions = [read.session_of(item) for item in items("calendar", raw)]
        return sorted(
            (hours for hours in sessions if first <= hours.session <= last),
            key=lambda hours: hours.session,
        )

    def asset(self, symbol: str) -> Asset:
        """Return what may be done with a name; an unknown one is `Refused`."""
        with _reading(f"asset {symbol}", missing=True):
            return read.asset_of(self._trading.get_asset(quote(symbol, safe="")), symbol)

    def quotes(self, symbols: Sequence[str]) -> dict[str, Quote]:
        """Return quotes by symbol; a name without a quote or without a trade is missing."""
        if not symbols:
            return {}
        wanted = {"symbols": ",".join(symbols)}
        with _reading("quotes"):
            # Not by the client's own methods: they turn pages as long as the server says so.
            quotes = self._data.get("/stocks/quotes/latest", wanted)
            trades = self._data.get("/stocks/trades/latest", wanted)
            return read.quotes_of(frozenset(symbols), quotes, trades)

    def positions(self) -> dict[str, Position]:
        """Return every position by symbol; an empty list is believed to a flat account only."""
        with _reading("positions"):
            raw = items("positions", self._trading.get_all_positions())
            positions = [read.position_of(item) for item in raw]
            if not positions and read.holds_something(self._trading.get_account()):
                raise Unavailable("positions: none listed, yet the account's value is not all cash")
        by_symbol = {position.symbol: position for position in positions}
        if len(by_symbol) != len(positions):
            raise Unavailable("positions: a name is listed twice")
        return by_symbol

    def submit(self, order: OrderRequest) -> BrokerOrder:
        """Send an order once.

        Raises:
            ValueError: if the order cannot be written down; nothing was sent.
            DuplicateId: if its id was used before.
            Refused: if the broker says no. It proves that this request did nothing, and says
                nothing of an earlier one with the same id.
            Unauthorised: if the keys are not accepted.
            OutcomeUnknown: for everything else.
        """
        body = body_of(order)
        with _sending(f"order {order.client_order_id}"):
            raw = self._trading.post("/orders", body)
            answer = order_of(raw)
            if not has_known_status(raw):
                raise OutcomeUnknown(f"order {order.client_order_id}: the status is not known")
        if not is_about(answer, order):
            raise OutcomeUnknown(f"order {order.client_order_id}: the answer is of another order")
        return answer

    def order(self, client_order_id: str) -> BrokerOrder | None:
        """Return an order by our id; None is what the broker finds now, and proves nothing."""
        try:
            with _reading(f"order {client_order_id}", missing=True):
                answer = order_of(self._trading.get_order_by_client_id(client_order_id))
        except NotFound:
            return None
        if answer.client_order_id != client_order_id:
            raise Unavailable(f"order {client_order_id}: the answer is of another order")
        return answer

    def orders(self, after: datetime) -> Sequence[BrokerOrder]:
        """Return all orders, open and ended, submitted after a time, oldest first."""
        return self._orders(QueryOrderStatus.ALL, after)

    def open_orders(self) -> Sequence[BrokerOrder]:
        """Return every open order, whoever put it."""
        return self._orders(QueryOrderStatus.OPEN, None)

    def fills(self, after: datetime) -> Sequence[Fill]:
        """Return the executions after a time, oldest first; one at that very time may be there."""
        wanted = {"after": after.isoformat()}
        with _reading("fills"):
            fills = self._listed("/FILL", wanted, fill_of, lambda fill: fill.execution_id)
        return sorted(fills, key=lambda fill: (fill.at, fill.execution_id))

    def activities(self, after: date) -> Sequence[Activity]:
        """Return what changed the account beside executions, after a day, oldest first."""
        wanted = {"after": f"{after}T00:00:00Z", "category": "non_trade_activity"}
        with _reading("activities"):
            found = self._listed("", wanted, activity_of, lambda activity: activity.id)
        return sorted(found, key=lambda activity: (activity.day, activity.id))

    def cancel(self, broker_id: str) -> None:
        """Ask for the end of an order; that the broker took the request is not its end."""
        identity = UUID(broker_id)
        with _sending(f"cancel {broker_id}"):
            self._trading.cancel_order_by_id(identity)

    def cancel_all(self) -> None:
        """Ask for the end of every open order."""
        with _sending("cancel all"):
            answers = items("cancel all", self._trading.cancel_orders())
            statuses = [Members("cancel all", answer).number("status") for answer in answers]
        failed = sum(not 200 <= status < 300 for status in statuses)
        if failed:
            raise OutcomeUnknown(f"cancel all: {failed} of {len(statuses)} orders could not be")

    def suspend(self, suspended: bool) -> None:
        """Let the broker itself refuse, or accept, new orders."""
        with _sending(f"suspend_trade={suspended}"):
            # Only this member: the client's own method would also write back what it has read.
            raw = self._trading.patch("/account/configurations", {"suspend_trade": suspended})
            if Members("account configuration", raw).flag("suspend_trade") is not suspended:
                raise OutcomeUnknown(f"suspend_trade={suspended}: the broker answered the contrary")

    def self_test(self) -> None:
        """Check that timeouts hold and that nothing is sent twice; raise `BrokerError` if not."""
        urls = (self._settings.trading_url, self._settings.data_url)
        for client, url in zip((self._trading, self._data), urls, strict=True):
            check_session(client._session, url, self._timeouts)
            check_client(client._session, _asking(client))

    def _listed(
        self,
        path: str,
        wanted: dict[str, str],
        read_one: Callable[[object], Item],
        identity: Callable[[Item], str],
    ) -> list[Item]:
        """Return all activities of a kind, page by page."""

        def page(found: dict[str, Item]) -> list[Item]:
            asked = {**wanted, "direction": "asc", "page_size": str(ACTIVITIES_PER_PAGE)}
            if found:
                asked["page_token"] = next(reversed(found))
            raw = items("activities", self._trading.get(f"/account/activities{path}", asked))
            new = [read_one(item) for item in raw]
            if any(identity(item) in found for item in new):
                raise ValueError("a page came twice")
            return new

        return all_pages(page, identity)

    def _orders(self, status: QueryOrderStatus, after: datetime | None) -> list[BrokerOrder]:
        def page(found: dict[str, BrokerOrder]) -> list[BrokerOrder]:
            last = max((order.submitted_at for order in found.values()), default=None)
            for overlap in OVERLAPS:
                start = after if last is None else last - overlap
                orders = self._order_page(status, start)
                new = [order for order in orders if order.broker_id not in found]
                if new or len(orders) < ORDERS_PER_PAGE:
                    return new
            raise ValueError("a full page brought nothing new")

        with _reading("orders"):
            orders = all_pages(page, lambda order: order.broker_id)
        return sorted(orders, key=lambda order: (order.submitted_at, order.broker_id))

    def _order_page(self, status: QueryOrderStatus, after: datetime | None) -> list[BrokerOrder]:
        request = GetOrdersRequest(
            status=status, limit=ORDERS_PER_PAGE, after=after, direction=Sort.ASC
        )
        return [order_of(raw) for raw in items("orders", self._trading.get_orders(request))]


def _send_once(client: RESTClient, timeouts: Timeouts) -> None:
    """Take from a client what repeats requests or waits for ever; `self_test` proves it."""
    client._retry = 0  # the argument for it takes 0 for absent, and repeats three times
    session = client._session
    session.trust_env = False  # no proxy, no .netrc, no other certificates than the bundled ones
    adapter = OneShotAdapter(timeouts)
    session.mount("https://", adapter)
    session.mount("http://", adapter)


def _asking(client: RESTClient) -> Callable[[str, str], object]:
    """Return how the self-test posts by a client."""

    def ask(path: str, url: str) -> object:
        try:
            return client._request("POST", path, {}, base_url=url)
        except (APIError, *FAILURES):
            return None
        except (AttributeError, TypeError) as error:
            raise BrokerError(f"alpaca-py has changed: {line(error)}") from error

    return ask


@contextmanager
def _reading(what: str, *, missing: bool = False) -> Iterator[None]:
    """Turn everything that goes wrong within a read into `Unavailable` or `Unauthorised`.

    Args:
        what: is read, for the message.
        missing: let the broker's word that there is no such thing out, as `NotFound`.
    """
    try:
        yield
    except APIError as error:
        answer = meaning(error.response)
        if isinstance(answer, Unauthorised) or (missing and isinstance(answer, NotFound)):
            raise answer from error
        raise Unavailable(f"{what}: {answer}") from error
    except FAILURES as error:
        raise Unavailable(f"{what}: {line(error)}") from error


@contextmanager
def _sending(what: str) -> Iterator[None]:
    """Turn everything that goes wrong once bytes may have left into what it proves."""
    try:
        yield
    except APIError as error:
        answer = meaning(error.response)
        if isinstance(answer, Refused | Unauthorised):
            raise answer from error
        raise OutcomeUnknown(f"{what}: {answer}") from error
    except FAILURES as error:
        raise OutcomeUnknown(f"{what}: {line(error)}") from error
