"""The sections of a rebalance's page, as HTML made from its record."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from html import escape
from typing import Any

from evaluation.markup import Cell, fold, items, paragraph, table
from serving.questions import CASH
from serving.rebalance import Day, Outcome, detail_in_words, meaning
from serving.rebalance_account import Standing
from serving.rebalance_chart import drawing
from serving.rebalance_costs import Costs, rates_in_words

CENT = Decimal("0.01")
SHOWN_FEATURES = 3
SHOWN_DAYS = 20
DIGITS = 12  # of a hash that a person compares; the record has them all
SIDES = {"buy": 1, "sell": -1}


def cards(paid: Costs, stands: Standing | None, day: Day) -> str:
    """Return the numbers that are looked for first."""
    shown: dict[str, str] = {}
    if stands is not None:
        shown["equity"] = money(stands.equity[-1])
        if stands.gain is not None:
            shown["since the last close"] = money(stands.gain, sign=True)
            shown["below its peak"] = f"{stands.drawdown[-1]:.2%}"
    if paid.filled_share is not None and day.outcome is not Outcome.rehearsed:
        shown["of what was planned is filled"] = f"{paid.filled_share:.1%}"
    if paid.legs:
        shown["cost of trading"] = money(paid.paid)
        shown["expected cost"] = money(paid.expected)
    return "".join(
        (
            '<div class="cards">',
            *(
                f'<div class="card"><b>{escape(value)}</b><span>{escape(label)}</span></div>'
                for label, value in shown.items()
            ),
            "</div>",
        )
    )


def outcome(day: Day, found: Mapping[str, Any]) -> list[str]:
    """Return what happened, in words."""
    paper = "a paper account" if found["paper"] else "REAL MONEY"
    lines = [paragraph(f"Mode {day.mode.value}, {paper}: {day.outcome.value}.", "lead")]
    if day.said:
        lines.append(items(day.said, "warnings"))
    if day.allocation is not None:
        lines.append(
            paragraph(
                f"Decision {found['decision_id'][:DIGITS]} of the close of {found['as_of']}, to be "
                f"begun until {found['expires_at']}, by the model "
                f"{found['model']['sha256'][:DIGITS]}.",
                "soft",
            )
        )
    if day.differences:
        lines.append(items(day.differences, "warnings"))
    elif day.differences is not None:
        lines.append(paragraph("Ledger and broker hold the same, and no order is a stranger's."))
    return lines


def orders(day: Day, found: Mapping[str, Any]) -> list[str]:
    """Return what was sent, and what came of it."""
    listed = found["orders"]
    if not listed:
        return [paragraph("There were none.")]
    if day.outcome is Outcome.rehearsed:
        header = ["name", "side", "shares", "limit", "expected at", "worth"]
        rows: list[list[str | Cell]] = [
            [
                one["symbol"], one["side"], shares(one["quantity"]), price(one["limit_price"]),
                price(one["reference_price"]), money(worth(one, "quantity")),
            ]
            for one in listed
        ]  # fmt: skip
        return [table(header, rows), paragraph("These orders would be sent; none was.", "soft")]
    header = ["name", "side", "shares", "limit", "decided at", "sent at", "filled", "filled at",
              "bp beside decided", "bp beside sent", "answered in", "state"]  # fmt: skip
    rows = [
        [
            one["symbol"], one["side"], shares(one["quantity"]), price(one["limit_price"]),
            price(one["reference_price"]), price(one["arrival_price"]), shares(one["filled"]),
            price(one["average_price"]), signed(one["slippage_bp"]), signed(one["arrival_bp"]),
            "-" if one["ack_ms"] is None else f"{one['ack_ms']} ms", Cell(_end(one), css="text"),
        ]
        for one in listed
    ]  # fmt: skip
    total = f"Slippage in all beside the decided prices: {money(found['slippage'], sign=True)}. "
    return [table(header, rows), paragraph(total + "More than 0 is a loss.", "soft")]


def _end(order: Mapping[str, Any]) -> str:
    """Return how far an order has come, and why no further."""
    state = order["state"].replace("_", " ")
    if order["state"] == "filled" or not order["detail"]:
        return str(state)
    return f"{state}: {detail_in_words(order['detail'])}"


def cost_table(day: Day, paid: Costs) -> list[str]:
    """Return what each name's trade cost beside what the cost model expects."""
    rows: list[list[str | Cell]] = [
        [
            leg.symbol, leg.side, money(leg.notional), money(leg.delay, sign=True),
            money(leg.trading, sign=True), money(leg.commission), money(leg.paid, sign=True),
            money(leg.expected),
            "-" if not leg.notional else f"{leg.paid / leg.notional * 10_000:+.1f}",
        ]
        for leg in sorted(paid.legs, key=lambda leg: -leg.notional)
    ]  # fmt: skip
    traded = sum((leg.notional for leg in paid.legs), Decimal(0))
    rows.append(
        [
            "all", "", money(traded), money(paid.delay, sign=True),
            money(paid.trading, sign=True), money(paid.commission), money(paid.paid, sign=True),
            money(paid.expected), f"{paid.paid / traded * 10_000:+.1f}" if traded else "-",
        ]
    )  # fmt: skip
    header = ["name", "side", "traded", "delay", "trading", "commission", "paid", "expected",
              "paid, bp"]  # fmt: skip
    told = (
        "Delay is what prices did between the decision and the sending; no model expects it. Paid "
        "is trading, beside the price as it was sent, and commission; more than 0 is a loss. "
        f"Expected is {rates_in_words(day.costs)}."
    )
    lines = [table(header, rows, emphasised=[len(rows) - 1]), paragraph(told, "soft")]
    if paid.unknown:
        lines.append(paragraph(f"Left out: {paid.unknown} orders without a price at the sending."))
    return lines


def carried(day: Day) -> str:
    """Return what today's limits leave for the next session."""
    if not day.carried:
        return paragraph("Nothing.")
    rows = [
        [
            one["symbol"],
            one["side"],
            money(one["notional"]),
            Cell(meaning(one["reason"]), "", "text"),
        ]
        for one in day.carried
    ]
    return table(["name", "side", "worth", "because of"], rows)


def account(day: Day, stands: Standing | None) -> list[str]:
    """Return the account before and after, and how it came here."""
    before, after = day.before, day.after or {}
    held, holds = before["positions"], after.get("positions", {})
    rows: list[list[str | Cell]] = [
        [key, money(before[key]), money(after.get(key))] for key in ("equity", "cash")
    ]
    for name in sorted({*held, *holds}):
        now = holds.get(name, "0") if after else None
        rows.append([name, shares(held.get(name, "0")), "-" if now is None else shares(now)])
    lines = [table(["", "before", "after"], rows)]
    if stands is None or day.history is None:
        return [*lines, paragraph("The account's earlier days could not be asked for.", "soft")]
    if len(stands.times) < 2:
        return [*lines, paragraph("Its history begins with this session's close.", "soft")]
    return [*lines, drawing(stands), fold("The last days", _days(stands), False)]


def _days(stands: Standing) -> str:
    listed = list(zip(stands.times, stands.equity, stands.drawdown, stands.regimes, strict=True))[
        -SHOWN_DAYS:
    ]
    rows: list[list[str | Cell]] = [
        [at, money(equity), f"{fall:.2%}", Cell(regime or "-", css="text")]
        for at, equity, fall, regime in reversed(listed)
    ]
    return table(["close", "equity", "below its peak", "market"], rows)


def journey(day: Day) -> list[str]:
    """Return each name's way: wanted, left by the strategy's rules, ordered, filled, carried."""
    assert day.allocation is not None, "asked by the caller"
    wanted, decided = day.allocation["weights"], day.decision
    names = sorted((name for name in wanted if name != CASH), key=lambda name: -wanted[name])
    names += sorted({one["symbol"] for one in day.orders} - {*names})
    if decided is None or decided["state"] == "refused":
        rows: list[list[str | Cell]] = [
            [name, f"{wanted[name]:.2%}"] for name in (*names, CASH) if wanted.get(name, 0.0) > 0
        ]
        return [table(["name", "wanted"], rows)]
    nav = Decimal(day.before["equity"] or 0)
    rules = {one["symbol"]: one for one in decided.get("changes", [])}
    rows = []
    for name in names:
        mine = [one for one in day.orders if one["symbol"] == name]
        left = [one for one in day.carried or [] if one["symbol"] == name]
        rule = rules.get(name)
        rows.append(
            [
                name, f"{wanted.get(name, 0.0):.2%}",
                "as wanted" if rule is None else f"{Decimal(rule['after']):.2%}",
                _share(sum((worth(one, "quantity") for one in mine), Decimal(0)), nav),
                _share(sum((worth(one, "filled") for one in mine), Decimal(0)), nav),
                _share(sum((_carried_worth(one) for one in left), Decimal(0)), nav),
                Cell(_reasons(rule, left), css="text"),
            ]
        )  # fmt: skip
    rows.append([CASH, f"{wanted.get(CASH, 0.0):.2%}", *[""] * 4, Cell("", css="text")])
    header = ["name", "wanted", "after the rules", "ordered", "filled", "carried", "because of"]
    told = "Of NAV before the rebalance; what is sold is below 0. Wanted is a weight to hold."
    return [table(header, rows), paragraph(told, "soft")]


def _reasons(rule: Mapping[str, Any] | None, left: Sequence[Mapping[str, Any]]) -> str:
    found = [] if rule is None else [meaning(rule["rule"])]
    return "; ".join(dict.fromkeys([*found, *(meaning(one["reason"]) for one in left)]))


def why(day: Day) -> list[str]:
    """Return what each agent wanted, and what changed it."""
    assert day.allocation is not None and day.explanation is not None, "made together"
    agents = day.explanation["agents"]
    rows: list[list[str | Cell]] = []
    for name, agent in day.allocation["agents"].items():
        told = agents[name]
        exposure = told["exposure"]
        moved = ", ".join(f"{meaning(by)} {size:.2%}" for by, size in told["moved_by"].items())
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
    wishes: list[list[str | Cell]] = [
        [name, *(f"{agent['wanted'].get(name, 0.0):.2%}" for agent in agents.values())]
        for name in names
    ]
    return [table(header, rows), table(["wish of", *agents], wishes)]


def money(amount: Decimal | str | None, *, sign: bool = False) -> str:
    """Return an amount to the cent; one that is not known is a dash, one without a price NaN."""
    if amount is None:
        return "-"
    exact = Decimal(amount)
    if not exact.is_finite():
        return str(amount)
    return f"{exact.quantize(CENT):{'+' if sign else ''},}"


def price(value: str | None) -> str:
    """Return a price with two to four decimals."""
    if value is None:
        return "-"
    exact = Decimal(value).quantize(Decimal("0.0001"))
    text = f"{exact:,}"
    return text[:-2] if text.endswith("00") else text


def shares(value: str) -> str:
    """Return a number of shares as it is, with its thousands set apart."""
    return f"{Decimal(value):,}"


def signed(value: str | None) -> str:
    """Return a number with its sign; a dash where it is not known."""
    return "-" if value is None else f"{Decimal(value):+}"


def worth(order: Mapping[str, Any], what: str) -> Decimal:
    """Return the signed worth of an order's `quantity` or `filled`, at its reference price."""
    return SIDES[order["side"]] * Decimal(order[what]) * Decimal(order["reference_price"])


def _carried_worth(one: Mapping[str, Any]) -> Decimal:
    exact = Decimal(one["notional"])
    return SIDES[one["side"]] * exact if exact.is_finite() else Decimal(0)


def _share(amount: Decimal, nav: Decimal) -> str:
    return "" if amount == 0 else f"{amount / nav:+.2%}" if nav > 0 else "-"
