import numpy as np
import pandas as pd
import pytest

from market.bars import Bars
from market.indicator_arrays import indicator_arrays
from market.timeframes import Timeframe, last_complete, period_bars, period_of

RULES = {Timeframe.weekly: "W-SUN", Timeframe.monthly: "ME"}
AGGREGATE = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}


def dates(first: str, last: str) -> np.ndarray:
    days = np.arange(np.datetime64(first), np.datetime64(last) + 1)
    return days[np.is_busday(days)]


@pytest.mark.parametrize("timeframe", list(RULES))
def test_period_bars_are_those_of_pandas(ragged_bars: Bars, timeframe: Timeframe) -> None:
    fields = {name: getattr(ragged_bars, name)[:, 3] for name in AGGREGATE}
    sessions = np.flatnonzero(np.isfinite(fields["close"]))
    fields = {name: values[sessions] for name, values in fields.items()}
    period = period_of(ragged_bars.dates[sessions], timeframe)
    frame = pd.DataFrame(fields, index=pd.DatetimeIndex(ragged_bars.dates[sessions]))
    expected = frame.resample(RULES[timeframe]).agg(AGGREGATE).dropna()
    found = period_bars(fields, period)
    for name in AGGREGATE:
        np.testing.assert_allclose(found[name], expected[name].to_numpy(), rtol=1e-12)


def test_sunday_and_monday_are_in_different_weeks() -> None:
    days = np.array(["2019-06-09", "2019-06-10", "2019-06-16"], "datetime64[D]")
    assert np.diff(period_of(days, Timeframe.weekly)).tolist() == [1, 0]


def test_a_week_is_used_from_the_first_session_of_the_next_one() -> None:
    days = dates("2019-06-03", "2019-06-14")  # two full weeks
    period = period_of(days, Timeframe.weekly)
    newest = last_complete(period, np.unique(period))
    assert newest.tolist() == [-1] * 5 + [0] * 5


def test_a_week_that_a_holiday_cuts_short_is_used_from_the_next_session_too() -> None:
    week = dates("2019-04-15", "2019-04-18")  # Good Friday was the 19th
    days = np.r_[week, dates("2019-04-22", "2019-04-23")]
    period = period_of(days, Timeframe.weekly)
    assert last_complete(period, np.unique(period)).tolist() == [-1] * 4 + [0, 0]


@pytest.mark.parametrize("timeframe", list(RULES))
def test_a_session_moves_the_value_only_after_its_period_has_ended(
    ragged_bars: Bars, timeframe: Timeframe
) -> None:
    def roc(bars: Bars) -> np.ndarray:
        out = np.empty((*bars.close.shape, 1), np.float32)
        indicator_arrays(bars, ("roc_10",), timeframe, np.ones(len(bars.dates)), out)
        return out[:, 4, 0]

    period = period_of(ragged_bars.dates, timeframe)
    last_of_period = int(np.flatnonzero(np.diff(period))[40])
    close = ragged_bars.close.copy()
    close[last_of_period, 4] = 77.0
    changed = Bars(
        ragged_bars.dates, ragged_bars.symbols, close, ragged_bars.tradable, ragged_bars.listed
    )
    difference = np.flatnonzero(
        ~np.isclose(roc(ragged_bars), roc(changed), rtol=0.0, atol=0.0, equal_nan=True)
    )
    assert difference[0] == last_of_period + 1


def test_a_symbol_that_skips_a_period_keeps_the_bar_before_it() -> None:
    period = np.array([0, 1, 2, 3, 4])
    own = np.array([0, 3])
    assert last_complete(period, own).tolist() == [-1, 0, 0, 0, 1]
