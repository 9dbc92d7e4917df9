"""Which session is answered, from which data, and what an answer holds."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest

from agents import artefact
from market.bars import Bars
from market.errors import InputError
from risk.access.errors import NotAnswered, Reason
from serving.desk import Desk
from serving.questions import CASH


@pytest.fixture(scope="module")
def desk(world: Any) -> Desk:
    return open_desk(world, world.data)


def open_desk(world: Any, data: Any) -> Desk:
    trained = artefact.load(world.artefact(1))
    return Desk(trained, data, world.serving.desk, world.config.env, "XNYS", 0.0)


def refusal(desk: Desk, as_of: str | None, now: datetime) -> NotAnswered:
    with pytest.raises(NotAnswered) as caught:
        desk.row(as_of, now)
    return caught.value


def test_without_a_date_the_last_completed_session_is_answered(desk: Desk, world: Any) -> None:
    row = desk.row(None, world.now)
    assert row == desk.last_row
    assert desk.opinion(row, world.now).as_of == world.last


def test_while_a_session_runs_the_one_before_it_is_answered(desk: Desk, world: Any) -> None:
    during = datetime.fromisoformat(f"{world.last}T15:00:00+00:00")
    assert desk.row(None, during) == desk.last_row - 1


def test_data_that_end_too_early_are_stale_and_say_so(desk: Desk, world: Any) -> None:
    found = refusal(desk, None, world.now + timedelta(days=7))
    assert found.reason is Reason.stale_data and found.retry_after == 60
    assert world.last in found.detail


def test_a_session_by_its_date_is_answered_however_long_ago(desk: Desk, world: Any) -> None:
    later = world.now + timedelta(days=365)
    row = desk.row(world.last, later)
    assert row == desk.last_row
    assert desk.opinion(row, later).data_age > 200


def test_a_session_that_has_not_closed_is_refused(desk: Desk, world: Any) -> None:
    tomorrow = (world.now + timedelta(days=1)).date().isoformat()
    assert refusal(desk, tomorrow, world.now).reason is Reason.outside_the_data


def test_a_session_that_the_policies_learned_from_is_refused(desk: Desk, world: Any) -> None:
    before = str(world.data.bars.dates[world.data.test.start - 1])
    assert refusal(desk, before, world.now).reason is Reason.outside_the_data
    assert desk.row(world.first, world.now) == world.data.test.start


def test_a_day_without_a_session_is_refused_with_the_next_one(desk: Desk, world: Any) -> None:
    days = world.data.bars.dates[world.data.test.start :]
    gap = next(day for day in days if day + 1 not in days)
    found = refusal(desk, str(gap + 1), world.now)
    assert found.reason is Reason.not_a_session and str(days[days > gap][0]) in found.detail


def test_a_session_that_the_data_lack_is_stale_not_unknown(desk: Desk, world: Any) -> None:
    later = world.now + timedelta(days=7)
    monday = np.busday_offset(world.last, 1).astype("datetime64[D]")
    assert refusal(desk, str(monday), later).reason is Reason.stale_data


def test_weights_sum_to_one_with_cash_for_the_account_and_every_agent(
    desk: Desk, world: Any
) -> None:
    opinion = desk.opinion(desk.last_row, world.now)
    books = [opinion.weights, *(agent["weights"] for agent in opinion.agents.values())]
    for weights in books:
        assert set(weights) == {*world.data.bars.symbols, CASH}
        assert sum(weights.values()) == pytest.approx(1.0, abs=1e-12)
        assert min(weights.values()) >= 0.0
    assert sum(agent["share"] for agent in opinion.agents.values()) == pytest.approx(1.0)
    for symbol in world.data.bars.symbols:
        netted = sum(a["share"] * a["weights"][symbol] for a in opinion.agents.values())
        assert opinion.weights[symbol] == pytest.approx(netted, abs=1e-12)


def test_an_answer_expires_with_the_next_sessions_execution_window(desk: Desk, world: Any) -> None:
    row = int(np.searchsorted(world.data.bars.dates, np.datetime64("2017-07-03"))) - 1
    # The third of July was a half day after a weekend; it opened at 13:30 UTC all the same.
    opinion = desk.opinion(row, world.now)
    assert opinion.as_of == "2017-06-30"
    assert opinion.expires_at == "2017-07-03T14:30:00+00:00"


def test_an_answer_is_made_once(desk: Desk, world: Any) -> None:
    row = desk.row("2017-06-30", world.now)
    first = desk.opinion(row, world.now)
    assert desk.known(row)
    again = desk.opinion(row, world.now)
    assert again.weights is first.weights and again.explanation is first.explanation


def spoiled(bars: Bars, row: int, **fields: Any) -> Bars:
    close = bars.close.copy()
    close[row, 2] = np.nan
    return replace(bars, close=close, tradable=bars.tradable & np.isfinite(close), **fields)


def test_a_listed_name_without_a_price_refuses_the_session_and_no_other(world: Any) -> None:
    data = replace(world.data, bars=spoiled(world.data.bars, len(world.data.bars.dates) - 1))
    desk = open_desk(world, data)
    with pytest.raises(NotAnswered) as caught:
        desk.opinion(desk.last_row, world.now)
    assert caught.value.reason is Reason.missing_data
    assert world.data.bars.symbols[2] in caught.value.detail
    assert desk.opinion(desk.last_row - 1, world.now).missing == ()


def test_a_delisted_name_is_named_and_not_held(world: Any) -> None:
    bars = world.data.bars
    listed, close = bars.listed.copy(), bars.close.copy()
    listed[-30:, 1], close[-30:, 1] = False, np.nan
    tradable = bars.tradable & listed
    data = replace(world.data, bars=replace(bars, listed=listed, close=close, tradable=tradable))
    opinion = open_desk(world, data).opinion(len(bars.dates) - 1, world.now)
    assert opinion.missing == (bars.symbols[1],)
    assert opinion.weights[bars.symbols[1]] == 0.0


def test_costs_that_need_traded_values_refuse_a_market_without_them(world: Any) -> None:
    costs = replace(world.config.env.costs, impact=0.5)
    env = replace(world.config.env, costs=costs)
    data = replace(world.data, adv=None)
    with pytest.raises(InputError, match="assumed_adv"):
        Desk(artefact.load(world.artefact(1)), data, world.serving.desk, env, "XNYS", 0.0)
