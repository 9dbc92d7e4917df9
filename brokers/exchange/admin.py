"""The routes by which tests and demonstrations drive the exchange; Alpaca has none of them."""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from types import UnionType

from fastapi import Depends, Request
from fastapi.routing import APIRouter
from starlette.responses import Response

from brokers.exchange import events
from brokers.exchange.admission import amount, malformed
from brokers.exchange.answers import Json
from brokers.exchange.exchange import Exchange
from brokers.exchange.faults import FaultPlan, parse_fault
from brokers.exchange.rules import AssetFlags, require_known
from brokers.exchange.settings import Terms
from brokers.exchange.store import time_text
from brokers.exchange.web import Keys, answered, body_of

DONE = 204


def admin_routes(exchange: Exchange, plan: FaultPlan, keys: Keys, own: Keys) -> APIRouter:
    """Return the routes of the administration.

    Args:
        exchange: to drive.
        plan: of faults.
        keys: that traders must send; they can be changed.
        own: that the administration must be called with.
    """

    async def check_keys(request: Request) -> None:
        own.check(request)

    router = APIRouter(prefix="/admin", dependencies=[Depends(check_keys)])
    _fault_routes(router, plan)
    _event_routes(router, exchange)
    _state_routes(router, exchange)

    async def put_keys(request: Request) -> Response:
        """Change the traders' `key` and `secret`."""
        body = await body_of(request)
        keys.key, keys.secret = _text(body, "key"), _text(body, "secret")
        return Response(status_code=DONE)

    router.add_api_route("/keys", put_keys, methods=["PUT"])
    return router


def _fault_routes(router: APIRouter, plan: FaultPlan) -> None:
    async def add_fault(request: Request) -> Response:
        """Plan a fault, see `brokers.exchange.faults.Fault`."""
        plan.faults.append(parse_fault(await body_of(request)))
        return answered(plan.faults[-1].answer())

    async def faults(request: Request) -> Response:
        """Return the plan, with what each fault has hit."""
        return answered([fault.answer() for fault in plan.faults])

    async def clear_faults(request: Request) -> Response:
        """Forget the plan."""
        plan.clear()
        return Response(status_code=DONE)

    async def sent(request: Request) -> Response:
        """Return the requests that came in, see `brokers.exchange.faults.Sent`."""
        return answered([asdict(item) for item in plan.sent])

    async def clear_sent(request: Request) -> Response:
        """Forget the requests that came in."""
        plan.sent.clear()
        return Response(status_code=DONE)

    router.add_api_route("/faults", add_fault, methods=["POST"])
    router.add_api_route("/faults", faults, methods=["GET"])
    router.add_api_route("/faults", clear_faults, methods=["DELETE"])
    router.add_api_route("/sent", sent, methods=["GET"])
    router.add_api_route("/sent", clear_sent, methods=["DELETE"])


def _event_routes(router: APIRouter, exchange: Exchange) -> None:
    floor = exchange.floor

    async def clock(request: Request) -> Response:
        """Set the time to `now`, forward by `advance_s`, or `to` next_open or next_close."""
        body = await body_of(request)
        return answered(exchange.move_clock(_moment(exchange, body)))

    async def order(request: Request) -> Response:
        """Take an order of somebody else who has the account, past faults and records."""
        return answered(exchange.submit(await body_of(request)))

    async def reject(request: Request) -> Response:
        """Turn down an order that was accepted."""
        return answered(exchange.reject(request.path_params["identity"]))

    async def split(body: Json) -> None:
        """Split the shares of a `symbol` by a `ratio`."""
        events.split(floor, _text(body, "symbol"), amount("ratio", body.get("ratio")))

    async def rename(body: Json) -> None:
        """Give the shares of a `symbol` the name `to`."""
        events.rename(floor, _text(body, "symbol"), _text(body, "to"))

    async def fee(body: Json) -> None:
        """Take an `amount`."""
        events.fee(floor, amount("amount", body.get("amount")))

    async def dividend(body: Json) -> None:
        """Pay `per_share` of a `symbol`."""
        events.dividend(floor, _text(body, "symbol"), amount("per_share", body.get("per_share")))

    async def cash(body: Json) -> None:
        """Pay an `amount` in or out."""
        events.move_cash(floor, amount("amount", body.get("amount")))

    async def shares(body: Json) -> None:
        """Transfer `qty` shares of a `symbol` in or out."""
        events.move_shares(floor, _text(body, "symbol"), amount("qty", body.get("qty")))

    router.add_api_route("/clock", clock, methods=["PUT"])
    router.add_api_route("/orders", order, methods=["POST"])
    router.add_api_route("/orders/{identity}/reject", reject, methods=["POST"])
    for name, action in (
        ("splits", split),
        ("renames", rename),
        ("fees", fee),
        ("dividends", dividend),
        ("cash", cash),
        ("shares", shares),
    ):
        router.add_api_route(f"/{name}", _after_settling(exchange, action), methods=["POST"])


def _state_routes(router: APIRouter, exchange: Exchange) -> None:
    async def asset(request: Request) -> Response:
        """Change what may be done with a name, whatever the market says; {} is nothing."""
        body, symbol = await body_of(request), request.path_params["symbol"]
        require_known(symbol, exchange.paths.symbols)
        _require(body, {name: bool for name in AssetFlags.__dataclass_fields__})
        exchange.remember(f"flags:{symbol}", json.dumps(body))
        return answered(exchange.asset(symbol))

    async def quote(request: Request) -> Response:
        """Change what is told of a name's prices, not those that fill: see `Exchange.quoted`.

        `absent` tells none, `frozen` the ones of now for ever, `factor` others; {} the true ones.
        """
        body, symbol = await body_of(request), request.path_params["symbol"]
        require_known(symbol, exchange.paths.symbols)
        _require(body, {"absent": bool, "frozen": bool, "factor": Decimal | str})
        told: Json = {"absent": body.get("absent", False)}
        if body.get("frozen"):
            told["frozen_at"] = time_text(exchange.now())
        if "factor" in body:
            factor = amount("factor", body["factor"])
            if factor <= 0:
                raise malformed("factor must be > 0")
            told["factor"] = str(factor)
        exchange.remember(f"told:{symbol}", json.dumps(told))
        return Response(status_code=DONE)

    async def closure(request: Request) -> Response:
        """Let a `session` that the calendar has not take place."""
        body = await body_of(request)
        try:
            session = date.fromisoformat(_text(body, "session"))
        except ValueError:
            raise malformed("session is no date") from None
        exchange.close_session(session)
        return answered(exchange.clock_answer())

    async def account(request: Request) -> Response:
        """Change the `account_number`, or whether the broker has the account `blocked`."""
        body = await body_of(request)
        _require(body, {"account_number": str, "blocked": bool})
        for name, value in body.items():
            exchange.remember(name, value if isinstance(value, str) else json.dumps(value))
        return answered(exchange.account())

    async def terms(request: Request) -> Response:
        """Change the terms of execution until the exchange stops, see `settings.Terms`."""
        body = await body_of(request)
        exchange.now()
        _require(body, {name: Decimal | str for name in Terms.__dataclass_fields__})
        changes = {name: amount(name, value) for name, value in body.items()}
        try:
            exchange.floor.terms = replace(exchange.floor.terms, **changes)
        except ValueError as error:
            raise malformed(str(error)) from None
        return Response(status_code=DONE)

    router.add_api_route("/assets/{symbol}", asset, methods=["PUT"])
    router.add_api_route("/quotes/{symbol}", quote, methods=["PUT"])
    router.add_api_route("/closures", closure, methods=["POST"])
    router.add_api_route("/account", account, methods=["PATCH"])
    router.add_api_route("/terms", terms, methods=["PATCH"])


def _after_settling(
    exchange: Exchange, action: Callable[[Json], Awaitable[None]]
) -> Callable[[Request], Awaitable[Response]]:
    """Return a route that does something to the account as it is now."""

    async def route(request: Request) -> Response:
        body = await body_of(request)
        exchange.now()
        await action(body)
        return answered(exchange.account())

    return route


def _moment(exchange: Exchange, body: Json) -> datetime:
    """Return the time that a request names."""
    now = exchange.now()
    if "advance_s" in body:
        try:
            return now + timedelta(seconds=float(amount("advance_s", body["advance_s"])))
        except OverflowError:
            raise malformed("advance_s leads nowhere") from None
    if body.get("to") == "next_close":
        return exchange.hours.times(exchange.hours.coming(now))[1]
    if body.get("to") == "next_open":
        return exchange.hours.times(exchange.hours.next_to_open(now))[0]
    try:
        found = datetime.fromisoformat(_text(body, "now"))
    except ValueError:
        raise malformed("now is no time") from None
    if found.tzinfo is None:
        raise malformed("now needs its time zone")
    return found


def _text(body: Json, name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise malformed(f"{name} must be a text")
    return value


def _require(body: Json, kinds: Mapping[str, type | UnionType]) -> None:
    """Refuse members that are not known or not of their type."""
    for name, value in body.items():
        if name not in kinds:
            raise malformed(f"there is no {name}, only {', '.join(kinds)}")
        if not isinstance(value, kinds[name]):
            raise malformed(f"{name} cannot be {value!r}")
