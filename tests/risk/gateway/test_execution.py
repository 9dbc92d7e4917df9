"""Limits lie on a tick inside the collar; slices sum to their parent and none is too large."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from risk.checks.arithmetic import exactly, gap
from risk.checks.order import tick
from risk.gateway.execution import (
    ExecutionSettings,
    Schedule,
    cut,
    limit_price,
    slices_until,
)
from risk.gateway.records import Side

D = Decimal
NOW = datetime(2024, 3, 6, 16, 0, tzinfo=UTC)
VALID = ("0.003", "0.002", "0.005", "1", "0.001", 300, Schedule.twap, 20)


@given(
    side=st.sampled_from(Side),
    reference=st.decimals("0.0002", 5000, places=4),
    offset=st.decimals(0, "0.05", places=4),
    collar=st.decimals("0.0001", "0.05", places=4),
)
def test_a_limit_lies_on_a_tick_inside_the_collar(
    side: Side, reference: Decimal, offset: Decimal, collar: Decimal
) -> None:
    with exactly():
        price = limit_price(side, reference, offset, collar)
        if price is None:  # then the nearest ticks on both sides lie outside it
            step = tick(reference)
            below = (reference // step) * step
            assert not gap(below, reference) <= collar or below == 0
            return
        assert price % tick(price) == 0
        assert gap(price, reference) <= collar


def test_a_buy_pays_a_little_more_and_a_sell_takes_a_little_less() -> None:
    reference, offset, collar = D("123.456"), D("0.003"), D("0.015")
    assert limit_price(Side.buy, reference, offset, collar) == D("123.82")
    assert limit_price(Side.sell, reference, offset, collar) == D("123.09")
    assert limit_price(Side.buy, reference, D("0.02"), D("0.001")) == D("123.57")


def test_a_cheap_share_is_bought_on_the_next_tick_rather_than_below_the_market() -> None:
    assert limit_price(Side.buy, D("5.004"), D("0.001"), D("0.015")) == D("5.01")
    assert limit_price(Side.sell, D("5.006"), D("0.001"), D("0.015")) == D("5.00")
    assert limit_price(Side.buy, D("1.004"), D("0.001"), D("0.001")) is None


steps = st.sampled_from((D(1), D("0.000001")))


@given(
    shares=st.integers(1, 100_000),
    step=steps,
    preferred=st.decimals(0, 2000, places=3),
    largest=st.decimals("0.01", 5000, places=3),
    schedule=st.sampled_from(Schedule),
    most=st.integers(0, 12),
)
def test_slices_are_whole_steps_none_too_large_and_never_more_than_the_parent(
    shares: int, step: Decimal, preferred: Decimal, largest: Decimal, schedule: Schedule, most: int
) -> None:
    with exactly():
        quantity = shares * step
        slices = cut(quantity, step, preferred, largest, schedule, most)
        assert len(slices) <= most
        assert all(0 < item <= largest and item % step == 0 for item in slices)
        total = sum(slices, D(0))
        assert total <= quantity
        if schedule is Schedule.twap and quantity <= most * (largest // step) * step:
            assert total == quantity


def test_vwap_trades_more_near_the_ends_of_the_day() -> None:
    slices = cut(D(1000), D(1), D(300), D(1000), Schedule.vwap, 10)
    assert sum(slices) == 1000
    assert slices[0] > slices[len(slices) // 2] < slices[-1]


def test_as_many_slices_as_start_before_the_end() -> None:
    assert slices_until(NOW, NOW + timedelta(seconds=599), 300, 10) == 2
    assert slices_until(NOW, NOW + timedelta(seconds=600), 300, 10) == 3
    assert slices_until(NOW, NOW + timedelta(hours=9), 300, 10) == 10
    assert slices_until(NOW, None, 300, 10) == 10


@pytest.mark.parametrize(
    ("row", "name", "value"),
    [
        (0, "limit_offset", "0.051"),
        (1, "drift_band", "-0.1"),
        (2, "headroom", "0.6"),
        (3, "min_notional", "0"),
        (4, "slice_adv", "0"),
        (4, "slice_adv", "NaN"),
        (5, "slice_interval_s", 0),
        (7, "max_trades_day", 0),
    ],
)
def test_a_setting_outside_its_range_is_refused_by_name(row: int, name: str, value: object) -> None:
    values = list(VALID)
    values[row] = value  # type: ignore[call-overload]
    with pytest.raises(ValueError, match=f"{name} must be"):
        ExecutionSettings(*values)  # type: ignore[arg-type]
