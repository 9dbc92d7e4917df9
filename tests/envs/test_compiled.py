"""A compiled environment shows what the eager one shows."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._pytree import tree_leaves

from agents.mandates import Mandate
from agents.market_tensors import MarketTensors
from envs.batch import BatchEnv, EnvSettings
from envs.costs import CostModel
from market.errors import InputError
from risk.breakers import BreakerRules
from risk.exits import ExitRules

Build = Callable[..., Any]

ALL_COSTS = CostModel(commission_bp=2.0, spread_bp=12.0, impact=0.7, borrow_rate=0.03)
SESSIONS = 30


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    """Forget what other tests compiled: only so many versions of one function are kept."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def played(env: BatchEnv, n_envs: int) -> Iterator[list[torch.Tensor]]:
    """Yield all that each step of some environments shows."""
    generator = torch.Generator().manual_seed(3)
    env.reset(env.draw_starts(n_envs, torch.Generator().manual_seed(1)), SESSIONS)
    for _ in range(SESSIONS):
        shape = (n_envs, env.n_agents, env.market.n_assets + 1)
        step = env.step(torch.rand(shape, generator=generator) * 2.0 - 1.0)
        seen, books = env.observe(), env.books
        outcome, cost = step.outcome, step.outcome.cost
        shown = [step.reward, step.terms, step.terminated, step.truncated, step.target]
        shown += [outcome.nav_after, outcome.turnover, outcome.trade, cost.total, cost.impact]
        yield [*shown, seen.asset, seen.book, books.cash, books.shares, books.t, env.alive]


def same(compiled: BatchEnv, eager: BatchEnv, n_envs: int) -> None:
    for mine, theirs in zip(played(compiled, n_envs), played(eager, n_envs), strict=True):
        for one, other in zip(tree_leaves(mine), tree_leaves(theirs), strict=True):
            # Rewards are of order 0.01, observations float32 and money about 1e5.
            tolerance = 1e-6 if one.dtype == torch.float32 else 1e-9
            torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("n_envs", [1, 37])
def test_a_compiled_environment_shows_what_the_eager_one_shows(
    random_market: Build, batch: Build, settings: Build, n_envs: int
) -> None:
    market: MarketTensors = random_market(2, sessions=80)
    plain: EnvSettings = settings(costs=ALL_COSTS, episode_sessions=SESSIONS)
    compiled = batch(market, settings=replace(plain, compile=True))
    same(compiled, batch(market, settings=plain), n_envs)
    books = compiled.books.shares
    if n_envs > 1:  # and its books stay laid out for the next step
        assert books.stride() == (1, n_envs, n_envs * books.shape[1])


def test_a_machine_without_a_compiler_is_told_so(
    monkeypatch: pytest.MonkeyPatch, random_market: Build, batch: Build, settings: Build
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InputError, match=r"env\.compile=true needs a C\+\+ compiler"):
        batch(random_market(2, sessions=80), settings=replace(settings(), compile=True))


def test_rules_act_in_a_compiled_environment(
    random_market: Build, batch: Build, settings: Build, mandate: Build
) -> None:
    exits = ExitRules(stop_loss=0.03, take_profit=0.05, trailing_stop=0.04, time_stop=6, cooldown=3)
    breakers = BreakerRules(
        max_drawdown=0.02,
        capital_floor=0.9,
        losing_days=3,
        volatility_reduce=0.15,
        volatility_stop=0.3,
        cooldown=2,
    )
    market = random_market(4, sessions=80)
    ruled: list[Mandate] = [mandate(exits=exits, breakers=breakers), mandate(name="free")]
    plain = settings(costs=ALL_COSTS, episode_sessions=SESSIONS)
    compiled = batch(market, ruled, replace(plain, compile=True))
    same(compiled, batch(market, ruled, plain), 8)
