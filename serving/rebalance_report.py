"""What a rebalance leaves behind: `rebalance.json`, and `report.html` for people.

Amounts stay the decimal strings that the gateway answered; what is computed here is exact.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from decimal import Decimal
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from evaluation.markup import section
from risk.access.strict import plain
from serving.rebalance import Day
from serving.rebalance_account import Standing, standing
from serving.rebalance_costs import Costs, costs, executions
from serving.rebalance_sections import (
    account,
    cards,
    carried,
    cost_table,
    journey,
    orders,
    outcome,
    why,
)

RECORD, REPORT = "rebalance.json", "report.html"
RATIO = Decimal("0.000001")


def write(folder: Path, day: Day) -> None:
    """Write both files, over those of the same day so far."""
    paid = costs(day.orders, day.costs)
    stands = standing(day.before, day.after, day.history)
    found = record(day, paid, stands)
    text = json.dumps(found, indent=1, allow_nan=False) + "\n"
    _replace(folder / RECORD, text)
    _replace(folder / REPORT, page(day, found, paid, stands))


def _replace(path: Path, text: str) -> None:
    """Write a file in one step: the last one stays whole if this process dies."""
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def record(day: Day, paid: Costs, stands: Standing | None) -> dict[str, Any]:
    """Return everything as JSON types.

    Args:
        day: as far as it has come.
        paid: what its orders cost.
        stands: where the account stands; None where that is not known.
    """
    decided, asked = day.decision or {}, day.allocation or {}
    found = executions(day.orders)
    lost = [one.slippage for one in found if one.slippage is not None]
    return {
        "mode": day.mode.value,
        "outcome": day.outcome.name,
        "meaning": day.outcome.value,
        "said": day.said,
        "account": day.before["account"],
        "paper": day.before["paper"],
        "decision_id": asked.get("decision_id"),
        "as_of": asked.get("as_of"),
        "expires_at": asked.get("expires_at"),
        "model": asked.get("model"),
        "wanted": asked.get("weights"),
        "state": decided.get("state"),
        "reasons": decided.get("reasons", []),
        "violations": decided.get("violations"),
        "orders": [
            {
                **one.order,
                "slippage": _text(one.slippage),
                "slippage_bp": _text(one.slippage_bp),
            }
            for one in found
        ],
        "slippage": _text(sum(lost, Decimal(0))) if lost else None,
        "costs": _costs_record(day, paid),
        "carried": day.carried,
        "changes": decided.get("changes"),
        "before": day.before,
        "after": day.after,
        "performance": None if stands is None else _standing_record(stands),
        "history": day.history,
        "reconciled": day.reconciled,
        "differences": day.differences,
        "agents": asked.get("agents"),
        "market": asked.get("market"),
        "explanation": day.explanation,
    }


def _costs_record(day: Day, paid: Costs) -> dict[str, Any] | None:
    """Return what was paid beside what was expected; None where nothing was filled."""
    if not paid.legs:
        return None
    share = paid.filled_share
    return {
        "model": asdict(day.costs),
        "delay": plain(paid.delay),
        "trading": plain(paid.trading),
        "commission": plain(paid.commission),
        "paid": plain(paid.paid),
        "expected": _text(paid.expected),
        "filled_share": None if share is None else plain(share.quantize(RATIO)),
        "orders_without_price": paid.unknown,
    }


def _standing_record(stands: Standing) -> dict[str, Any]:
    """Return where the account stands; without a close before, nothing is said of a fall."""
    falls = stands.drawdown if stands.gain is not None else ()
    return {
        "equity": plain(stands.equity[-1]),
        "since_last_close": _text(stands.gain),
        "peak": plain(stands.peak[-1]) if falls else None,
        "drawdown": plain(falls[-1].quantize(RATIO)) if falls else None,
        "deepest_drawdown": plain(max(falls).quantize(RATIO)) if falls else None,
    }


def page(day: Day, found: Mapping[str, Any], paid: Costs, stands: Standing | None) -> str:
    """Return the HTML, which needs no network.

    Args:
        day: as far as it has come.
        found: its record.
        paid: what its orders cost.
        stands: where the account stands; None where that is not known.
    """
    parts = {"outcome": ("In plain words", [cards(paid, stands, day), *outcome(day, found)])}
    if day.decision is not None:
        parts["orders"] = ("Orders and fills", orders(day, found))
        if paid.legs:
            parts["costs"] = ("Costs: paid and expected", cost_table(day, paid))
        parts["carried"] = ("Carried to the next session", [carried(day)])
    parts["account"] = ("The account", account(day, stands))
    if day.allocation is not None:
        parts["journey"] = ("From wish to order", journey(day))
        parts["why"] = ("Why: each agent's wish", why(day))
    heading = f"Rebalance of {found['account']}: {day.outcome.value}"
    menu = "".join(f'<a href="#{name}">{escape(title)}</a>' for name, (title, _) in parts.items())
    body = "".join(section(name, title, *html) for name, (title, html) in parts.items())
    css = (files("evaluation") / "report.css").read_text(encoding="utf-8")
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(heading)}</title><style>{css}</style></head>
<body><header><h1>{escape(heading)}</h1></header>
<nav aria-label="Sections"><div>{menu}</div></nav><main>{body}</main></body></html>
"""


def _text(value: Decimal | None) -> str | None:
    return None if value is None else plain(value)
