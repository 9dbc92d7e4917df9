"""The report of a rebalance: its sums are right, and a page is written of every outcome."""

import json
import re
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.costs import CostModel
from serving.gateway_client import Mode
from serving.rebalance import Day, Outcome
from serving.rebalance_account import standing
from serving.rebalance_chart import drawing
from serving.rebalance_costs import costs
from serving.rebalance_report import write

MODEL = CostModel(commission_bp=1.0, spread_bp=10.0, impact=0.0, borrow_rate=0.02)
IMPACT = CostModel(commission_bp=1.0, spread_bp=10.0, impact=0.5, borrow_rate=0.02)
STATE = {
    "account": "PA1", "paper": True, "equity": "100000", "cash": "100000", "positions": {},
    "open_orders": 0, "reconciled_at": "2023-06-01T14:00:00Z", "problem": None,
}  # fmt: skip


def order(**other: Any) -> dict[str, Any]:
    found = {
        "client_order_id": "id", "symbol": "A", "side": "buy", "quantity": "10",
        "limit_price": "101", "reference_price": "100", "state": "filled", "filled": "10",
        "average_price": "100.5", "detail": None, "arrival_price": "100.2", "slippage_bp": "50",
        "arrival_bp": "29.9", "commission": "0.25", "participation": "0.0001",
        "volatility": "0.02", "ack_ms": 4, "filling_s": 0.1,
    }  # fmt: skip
    return found | other


def day(outcome: Outcome = Outcome.done, **other: Any) -> Day:
    """Return a day of one order that was filled, but for what is given."""
    decision = {
        "decision_id": "d" * 64, "state": "done", "reasons": [], "violations": [],
        "orders": [order()],
        "carried": [{"symbol": "B", "side": "buy", "notional": "NaN", "reason": "cash_floor"}],
        "changes": [{"symbol": "A", "rule": "stop_loss", "before": "0.1", "after": "0.01"}],
    }  # fmt: skip
    allocation = {
        "decision_id": "d" * 64, "as_of": "2023-05-31", "expires_at": "2023-06-01T14:30:00Z",
        "model": {"id": "m", "sha256": "e" * 64}, "weights": {"A": 0.1, "B": 0.2, "CASH": 0.7},
        "agents": {"one": {"share": 1.0, "weights": {}}}, "market": {"regime": "calm"},
    }  # fmt: skip
    told = {
        "exposure": {"wanted": 0.3, "target": 0.3}, "wanted": {"A": 0.1, "B": 0.2},
        "moved_by": {"band": 0.01}, "features": [{"feature": "trend_50", "moved": 0.1}],
    }  # fmt: skip
    fields: dict[str, Any] = {
        "mode": Mode.paper, "before": STATE, "history": [], "costs": MODEL, "outcome": outcome,
        "said": [], "allocation": allocation, "explanation": {"agents": {"one": told}},
        "decision": decision, "after": STATE | {"positions": {"A": "10"}, "cash": "98995"},
        "reconciled": {"at": "2023-06-01T14:00:00Z", "drifted": {}, "foreign": []},
    }  # fmt: skip
    return Day(**(fields | other))


def test_a_cost_is_delay_trading_and_commission_by_hand():
    found = costs([order()], MODEL)
    (leg,) = found.legs
    assert (leg.delay, leg.trading, leg.commission) == (Decimal(2), Decimal(3), Decimal("0.25"))
    assert found.paid == Decimal("3.25")
    assert found.expected == Decimal("0.60")  # 6 bp of 1,005
    assert found.filled_share == 1 and found.unknown == 0


def test_a_sell_below_the_price_is_a_loss_too():
    sell = order(side="sell", average_price="99.5", arrival_price="99.8")
    (leg,) = costs([sell], MODEL).legs
    assert (leg.delay, leg.trading) == (Decimal(2), Decimal(3))


def test_the_impact_of_slices_is_that_of_all_of_them():
    whole = costs([order(participation="0.0004", filled="40", quantity="40")], IMPACT)
    cut = costs([order() for _ in range(4)], IMPACT)
    assert cut.expected == whole.expected
    rate = 6e-4 + 0.5 * 0.02 * 0.02
    assert whole.expected == Decimal(str(round(rate * 4020, 2)))
    assert costs([order(volatility=None)], IMPACT).expected is None
    assert costs([order(volatility=None)], MODEL).expected == Decimal("0.60")


def test_an_order_without_a_price_at_its_sending_is_left_out_and_counted():
    found = costs([order(), order(arrival_price=None)], MODEL)
    assert len(found.legs) == 1 and found.unknown == 1
    assert costs([order(filled="0", average_price=None)], MODEL).filled_share == 0
    assert costs([], MODEL).filled_share is None


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["buy", "sell"]),
            st.integers(1, 10**6),
            *(st.decimals("0.01", "9999", places=4) for _ in range(3)),
        ),
        max_size=8,
    )
)
@settings(max_examples=100, deadline=None)
def test_delay_and_trading_are_together_the_slippage_beside_the_decision(rows: list[Any]):
    listed = [
        order(
            side=side, filled=str(shares), quantity=str(shares), reference_price=str(decided),
            arrival_price=str(sent), average_price=str(at),
        )
        for side, shares, decided, sent, at in rows
    ]  # fmt: skip
    exact = sum(
        (at - decided) * shares * (1 if side == "buy" else -1)
        for side, shares, decided, _, at in rows
    )
    found = costs(listed, MODEL)
    # Each of the two is rounded to the cent, once for each side of the one name.
    assert abs(found.delay + found.trading - exact) <= Decimal("0.01") * len(found.legs)


def closes(*equity: str) -> list[dict[str, Any]]:
    """Return closes from 2023-05-01 on, newest first, as the gateway tells them."""
    rows = [
        {"session": f"2023-05-{n:02d}", "equity": value, "peak": value, "regime": "calm"}
        for n, value in enumerate(equity, start=1)
    ]
    return rows[::-1]


def test_the_fall_is_from_the_highest_close_or_today():
    found = standing(STATE, STATE | {"equity": "110"}, closes("100", "120", "90"))
    assert found is not None
    assert found.gain == 20 and found.peak == (100, 120, 120, 120)
    assert [round(fall, 4) for fall in found.drawdown] == [0, 0, Decimal("0.25"), Decimal("0.0833")]
    risen = standing(STATE, STATE | {"equity": "130"}, closes("100", "120"))
    assert risen is not None and risen.drawdown[-1] == 0
    assert risen.times[0] == "2023-05-01" and risen.times[-1] == "2023-06-01 14:00"


def test_a_close_of_the_day_itself_is_not_counted_twice():
    today = [{"session": "2023-06-01", "equity": "5", "peak": "5", "regime": None}]
    found = standing(STATE, None, today + closes("100"))
    assert found is not None and found.equity == (100, 100_000)


def test_an_account_that_was_never_read_stands_nowhere():
    assert standing(STATE | {"equity": None, "reconciled_at": None}, None, []) is None


class Checker(HTMLParser):
    """Takes a page apart: every element that is opened is closed, in its order."""

    VOID = frozenset({"meta", "line", "polyline", "polygon", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.links += [value for key, value in attrs if key in ("href", "src") and value]
        if named.get("id"):
            self.ids.append(str(named["id"]))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def parsed(folder: Path, found: Day) -> tuple[dict[str, Any], str]:
    """Return the record and the page of a day, after a look at both."""
    write(folder, found)
    page = (folder / "report.html").read_text()
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert all(link.startswith("#") and link[1:] in checker.ids for link in checker.links)
    assert len(checker.ids) == len({*checker.ids})
    assert "http" not in page.replace("http-equiv", "")
    return json.loads((folder / "rebalance.json").read_text()), page


@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize("known", ["all", "no decision", "no allocation"])
def test_every_outcome_has_a_page(outcome: Outcome, known: str, tmp_path: Path):
    other: dict[str, Any] = {}
    if known != "all":
        other = {"decision": None, "after": None, "reconciled": None, "history": None}
    if known == "no allocation":
        other |= {"allocation": None, "explanation": None}
    record, page = parsed(tmp_path, day(outcome, **other))
    assert record["outcome"] == outcome.name and outcome.value in page


def test_the_record_says_what_was_wanted_changed_carried_and_paid(tmp_path: Path):
    record, page = parsed(tmp_path, day(history=closes("99000", "101000", "99500")))
    assert record["costs"] == {
        "model": {
            "commission_bp": 1.0, "spread_bp": 10.0, "impact": 0.0, "borrow_rate": 0.02
        },
        "delay": "2", "trading": "3", "commission": "0.25", "paid": "3.25", "expected": "0.6",
        "filled_share": "1", "orders_without_price": 0,
    }  # fmt: skip
    assert record["performance"] == {
        "equity": "100000", "since_last_close": "500", "peak": "101000",
        "drawdown": "0.009901", "deepest_drawdown": "0.014851",
    }  # fmt: skip
    assert record["carried"][0]["reason"] == "cash_floor"
    assert record["changes"][0]["rule"] == "stop_loss"
    text = re.sub(r"<[^>]*>", " ", page)
    for words in ("stop loss", "too little cash after all fills", "+500.00", "trend_50", "NaN"):
        assert words in text, words
    assert "6 bp of what is traded" in text


def test_what_strangers_call_their_things_is_escaped(tmp_path: Path):
    hostile = '<script>alert("1")</script>&'
    decision = day().decision
    assert decision is not None
    named = decision | {"orders": [order(symbol=hostile, detail=hostile, state="refused")]}
    found = day(
        decision=named, said=[hostile], before=STATE | {"account": hostile},
        history=[{"session": "2023-05-01", "equity": "1", "peak": "1", "regime": hostile}],
    )  # fmt: skip
    _, page = parsed(tmp_path, found)
    assert "<script" not in page and "&lt;script&gt;" in page


@given(
    st.lists(st.decimals("0.01", "1e12", places=2), min_size=2, max_size=400),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_the_drawing_stays_in_its_frame(equity: list[Decimal], flat: bool):
    values = [equity[0]] * len(equity) if flat else equity
    rows = closes(*map(str, values[:-1]))
    for n, row in enumerate(reversed(rows)):
        row["session"] = f"{2000 + n:04d}-01-01" if n < 23 else "2022-12-31"
    found = standing(STATE, STATE | {"equity": str(values[-1])}, rows)
    assert found is not None
    drawn = drawing(found)
    assert "nan" not in drawn and "inf" not in drawn
    for points in re.findall(r'points="([^"]*)"', drawn):
        for pair in points.split():
            x, y = map(float, pair.split(","))
            assert 0 <= x <= 1080 and 0 <= y <= 336
