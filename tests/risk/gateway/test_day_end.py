"""What is remembered from close to close is what training remembers."""

from datetime import date, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.rules import TradingRules
from risk.breakers import BreakerRules
from risk.exits import ExitRules
from risk.gateway.day_end import next_day, next_tracked
from risk.gateway.market_days import MarketDay
from risk.gateway.records import Account, Position
from risk.gateway.strategy_reads import DayEnd, Tracked

D = Decimal
CAPITAL = 100_000
FIRST = date(2024, 1, 2)
NO_EXITS = ExitRules(None, None, None, None, None)
# Beside the grid of the moves: floats and decimals differ where a limit is met to the last digit.
fractions = st.sampled_from([None, 0.0213, 0.0527, 0.1031])
rules = st.builds(
    BreakerRules,
    max_drawdown=fractions,
    capital_floor=st.sampled_from([None, 0.8017, 0.9519]),
    losing_days=st.sampled_from([None, 2, 4]),
    volatility_reduce=st.sampled_from([None, 0.3]),
    volatility_stop=st.sampled_from([None, 0.4]),
    cooldown=st.sampled_from([None, 0, 1, 3]),
)
moves = st.lists(
    st.tuples(st.integers(-60, 60), st.sampled_from(["0.15", "0.31", "0.41"])),
    min_size=1,
    max_size=25,
)


def account(equity: Decimal) -> Account:
    return Account(
        "PA1", True, "USD", equity, equity, equity, equity, D(1), True, False, False
    )  # fmt: skip


def lived(path: list[tuple[Decimal, Decimal]], breakers: BreakerRules) -> list[DayEnd]:
    """Return the days of a path of (equity, volatility)."""
    days: list[DayEnd] = []
    for number, (equity, volatility) in enumerate(path):
        before = days[-1] if days else None
        market = MarketDay(FIRST + timedelta(days=number), volatility, "bull/low")
        days.append(
            next_day(before, D(CAPITAL), account(equity), equity, market, 1, breakers, None)
        )
    return days


def trained(path: list[tuple[Decimal, Decimal]], breakers: BreakerRules) -> list[float]:
    """Return what training leaves of the exposure along the same path."""
    volatility = torch.tensor([float(one) for _, one in path], dtype=torch.float64)
    market = SimpleNamespace(n_assets=1, device="cpu", market_volatility=volatility)
    mandate = SimpleNamespace(exits=NO_EXITS, breakers=breakers)
    own: Any = TradingRules([mandate], market, float(CAPITAL))  # type: ignore[list-item, arg-type]
    own.reset(1, 1)
    nothing = torch.zeros((1, 1, 1), dtype=torch.float64)
    prices = SimpleNamespace(
        close=torch.ones((len(path), 1), dtype=torch.float64),
        open=torch.ones((len(path), 1), dtype=torch.float64),
    )
    left, last = [], float(CAPITAL)
    for t, (equity, _) in enumerate(path):
        cash = torch.tensor([[float(equity)]], dtype=torch.float64)
        books = SimpleNamespace(t=torch.tensor([t]), cash=cash, shares=nothing)
        outcome = SimpleNamespace(
            nav_before=torch.tensor([[last]], dtype=torch.float64), nav_after=cash
        )
        own.update(books, books, outcome, prices)
        left.append(float(own.apply(torch.ones_like(nothing), books, prices)))
        last = float(equity)
    return left


@settings(deadline=None)
@given(moves=moves, breakers=rules)
def test_breakers_stop_and_let_go_on_the_same_days_as_in_training(
    moves: list[tuple[int, str]], breakers: BreakerRules
) -> None:
    equity, path = D(CAPITAL), []
    for thousandths, volatility in moves:
        equity = (equity * (1 + D(thousandths) / 1000)).quantize(D("0.01"))
        path.append((equity, D(volatility)))
    assert [float(day.exposure) for day in lived(path, breakers)] == trained(path, breakers)


def test_sessions_without_the_gateway_count_down_a_stop() -> None:
    stop = BreakerRules(0.05, None, None, None, None, 10)
    fallen = lived([(D(90_000), D("0.1"))], stop)[0]
    assert (fallen.exposure, fallen.stopped) == (D(0), 10)
    market = MarketDay(FIRST + timedelta(days=8), D("0.1"), "bull/low")
    equity = D(90_000)
    later = next_day(fallen, D(CAPITAL), account(equity), equity, market, 6, stop, None)
    assert (later.exposure, later.stopped, later.peak) == (D(0), 4, D(CAPITAL))
    market = MarketDay(FIRST + timedelta(days=20), D("0.1"), "bull/low")
    over = next_day(later, D(CAPITAL), account(equity), equity, market, 9, stop, None)
    assert (over.stopped, over.peak) == (0, equity), "the fall is measured from here on"


def held(quantity: str, entry: str, price: str) -> Position:
    return Position("X", D(quantity), D(entry), D(price))


def test_peak_and_age_follow_a_position_and_begin_anew_with_the_next_one() -> None:
    first = next_tracked(None, "X", held("10", "100", "98"), 1)
    assert (first.peak, first.age) == (D(98), 0)
    second = next_tracked(first, "X", held("10", "100", "110"), 1)
    third = next_tracked(second, "X", held("15", "101", "105"), 3)
    assert (third.peak, third.age, third.entry) == (D(110), 4, D(101))
    gone = next_tracked(third, "X", None, 1)
    assert (gone.shares, gone.peak, gone.age) == (0, 0, 0)
    again = next_tracked(gone, "X", held("1", "90", "90"), 1)
    assert (again.peak, again.age) == (D(90), 0)


def test_a_split_moves_the_peak_with_the_shares_and_a_purchase_does_not() -> None:
    before = Tracked("X", D(10), D(500), D(600), 3, 0)
    assert next_tracked(before, "X", held("100", "50", "58"), 1).peak == D(60)
    assert next_tracked(before, "X", held("1", "5000", "5800"), 1).peak == D(6000)
    assert next_tracked(before, "X", held("20", "510", "520"), 1).peak == D(600)


def test_a_bar_against_a_new_entry_counts_down_held_or_not() -> None:
    barred = Tracked("X", D(10), D(100), D(100), 3, 3)
    assert next_tracked(barred, "X", held("10", "100", "100"), 1).barred == 2
    assert next_tracked(barred, "X", None, 2).barred == 1
    assert next_tracked(barred, "X", None, 9).barred == 0


def test_a_short_position_is_not_tracked() -> None:
    assert next_tracked(None, "X", held("-10", "100", "98"), 1).shares == 0
