"""The routes of Alpaca's trading API and of the latest prices of its data API."""

import hmac
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from fastapi import Depends, Request
from fastapi.routing import APIRouter
from starlette.responses import Response

from brokers.exchange import answers
from brokers.exchange.activities import page
from brokers.exchange.admission import malformed, members
from brokers.exchange.answers import Json
from brokers.exchange.exchange import Exchange
from brokers.exchange.order_filter import OrderFilter
from brokers.exchange.records import Market, Rejection
from market.errors import InputError

LARGEST_BODY = 65_536
CALENDAR_YEARS = 1  # that a calendar without start or end reaches back and forth


@dataclass(slots=True)
class Keys:
    """The keys that callers must send."""

    key: str
    secret: str

    def check(self, request: Request) -> None:
        """Refuse a caller without the keys.

        Raises:
            Rejection: 401 where there are none, 403 where they are wrong.
        """
        key = request.headers.get("APCA-API-KEY-ID")
        secret = request.headers.get("APCA-API-SECRET-KEY")
        if key is None or secret is None:
            raise Rejection(401, 40110000, "request is not authorized")
        right = hmac.compare_digest(key.encode(), self.key.encode())
        if not (right & hmac.compare_digest(secret.encode(), self.secret.encode())):
            raise Rejection(403, 40310000, "forbidden.")


def answered(content: Any, status: int = 200) -> Response:
    """Return an answer of JSON."""
    return Response(json.dumps(content), status, media_type="application/json")


async def rejected(request: Request, error: Exception) -> Response:
    """Answer a refused request in Alpaca's form."""
    if isinstance(error, InputError):  # a time that the calendar does not reach
        error = malformed(str(error))
    if not isinstance(error, Rejection):
        raise error
    content = {"code": error.code, "message": error.message} | error.details
    return answered(content, error.status)


async def body_of(request: Request) -> Json:
    """Return the JSON object that a request carries.

    Raises:
        Rejection: if it is none, or too large.
    """
    body = await request.body()
    if len(body) > LARGEST_BODY:
        raise Rejection(413, 41310000, "request body is too large")
    return members(body)


def trading_routes(exchange: Exchange, keys: Keys) -> APIRouter:
    """Return the routes of the trading API."""

    async def check_keys(request: Request) -> None:
        keys.check(request)

    router = APIRouter(prefix="/v2", dependencies=[Depends(check_keys)])
    _account_routes(router, exchange)
    _order_routes(router, exchange)
    _position_routes(router, exchange)
    _price_routes(router, exchange)
    return router


def _account_routes(router: APIRouter, exchange: Exchange) -> None:
    async def account(request: Request) -> Response:
        return answered(exchange.account())

    async def configuration(request: Request) -> Response:
        if request.method == "PATCH":
            return answered(exchange.configure(await body_of(request)))
        return answered(exchange.configuration())

    async def clock(request: Request) -> Response:
        return answered(exchange.clock_answer())

    async def calendar(request: Request) -> Response:
        around = timedelta(days=366 * CALENDAR_YEARS)
        today = exchange.now().date()
        first = _date(request, "start") or today - around
        last = _date(request, "end") or today + around
        days = exchange.hours.between(first, last) if first <= last else []
        return answered([answers.calendar_day(day, exchange.hours) for day in days])

    async def assets(request: Request) -> Response:
        wanted = request.query_params.get("status", "active") == "active"
        return answered(exchange.assets() if wanted else [])

    async def asset(request: Request) -> Response:
        return answered(exchange.asset(request.path_params["name"]))

    async def history(request: Request) -> Response:
        return answered(exchange.portfolio_history())

    async def activities(request: Request) -> Response:
        kinds = request.path_params.get("kind") or request.query_params.get("activity_types")
        account_id = exchange.account()["id"]
        found = [
            {"account_id": account_id} | activity
            for activity in page(
                exchange.activities(_time(request, "after")),
                kinds=None if kinds is None else frozenset(kinds.split(",")),
                trades=_trades(request.query_params.get("category")),
                after=_time(request, "after"),
                until=_time(request, "until"),
                day=_date(request, "date"),
                descending=_direction(request) == "desc",
                size=_count(request, "page_size", 100, 100),
                token=request.query_params.get("page_token"),
            )
        ]
        return answered(found)

    _add(router, "/account", account)
    _add(router, "/account/configurations", configuration, ["GET", "PATCH"])
    _add(router, "/account/portfolio/history", history)
    _add(router, "/account/activities", activities)
    _add(router, "/account/activities/{kind}", activities)
    _add(router, "/clock", clock)
    _add(router, "/calendar", calendar)
    _add(router, "/assets", assets)
    _add(router, "/assets/{name}", asset)


def _order_routes(router: APIRouter, exchange: Exchange) -> None:
    async def submit(request: Request) -> Response:
        return answered(exchange.submit(await body_of(request)))

    async def orders(request: Request) -> Response:
        return answered(exchange.orders(_filter(request)))

    async def order(request: Request) -> Response:
        nested = request.query_params.get("nested", "").lower() == "true"
        return answered(exchange.order("id", request.path_params["identity"], nested))

    async def by_client_order_id(request: Request) -> Response:
        identity = request.query_params.get("client_order_id", "")
        return answered(exchange.order("client_order_id", identity))

    async def replace(request: Request) -> Response:
        identity = request.path_params["identity"]
        return answered(exchange.replace(identity, await body_of(request)))

    async def cancel(request: Request) -> Response:
        exchange.cancel(request.path_params["identity"])
        return Response(status_code=204)

    async def cancel_all(request: Request) -> Response:
        return answered(exchange.cancel_all(), 207)

    _add(router, "/orders", submit, ["POST"])
    _add(router, "/orders", orders)
    _add(router, "/orders", cancel_all, ["DELETE"])
    _add(router, "/orders:by_client_order_id", by_client_order_id)
    _add(router, "/orders/{identity}", order)
    _add(router, "/orders/{identity}", replace, ["PATCH"])
    _add(router, "/orders/{identity}", cancel, ["DELETE"])


def _position_routes(router: APIRouter, exchange: Exchange) -> None:
    async def positions(request: Request) -> Response:
        return answered(exchange.positions())

    async def position(request: Request) -> Response:
        return answered(exchange.position(request.path_params["name"]))

    async def close(request: Request) -> Response:
        asked = request.query_params
        name = request.path_params["name"]
        return answered(exchange.close_position(name, asked.get("qty"), asked.get("percentage")))

    async def close_all(request: Request) -> Response:
        if request.query_params.get("cancel_orders", "").lower() == "true":
            exchange.cancel_all()
        results = []
        for found in exchange.positions():
            symbol = found["symbol"]
            try:
                status, content = 200, exchange.close_position(symbol, None, None)
            except Rejection as error:
                status, content = error.status, {"code": error.code, "message": error.message}
            results.append({"symbol": symbol, "status": status, "body": content})
        return answered(results, 207)

    _add(router, "/positions", positions)
    _add(router, "/positions", close_all, ["DELETE"])
    _add(router, "/positions/{name}", position)
    _add(router, "/positions/{name}", close, ["DELETE"])


def _price_routes(router: APIRouter, exchange: Exchange) -> None:
    def markets(request: Request) -> dict[str, Market]:
        asked = request.query_params.get("symbols", "").split(",")
        found = {symbol: exchange.quoted(symbol) for symbol in asked}
        return {symbol: market for symbol, market in found.items() if market is not None}

    async def quotes(request: Request) -> Response:
        found = markets(request).items()
        return answered({"quotes": {symbol: answers.quote(market) for symbol, market in found}})

    async def trades(request: Request) -> Response:
        found = markets(request).items()
        return answered({"trades": {symbol: answers.trade(market) for symbol, market in found}})

    async def snapshots(request: Request) -> Response:
        found = markets(request).items()
        shown = {
            symbol: {"latestTrade": answers.trade(market), "latestQuote": answers.quote(market)}
            for symbol, market in found
        }
        return answered(shown)

    _add(router, "/stocks/quotes/latest", quotes)
    _add(router, "/stocks/trades/latest", trades)
    _add(router, "/stocks/snapshots", snapshots)


def _filter(request: Request) -> OrderFilter:
    """Return which orders a request wants."""
    asked = request.query_params
    status = asked.get("status", "open")
    if status not in ("open", "closed", "all"):
        raise malformed("invalid status")
    symbols = asked.get("symbols")
    return OrderFilter(
        status=status,
        limit=_count(request, "limit", 50, 500),
        after=_time(request, "after"),
        until=_time(request, "until"),
        descending=_direction(request) == "desc",
        nested=asked.get("nested", "").lower() == "true",
        side=asked.get("side"),
        symbols=None if symbols is None else frozenset(symbols.split(",")),
    )


def _direction(request: Request) -> str:
    direction = request.query_params.get("direction", "desc")
    if direction not in ("asc", "desc"):
        raise malformed("invalid direction")
    return direction


def _trades(category: str | None) -> bool | None:
    """Return whether only executions are wanted, or only what is none; None is all."""
    if category not in (None, "trade_activity", "non_trade_activity"):
        raise malformed("invalid category")
    return None if category is None else category == "trade_activity"


def _count(request: Request, name: str, default: int, largest: int) -> int:
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= largest):
        raise malformed(f"{name} must be in [1, {largest}]")
    return int(text)


def _time(request: Request, name: str) -> datetime | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise malformed(f"invalid {name}") from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _date(request: Request, name: str) -> date | None:
    found = _time(request, name)
    return None if found is None else found.date()


def _add(
    router: APIRouter,
    path: str,
    answer: Callable[[Request], Awaitable[Response]],
    methods: Sequence[str] = ("GET",),
) -> None:
    router.add_api_route(path, answer, methods=list(methods), response_model=None)
