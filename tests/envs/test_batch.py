"""Many environments are many single ones; nothing later is known; every setting counts."""

from collections.abc import Callable
from dataclasses import astuple, fields, replace
from typing import Any

import numpy as np
import pytest
import torch

from agents.mandates import BasePortfolio, ExposureRule, Mandate
from agents.market_tensors import MarketTensors
from agents.rewards import TERMS
from envs.batch import BatchEnv, EnvSettings, Transition
from envs.costs import CostModel
from risk.breakers import BreakerRules
from risk.exits import ExitRules
from risk.limits import Limits

Build = Callable[..., MarketTensors]
MakeMandate = Callable[..., Mandate]
MakeBatch = Callable[..., BatchEnv]
MakeSettings = Callable[..., EnvSettings]

LINEAR = CostModel(commission_bp=1.0, spread_bp=10.0, impact=0.0, borrow_rate=0.02)
ALL_COSTS = CostModel(commission_bp=2.0, spread_bp=12.0, impact=0.7, borrow_rate=0.03)
EXITS = ExitRules(stop_loss=0.06, take_profit=0.10, trailing_stop=0.06, time_stop=9, cooldown=3)
BREAKERS = BreakerRules(0.05, 0.5, 4, 0.25, 0.29, 3)


def random_actions(seed: int, sessions: int, n_envs: int, n_agents: int, n: int) -> torch.Tensor:
    """Return (T, E, A, N + 1) actions, half of them at the rule's exposure."""
    generator = torch.Generator().manual_seed(seed)
    actions = torch.rand(sessions, n_envs, n_agents, n + 1, generator=generator) * 2.0 - 1.0
    actions[::2, ..., -1] = 0.0
    return actions


def money_of(step: Transition) -> list[torch.Tensor]:
    outcome = step.outcome
    return [outcome.nav_after, outcome.cost.total, outcome.turnover, step.reward, step.target]


@pytest.fixture(scope="module")
def ruled(three_mandates: Callable[[], list[Mandate]]) -> list[Mandate]:
    return [replace(one, exits=EXITS, breakers=BREAKERS) for one in three_mandates()]


@pytest.mark.parametrize("rules", [False, True])
def test_a_batch_is_its_single_environments_over_long_hostile_episodes(
    random_market: Build,
    batch: MakeBatch,
    settings: MakeSettings,
    ruled: list[Mandate],
    three_mandates: Callable[[], list[Mandate]],
    rules: bool,
) -> None:
    market = random_market(1, sessions=210)
    mandates = ruled if rules else three_mandates()
    scale = torch.tensor([1.0, 0.0, 4.0, 2.0], dtype=torch.float64)
    start = torch.tensor([0, 3, 3, 10])
    together = batch(market, mandates, settings(ALL_COSTS), cash_rate=0.02, cost_scale=scale)
    singles = [
        batch(market, mandates, settings(ALL_COSTS), cash_rate=0.02, cost_scale=scale[[row]])
        for row in range(4)
    ]
    together.reset(start)
    for row, env in enumerate(singles):
        env.reset(start[[row]])
    for action in random_actions(1, 190, 4, 3, 6):
        step, seen = together.step(action), together.observe()
        for row, env in enumerate(singles):
            alone = env.step(action[[row]])
            for mine, theirs in zip(money_of(step), money_of(alone), strict=True):
                torch.testing.assert_close(mine[row], theirs[0], rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(seen.asset[row], env.observe().asset[0])
            assert torch.equal(step.terminated[row], alone.terminated[0])


def test_agents_may_come_in_any_order_and_number_under_linear_costs(
    random_market: Build, batch: MakeBatch, three_mandates: Callable[[], list[Mandate]]
) -> None:
    market, mandates = random_market(3), three_mandates()
    actions = random_actions(3, 100, 4, 3, 6)
    for chosen in ([2, 0, 1], [0, 2], [1]):
        everyone, some = batch(market, mandates), batch(market, [mandates[a] for a in chosen])
        everyone.reset(torch.arange(4))
        some.reset(torch.arange(4))
        for action in actions:
            full, part = everyone.step(action), some.step(action[:, chosen])
            for mine, theirs in zip(money_of(full), money_of(part), strict=True):
                torch.testing.assert_close(mine[:, chosen], theirs, rtol=1e-9, atol=1e-12)


def test_removing_an_agent_changes_the_others_through_impact_alone(
    random_market: Build,
    batch: MakeBatch,
    settings: MakeSettings,
    three_mandates: Callable[[], list[Mandate]],
) -> None:
    """Every cost but the impact of the first decision, from equal books, is the same."""
    market = random_market(4, hostile=False)
    for costs, differs in ((LINEAR, False), (ALL_COSTS, True)):
        three = batch(market, three_mandates(), settings(costs))
        two = batch(market, three_mandates()[:2], settings(costs))
        three.reset(torch.arange(4))
        two.reset(torch.arange(4))
        action = random_actions(4, 1, 4, 3, 6)[0]
        with_all, without = three.step(action), two.step(action[:, :2])
        assert torch.equal(with_all.target[:, :2], without.target)
        impact = with_all.outcome.cost.impact[:, :2] != without.outcome.cost.impact
        assert bool(impact.all()) is differs
        assert torch.equal(with_all.outcome.nav_after[:, :2], without.outcome.nav_after) is (
            not differs
        )


@pytest.mark.parametrize("factor", [1e-3, 0.37, 2e4])
def test_the_size_of_the_capital_changes_no_reward(
    random_market: Build,
    batch: MakeBatch,
    settings: MakeSettings,
    ruled: list[Mandate],
    factor: float,
) -> None:
    market = random_market(5, sessions=130)
    small = batch(market, ruled, settings(capital=1e5), cash_rate=0.02)
    large = batch(market, ruled, settings(capital=1e5 * factor), cash_rate=0.02)
    small.reset(torch.arange(6))
    large.reset(torch.arange(6))
    for action in random_actions(5, 120, 6, 3, 6):
        one, other = small.step(action), large.step(action)
        torch.testing.assert_close(one.reward, other.reward, rtol=1e-7, atol=1e-10)
        torch.testing.assert_close(one.terms, other.terms, rtol=1e-7, atol=1e-10)
        torch.testing.assert_close(one.target, other.target, rtol=1e-7, atol=1e-10)
        torch.testing.assert_close(small.observe().book, large.observe().book)


def spliced(market: MarketTensors, other: MarketTensors, t: int) -> MarketTensors:
    """Return `market` with every row after `t` taken from another one."""
    rows: dict[str, Any] = {}
    for item in fields(MarketTensors):
        ours, theirs = getattr(market, item.name), getattr(other, item.name)
        if isinstance(ours, torch.Tensor) and item.name != "sector_of":
            rows[item.name] = torch.cat([ours[: t + 1], theirs[t + 1 :]])
            assert not torch.equal(rows[item.name], ours)
    return replace(market, **rows)


@pytest.mark.parametrize("seed", range(4))
def test_nothing_seen_or_decided_up_to_a_close_knows_what_comes_after_it(
    random_market: Build,
    batch: MakeBatch,
    settings: MakeSettings,
    ruled: list[Mandate],
    seed: int,
) -> None:
    """Replace all of the market after t: prices, masks, estimates, features, payouts."""
    t = 20 + 17 * seed
    market, other = random_market(seed, sessions=110), random_market(seed + 90, sessions=110)
    past = batch(market, ruled, settings(ALL_COSTS))
    future = batch(spliced(market, other, t), ruled, settings(ALL_COSTS))
    actions = random_actions(seed, t + 1, 1, 3, 6)
    for env in (past, future):
        env.reset(torch.tensor([0]))
    for row, action in enumerate(actions):
        one, two = past.observe(), future.observe()
        assert torch.equal(one.asset, two.asset) and torch.equal(one.book, two.book)
        left, right = past.step(action), future.step(action)
        assert torch.equal(left.target, right.target)
        assert torch.equal(past.tilt, future.tilt)
        if row < t:
            assert torch.equal(left.reward, right.reward)
            assert torch.equal(left.outcome.nav_after, right.outcome.nav_after)
    assert not torch.equal(left.outcome.nav_after, right.outcome.nav_after)


def test_long_only_agents_never_borrow_and_stay_within_float64(
    random_market: Build, batch: MakeBatch, settings: MakeSettings
) -> None:
    for seed in range(3):
        env = batch(random_market(seed), settings=settings(ALL_COSTS))
        env.reset(torch.arange(10))
        for action in random_actions(seed, 105, 10, 3, 6):
            step = env.step(action)
            assert (env.books.cash >= -1e-9 * step.outcome.nav_after).all()
            assert (env.books.shares >= 0.0).all()
            assert all(tensor.dtype == torch.float64 for tensor in money_of(step))
        seen = env.observe()
        assert seen.asset.dtype == seen.book.dtype == torch.float32


def test_the_reward_is_paid_for_what_the_book_did_in_that_session(
    random_market: Build, batch: MakeBatch, ruled: list[Mandate]
) -> None:
    """Each term again in plain arithmetic, from the books and the market's own rows."""
    env = batch(random_market(6), ruled, cash_rate=0.02)
    env.reset(torch.arange(4))
    market = env.market
    peak = torch.full((4, 3), env.settings.capital, dtype=torch.float64)
    for action in random_actions(6, 60, 4, 3, 6):
        t, shares = env.books.t, env.books.shares
        step = env.step(action)
        before, after = step.outcome.nav_before, step.outcome.nav_after
        held = env.books.shares * market.close[t + 1][:, None] / after[..., None]
        held_before = shares * market.close[t][:, None] / before[..., None]
        night = market.reference_night[t + 1]
        day = (1.0 + market.reference_return[t + 1]) / (1.0 + night) - 1.0
        hedge = (held_before * market.beta[t][:, None]).sum(-1) * night[:, None]
        hedge += (held * market.beta[t][:, None]).sum(-1) * day[:, None]
        fall_before, peak = 1.0 - before / peak, torch.maximum(peak, after)
        fall = 1.0 - after / peak
        gain = after / before - 1.0
        expected = {
            "log_growth": torch.log1p(gain),
            "active_return": gain - hedge,
            "downside": torch.where(gain < 0.0, gain * gain / 0.02, 0.0),
            "drawdown": torch.where(fall > fall_before, fall - fall_before, 0.0),
            "cost": step.outcome.cost.total / before,
            "turnover": 0.1 * step.outcome.turnover,
            "momentum": 0.1 * (held * market.momentum[t][:, None]).sum(-1),
            "diversification": 0.01 * (held.sum(-1) ** 2 - (held**2).sum(-1)),
        }
        for name, value in expected.items():
            torch.testing.assert_close(
                step.terms[TERMS.index(name)], value, rtol=1e-9, atol=1e-13, msg=name
            )
        weights = torch.tensor([astuple(one.reward) for one in env.mandates], dtype=torch.float64)
        paid = (step.terms * weights.T[:, None]).sum(0)
        torch.testing.assert_close(step.reward, paid, rtol=1e-9, atol=1e-13)


# --- end of an episode ---------------------------------------------------------------------------


def test_drawn_episodes_fit_into_the_visited_rows_and_reach_both_ends(
    random_market: Build, batch: MakeBatch, settings: MakeSettings
) -> None:
    env = batch(random_market(0), settings=settings(episode_sessions=20), rows=slice(30, 60))
    starts = env.draw_starts(500, torch.Generator().manual_seed(0))
    assert set(starts.tolist()) == set(range(30, 40))  # the last one marks at row 59
    again = env.draw_starts(500, torch.Generator().manual_seed(0))
    other = env.draw_starts(500, torch.Generator().manual_seed(1))
    assert torch.equal(starts, again)
    assert not torch.equal(starts, other)


def test_an_episode_longer_than_the_rows_starts_with_them_and_ends_with_them(
    random_market: Build, batch: MakeBatch, settings: MakeSettings
) -> None:
    env = batch(random_market(0), settings=settings(episode_sessions=90), rows=slice(30, 60))
    starts = env.draw_starts(5, torch.Generator().manual_seed(0))
    assert starts.tolist() == [30] * 5
    env.reset(starts, 90)
    ends = [bool(env.step(action).truncated.any()) for action in random_actions(0, 29, 5, 3, 6)]
    assert ends == [False] * 28 + [True]
    assert env.books.t.tolist() == [59] * 5


def test_every_environment_is_truncated_after_its_own_sessions(
    random_market: Build, batch: MakeBatch
) -> None:
    env = batch(random_market(0), rows=slice(0, 40))
    env.reset(torch.tensor([0, 10, 36]), 5)
    ends = torch.stack([env.step(a).truncated for a in random_actions(0, 5, 3, 3, 6)])
    assert ends.long().argmax(0).tolist() == [4, 4, 2]


@pytest.fixture
def falling(plain_market: Build) -> MarketTensors:
    """Return a market that halves twice a week, with a name that stays."""
    close = np.stack([100.0 * 0.75 ** np.arange(30), np.full(30, 10.0)], axis=1)
    return replace(plain_market(close), market_volatility=torch.full((30,), 0.1).double())


def test_a_ruined_book_is_terminated_once_sold_and_paid_nothing_more(
    falling: MarketTensors, batch: MakeBatch, settings: MakeSettings, mandate: MakeMandate
) -> None:
    bold = mandate("bold", exposure=ExposureRule.full, base=BasePortfolio.none, tilt=30.0)
    timid = mandate("timid")
    env = batch(falling, [bold, timid], settings(ruin=0.3))
    env.reset(torch.tensor([0]))
    action = torch.tensor([[[1.0, -1.0, 1.0], [0.0, 0.0, -1.0]]])
    steps = [env.step(action) for _ in range(12)]
    ended = [bool(step.terminated[0, 0]) for step in steps]
    assert sum(ended) == 1
    last = ended.index(True)
    assert (
        steps[last].outcome.nav_after[0, 0] <= 0.3 * 1e5 < steps[last - 1].outcome.nav_after[0, 0]
    )
    assert steps[last].reward[0, 0] < -0.05
    for step in steps[last + 1 :]:
        assert step.reward[0, 0] == 0.0
        assert not step.terms[:, 0, 0].any()
        assert not step.target[0, 0].any()
    assert not env.books.shares[0, 0].any()
    assert not any(bool(step.terminated[0, 1]) for step in steps)
    assert env.alive.tolist() == [[False, True]]


def test_a_book_that_loses_everything_leaves_finite_numbers(
    plain_market: Build, batch: MakeBatch, settings: MakeSettings, mandate: MakeMandate
) -> None:
    """All in one name that pays nothing: a NAV of exactly 0, in one environment of two."""
    payout = np.full((12, 1), np.nan)
    payout[5] = 0.0
    listed = np.arange(12)[:, None] < 5
    market = plain_market(np.full((12, 1), 16.0), payout=payout, tradable=listed, investable=listed)
    free = replace(LINEAR, commission_bp=0.0, spread_bp=0.0)
    env = batch(market, [mandate(exposure=ExposureRule.full)], settings(free, ruin=0.0))
    env.reset(torch.tensor([0, 1]))
    action = torch.tensor([[[0.3, 1.0]], [[0.3, -1.0]]])
    for _ in range(9):
        step, seen = env.step(action), env.observe()
        for tensor in (*money_of(step), step.terms, seen.asset, seen.book):
            assert torch.isfinite(tensor).all()
    assert step.outcome.nav_after.tolist() == [[0.0], [1e5]]
    assert env.alive.tolist() == [[False], [True]]


def test_a_trade_is_a_step_without_its_reward(
    random_market: Build, batch: MakeBatch, settings: MakeSettings, ruled: list[Mandate]
) -> None:
    market = random_market(8)
    stepped, traded = (batch(market, ruled, settings(ALL_COSTS, ruin=0.9)) for _ in range(2))
    for env in (stepped, traded):
        env.reset(torch.arange(4))
    for action in random_actions(8, 100, 4, 3, 6):
        step, (target, outcome) = stepped.step(action), traded.trade(action)
        assert torch.equal(step.target, target)
        assert torch.equal(step.outcome.nav_after, outcome.nav_after)
        assert torch.equal(stepped.alive, traded.alive)
        assert torch.equal(stepped.observe().book, traded.observe().book)
    assert not stepped.alive.all()


# --- every setting counts ------------------------------------------------------------------------


def lived(env: BatchEnv, sessions: int) -> torch.Tensor:
    """Return everything that two episodes of four environments show, as one vector."""
    env.reset(env.draw_starts(4, torch.Generator().manual_seed(0)), env.settings.episode_sessions)
    seen: list[torch.Tensor] = []
    for action in random_actions(7, sessions, 4, env.n_agents, env.market.n_assets):
        step = env.step(action)
        seen += [*money_of(step), step.terminated, step.truncated, env.observe().book]
    return torch.cat([tensor.double().flatten() for tensor in seen])


@pytest.fixture(scope="module")
def wild(random_market: Build) -> MarketTensors:
    """Return a market in which every limit and rule has something to do."""
    market = random_market(7, sessions=120, hostile=False)
    # Assets 0 and 3 share a sector; the market gets calm and wild in turns.
    cycle = 0.2 + 0.12 * torch.sin(torch.arange(120) / 7.0)
    return replace(market, market_volatility=cycle.double())


PERTURBED: dict[type, dict[str, Any]] = {
    CostModel: {"commission_bp": 3.0, "spread_bp": 30.0, "impact": 0.9},
    EnvSettings: {"capital": 9e4, "episode_sessions": 30, "ruin": 0.995},
    Mandate: {
        "target_volatility": 0.11,
        "base": BasePortfolio.inverse_volatility,
        "tilt": 1.9,
        "tilt_rate": 0.29,
        "exposure": ExposureRule.full,
        "exposure_authority": 0.4,
        "band": 0.06,
    },
    Limits: {
        "max_weight": 0.12,
        "max_sector": 0.2,
        "max_top3": 0.3,
        "min_cash": 0.3,
        "max_gross": 0.6,
        "max_turnover": 0.1,
        "max_volatility": 0.1,
    },
    ExitRules: {
        "stop_loss": 0.03,
        "take_profit": 0.05,
        "trailing_stop": 0.03,
        "time_stop": 5,
        "cooldown": 4,
    },
    BreakerRules: {
        "max_drawdown": 0.02,
        "capital_floor": 0.98,
        "losing_days": 2,
        "volatility_reduce": 0.15,
        "volatility_stop": 0.26,
        "cooldown": 1,
    },
}
PART_OF = {Limits: "limits", ExitRules: "exits", BreakerRules: "breakers"}
# Agents are long only: borrowing is tested on the kernel. A name and a policy say who plays.
# What is compiled shows the same, see test_compiled.py.
WITHOUT_EFFECT_HERE = {
    CostModel: {"borrow_rate"},
    Mandate: {"name", "policy"},
    EnvSettings: {"compile"},
}
NESTED = {EnvSettings: {"costs"}, Mandate: {"limits", "exits", "breakers", "reward"}}


@pytest.mark.parametrize("kind", list(PERTURBED), ids=lambda kind: kind.__name__)
def test_the_table_of_perturbations_names_every_field(kind: type) -> None:
    known = set(PERTURBED[kind]) | WITHOUT_EFFECT_HERE.get(kind, set()) | NESTED.get(kind, set())
    assert known == {item.name for item in fields(kind)}


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, table in PERTURBED.items() for name in table]
)
def test_every_setting_changes_some_output(
    wild: MarketTensors,
    batch: MakeBatch,
    settings: MakeSettings,
    mandate: MakeMandate,
    kind: type,
    name: str,
) -> None:
    change = {name: PERTURBED[kind][name]}
    how, who = settings(ALL_COSTS), mandate(exits=EXITS, breakers=BREAKERS)
    usual = lived(batch(wild, [who], how), 30)
    if kind is CostModel:
        how = replace(how, costs=replace(how.costs, **change))
    elif kind is EnvSettings:
        how = replace(how, **change)
    elif kind is Mandate:
        who = replace(who, **change)
    else:
        part = PART_OF[kind]
        who = replace(who, **{part: replace(getattr(who, part), **change)})
    assert not torch.equal(lived(batch(wild, [who], how), 30), usual)


@pytest.mark.parametrize("name", sorted(WITHOUT_EFFECT_HERE[Mandate]))
def test_who_plays_a_mandate_is_no_part_of_its_outcome(
    wild: MarketTensors, batch: MakeBatch, mandate: MakeMandate, name: str
) -> None:
    usual = lived(batch(wild, [mandate()]), 30)
    assert torch.equal(lived(batch(wild, [mandate(**{name: "other"})]), 30), usual)


def test_every_reward_weight_changes_the_reward(
    wild: MarketTensors, batch: MakeBatch, mandate: MakeMandate
) -> None:
    who = mandate()
    usual = lived(batch(wild, [who]), 30)
    for item in fields(who.reward):
        weight = getattr(who.reward, item.name) + 0.01
        other = replace(who, reward=replace(who.reward, **{item.name: weight}))
        assert not torch.equal(lived(batch(wild, [other]), 30), usual), item.name


def test_the_cash_rate_and_the_cost_scale_count(wild: MarketTensors, batch: MakeBatch) -> None:
    usual = lived(batch(wild), 30)
    assert not torch.equal(lived(batch(wild, cash_rate=0.01), 30), usual)
    scale = torch.tensor([1.0, 1.0, 1.0, 2.0], dtype=torch.float64)
    assert not torch.equal(lived(batch(wild, cost_scale=scale), 30), usual)
    assert torch.equal(lived(batch(wild, cost_scale=torch.ones(4).double()), 30), usual)


def test_the_same_actions_are_worth_less_as_costs_are_scaled_up(
    wild: MarketTensors, batch: MakeBatch, settings: MakeSettings
) -> None:
    scale = torch.tensor([0.0, 1.0, 2.0, 4.0], dtype=torch.float64)
    env = batch(wild, settings=settings(ALL_COSTS), cost_scale=scale)
    env.reset(torch.zeros(4, dtype=torch.int64))
    for action in random_actions(8, 100, 1, 3, 6):
        step = env.step(action.expand(4, 3, 7))
    assert (step.outcome.nav_after.diff(dim=0) < 0.0).all()
    assert not step.outcome.cost.total[0].any()


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("capital", 0.0),
        ("capital", -1.0),
        ("capital", float("nan")),
        ("capital", float("inf")),
        ("episode_sessions", 1),
        ("ruin", 1.0),
        ("ruin", -0.1),
        ("ruin", float("nan")),
    ],
)
def test_meaningless_settings_are_refused_by_name(
    settings: MakeSettings, name: str, value: float
) -> None:
    with pytest.raises(ValueError, match=f"{name} must be .*was {value}"):
        settings(**{name: value})


def test_impact_is_refused_where_the_traded_value_is_unknown(
    random_market: Build, batch: MakeBatch, settings: MakeSettings
) -> None:
    market = random_market(0, hostile=False, adv=False)
    with pytest.raises(ValueError, match=r"assumed_adv"):
        batch(market, settings=settings(ALL_COSTS))
    adv = torch.full_like(market.close, 1e6)
    adv[17, 3] = float("nan")
    partly = replace(market, adv=adv)
    with pytest.raises(ValueError, match=r"unknown for asset 3 in session 17"):
        batch(partly, settings=settings(ALL_COSTS))
    batch(partly, settings=settings(ALL_COSTS), rows=slice(18, 100))
    batch(partly, settings=settings(LINEAR))
