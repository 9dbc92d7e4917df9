"""The one accounting: nothing is lost, nothing is free, nothing later is known."""

from collections.abc import Callable
from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from agents.market_tensors import MarketTensors
from envs.costs import CostModel
from envs.kernel import Books, Outcome, Prices, held_weights, nav, reset, step

Array = NDArray[np.float64]
Build = Callable[..., MarketTensors]

FREE = CostModel(commission_bp=0.0, spread_bp=0.0, impact=0.0, borrow_rate=0.0)
LINEAR = CostModel(commission_bp=1.0, spread_bp=10.0, impact=0.0, borrow_rate=0.02)
ALL_COSTS = CostModel(commission_bp=2.0, spread_bp=12.0, impact=0.7, borrow_rate=0.03)
CASH_RATE = 0.03
ONE = torch.ones(1, 1, dtype=torch.float64)


def weights(*rows: list[float]) -> torch.Tensor:
    """Return (1, A, N) target weights."""
    return torch.tensor([rows], dtype=torch.float64)


def long_only(random: np.random.Generator, *shape: int) -> torch.Tensor:
    """Return (E, A, N) weights, half of them fully invested, some of them in few names."""
    drawn = random.random(shape) ** random.choice([1.0, 8.0], (*shape[:2], 1))
    invested = np.where(random.random((*shape[:2], 1)) < 0.5, 1.0, random.random((*shape[:2], 1)))
    return torch.tensor(invested * drawn / drawn.sum(-1, keepdims=True))


def rows_of(books: Books, where: slice | list[int]) -> Books:
    """Return some environments of a batch."""
    return Books(*(getattr(books, item.name)[where] for item in fields(Books)))


def agents_of(books: Books, order: list[int]) -> Books:
    """Return some agents of every environment."""
    return Books(books.t, books.cash[:, order], books.shares[:, order], books.peak_nav[:, order])


def numpy_costs(
    trade: Array, t: NDArray[np.int64], prices: Prices, model: CostModel, scale: Array
) -> tuple[Array, Array, Array]:
    """Return commission, spread and impact (E, A) of trades decided at `t`, in plain NumPy."""
    traded = np.abs(trade).sum(-1)
    impact = np.zeros_like(traded)
    if model.impact:
        assert prices.adv is not None
        adv, volatility = prices.adv.numpy()[t], prices.daily_volatility.numpy()[t]
        flow = trade.sum(1)
        rate = model.impact * volatility * np.sqrt(np.abs(flow) / adv)
        for a in range(trade.shape[1]):
            same_side = trade[:, a] * flow > 0.0
            impact[:, a] = (np.abs(trade[:, a]) * rate * same_side).sum(-1)
    commission, spread = traded * model.commission_bp / 1e4, traded * model.spread_bp / 2e4
    return commission * scale, spread * scale, impact * scale


def numpy_profit(before: Books, outcome: Outcome, prices: Prices) -> tuple[Array, Array, Array]:
    """Return the gain until the fill, the gain after it and what was owed, (E, A), before costs."""
    t = before.t.numpy()
    last, mark = prices.close.numpy()[t][:, None], prices.close.numpy()[t + 1][:, None]
    fill, payout = prices.open.numpy()[t + 1][:, None], prices.payout.numpy()[t + 1][:, None]
    shares, cash, trade = before.shares.numpy(), before.cash.numpy(), outcome.trade.numpy()

    gone = np.isfinite(payout)
    proceeds = (shares * last * np.where(gone, payout, 0.0)).sum(-1)
    delisting = proceeds - (shares * last * gone).sum(-1)
    kept = np.where(gone, 0.0, shares)
    overnight = (kept * (fill - last)).sum(-1)
    intraday = ((kept + trade / fill) * (mark - fill)).sum(-1)
    idle = cash + proceeds
    interest = np.maximum(idle, 0.0) * ((1.0 + CASH_RATE) ** (1 / 252) - 1.0)
    owed = np.maximum(-idle, 0.0) + np.maximum(-kept * last, 0.0).sum(-1)
    return delisting + overnight + interest, intraday, owed


def test_ten_thousand_sessions_of_hostile_markets_lose_no_cent(random_market: Build) -> None:
    """Gaps, halts, delistings, longs, shorts and leverage, every cost, interest, three agents."""
    steps = 0
    for seed in range(6):
        market = random_market(seed, sessions=70)
        prices = Prices.of(market, CASH_RATE)
        random = np.random.default_rng(seed)
        n_envs, shape = 32, (32, 3, market.n_assets)
        scale = torch.tensor(random.choice([0.0, 1.0, 2.0, 4.0], (n_envs, 1)))
        books = reset(torch.tensor(random.integers(0, 8, n_envs)), 1e5, 3, market.n_assets)
        for _ in range(60):
            target = long_only(random, *shape)
            target[:, 1] = torch.tensor(random.normal(0.0, 0.4, shape[::2]))  # long and short
            target[:, 2] *= 1.5  # on credit
            idle = torch.tensor(random.random((n_envs, 3, 1)) < 0.3)
            target = torch.where(idle, held_weights(books, prices), target)
            before, (books, outcome) = books, step(books, target, prices, ALL_COSTS, scale)
            check_books(before, books, outcome, prices, scale.numpy())
            check_frozen(before, books, outcome, prices)
            steps += n_envs
            books = replace_ruined(books, outcome)
    assert steps >= 10_000


def replace_ruined(books: Books, outcome: Outcome) -> Books:
    """Give environments in which credit or a short has ruined a book fresh ones."""
    ruined = (outcome.nav_after < 2e4).any(1)
    fresh = reset(books.t, 1e5, *books.shares.shape[1:])
    return Books(
        books.t,
        torch.where(ruined[:, None], fresh.cash, books.cash),
        torch.where(ruined[:, None, None], fresh.shares, books.shares),
        torch.where(ruined[:, None], fresh.peak_nav, books.peak_nav),
    )


def check_books(
    before: Books, after: Books, outcome: Outcome, prices: Prices, scale: Array
) -> None:
    """Compare one step with NumPy's idea of it, to 1e-9 of NAV."""
    tolerance = 1e-9 * np.maximum(outcome.nav_before.numpy(), outcome.nav_after.numpy())
    t = before.t.numpy()

    def same(mine: torch.Tensor, theirs: Array) -> None:
        assert (np.abs(mine.numpy() - theirs) <= tolerance).all()

    for books, value in ((before, outcome.nav_before), (after, outcome.nav_after)):
        notional = books.shares.numpy() * prices.close.numpy()[books.t.numpy()][:, None]
        same(value, books.cash.numpy() + notional.sum(-1))
    early, late, owed = numpy_profit(before, outcome, prices)
    borrow = owed * ALL_COSTS.borrow_rate / 252 * scale
    paid = (*numpy_costs(outcome.trade.numpy(), t, prices, ALL_COSTS, scale), borrow)
    names = ("commission", "spread", "impact", "borrow")
    for name, expected in zip(names, paid, strict=True):
        same(getattr(outcome.cost, name), expected)
        assert (getattr(outcome.cost, name) >= 0.0).all()
    same(outcome.nav_after - outcome.nav_before, early + late - sum(paid))
    at_fill = outcome.nav_before.numpy() + early - borrow
    same(outcome.turnover * torch.from_numpy(at_fill), np.abs(outcome.trade.numpy()).sum(-1))
    assert torch.equal(after.peak_nav, torch.maximum(before.peak_nav, outcome.nav_after))
    assert torch.equal(after.t, before.t + 1)


def check_frozen(before: Books, after: Books, outcome: Outcome, prices: Prices) -> None:
    """Demand that what cannot be traded keeps its shares to the bit, and a delisting none."""
    gone = prices.payout[after.t].isfinite().unsqueeze(1)
    frozen = ~prices.tradable[after.t].unsqueeze(1)
    still = (frozen & ~gone).expand_as(after.shares)
    assert torch.equal(after.shares[still], before.shares[still])
    assert not outcome.trade[frozen.expand_as(after.shares)].any()
    assert not after.shares[gone.expand_as(after.shares)].any()


@pytest.mark.parametrize("model", [LINEAR, ALL_COSTS])
@pytest.mark.parametrize("capital", [1e3, 1e5, 1e8])
def test_a_long_only_target_never_borrows(
    random_market: Build, model: CostModel, capital: float
) -> None:
    """Also where a halt freezes what should pay for the buys, and where impact is brutal."""
    for seed in range(4):
        market = random_market(seed, sessions=90)
        prices = Prices.of(market, 0.0)
        random = np.random.default_rng(seed)
        books = reset(torch.tensor(random.integers(0, 8, 24)), capital, 3, market.n_assets)
        scale = torch.tensor(random.choice([1.0, 4.0], (24, 1)))
        for _ in range(80):
            books, outcome = step(books, long_only(random, 24, 3, 6), prices, model, scale)
            assert (books.cash >= -1e-9 * outcome.nav_after).all()
            assert (books.shares >= 0.0).all()
            assert (outcome.cost.borrow <= 1e-12 * outcome.nav_after).all()


@pytest.mark.parametrize(("model", "tolerance"), [(LINEAR, 1e-9), (ALL_COSTS, 1e-6)])
def test_targets_are_fractions_of_nav_after_costs(
    random_market: Build, model: CostModel, tolerance: float
) -> None:
    market = random_market(0, sessions=60, hostile=False)
    prices = Prices.of(market, CASH_RATE)
    random = np.random.default_rng(0)
    scale = torch.tensor(random.choice([0.0, 1.0, 4.0], (16, 1)))
    books = reset(torch.zeros(16, dtype=torch.int64), 1e5, 3, 6)
    for _ in range(50):
        target = long_only(random, 16, 3, 6)
        books, _ = step(books, target, prices, model, scale)
        fill = prices.open[books.t].unsqueeze(1)
        left = nav(books.cash, books.shares, fill).unsqueeze(-1)  # at the fill, costs paid
        torch.testing.assert_close(books.shares * fill / left, target, rtol=0.0, atol=tolerance)


def test_a_held_weight_is_no_order_whatever_the_gap(plain_market: Build) -> None:
    market = plain_market(
        np.array([[100.0, 50.0], [100.0, 50.0], [120.0, 40.0]]),
        np.array([[100.0, 50.0], [100.0, 50.0], [130.0, 35.0]]),
    )
    prices = Prices.of(market, 0.0)
    books, _ = step(
        reset(torch.tensor([0]), 1e4, 2, 2), weights([0.5, 0.5], [0.3, 0.3]), prices, LINEAR, ONE
    )
    target = held_weights(books, prices)
    target[0, 1, 0] = 0.5  # the second book orders the first name only
    after, outcome = step(books, target, prices, LINEAR, ONE)
    assert torch.equal(after.shares[0, 0], books.shares[0, 0])
    assert outcome.cost.total[0, 0] == 0.0
    assert torch.equal(after.shares[0, 1, 1], books.shares[0, 1, 1])
    assert after.shares[0, 1, 0] > books.shares[0, 1, 0]


def test_a_delisting_pays_its_terminal_return_once(plain_market: Build) -> None:
    close = np.full((5, 2), 10.0)
    payout = np.full((5, 2), np.nan)
    payout[2, 0] = 0.3
    tradable = np.ones((5, 2), dtype=bool)
    tradable[2:, 0] = False
    prices = Prices.of(plain_market(close, payout=payout, tradable=tradable), 0.0)
    books = reset(torch.tensor([0]), 1000.0, 2, 2)
    values = []
    for _ in range(4):
        # The first book goes on asking for the name that is gone; the second is short of it.
        target = weights([0.5, 0.0], [-0.5, 0.0])
        books, outcome = step(books, target, prices, FREE, ONE)
        values.append(outcome.nav_after[0].tolist())
    assert values == [[1000.0, 1000.0], [650.0, 1350.0], [650.0, 1350.0], [650.0, 1350.0]]
    assert not books.shares.any()
    assert books.cash.tolist() == [[650.0, 1350.0]]


def test_a_halt_freezes_the_position_and_shrinks_the_buys(plain_market: Build) -> None:
    """All in the first name, halted: there is no cash for the second. Half sold, there is half."""
    tradable = np.array([[True, True], [True, True], [False, True], [True, True]])
    prices = Prices.of(plain_market(np.full((4, 2), 10.0), tradable=tradable), 0.0)
    books = reset(torch.tensor([0]), 1000.0, 2, 2)
    books, _ = step(books, weights([1.0, 0.0], [0.6, 0.0]), prices, FREE, ONE)
    halted, outcome = step(books, weights([0.0, 1.0], [0.0, 0.9]), prices, FREE, ONE)
    assert halted.shares.tolist() == [[[100.0, 0.0], [60.0, 40.0]]]
    assert outcome.turnover.tolist() == [[0.0, 0.4]]
    freed, _ = step(halted, weights([0.0, 1.0], [0.0, 0.9]), prices, FREE, ONE)
    assert freed.shares[0].tolist() == [[0.0, 100.0], [0.0, pytest.approx(90.0)]]


def test_a_book_that_loses_everything_stays_finite(plain_market: Build) -> None:
    payout = np.full((5, 1), np.nan)
    payout[2, 0] = 0.0
    tradable = np.array([[True], [True], [False], [False], [False]])
    prices = Prices.of(
        plain_market(np.full((5, 1), 10.0), payout=payout, tradable=tradable), CASH_RATE
    )
    books = reset(torch.tensor([0]), 1000.0, 1, 1)
    for _ in range(4):
        books, outcome = step(books, weights([1.0]), prices, FREE, ONE)
        assert torch.isfinite(outcome.turnover).all()
        assert torch.isfinite(held_weights(books, prices)).all()
    assert outcome.nav_after.tolist() == [[0.0]]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), capital=st.floats(1.0, 1e9))
def test_any_state_keeps_cash_plus_positions_equal_to_nav(
    random_market: Build, seed: int, capital: float
) -> None:
    """From any holdings, borrowed or short, to any target."""
    market = random_market(seed % 50, sessions=30)
    prices = Prices.of(market, CASH_RATE)
    random = np.random.default_rng(seed)
    t = torch.tensor(random.integers(0, 28, 8))
    held = torch.tensor(random.normal(0.2, 0.3, (8, 3, 6)))
    shares = capital * held / prices.close[t].unsqueeze(1)
    cash = capital * (1.0 - held.sum(-1))
    before = Books(t, cash, shares, torch.full_like(cash, capital))
    target = torch.tensor(random.normal(0.2, 0.3, (8, 3, 6)))
    scale = torch.tensor(random.choice([0.0, 1.0, 4.0], (8, 1)))
    after, outcome = step(before, target, prices, LINEAR, scale)
    early, late, owed = numpy_profit(before, outcome, prices)
    paid = sum(numpy_costs(outcome.trade.numpy(), t.numpy(), prices, LINEAR, scale.numpy()))
    paid = paid + owed * LINEAR.borrow_rate / 252 * scale.numpy()
    change = (outcome.nav_after - outcome.nav_before).numpy()
    np.testing.assert_allclose(change, early + late - paid, rtol=0.0, atol=1e-9 * capital)
    worth = nav(after.cash, after.shares, prices.close[after.t].unsqueeze(1))
    assert torch.equal(outcome.nav_after, worth)


def test_a_batch_is_its_rows_one_by_one(random_market: Build) -> None:
    """Over whole episodes of every kind of session, each row with its own holds and orders."""
    market = random_market(3, sessions=150)
    prices = Prices.of(market, CASH_RATE)
    random = np.random.default_rng(3)
    n_envs = 12
    start = torch.tensor(random.integers(0, 10, n_envs))
    scale = torch.tensor(random.choice([1.0, 4.0], (n_envs, 1)))
    together = reset(start, 1e5, 3, 6)
    alone = [reset(start[[row]], 1e5, 3, 6) for row in range(n_envs)]
    for _ in range(135):
        orders = long_only(random, n_envs, 3, 6)
        idle = torch.tensor(random.random((n_envs, 3, 1)) < 0.3)
        target = torch.where(idle, held_weights(together, prices), orders)
        together, _ = step(together, target, prices, ALL_COSTS, scale)
        for row, books in enumerate(alone):
            own = torch.where(idle[[row]], held_weights(books, prices), orders[[row]])
            alone[row], _ = step(books, own, prices, ALL_COSTS, scale[[row]])
    for row, books in enumerate(alone):
        for item in fields(Books):
            torch.testing.assert_close(
                getattr(books, item.name)[0], getattr(together, item.name)[row], rtol=1e-9, atol=0.0
            )


def run(
    prices: Prices, targets: torch.Tensor, model: CostModel, capital: float = 1e5
) -> tuple[Books, torch.Tensor]:
    """Follow (T, E, A, N) targets; return the last books and the (T, E, A) NAVs."""
    _, n_envs, n_agents, n_assets = targets.shape
    books = reset(torch.arange(n_envs), capital, n_agents, n_assets)
    values = []
    for target in targets:
        books, outcome = step(books, target, prices, model, ONE)
        values.append(outcome.nav_after)
    return books, torch.stack(values)


@pytest.fixture(scope="module")
def targets() -> torch.Tensor:
    random = np.random.default_rng(5)
    return torch.stack([long_only(random, 4, 3, 6) for _ in range(60)])


@pytest.mark.parametrize("model", [LINEAR, ALL_COSTS])
def test_environments_do_not_know_each_other(
    random_market: Build, targets: torch.Tensor, model: CostModel
) -> None:
    prices = Prices.of(random_market(5), CASH_RATE)
    _, values = run(prices, targets, model)
    crowd = targets.clone()
    crowd[:, 1:] = crowd[:, 1:].roll(7, dims=0)
    _, others_differ = run(prices, crowd, model)
    assert torch.equal(values[:, 0], others_differ[:, 0])
    assert not torch.equal(values[:, 1], others_differ[:, 1])


@pytest.mark.parametrize("model", [LINEAR, ALL_COSTS])
def test_the_order_of_agents_means_nothing(
    random_market: Build, targets: torch.Tensor, model: CostModel
) -> None:
    prices = Prices.of(random_market(5), CASH_RATE)
    order = [2, 0, 1]
    books, _ = run(prices, targets, model)
    permuted, _ = run(prices, targets[:, :, order], model)
    for item in fields(Books):
        torch.testing.assert_close(
            getattr(permuted, item.name),
            getattr(agents_of(books, order), item.name),
            rtol=1e-9,
            atol=1e-6,
        )


def test_without_impact_an_agent_is_alone(random_market: Build, targets: torch.Tensor) -> None:
    prices = Prices.of(random_market(5), CASH_RATE)
    _, values = run(prices, targets, LINEAR)
    _, without_last = run(prices, targets[:, :, :2], LINEAR)
    assert torch.equal(values[:, :, :2], without_last)


def test_with_impact_an_agent_feels_the_others_flow_and_nothing_else(
    random_market: Build, targets: torch.Tensor
) -> None:
    """Two equal books are felt as one of twice the size, and a book in cash is not felt."""
    prices = Prices.of(random_market(5), 0.0)
    own, other = targets[:, :, 0], targets[:, :, 1]
    _, alone = run(prices, own.unsqueeze(2), ALL_COSTS)
    _, beside_cash = run(prices, torch.stack([own, torch.zeros_like(own)], 2), ALL_COSTS)
    _, beside_two = run(prices, torch.stack([own, other, other], 2), ALL_COSTS)
    torch.testing.assert_close(beside_cash[:, :, 0], alone[:, :, 0], rtol=1e-12, atol=0.0)
    assert (beside_two[-1, :, 0] != alone[-1, :, 0]).all()

    books = reset(torch.arange(4), 1e5, 2, 6)
    double = Books(books.t, books.cash * torch.tensor([1.0, 2.0]), books.shares, books.peak_nav)
    for k, target in enumerate(torch.stack([own, other], 2)):
        double, outcome = step(double, target, prices, ALL_COSTS, ONE)
        torch.testing.assert_close(outcome.nav_after[:, 0], beside_two[k, :, 0], rtol=1e-9, atol=0)


def test_a_crowd_makes_its_members_pay_more(plain_market: Build) -> None:
    prices = Prices.of(plain_market(np.full((3, 2), 10.0), adv=np.full((3, 2), 1e6)), 0.0)
    one, _ = run(prices, weights([0.5, 0.5]).unsqueeze(0), ALL_COSTS)
    many, _ = run(prices, weights(*[[0.5, 0.5]] * 4).unsqueeze(0), ALL_COSTS)
    assert (many.cash + many.shares.sum(-1) * 10.0 < one.cash + one.shares.sum(-1) * 10.0).all()


def test_capital_scales_every_number_under_linear_costs(
    random_market: Build, targets: torch.Tensor
) -> None:
    prices = Prices.of(random_market(5), CASH_RATE)
    _, small = run(prices, targets, LINEAR, capital=1e3)
    _, large = run(prices, targets, LINEAR, capital=3e8)
    torch.testing.assert_close(large / 3e5, small, rtol=1e-9, atol=0.0)


def follow_fixed_trades(prices: Prices, trades: Array, model: CostModel) -> tuple[float, float]:
    """Trade (T, N) notionals whatever they cost; return the final NAV and the sum of costs."""
    books = reset(torch.tensor([0]), 1e6, 1, trades.shape[1])
    paid = 0.0
    for t, trade in enumerate(trades):
        fill = prices.open[t + 1].numpy()
        owed = np.maximum(-books.shares.numpy()[0, 0] * prices.close[t].numpy(), 0.0).sum()
        cash = books.cash.item() - owed * model.borrow_rate / 252
        held = books.shares.numpy()[0, 0] * fill
        cost = sum(numpy_costs(trade[None, None], np.array([t]), prices, model, np.ones((1, 1))))
        left = cash + held.sum() - cost.item()
        target = torch.tensor((held + trade) / left).reshape(1, 1, -1)
        books, outcome = step(books, target, prices, model, ONE)
        np.testing.assert_allclose(outcome.trade.numpy()[0, 0], trade, rtol=0.0, atol=1e-3)
        paid += outcome.cost.total.item()
    return outcome.nav_after.item(), paid


@pytest.mark.parametrize("name", ["commission_bp", "spread_bp", "impact", "borrow_rate"])
def test_for_fixed_trades_nav_falls_strictly_as_each_cost_parameter_rises(
    random_market: Build, name: str
) -> None:
    market = random_market(8, sessions=25, hostile=False)
    prices = Prices.of(market, 0.0)
    trades = np.random.default_rng(8).normal(0.0, 4e4, (20, 6))  # into shorts, too
    dearer = [replace(FREE, **{name: value}) for value in (0.0, 1e-3, 0.1, 1.0, 2.0)]
    finals = [follow_fixed_trades(prices, trades, model) for model in dearer]
    values = [value for value, _ in finals]
    assert all(high > low for high, low in pairwise(values))
    for value, paid in finals:
        assert values[0] - value == pytest.approx(paid, abs=0.1)


def test_a_hand_computed_round_trip(plain_market: Build) -> None:
    """10 000 into one name and out again at the same price, 5 bp and 8 bp / 2 each way.

    In: x + 0.0009 x = 10 000, x = 9991.008093. Out: 9991.008093 x 0.9991 = 9982.016186.
    """
    prices = Prices.of(plain_market(np.full((3, 1), 25.0)), 0.0)
    model = CostModel(commission_bp=5.0, spread_bp=8.0, impact=0.0, borrow_rate=0.0)
    books, bought = step(reset(torch.tensor([0]), 1e4, 1, 1), weights([1.0]), prices, model, ONE)
    assert bought.trade.item() == pytest.approx(9991.008093, abs=1e-6)
    assert bought.cost.commission.item() == pytest.approx(4.995504, abs=1e-6)
    assert bought.cost.spread.item() == pytest.approx(3.996403, abs=1e-6)
    assert books.cash.item() == pytest.approx(0.0, abs=1e-8)
    books, sold = step(books, weights([0.0]), prices, model, ONE)
    assert sold.trade.item() == -bought.trade.item()
    assert sold.cost.total.item() == pytest.approx(bought.cost.total.item())
    assert books.cash.item() == pytest.approx(9982.016186, abs=1e-6)
    assert not books.shares.any()


def test_the_fill_is_at_the_open_and_the_mark_at_the_close(plain_market: Build) -> None:
    prices = Prices.of(plain_market(np.array([[10.0], [16.0]]), np.array([[9.0], [20.0]])), 0.0)
    books, outcome = step(reset(torch.tensor([0]), 100.0, 1, 1), weights([1.0]), prices, FREE, ONE)
    assert books.shares.item() == 5.0
    assert outcome.nav_after.item() == 80.0


def test_trades_at_the_open_do_not_know_the_close(random_market: Build) -> None:
    market = random_market(11)
    random = np.random.default_rng(11)
    books, _ = run(Prices.of(market, 0.0), torch.stack([long_only(random, 4, 3, 6)] * 9), ALL_COSTS)
    later = market.close.clone()
    for row in books.t.tolist():
        later[row + 1 :] *= 1.7
    changed = replace(market, close=later)
    assert bool((books.t == torch.arange(9, 13)).all())
    for row in range(4):
        own, target = rows_of(books, [row]), long_only(random, 1, 3, 6)
        close = market.close.clone()
        close[own.t.item() + 1 :] = changed.close[own.t.item() + 1 :]
        _, here = step(own, target, Prices.of(market, 0.0), ALL_COSTS, ONE)
        other = Prices.of(replace(market, close=close), 0.0)
        _, there = step(own, target, other, ALL_COSTS, ONE)
        assert torch.equal(here.trade, there.trade)
        assert torch.equal(here.cost.total, there.cost.total)


def test_money_is_float64_from_end_to_end(random_market: Build) -> None:
    prices = Prices.of(random_market(0), CASH_RATE)
    target = long_only(np.random.default_rng(0), 2, 3, 6)
    books, outcome = step(reset(torch.tensor([0, 5]), 1e5, 3, 6), target, prices, ALL_COSTS, ONE)
    money = [books.cash, books.shares, books.peak_nav, outcome.nav_after, outcome.nav_before]
    money += [outcome.turnover, outcome.trade, outcome.cost.total, held_weights(books, prices)]
    assert {tensor.dtype for tensor in money} == {torch.float64}
