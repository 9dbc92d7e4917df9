"""The projection keeps every limit, adds nothing, and lets gradients through."""

import dataclasses
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from risk.limits import Limits
from risk.projection import (
    LimitTensors,
    SectorTensors,
    blend_for_turnover,
    book_variance,
    project,
    sector_index,
)

FREE = Limits(1.0, 1.0, 1.0, 0.0, 1.0, 2.0, 10.0)
MIXED = (
    Limits(0.15, 0.35, 0.35, 0.02, 1.0, 1.0, 0.10),
    Limits(0.20, 0.40, 0.40, 0.00, 1.0, 1.0, 0.15),
    Limits(0.25, 0.50, 0.50, 0.00, 1.0, 1.0, 0.25),
)


@dataclass(slots=True)
class Case:
    """One call of `project`."""

    weights: Tensor
    held: Tensor
    limits: list[Limits]
    sector_of: Tensor
    n_sectors: int
    beta: Tensor
    market_volatility: Tensor
    idiosyncratic_volatility: Tensor

    def run(self) -> Tensor:
        return project(
            self.weights,
            self.held,
            LimitTensors.stack(self.limits),
            SectorTensors.of(self.sector_of, self.n_sectors),
            self.beta,
            self.market_volatility,
            self.idiosyncratic_volatility,
        )


def random_weights(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """From flat to a single name, with exact zeros, ties and cash."""
    spread = 8.0 * torch.rand(*shape[:-1], 1, generator=generator, dtype=torch.float64)
    logits = spread * torch.randn(*shape, generator=generator, dtype=torch.float64)
    weights = torch.softmax(logits.round(decimals=0), dim=-1)
    weights = torch.where(weights < 1e-3, 0.0, weights)
    return weights * torch.rand(*shape[:-1], 1, generator=generator, dtype=torch.float64)


def random_case(limits: list[Limits], names: int, seed: int, environments: int = 3) -> Case:
    generator = torch.Generator().manual_seed(seed)
    books = (environments, len(limits), names)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    n_sectors = int(torch.randint(1, names + 1, (1,), generator=generator))
    return Case(
        random_weights(books, generator),
        random_weights(books, generator),
        limits,
        torch.randint(0, n_sectors, (names,), generator=generator),
        n_sectors,
        2.0 * uniform(environments, names) - 0.5,
        0.8 * uniform(environments),
        0.8 * uniform(environments, names),
    )


fractions = st.floats(0.01, 1.0)
some_limits = st.builds(
    Limits,
    max_weight=fractions,
    max_sector=fractions,
    max_top3=fractions,
    min_cash=st.floats(0.0, 0.9),
    max_gross=fractions,
    max_turnover=st.floats(0.01, 2.0),
    max_volatility=st.floats(0.01, 1.0),
)
cases = st.builds(
    random_case,
    limits=st.lists(some_limits, min_size=1, max_size=4),
    names=st.integers(1, 60),
    seed=st.integers(0, 2**31),
)


def single(weights: list[float], limits: Limits, **changes: object) -> list[float]:
    """Project one book of names with no market risk, each its own sector, held at the target."""
    names = len(weights)
    target = torch.tensor([[weights]], dtype=torch.float64)
    case = Case(
        target,
        target,
        [limits],
        torch.arange(names),
        names,
        torch.ones(1, names, dtype=torch.float64),
        torch.zeros(1, dtype=torch.float64),
        torch.zeros(1, names, dtype=torch.float64),
    )
    for name, value in changes.items():
        setattr(case, name, value)
    result: list[float] = case.run()[0, 0].tolist()
    return result


@settings(max_examples=150, deadline=None)
@given(cases)
def test_every_limit_holds_whatever_is_asked_for(case: Case) -> None:
    projected = case.run()
    limits = LimitTensors.stack(case.limits)
    tolerance = 1e-9
    assert torch.isfinite(projected).all()
    assert (projected >= 0.0).all()
    assert (projected <= limits.max_weight[:, None] + tolerance).all()
    for sector in range(case.n_sectors):
        total = projected[..., case.sector_of == sector].sum(-1)
        assert (total <= limits.max_sector + tolerance).all()
    top3 = projected.sort(dim=-1, descending=True).values[..., :3].sum(-1)
    assert (top3 <= limits.max_top3 + tolerance).all()
    gross = torch.tensor([limit.max_gross for limit in case.limits], dtype=torch.float64)
    cash = torch.tensor([limit.min_cash for limit in case.limits], dtype=torch.float64)
    assert (projected.sum(-1) <= gross + tolerance).all()
    assert (1.0 - projected.sum(-1) >= cash - tolerance).all()
    variance = book_variance(
        projected, case.beta, case.market_volatility, case.idiosyncratic_volatility
    )
    assert (variance.sqrt() <= limits.max_volatility + tolerance).all()


@settings(max_examples=100, deadline=None)
@given(cases)
def test_the_blend_keeps_turnover_and_nothing_after_it_adds_to_any_name(case: Case) -> None:
    limits = LimitTensors.stack(case.limits)
    blended = blend_for_turnover(case.weights, case.held, limits.max_turnover)
    assert ((blended - case.held).abs().sum(-1) <= limits.max_turnover + 1e-12).all()
    assert (case.run() <= blended).all()


@settings(max_examples=50, deadline=None)
@given(cases)
def test_nothing_changes_by_one_bit_where_no_limit_binds(case: Case) -> None:
    case.limits = [FREE] * len(case.limits)
    assert torch.equal(case.run(), case.weights)


def test_a_book_exactly_at_its_limits_passes() -> None:
    weights = [0.25, 0.25, 0.125, 0.125]
    limits = dataclasses.replace(FREE, max_weight=0.25, max_top3=0.625, max_gross=0.75)
    limits.max_sector = 0.5
    sectors = torch.tensor([0, 0, 1, 1])
    assert single(weights, limits, sector_of=sectors, n_sectors=2) == weights


@settings(max_examples=50, deadline=None)
@given(cases)
def test_a_held_book_within_its_limits_stays(case: Case) -> None:
    once = case.run()
    case.weights = case.held = once
    torch.testing.assert_close(case.run(), once, rtol=0.0, atol=1e-14)


@settings(max_examples=50, deadline=None)
@given(cases)
def test_a_batch_equals_its_books_one_by_one(case: Case) -> None:
    together = case.run()
    for environment in range(case.weights.shape[0]):
        for book, limits in enumerate(case.limits):
            rows = slice(environment, environment + 1)
            alone = dataclasses.replace(
                case,
                weights=case.weights[rows, book : book + 1],
                held=case.held[rows, book : book + 1],
                limits=[limits],
                beta=case.beta[rows],
                market_volatility=case.market_volatility[rows],
                idiosyncratic_volatility=case.idiosyncratic_volatility[rows],
            ).run()
            torch.testing.assert_close(
                alone[0, 0], together[environment, book], rtol=0.0, atol=1e-12
            )


@settings(max_examples=50, deadline=None)
@given(cases, st.integers(0, 2**31))
def test_renaming_the_assets_renames_the_result(case: Case, seed: int) -> None:
    order = torch.randperm(case.weights.shape[-1], generator=torch.Generator().manual_seed(seed))
    renamed = dataclasses.replace(
        case,
        weights=case.weights[..., order],
        held=case.held[..., order],
        sector_of=case.sector_of[order],
        beta=case.beta[:, order],
        idiosyncratic_volatility=case.idiosyncratic_volatility[:, order],
    )
    torch.testing.assert_close(renamed.run(), case.run()[..., order], rtol=0.0, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(cases)
def test_gradients_are_finite_everywhere(case: Case) -> None:
    case.weights.requires_grad_()
    case.held.requires_grad_()
    projected = case.run()
    noise = torch.randn(projected.shape, generator=torch.Generator().manual_seed(1))
    (projected * noise).sum().backward()
    for tensor in (case.weights, case.held):
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()


@pytest.mark.parametrize("weights", [[0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
def test_gradients_are_finite_and_alive_at_both_ends(weights: list[float]) -> None:
    target = torch.tensor([[weights]], dtype=torch.float64, requires_grad=True)
    case = random_case([FREE], names=4, seed=3, environments=1)
    case.weights, case.held = target, target.detach()
    case.run().sum().backward()
    assert target.grad is not None
    assert torch.equal(target.grad, torch.ones_like(target))


@pytest.mark.parametrize("seed", range(5))
def test_every_name_that_is_not_cut_to_a_cap_has_a_live_gradient(seed: int) -> None:
    case = random_case(list(MIXED), names=12, seed=seed)
    case.weights = (case.weights + 0.01).requires_grad_()
    projected = case.run()
    weights = case.weights
    # The Jacobian's own diagonal: what a name's result does when its own target moves.
    for index in range(12):
        (gradient,) = torch.autograd.grad(projected[..., index].sum(), weights, retain_graph=True)
        largest = projected.detach().amax(-1)
        below_caps = projected.detach()[..., index] < largest - 1e-9
        assert (gradient[..., index][below_caps].abs() > 0.0).all()


@pytest.mark.parametrize("seed", range(3))
def test_gradients_equal_finite_differences(seed: int) -> None:
    case = random_case(list(MIXED), names=6, seed=seed, environments=2)
    # Away from ties and zeros, where a minimum has two slopes.
    shift = torch.linspace(0.01, 0.03, case.weights.numel(), dtype=torch.float64)
    start = case.weights + shift.reshape(case.weights.shape)

    def run(weights: Tensor) -> Tensor:
        return dataclasses.replace(case, weights=weights).run()

    assert torch.autograd.gradcheck(run, (start.requires_grad_(),), eps=1e-7, atol=1e-5)


def test_one_name_is_cut_to_its_cap_and_the_rest_becomes_cash() -> None:
    limits = dataclasses.replace(FREE, max_weight=0.3)
    assert single([0.5, 0.2, 0.3], limits) == [0.3, 0.2, 0.3]


def test_the_names_of_a_heavy_sector_shrink_in_proportion() -> None:
    limits = dataclasses.replace(FREE, max_sector=0.4)
    sectors = torch.tensor([0, 0, 1])
    result = single([0.6, 0.2, 0.2], limits, sector_of=sectors, n_sectors=2)
    assert result == pytest.approx([0.3, 0.1, 0.2], abs=1e-15)


@pytest.mark.parametrize(
    ("weights", "limit", "expected"),
    [
        ([0.6, 0.1, 0.1, 0.1], 0.5, [0.3, 0.1, 0.1, 0.1]),  # one name gives
        ([0.5, 0.3, 0.1, 0.1], 0.6, [0.25, 0.25, 0.1, 0.1]),  # two give: (0.6 - 0.1) / 2
        ([0.4, 0.3, 0.2, 0.1], 0.45, [0.15, 0.15, 0.15, 0.1]),  # three give: 0.45 / 3
        ([0.25, 0.25, 0.25, 0.25], 0.6, [0.2, 0.2, 0.2, 0.2]),  # the fourth follows
        ([0.7, 0.3], 0.5, [0.25, 0.25]),  # a universe of two
        ([0.9], 0.5, [0.5]),  # and of one
    ],
)
def test_the_three_largest_are_levelled(
    weights: list[float], limit: float, expected: list[float]
) -> None:
    limits = dataclasses.replace(FREE, max_top3=limit)
    assert single(weights, limits) == pytest.approx(expected, abs=1e-15)


def test_the_cash_floor_shrinks_all_names_alike() -> None:
    limits = dataclasses.replace(FREE, min_cash=0.2)
    assert single([0.75, 0.25], limits) == pytest.approx([0.6, 0.2], abs=1e-15)


def test_a_volatile_book_is_scaled_to_its_limit() -> None:
    # One name: beta 1 of a 20 % market and 15 % of its own make 25 %; 10 % is 0.4 of it.
    limits = dataclasses.replace(FREE, max_volatility=0.10)
    result = single(
        [1.0],
        limits,
        market_volatility=torch.tensor([0.20], dtype=torch.float64),
        idiosyncratic_volatility=torch.tensor([[0.15]], dtype=torch.float64),
    )
    assert result == pytest.approx([0.4], abs=1e-15)


def test_a_large_trade_goes_part_of_the_way() -> None:
    # From the first name to the second is a turnover of 2; a quarter of it may be traded.
    limits = dataclasses.replace(FREE, max_turnover=0.5)
    held = torch.tensor([[[1.0, 0.0]]], dtype=torch.float64)
    assert single([0.0, 1.0], limits, held=held) == pytest.approx([0.75, 0.25], abs=1e-15)


def test_a_forced_sale_may_trade_more_than_the_turnover_limit() -> None:
    limits = dataclasses.replace(FREE, max_turnover=0.1, max_weight=0.3)
    assert single([1.0, 0.0], limits) == [0.3, 0.0]


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Limits)])
def test_each_limit_changes_some_book(name: str) -> None:
    tight = 0.5 if name == "min_cash" else 0.05
    case = random_case([FREE], names=8, seed=4)
    case.weights = torch.full_like(case.weights, 0.1)
    loose = case.run()
    case.limits = [dataclasses.replace(FREE, **{name: tight})]
    assert not torch.equal(case.run(), loose)


def test_names_of_unknown_sector_are_not_limited_together() -> None:
    sector_of, n_sectors = sector_index(["unknown"] * 4)
    limits = dataclasses.replace(FREE, max_sector=0.3)
    result = single([0.25] * 4, limits, sector_of=sector_of, n_sectors=n_sectors)
    assert result == [0.25] * 4


def test_an_unknown_volatility_does_not_pass_for_a_low_one() -> None:
    unknown = torch.tensor([torch.nan], dtype=torch.float64)
    assert torch.tensor(single([0.5, 0.5], FREE, market_volatility=unknown)).isnan().all()


@pytest.mark.parametrize("seed", range(20))
def test_a_fully_invested_book_still_feels_its_exposure(seed: int) -> None:
    # A softmax sums to 1 only up to rounding, and either side of 1 must have a gradient.
    case = random_case([FREE], names=20, seed=seed, environments=1)
    logits = torch.randn(1, 1, 20, generator=torch.Generator().manual_seed(seed)).double()
    exposure = torch.ones(1, 1, 1, dtype=torch.float64, requires_grad=True)
    case.weights = exposure * torch.softmax(logits, dim=-1)
    case.run().sum().backward()
    assert exposure.grad is not None
    assert exposure.grad.item() == pytest.approx(1.0)
