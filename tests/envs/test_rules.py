"""Exits and breakers act at the next fill, for as long as they say, on the books that have them."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from agents.mandates import Mandate
from agents.market_tensors import MarketTensors
from envs.batch import BatchEnv
from envs.costs import CostModel
from envs.kernel import Books, Prices, held_weights, reset, step
from envs.rules import RuleState, TradingRules
from risk.breakers import BreakerRules
from risk.exits import ExitRules

Build = Callable[..., MarketTensors]
MakeMandate = Callable[..., Mandate]
MakeBatch = Callable[..., BatchEnv]

LINEAR = CostModel(commission_bp=1.0, spread_bp=10.0, impact=0.0, borrow_rate=0.0)
NO_EXITS = ExitRules(None, None, None, None, None)
NO_BREAKERS = BreakerRules(None, None, None, None, None, None)
ONE = torch.ones(1, 1, dtype=torch.float64)
CAPITAL = 1e4


def follow(
    market: MarketTensors, mandates: Sequence[Mandate], weight: float, sessions: int
) -> tuple[list[list[list[float]]], list[RuleState], list[Books]]:
    """Ask every session for `weight` in each name, held once it is there.

    Returns:
        Per session the (A, N) weights at its close, the rules' state and the books.
    """
    prices = Prices.of(market, 0.0)
    rules = TradingRules.of(mandates, market, CAPITAL)
    assert rules is not None
    shape = (1, len(mandates), market.n_assets)
    rules.reset(*shape[:2])
    books = reset(torch.tensor([0]), CAPITAL, *shape[1:])
    weights, states, trail = [], [], []
    for _ in range(sessions):
        held = held_weights(books, prices)
        target = rules.apply(torch.where(held > 0.0, held, weight), books, prices)
        before, (books, outcome) = books, step(books, target, prices, LINEAR, ONE)
        rules.update(before, books, outcome, prices)
        weights.append(held_weights(books, prices)[0].tolist())
        states.append(rules.state)
        trail.append(books)
    return weights, states, trail


def sessions_held(weights: list[list[list[float]]], asset: int = 0, agent: int = 0) -> list[int]:
    """Return the rows at whose close the name is held."""
    return [row for row, book in enumerate(weights, start=1) if book[agent][asset] > 0.0]


def path(*levels: float, sessions: int = 16) -> np.ndarray:
    """Return (T, 1) closes that stay at the last level."""
    return np.array([*levels, *[levels[-1]] * (sessions - len(levels))])[:, None] * 0.973


@pytest.mark.parametrize(
    ("rules", "closes", "left_at"),
    [
        (replace(NO_EXITS, stop_loss=0.08), (100, 100, 95, 91), 3),
        (replace(NO_EXITS, take_profit=0.20), (100, 100, 119, 121), 3),
        (replace(NO_EXITS, trailing_stop=0.10), (100, 100, 130, 118, 116), 4),
        (replace(NO_EXITS, time_stop=3), (100, 100), 4),
    ],
    ids=["stop loss", "take profit", "trailing stop", "time stop"],
)
@pytest.mark.parametrize("cooldown", [None, 0, 1, 3])
def test_an_exit_sells_at_the_next_fill_and_bars_the_name_for_its_cooldown(
    plain_market: Build,
    mandate: MakeMandate,
    rules: ExitRules,
    closes: tuple[float, ...],
    left_at: int,
    cooldown: int | None,
) -> None:
    """Seen at the close of `left_at`, sold in the next session, back after `cooldown` more."""
    market = plain_market(path(*closes))
    exits = replace(rules, cooldown=cooldown)
    weights, states, trail = follow(market, [mandate(exits=exits)], 0.37, left_at + 6)
    back = left_at + 2 + (cooldown or 0)
    held = sessions_held(weights)
    assert held[: left_at + 1] == [*range(1, left_at + 1), back]
    sold = left_at  # the entry of the session after left_at: lists start at session 1
    assert trail[sold].shares.item() == 0.0
    assert states[sold].entry.item() == states[sold].age.item() == 0


def test_a_new_entry_starts_with_a_new_price_and_age(
    plain_market: Build, mandate: MakeMandate
) -> None:
    exits = ExitRules(stop_loss=0.08, take_profit=None, trailing_stop=None, time_stop=9, cooldown=0)
    market = plain_market(path(100, 100, 90, 80))
    _, states, _ = follow(market, [mandate(exits=exits)], 0.5, 5)
    assert [state.age.item() for state in states] == [0, 1, 0, 0, 1]
    assert [round(state.entry.item() / 0.973, 6) for state in states] == [100, 100, 0, 80, 80]


@pytest.mark.parametrize("closes", [(100, 100, 93, 106), (100, 100, 92.1, 119.9)])
def test_a_price_inside_the_limits_moves_nothing(
    plain_market: Build, mandate: MakeMandate, closes: tuple[float, ...]
) -> None:
    exits = ExitRules(0.08, 0.20, 0.5, 3, 2)
    weights, _, _ = follow(plain_market(path(*closes)), [mandate(exits=exits)], 0.4, 12)
    assert sessions_held(weights) == list(range(1, 13))


def test_a_loss_is_measured_from_the_fill_of_the_entry(
    plain_market: Build, mandate: MakeMandate
) -> None:
    """Bought at an open of 100 and down to 91 at the close of the same session."""
    open_ = path(100, 100, 91)
    market = plain_market(path(100, 91), open_)
    weights, _, _ = follow(
        market, [mandate(exits=replace(NO_EXITS, stop_loss=0.08, cooldown=30))], 0.5, 6
    )
    assert sessions_held(weights) == [1]


def test_an_exit_closes_its_own_name_only(plain_market: Build, mandate: MakeMandate) -> None:
    close = np.hstack([path(100, 100, 90), path(100, 100, 99)])
    exits = replace(NO_EXITS, stop_loss=0.08, cooldown=30)
    weights, _, _ = follow(plain_market(close), [mandate(exits=exits)], 0.3, 10)
    assert sessions_held(weights, asset=0) == [1, 2]
    assert sessions_held(weights, asset=1) == list(range(1, 11))


def test_an_exit_that_a_halt_prevents_is_not_forgotten(
    plain_market: Build, mandate: MakeMandate
) -> None:
    """The price is back above the stop before the halt ends; the order still stands."""
    tradable = np.ones((16, 1), dtype=bool)
    tradable[3:6] = False
    market = plain_market(path(100, 100, 90, 90, 99), tradable=tradable)
    exits = replace(NO_EXITS, stop_loss=0.08, cooldown=5)
    weights, _, _ = follow(market, [mandate(exits=exits)], 0.5, 7)
    assert sessions_held(weights) == [1, 2, 3, 4, 5]


def test_a_drawdown_stops_the_book_and_starts_a_new_peak_after_the_cooldown(
    plain_market: Build, mandate: MakeMandate
) -> None:
    """15 % down at the close of 3, sold in 4, back in 8; 5 % below the new peak trips nothing."""
    market = plain_market(path(100, 100, 95, 85, 85, 85, 85, 85, 85, 81))
    breakers = replace(NO_BREAKERS, max_drawdown=0.10, cooldown=3)
    weights, states, trail = follow(market, [mandate(breakers=breakers)], 0.99, 13)
    assert sessions_held(weights) == [1, 2, 3, 8, 9, 10, 11, 12, 13]
    assert trail[3].shares.item() == 0.0
    assert states[6].peak_nav.item() == pytest.approx(trail[6].cash.item())
    assert states[2].peak_nav.item() >= CAPITAL


def test_a_drawdown_is_measured_from_the_highest_close_not_from_the_capital(
    plain_market: Build, mandate: MakeMandate
) -> None:
    market = plain_market(path(100, 100, 150, 130))
    breakers = replace(NO_BREAKERS, max_drawdown=0.10)
    weights, _, _ = follow(market, [mandate(breakers=breakers)], 0.99, 8)
    assert sessions_held(weights) == [1, 2, 3]


@pytest.mark.parametrize(("cooldown", "back"), [(None, []), (0, [5, 6, 7, 8])])
def test_without_a_cooldown_a_drawdown_stop_is_final_and_zero_is_a_number(
    plain_market: Build, mandate: MakeMandate, cooldown: int | None, back: list[int]
) -> None:
    market = plain_market(path(100, 100, 95, 85))
    breakers = replace(NO_BREAKERS, max_drawdown=0.10, cooldown=cooldown)
    weights, _, _ = follow(market, [mandate(breakers=breakers)], 0.99, 8)
    assert sessions_held(weights) == [1, 2, 3, *back]


def test_a_row_of_losing_days_stops_the_book_for_its_cooldown(
    plain_market: Build, mandate: MakeMandate
) -> None:
    """The first day loses its costs; the third loss in a row falls on day 3."""
    market = plain_market(path(100, 100, 99, 98, 98))
    breakers = replace(NO_BREAKERS, losing_days=3, cooldown=2)
    weights, states, _ = follow(market, [mandate(breakers=breakers)], 0.5, 10)
    assert [state.losing_days.item() for state in states[:3]] == [1, 2, 3]
    assert sessions_held(weights) == [1, 2, 3, 7, 8, 9, 10]


def test_losses_before_a_stop_do_not_count_after_it(
    plain_market: Build, mandate: MakeMandate
) -> None:
    """Sold in session 4, itself a losing one; with a cooldown of 0 the book is back in 5."""
    market = plain_market(path(*range(100, 84, -1)))
    breakers = replace(NO_BREAKERS, losing_days=3, cooldown=0)
    weights, states, _ = follow(market, [mandate(breakers=breakers)], 0.5, 8)
    assert sessions_held(weights) == [1, 2, 3, 5, 6, 8]
    assert [state.losing_days.item() for state in states[:6]] == [1, 2, 3, 1, 2, 3]


def test_below_the_capital_floor_the_book_stays_out_for_good(
    plain_market: Build, mandate: MakeMandate
) -> None:
    market = plain_market(path(100, 100, 50, 50, 90))
    breakers = replace(NO_BREAKERS, capital_floor=0.6, cooldown=2)
    weights, _, _ = follow(market, [mandate(breakers=breakers)], 0.99, 15)
    assert sessions_held(weights) == [1, 2]


def test_volatility_halves_the_exposure_and_then_stops_it(
    plain_market: Build, mandate: MakeMandate
) -> None:
    market = plain_market(path(100))
    volatility = torch.tensor([0.1, 0.31, 0.31, 0.51, 0.1] + [0.1] * 11, dtype=torch.float64)
    market = replace(market, market_volatility=volatility)
    breakers = replace(NO_BREAKERS, volatility_reduce=0.3, volatility_stop=0.5)
    prices = Prices.of(market, 0.0)
    rules = TradingRules.of([mandate(breakers=breakers)], market, CAPITAL)
    assert rules is not None
    rules.reset(1, 1)
    books = reset(torch.tensor([0]), CAPITAL, 1, 1)
    asked = torch.full((1, 1, 1), 0.8, dtype=torch.float64)
    allowed = []
    for _ in range(5):
        allowed.append(rules.apply(asked, books, prices).item())
        books = replace(books, t=books.t + 1)
    assert allowed == [0.8, 0.4, 0.4, 0.0, 0.8]


@pytest.fixture(scope="module")
def ruled(mandate: MakeMandate) -> list[Mandate]:
    exits = ExitRules(0.05, 0.06, 0.05, 8, 3)
    breakers = BreakerRules(0.05, 0.3, 3, 0.2, 0.28, 4)
    return [
        mandate("exits", exits=exits, band=0.0),
        mandate("breakers", breakers=breakers),
        mandate("plain"),
        mandate("both", exits=exits, breakers=breakers),
    ]


def test_a_market_without_rules_carries_none(
    random_market: Build, batch: MakeBatch, ruled: list[Mandate]
) -> None:
    assert batch(random_market(0)).rules is None
    assert batch(random_market(0), ruled).rules is not None


def test_a_book_without_rules_does_not_feel_those_of_others(
    random_market: Build, batch: MakeBatch, ruled: list[Mandate]
) -> None:
    market = random_market(2)
    together, alone = batch(market, ruled), batch(market, [ruled[2]])
    start = torch.arange(6)
    generator = torch.Generator().manual_seed(2)
    together.reset(start)
    alone.reset(start)
    for _ in range(100):
        action = torch.rand(6, 4, 7, generator=generator) * 2.0 - 1.0
        beside = together.step(action)
        own = alone.step(action[:, [2]])
        assert torch.equal(beside.outcome.nav_after[:, 2], own.outcome.nav_after[:, 0])


def test_rules_only_ever_reduce_and_every_one_of_them_acts(
    random_market: Build, batch: MakeBatch, ruled: list[Mandate]
) -> None:
    env = batch(random_market(4, sessions=160), ruled)
    assert env.rules is not None
    generator = torch.Generator().manual_seed(4)
    env.reset(torch.arange(8))
    acted = torch.zeros(4, dtype=torch.bool)
    for _ in range(150):
        action = torch.rand(8, 4, 7, generator=generator) * 2.0 - 1.0
        held = held_weights(env.books, env.prices)
        asked, _ = env.action_map(action, held, env.tilt, env.books.t)
        got = env.step(action).target
        assert (got <= asked).all()
        acted |= (got < asked).any(-1).any(0)
    assert acted.tolist() == [True, True, False, True]
