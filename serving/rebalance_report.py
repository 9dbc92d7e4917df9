"""What a rebalance leaves behind: `rebalance.json`, and `report.html` for people.

Amounts stay the decimal strings that the gateway answered; what is computed here is exact.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from evaluation.markup import Cell, items, paragraph, section, table
from risk.access.strict import plain
from serving.questions import CASH
from serving.rebalance import Day, Outcome, detail_in_words, meaning

RECORD, REPORT = "rebalance.json", "report.html"
CENT, TENTH = Decimal("0.01"), Decimal("0.1")
SHOWN_FEATURES = 3


@dataclass(frozen=True, slots=True)
class Execution:
    """One order against what it was planned at.

    Args:
        order: as the gateway answered it.
        slippage: account currency, paid beyond the reference price, > 0 is a loss; None where
            nothing was filled.
        slippage_bp: of the reference price.
    """

    order: Mapping[str, Any]
    slippage: Decimal | None
    slippage_bp: Decimal | None


def executions(orders: Iterable[Mapping[str, Any]]) -> list[Execution]:
    """Return what each order's fills cost beside its reference price.

    >>> order = {"side": "buy", "filled": "10", "average_price": "100.5", "reference_price": "100"}
    >>> (found,) = executions([order])
    >>> found.slippage, found.slippage_bp
    (Decimal('5.00'), Decimal('50.0'))
    """
    return [_execution(order) for order in orders]


def record(day: Day) -> dict[str, Any]:
    """Return everything as JSON types."""
    decided, asked = day.decision or {}, day.allocation or {}
    found = executions(decided.get("orders", []))
    costs = [one.slippage for one in found if one.slippage is not None]
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
        "slippage": _text(sum(costs, Decimal(0))) if costs else None,
        "carried": day.carried,
        "before": day.before,
        "after": day.after,
        "reconciled": day.reconciled,
        "differences": day.differences,
        "agents": asked.get("agents"),
        "market": asked.get("market"),
        "explanation": day.explanation,
    }


def write(folder: Path, day: Day) -> None:
    """Write both files, over those of the same day so far."""
    found = record(day)
    text = json.dumps(found, indent=1, allow_nan=False) + "\n"
    _replace(folder / RECORD, text)
    _replace(folder / REPORT, page(day, found))


def _replace(path: Path, text: str) -> None:
    """Write a file in one step: the last one stays whole if this process dies."""
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def page(day: Day, found: Mapping[str, Any]) -> str:
    """Return the HTML, which needs no network."""
    heading = f"Rebalance of {found['account']}: {day.outcome.value}"
    parts = [section("outcome", "In plain words", *_outcome(day, found))]
    if day.decision is not None:
        parts.append(section("orders", "Orders and fills", *_orders(day, found)))
        parts.append(section("carried", "Carried to the next session", _carried(day)))
    parts.append(section("account", "The account", _account(day)))
    if day.allocation is not None:
        parts.append(section("wanted", "What was wanted", _wanted(day.allocation["weights"])))
        parts.append(section("why", "Why: each agent's wish", *_why(day)))
    css = (files("evaluation") / "report.css").read_text(encoding="utf-8")
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(heading)}</title><style>{css}</style></head>
<body><header><h1>{escape(heading)}</h1></header><main>{"".join(parts)}</main></body></html>
"""


def _execution(order: Mapping[str, Any]) -> Execution:
    filled, average = Decimal(order["filled"]), order["average_price"]
    if average is None or filled == 0:
        return Execution(order, None, None)
    reference = Decimal(order["reference_price"])
    sign = 1 if order["side"] == "buy" else -1
    worse = sign * (Decimal(average) - reference)
    slippage = (worse * filled).quantize(CENT)
    return Execution(order, slippage, (worse / reference * 10_000).quantize(TENTH))


def _outcome(day: Day, found: Mapping[str, Any]) -> list[str]:
    paper = "a paper account" if found["paper"] else "REAL MONEY"
    lines = [paragraph(f"Mode {day.mode.value}, {paper}: {day.outcome.value}.", "lead")]
    if day.said:
        lines.append(items(day.said, "warnings"))
    if day.allocation is not None:
        lines.append(
            paragraph(
                f"Decision {found['decision_id']} of the close of {found['as_of']}, to be begun "
                f"until {found['expires_at']}, by the model {found['model']['sha256']}.",
                "soft",
            )
        )
    if day.differences:
        lines.append(items(day.differences, "warnings"))
    elif day.differences is not None:
        lines.append(paragraph("Ledger and broker hold the same, and no order is a stranger's."))
    return lines


def _orders(day: Day, found: Mapping[str, Any]) -> list[str]:
    orders = found["orders"]
    if not orders:
        return [paragraph("There were none.")]
    header = ["name", "side", "shares", "limit", "expected", "filled", "at", "slippage",
              "bp", "state", "detail"]  # fmt: skip
    rows = [
        [
            one["symbol"], one["side"], one["quantity"], _dash(one["limit_price"]),
            one["reference_price"], one["filled"], _dash(one["average_price"]),
            _dash(one["slippage"]), _dash(one["slippage_bp"]), one["state"],
            Cell(detail_in_words(one["detail"] or ""), css="text"),
        ]
        for one in orders
    ]  # fmt: skip
    total = f"Slippage in all: {_dash(found['slippage'])}; more than 0 is a loss against expected."
    if day.outcome is Outcome.rehearsed:
        total = "These orders would be sent; none was."
    return [table(header, rows), paragraph(total, "soft")]


def _carried(day: Day) -> str:
    if day.carried is None:
        return paragraph("Not told: the decision had been judged before.")
    if not day.carried:
        return paragraph("Nothing.")
    rows = [
        [
            one["symbol"],
            one["side"],
            _money(one["notional"]),
            Cell(meaning(one["reason"]), css="text"),
        ]
        for one in day.carried
    ]
    return table(["name", "side", "worth", "because of"], rows)


def _account(day: Day) -> str:
    before, after = day.before, day.after or {}
    held, holds = before["positions"], after.get("positions", {})
    rows = [[key, _dash(before[key]), _dash(after.get(key))] for key in ("equity", "cash")]
    for name in sorted({*held, *holds}):
        now = holds.get(name, "0") if after else None
        rows.append([name, held.get(name, "0"), _dash(now)])
    return table(["", "before", "after"], rows)


def _wanted(weights: Mapping[str, float]) -> str:
    ordered = sorted(weights.items(), key=lambda one: (one[0] == CASH, -one[1]))
    rows = [[name, f"{weight:.2%}"] for name, weight in ordered if weight > 0 or name == CASH]
    return table(["name", "of NAV"], rows)


def _why(day: Day) -> list[str]:
    assert day.allocation is not None and day.explanation is not None, "made together"
    agents = day.explanation["agents"]
    rows = []
    for name, agent in day.allocation["agents"].items():
        told = agents[name]
        exposure = told["exposure"]
        moved = ", ".join(f"{cause} {by:.2%}" for cause, by in told["moved_by"].items())
        features = ", ".join(one["feature"] for one in told["features"][:SHOWN_FEATURES])
        rows.append(
            [
                name, f"{agent['share']:.1%}", f"{exposure['wanted']:.1%}",
                f"{exposure['target']:.1%}", Cell(moved or "nothing", css="text"),
                Cell(features or "its rule", css="text"),
            ]
        )  # fmt: skip
    header = ["agent", "share", "wanted invested", "allowed", "changed by", "moved most by"]
    names = sorted({name for agent in agents.values() for name in agent["wanted"]})
    wishes = [
        [name, *(f"{agent['wanted'].get(name, 0.0):.2%}" for agent in agents.values())]
        for name in names
    ]
    return [table(header, rows), table(["wish of", *agents], wishes)]


def _text(value: Decimal | None) -> str | None:
    return None if value is None else plain(value)


def _money(amount: str) -> str:
    """Return an amount to the cent; one without a price stays NaN."""
    exact = Decimal(amount)
    return str(exact.quantize(CENT)) if exact.is_finite() else amount


def _dash(value: Any) -> str:
    return "-" if value is None else str(value)
