"""What is called a breach is what the projection changes, and by how much."""

import dataclasses
from dataclasses import fields

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from risk.breaches import Bounds, breaches, changes
from risk.limits import Limits
from risk.projection import ROUNDING, LimitTensors, SectorTensors, project

FREE = Limits(1.0, 1.0, 1.0, 0.0, 1.0, 2.0, 10.0)
NAMES = 6

fraction = st.floats(0.01, 1.0)
some_limits = st.builds(
    Limits,
    max_weight=fraction,
    max_sector=fraction,
    max_top3=fraction,
    min_cash=st.floats(0.0, 0.9),
    max_gross=fraction,
    max_turnover=st.floats(0.01, 2.0),
    max_volatility=st.floats(0.01, 1.0),
)


def book(*weights: float) -> Tensor:
    """Return one book of one environment."""
    return torch.tensor([[weights]], dtype=torch.float64)


def bounds(limits: list[Limits], sectors: list[int], environments: int = 1) -> Bounds:
    """Return the limits on a day without any risk."""
    names = (environments, len(sectors))
    return Bounds(
        LimitTensors.stack(limits),
        SectorTensors.of(torch.tensor(sectors), max(sectors) + 1),
        torch.ones(names, dtype=torch.float64),
        torch.zeros(environments, dtype=torch.float64),
        torch.zeros(names, dtype=torch.float64),
    )


def drawn(limits: list[Limits], seed: int) -> tuple[Tensor, Tensor, Bounds]:
    """Draw weights and holdings of two environments, from cash to a single name, with ties."""
    generator = torch.Generator().manual_seed(seed)
    shape = (2, len(limits), NAMES)

    def uniform(*size: int) -> Tensor:
        return torch.rand(*size, generator=generator, dtype=torch.float64)

    def weights() -> Tensor:
        spread = 6.0 * uniform(*shape[:-1], 1)
        return torch.softmax((spread * uniform(*shape)).round(), -1) * uniform(*shape[:-1], 1)

    sectors = torch.randint(0, NAMES, (NAMES,), generator=generator).tolist()
    risk = {
        "beta": 2.0 * uniform(2, NAMES) - 0.5,
        "market_volatility": 0.6 * uniform(2),
        "idiosyncratic_volatility": 0.6 * uniform(2, NAMES),
    }
    return weights(), weights(), dataclasses.replace(bounds(limits, sectors, 2), **risk)


def projected(weights: Tensor, held: Tensor, within: Bounds) -> Tensor:
    return project(weights, held, *(getattr(within, item.name) for item in fields(within)))


def names(weights: Tensor, limits: Limits, held: Tensor | None = None) -> list[str]:
    """Return the breaches of one book, the first two names of which share a sector."""
    sectors = [max(0, index - 1) for index in range(weights.shape[-1])]
    ((found,),) = breaches(weights, weights if held is None else held, bounds([limits], sectors))
    return found


@pytest.mark.parametrize(
    ("limit", "value", "broken"),
    [
        ("max_weight", 0.39, "max_weight"),
        ("max_top3", 0.89, "max_top3"),
        ("min_cash", 0.02, "max_invested"),
        ("max_gross", 0.98, "max_invested"),
    ],
)
def test_a_book_breaks_exactly_the_limit_that_it_is_above(
    limit: str, value: float, broken: str
) -> None:
    weights = book(0.2, 0.4, 0.3, 0.09)
    assert names(weights, FREE) == []
    assert names(weights, dataclasses.replace(FREE, **{limit: value})) == [broken]


def test_a_sector_counts_all_its_names_and_a_name_alone_is_one() -> None:
    limits = dataclasses.replace(FREE, max_sector=0.5)
    assert names(book(0.3, 0.3, 0.1), limits) == ["max_sector"]
    assert names(book(0.1, 0.1, 0.6), limits) == ["max_sector"]
    assert names(book(0.25, 0.25, 0.5), limits) == []


def test_turnover_is_what_would_be_traded() -> None:
    limits = dataclasses.replace(FREE, max_turnover=0.5)
    assert names(book(0.4, 0.2), limits, held=book(0.1, 0.2)) == []
    assert names(book(0.4, 0.2), limits, held=book(0.1, 0.5)) == ["max_turnover"]


def test_volatility_is_that_of_market_and_names_together() -> None:
    day = dataclasses.replace(
        bounds([dataclasses.replace(FREE, max_volatility=0.25)], [0]),
        market_volatility=torch.tensor([0.20], dtype=torch.float64),
        idiosyncratic_volatility=torch.tensor([[0.15]], dtype=torch.float64),
    )
    assert breaches(book(1.0), book(1.0), day) == [[[]]]  # beta 1: sqrt(0.2² + 0.15²) = 0.25
    tight = dataclasses.replace(FREE, max_volatility=0.24)
    day = dataclasses.replace(day, limits=LimitTensors.stack([tight]))
    assert breaches(book(1.0), book(1.0), day) == [[["max_volatility"]]]


def test_a_sum_that_rounding_lifted_above_its_limit_is_at_it() -> None:
    assert names(book(0.5, 0.5 * ROUNDING), FREE) == []
    assert names(book(0.5, 0.5 * (1.0 + 1e-9)), FREE) == [
        "max_sector",
        "max_top3",
        "max_invested",
    ]


def test_an_unknown_weight_breaks_every_limit() -> None:
    found = names(book(torch.nan, 0.1), FREE)
    assert found == [item.name for item in fields(LimitTensors)]


@settings(max_examples=200, deadline=None)
@given(st.lists(some_limits, min_size=1, max_size=3), st.integers(0, 2**31))
def test_weights_without_a_breach_pass_the_projection_bit_for_bit(
    limits: list[Limits], seed: int
) -> None:
    weights, held, within = drawn(limits, seed)
    weights, held = 0.3 * weights, 0.3 * held  # else hardly any book would be within all limits
    after, moved = projected(weights, held, within), changes(weights, held, within)
    for e, books in enumerate(breaches(weights, held, within)):
        for a, found in enumerate(books):
            if not found:
                assert torch.equal(after[e, a], weights[e, a])
                assert all(by[e, a] == 0.0 for by in moved.values())


@settings(max_examples=100, deadline=None)
@given(st.lists(some_limits, min_size=1, max_size=3), st.integers(0, 2**31))
def test_a_breach_other_than_turnover_is_changed_by_the_projection(
    limits: list[Limits], seed: int
) -> None:
    weights, _, within = drawn(limits, seed)
    after = projected(weights, weights, within)  # nothing is traded: turnover has no say
    for e, books in enumerate(breaches(weights, weights, within)):
        for a, found in enumerate(books):
            assert bool(found) == (not torch.equal(after[e, a], weights[e, a]))


@settings(max_examples=100, deadline=None)
@given(st.lists(some_limits, min_size=1, max_size=3), st.integers(0, 2**31))
def test_the_steps_cover_the_whole_distance(limits: list[Limits], seed: int) -> None:
    weights, held, within = drawn(limits, seed)
    distance = (projected(weights, held, within) - weights).abs().sum(-1)
    moved = torch.stack(list(changes(weights, held, within).values()))
    assert (moved >= 0.0).all()
    assert (moved.sum(0) >= distance - 1e-12).all()
    # Without the blend every step only takes away, so nothing is walked twice.
    distance = (projected(weights, weights, within) - weights).abs().sum(-1)
    moved = torch.stack(list(changes(weights, weights, within).values()))
    torch.testing.assert_close(moved.sum(0), distance, rtol=0.0, atol=1e-12)


def test_each_limit_is_named_for_what_it_moves() -> None:
    weights = book(0.2, 0.4, 0.3, 0.1)
    sectors = [0, 0, 1, 2]
    expected = {
        "max_weight": (dataclasses.replace(FREE, max_weight=0.3), 0.1),
        "max_sector": (dataclasses.replace(FREE, max_sector=0.45), 0.15),
        "max_top3": (dataclasses.replace(FREE, max_top3=0.8), 0.1),
        "max_invested": (dataclasses.replace(FREE, min_cash=0.1), 0.1),
        "max_turnover": (dataclasses.replace(FREE, max_turnover=0.5), 0.5),
    }
    for name, (limits, distance) in expected.items():
        held = torch.zeros_like(weights) if name == "max_turnover" else weights
        moved = changes(weights, held, bounds([limits], sectors))
        found = {limit: by.item() for limit, by in moved.items() if by.item()}
        assert found == {name: pytest.approx(distance, abs=1e-12)}
