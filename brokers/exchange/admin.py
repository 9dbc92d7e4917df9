"""The routes by which tests and demonstrations drive the exchange; Alpaca has none of them."""

from dataclasses import asdict
from datetime import datetime, timedelta

from fastapi import Depends, Request
from fastapi.routing import APIRouter
from starlette.responses import Response

from brokers.exchange.admission import malformed, members
from brokers.exchange.exchange import Exchange
from brokers.exchange.faults import FaultPlan, parse_fault
from brokers.exchange.web import Keys, answered, body_of


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
    _clock_routes(router, exchange)
    _fault_routes(router, plan)

    async def put_keys(request: Request) -> Response:
        body = await body_of(request)
        keys.key, keys.secret = str(body["key"]), str(body["secret"])
        return Response(status_code=204)

    router.add_api_route("/keys", put_keys, methods=["PUT"])
    return router


def _clock_routes(router: APIRouter, exchange: Exchange) -> None:
    async def put_clock(request: Request) -> Response:
        """Set the time to `now`, forward by `advance_s`, or `to` the next open or close."""
        body = await body_of(request)
        return answered(exchange.move_clock(_moment(exchange, body)))

    router.add_api_route("/clock", put_clock, methods=["PUT"])


def _fault_routes(router: APIRouter, plan: FaultPlan) -> None:
    async def add_faults(request: Request) -> Response:
        body = members(b'{"faults": ' + await request.body() + b"}")
        asked = body["faults"]
        faults = [parse_fault(item) for item in (asked if isinstance(asked, list) else [asked])]
        plan.faults.extend(faults)
        return answered([fault.answer() for fault in plan.faults])

    async def faults(request: Request) -> Response:
        return answered([fault.answer() for fault in plan.faults])

    async def clear_faults(request: Request) -> Response:
        plan.clear()
        return Response(status_code=204)

    async def sent(request: Request) -> Response:
        return answered([asdict(item) for item in plan.sent])

    async def clear_sent(request: Request) -> Response:
        plan.sent.clear()
        return Response(status_code=204)

    router.add_api_route("/faults", add_faults, methods=["POST"])
    router.add_api_route("/faults", faults, methods=["GET"])
    router.add_api_route("/faults", clear_faults, methods=["DELETE"])
    router.add_api_route("/sent", sent, methods=["GET"])
    router.add_api_route("/sent", clear_sent, methods=["DELETE"])


def _moment(exchange: Exchange, body: dict[str, object]) -> datetime:
    """Return the time that a request names."""
    now = exchange.now()
    if "advance_s" in body:
        return now + timedelta(seconds=float(str(body["advance_s"])))
    if body.get("to") == "next_close":
        return exchange.hours.times(exchange.hours.coming(now))[1]
    if body.get("to") == "next_open":
        current = exchange.hours.current(now)
        coming = exchange.hours.coming(now) if current is None else exchange.hours.after(current)
        return exchange.hours.times(coming)[0]
    try:
        found = datetime.fromisoformat(str(body.get("now")))
    except ValueError:
        raise malformed("now must be a time, or to next_open or next_close") from None
    if found.tzinfo is None:
        raise malformed("now needs its time zone")
    return found
