"""What the rebalancing log says of a decision: what was planned, carried and changed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from risk.gateway.planner import Carried
from risk.gateway.records import Side
from risk.gateway.replay import order_record
from risk.gateway.state import ProposedOrder
from risk.gateway.stored import Rebalance
from risk.gateway.strategy import Change


@dataclass(frozen=True, slots=True)
class Planned:
    """What was planned beside the orders themselves.

    Args:
        carried: what the limits of the day leave for the next session.
        changes: what the strategy's rules took of the weights.
    """

    carried: tuple[Carried, ...]
    changes: tuple[Change, ...]


def entry(mode: str, orders: Sequence[ProposedOrder], planned: Planned) -> dict[str, object]:
    """Return what the log keeps of an accepted decision; `read` understands it."""
    return {
        "mode": mode,
        "orders": [order_record(order) for order in orders],
        "carried": [
            {
                "symbol": one.symbol,
                "side": one.side.value,
                "notional": format(one.notional, "f"),  # NaN where a name had no price
                "reason": one.reason,
            }
            for one in planned.carried
        ],
        "changes": change_records(planned.changes),
    }


def change_records(changes: Sequence[Change]) -> list[dict[str, object]]:
    """Return what the strategy's rules took, for canonical JSON."""
    return [
        {"symbol": one.symbol, "rule": one.rule, "before": one.before, "after": one.after}
        for one in changes
    ]


def read(logged: Rebalance | None) -> Planned:
    """Return what an entry says; without one, which is how a refusal ends, nothing was planned."""
    if logged is None:
        return Planned((), ())
    body: Mapping[str, Any] = json.loads(logged.body)
    return Planned(
        carried=tuple(
            Carried(one["symbol"], Side(one["side"]), Decimal(one["notional"]), one["reason"])
            for one in body["carried"]
        ),
        changes=tuple(
            Change(one["symbol"], one["rule"], Decimal(one["before"]), Decimal(one["after"]))
            for one in body.get("changes", ())  # earlier entries have none
        ),
    )
