"""States and verdicts as JSON types, and verdicts judged again from what was logged of them."""

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from pydantic import TypeAdapter

from risk.checks.judge import judge_order
from risk.gateway.limits import GatewayLimits
from risk.gateway.records import Side
from risk.gateway.state import GatewayState, ProposedOrder

_STATE = TypeAdapter(GatewayState)
_ORDER = TypeAdapter(ProposedOrder)


def state_record(state: GatewayState) -> dict[str, Any]:
    """Return a state as JSON types; `state_from` reads it."""
    record: dict[str, Any] = _STATE.dump_python(replace(state, parents=None), mode="json")
    record["parents"] = [
        [decision, symbol, side.value, format(shares, "f")]
        for (decision, symbol, side), shares in sorted(
            (state.parents or {}).items(), key=lambda item: str(item[0])
        )
    ]
    return record


def state_from(record: Mapping[str, Any]) -> GatewayState:
    """Return what `state_record` wrote."""
    parents = {
        (decision, symbol, Side(side)): Decimal(shares)
        for decision, symbol, side, shares in record["parents"]
    }
    read: GatewayState = _STATE.validate_python({**record, "parents": None})
    return replace(read, parents=parents)


def order_record(order: ProposedOrder) -> dict[str, Any]:
    """Return a proposed order as JSON types."""
    record: dict[str, Any] = _ORDER.dump_python(order, mode="json")
    return record


def judged_again(inputs: Mapping[str, Any]) -> dict[str, object]:
    """Return the verdict on an order from what was logged of it, for the verification."""
    state = state_from(inputs["state"])
    order: ProposedOrder = _ORDER.validate_python(inputs["order"])
    return judge_order(state, order, GatewayLimits(**inputs["limits"])).record()
