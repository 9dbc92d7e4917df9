from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market.bars import Bars
from market.calendar import iso_date, sessions
from market.errors import InputError
from market.quality import RULES, QualityAction, QualityRules, apply

CALENDAR = sessions("XNYS", iso_date("2019-06-03"), iso_date("2020-06-30"))
ROWS, SYMBOLS = 120, ("AAA", "BBB", "CCC", "DDD")


def rules(action: QualityAction, mask_only: tuple[str, ...] = ("zero_volume",)) -> QualityRules:
    return QualityRules(
        action=action,
        mask_only=list(mask_only),
        range_tolerance=1e-4,
        split_tolerance=0.03,
        small_split_tolerance=0.01,
        stale_sessions=5,
        extreme_ratio=2.5,
    )


REFUSE, MASK = rules(QualityAction.refuse), rules(QualityAction.mask)


def clean(seed: int = 0, close_only: bool = False) -> Bars:
    random = np.random.default_rng(seed)
    shape = (ROWS, len(SYMBOLS))
    close = 50.0 * np.exp(np.cumsum(random.normal(0.0, 0.004, shape), axis=0))
    open_ = close * np.exp(random.normal(0.0, 0.002, shape))
    yes = np.ones(shape, dtype=bool)
    fields = {
        "open": open_,
        "high": np.maximum(open_, close) * 1.001,
        "low": np.minimum(open_, close) * 0.999,
        "volume": random.uniform(1e5, 2e5, shape),
    }
    return Bars(
        dates=CALENDAR[:ROWS],
        symbols=SYMBOLS,
        close=close,
        tradable=yes,
        listed=yes,
        **({} if close_only else fields),
    )


def scaled(bars: Bars, rows: slice, column: int, factor: float) -> Bars:
    """Multiply all prices of some sessions."""
    changed = {}
    for name in set(bars.fields) - {"volume"}:
        changed[name] = getattr(bars, name).copy()
        changed[name][rows, column] *= factor
    return replace(bars, **changed)


def put(bars: Bars, field: str, row: int, column: int, value: float) -> Bars:
    array = getattr(bars, field).copy()
    array[row, column] = value
    return replace(bars, **{field: array})


def empty(bars: Bars, row: int, column: int) -> Bars:
    for field in bars.fields:
        bars = put(bars, field, row, column, np.nan)
    return bars


def flat(bars: Bars, rows: slice, column: int) -> Bars:
    changed = {}
    for name in set(bars.fields) - {"volume"}:
        changed[name] = getattr(bars, name).copy()
        changed[name][rows, column] = bars.close[rows.start, column]
    return replace(bars, **changed)


ROW, COLUMN = 40, 1
DATE = str(CALENDAR[ROW])
DEFECTS = {
    "missing_session": lambda bars: empty(bars, ROW, COLUMN),
    "nan_price": lambda bars: put(bars, "close", ROW, COLUMN, np.nan),
    "non_positive": lambda bars: put(bars, "low", ROW, COLUMN, 0.0),
    "high_low": lambda bars: put(bars, "low", ROW, COLUMN, bars.close[ROW, COLUMN] * 1.01),
    "split": lambda bars: scaled(bars, slice(ROW, None), COLUMN, 0.5),
    "extreme_move": lambda bars: scaled(bars, slice(ROW, None), COLUMN, 0.37),
    "stale_run": lambda bars: flat(bars, slice(ROW - 5, ROW + 5), COLUMN),
    "zero_volume": lambda bars: put(bars, "volume", ROW, COLUMN, 0.0),
}


def test_a_clean_record_passes_unchanged_and_without_findings():
    for bars in (clean(), clean(close_only=True)):
        checked, findings = apply(bars, REFUSE, CALENDAR)
        assert findings == []
        assert checked is bars


@pytest.mark.parametrize("rule", DEFECTS)
def test_refuse_names_symbol_date_and_rule(rule: str):
    with pytest.raises(InputError) as caught:
        apply(DEFECTS[rule](clean()), rules(QualityAction.refuse, ()), CALENDAR)
    assert f"BBB {DATE}: {rule}: " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rule", DEFECTS)
def test_mask_names_symbol_date_and_rule_and_forbids_the_trade(rule: str):
    checked, findings = apply(DEFECTS[rule](clean()), MASK, CALENDAR)
    assert (findings[0].symbol, str(findings[0].date), findings[0].rule) == ("BBB", DATE, rule)
    assert not checked.tradable[ROW, COLUMN]
    assert f"{rule} " in checked.notes[-1]
    assert f"(first BBB {DATE})" in checked.notes[-1]


@pytest.mark.parametrize("rule", DEFECTS)
def test_mask_leaves_other_symbols_and_earlier_sessions_alone(rule: str):
    bars = DEFECTS[rule](clean())
    checked, _ = apply(bars, MASK, CALENDAR)
    others = [index for index in range(len(SYMBOLS)) if index != COLUMN]
    assert checked.tradable[:, others].all()
    assert checked.tradable[:ROW].all()
    for field in bars.fields:
        before, after = getattr(bars, field), getattr(checked, field)
        np.testing.assert_array_equal(before[:, others], after[:, others])
        np.testing.assert_array_equal(before[:ROW], after[:ROW])


@pytest.mark.parametrize("rule", DEFECTS)
def test_what_mask_leaves_passes_refuse(rule: str):
    checked, _ = apply(DEFECTS[rule](clean()), MASK, CALENDAR)
    # A hole stays a hole, a stale price stays, and the price after an extreme move stands alone.
    again = ("zero_volume", "missing_session", "stale_run", "extreme_move")
    again = rules(QualityAction.refuse, again)
    apply(checked, again, CALENDAR)


@given(seed=st.integers(0, 1000), row=st.integers(20, ROW - 2), rule=st.sampled_from([*DEFECTS]))
@settings(deadline=None, max_examples=60)
def test_what_is_masked_up_to_a_session_does_not_depend_on_later_ones(
    seed: int, row: int, rule: str
):
    bars = DEFECTS[rule](clean(seed))
    bars = scaled(bars, slice(row + 1, row + 3), 0, 4.0)
    cut = bars.select(slice(0, row + 1))
    whole, _ = apply(bars, MASK, CALENDAR)
    part, _ = apply(cut, MASK, CALENDAR)
    np.testing.assert_array_equal(whole.tradable[: row + 1], part.tradable)
    np.testing.assert_array_equal(whole.listed[: row + 1], part.listed)
    np.testing.assert_array_equal(whole.close[: row + 1], part.close)


def test_a_rule_that_only_masks_does_not_refuse():
    checked, findings = apply(DEFECTS["zero_volume"](clean()), REFUSE, CALENDAR)
    assert [finding.rule for finding in findings] == ["zero_volume"]
    assert not checked.tradable[ROW, COLUMN]
    assert np.isfinite(checked.close[ROW, COLUMN])


def test_an_unlisted_symbol_may_have_no_price():
    bars = clean()
    listed = bars.listed.copy()
    listed[:50, 0] = False
    fields = {name: np.where(listed, getattr(bars, name), np.nan) for name in bars.fields}
    bars = replace(bars, listed=listed, tradable=listed, **fields)
    assert apply(bars, REFUSE, CALENDAR)[1] == []


def test_a_missing_close_of_a_close_only_record_is_a_nan_price():
    bars = put(clean(close_only=True), "close", ROW, COLUMN, np.nan)
    with pytest.raises(InputError, match=f"BBB {DATE}: nan_price"):
        apply(bars, REFUSE, CALENDAR)


def test_a_nan_open_is_a_nan_price():
    with pytest.raises(InputError, match=f"BBB {DATE}: nan_price"):
        apply(put(clean(), "open", ROW, COLUMN, np.nan), REFUSE, CALENDAR)


def test_an_infinite_price_is_refused_even_by_mask():
    with pytest.raises(InputError, match=f"BBB {DATE}: infinite: high"):
        apply(put(clean(), "high", ROW, COLUMN, np.inf), MASK, CALENDAR)


# -- sessions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", [REFUSE, MASK])
def test_sessions_out_of_order_are_always_refused(action: QualityRules):
    bars = clean()
    dates = bars.dates.copy()
    dates[[ROW, ROW + 1]] = dates[[ROW + 1, ROW]]
    with pytest.raises(InputError, match=f"{DATE}: unsorted"):
        apply(replace(bars, dates=dates), action, CALENDAR)


@pytest.mark.parametrize("action", [REFUSE, MASK])
def test_a_session_twice_is_always_refused(action: QualityRules):
    bars = clean()
    dates = bars.dates.copy()
    dates[ROW + 1] = dates[ROW]
    with pytest.raises(InputError, match=f"{DATE}: duplicate"):
        apply(replace(bars, dates=dates), action, CALENDAR)


def with_saturday() -> Bars:
    bars = clean()
    dates = bars.dates.copy()
    friday = next(row for row in range(60, 70) if dates[row + 1] - dates[row] > np.timedelta64(2))
    dates[: friday + 1] = CALENDAR[: friday + 1]
    dates[friday + 1 :] = CALENDAR[friday : ROWS - 1]
    dates[friday + 1] = dates[friday] + np.timedelta64(1, "D")
    return replace(bars, dates=np.sort(dates), series={"VIX": np.arange(float(ROWS))})


def test_a_day_off_the_calendar_is_refused():
    with pytest.raises(InputError, match=r"every symbol 2019-\d\d-\d\d: off_calendar"):
        apply(with_saturday(), REFUSE, CALENDAR)


def test_masking_drops_a_day_off_the_calendar():
    bars = with_saturday()
    checked, findings = apply(bars, MASK, CALENDAR)
    assert [finding.rule for finding in findings] == ["off_calendar"]
    assert findings[0].date not in checked.dates
    assert np.isin(checked.dates, CALENDAR).all()
    row = int(np.searchsorted(bars.dates, findings[0].date))
    np.testing.assert_array_equal(checked.close, np.delete(bars.close, row, axis=0))
    np.testing.assert_array_equal(checked.series["VIX"], np.delete(np.arange(float(ROWS)), row))


def test_a_record_without_any_session_is_refused_even_by_mask():
    saturdays = np.datetime64("2019-06-01", "D") + 7 * np.arange(ROWS)
    with pytest.raises(InputError, match="2019-06-01: off_calendar: no date is a session"):
        apply(replace(clean(), dates=saturdays), MASK, CALENDAR)


def without_session(row: int) -> Bars:
    bars = clean()
    kept = np.arange(ROWS) != row
    fields = {name: getattr(bars, name)[kept] for name in (*bars.fields, "listed", "tradable")}
    series = {"VIX": np.arange(float(ROWS))[kept]}
    return replace(bars, dates=bars.dates[kept], series=series, **fields)


def test_a_session_missing_for_every_symbol_is_refused_once():
    with pytest.raises(InputError) as caught:
        apply(without_session(ROW), REFUSE, CALENDAR)
    message = str(caught.value)
    assert f"every symbol {DATE}: missing_session" in message
    assert "found missing_session 1 " in message


def test_masking_adds_an_empty_session_where_one_is_missing():
    checked, _ = apply(without_session(ROW), MASK, CALENDAR)
    assert (checked.dates == CALENDAR[:ROWS]).all()
    assert np.isnan(checked.close[ROW]).all()
    assert np.isnan(checked.series["VIX"][ROW])
    assert checked.listed[ROW].all()
    assert not checked.tradable[ROW].any()
    expected = clean()
    np.testing.assert_array_equal(checked.close[ROW + 1 :], expected.close[ROW + 1 :])


# -- thresholds -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("excess", "found"), [(0.5e-4, False), (2e-4, True)])
@pytest.mark.parametrize("field", ["low", "high"])
def test_rounding_of_high_and_low_is_tolerated_up_to_the_tolerance(
    field: str, excess: float, found: bool
):
    bars = clean()
    other = np.minimum if field == "low" else np.maximum
    bound = other(bars.open, bars.close)[ROW, COLUMN]
    factor = 1.0 + excess if field == "low" else 1.0 - excess
    findings = apply(put(bars, field, ROW, COLUMN, bound * factor), MASK, CALENDAR)[1]
    assert [finding.rule for finding in findings] == ["high_low"] * found


def test_an_adjusted_close_beside_raw_open_high_and_low_is_refused():
    bars = clean()
    raw = replace(bars, close=bars.close * 0.8)  # trap 33
    with pytest.raises(InputError, match="high_low"):
        apply(raw, REFUSE, CALENDAR)


@pytest.mark.parametrize(
    "factor", [1 / 2, 1 / 3, 2 / 3, 1 / 4, 1 / 10, 1 / 20, 2.0, 3.0, 8.0, 10.0]
)
@pytest.mark.parametrize("close_only", [False, True])
def test_every_common_split_is_found(factor: float, close_only: bool):
    bars = scaled(clean(3, close_only), slice(ROW, None), COLUMN, factor)
    with pytest.raises(InputError, match=f"BBB {DATE}: split"):
        apply(bars, REFUSE, CALENDAR)


def test_a_market_that_falls_by_a_third_as_a_whole_has_no_split():
    bars = clean()
    for column in range(len(SYMBOLS)):
        bars = scaled(bars, slice(ROW, None), column, 2 / 3)
    assert apply(bars, REFUSE, CALENDAR)[1] == []


def test_a_split_is_found_on_a_day_on_which_the_market_falls_too():
    bars = scaled(clean(), slice(ROW, None), COLUMN, 0.5)
    for column in range(len(SYMBOLS)):
        bars = scaled(bars, slice(ROW, None), column, 0.9)
    with pytest.raises(InputError, match=f"BBB {DATE}: split"):
        apply(bars, REFUSE, CALENDAR)


@pytest.mark.parametrize("factor", [0.482, 0.645, 0.7, 1.523, 1.62, 1.746])
def test_genuine_moves_of_real_stocks_are_no_split(factor: float):
    """AAPL 2000-09-29, WMB, CSCO, AMD 2016-04-22, VRTX 2013-04-19, PCG 2019-01-24."""
    bars = scaled(clean(0, close_only=True), slice(ROW, None), COLUMN, factor)
    assert apply(bars, REFUSE, CALENDAR)[1] == []


def test_a_fall_that_goes_on_after_the_open_is_no_split():
    bars = scaled(clean(), slice(ROW, None), COLUMN, 0.5)
    bars = scaled(bars, slice(ROW + 1, None), COLUMN, 0.85)
    bars = put(bars, "close", ROW, COLUMN, bars.close[ROW, COLUMN] * 0.85)
    bars = put(bars, "low", ROW, COLUMN, bars.close[ROW, COLUMN])
    assert apply(bars, REFUSE, CALENDAR)[1] == []


def test_masking_a_split_takes_the_symbol_out_from_that_session_on():
    checked, _ = apply(DEFECTS["split"](clean()), MASK, CALENDAR)
    assert not checked.listed[ROW:, COLUMN].any()
    assert checked.listed[:ROW, COLUMN].all()
    assert np.isnan(checked.close[ROW:, COLUMN]).all()


def test_a_masked_split_books_no_terminal_return():
    bars = replace(DEFECTS["split"](clean()), terminal_return=np.full(len(SYMBOLS), -0.5))
    checked, _ = apply(bars, MASK, CALENDAR)
    assert checked.terminal_return.tolist() == [-0.5, 0.0, -0.5, -0.5]


def test_a_wrong_tick_that_is_taken_back_masks_only_itself():
    checked, findings = apply(scaled(clean(), slice(ROW, ROW + 2), COLUMN, 2.0), MASK, CALENDAR)
    assert [(finding.rule, finding.sessions) for finding in findings] == [("split", 2)]
    assert np.isfinite(checked.close[ROW + 2 :, COLUMN]).all()
    assert checked.listed[ROW + 2 :, COLUMN].all()


def test_a_stale_run_is_masked_from_the_threshold_on():
    bars = flat(clean(), slice(30, 50), COLUMN)
    checked, findings = apply(bars, MASK, CALENDAR)
    assert findings[0].rule == "stale_run"
    assert findings[0].date == CALENDAR[35]  # five closes equal to that of row 30
    assert checked.tradable[:35, COLUMN].all()
    assert not checked.tradable[35:50, COLUMN].any()
    assert checked.tradable[50:, COLUMN].all()
    assert np.isfinite(checked.close[:, COLUMN]).all()


def test_a_run_one_session_shorter_than_the_threshold_is_not_stale():
    assert apply(flat(clean(), slice(30, 35), COLUMN), REFUSE, CALENDAR)[1] == []


def test_an_unchanged_price_without_trades_is_not_stale():
    bars = flat(clean(), slice(30, 50), COLUMN)
    for row in range(30, 50):
        bars = put(bars, "volume", row, COLUMN, 0.0)
    assert {finding.rule for finding in apply(bars, REFUSE, CALENDAR)[1]} == {"zero_volume"}


@pytest.mark.parametrize(
    ("factor", "found"), [(2.35, False), (2.65, True), (0.43, False), (0.38, True)]
)
def test_an_extreme_move_is_one_beyond_the_ratio(factor: float, found: bool):
    findings = apply(scaled(clean(), slice(ROW, None), COLUMN, factor), MASK, CALENDAR)[1]
    assert [finding.rule for finding in findings] == ["extreme_move"] * found


def test_a_masked_extreme_move_is_booked_by_the_next_price():
    bars = DEFECTS["extreme_move"](clean())
    checked, _ = apply(bars, MASK, CALENDAR)
    assert np.isnan(checked.close[ROW, COLUMN])
    np.testing.assert_array_equal(checked.close[ROW + 1 :], bars.close[ROW + 1 :])
    assert checked.listed.all()


def test_findings_of_one_run_are_one_finding():
    bars = clean()
    for row in (40, 41, 42, 60):
        bars = empty(bars, row, COLUMN)
    findings = apply(bars, MASK, CALENDAR)[1]
    runs = [(str(finding.date), finding.sessions) for finding in findings]
    assert runs == [(str(CALENDAR[40]), 3), (str(CALENDAR[60]), 1)]


def test_a_refusal_counts_every_rule_with_its_first_example():
    bars = put(DEFECTS["nan_price"](clean()), "low", 70, 2, -1.0)
    with pytest.raises(InputError) as caught:
        apply(bars, REFUSE, CALENDAR)
    message = str(caught.value)
    assert f"nan_price 1 (first BBB {DATE})" in message
    assert f"non_positive 1 (first CCC {CALENDAR[70]})" in message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("range_tolerance", 0.0),
        ("split_tolerance", float("nan")),
        ("small_split_tolerance", 1.0),
        ("stale_sessions", 0),
        ("extreme_ratio", 1.0),
        ("mask_only", ["zero_volumes"]),
    ],
)
def test_a_threshold_without_meaning_is_refused(field: str, value: object):
    values = {name: getattr(MASK, name) for name in QualityRules.__dataclass_fields__}
    with pytest.raises(ValueError, match=f"quality.{field}"):
        QualityRules(**(values | {field: value}))


def test_the_rules_that_can_mask_are_those_of_the_documentation():
    assert set(RULES) == {"off_calendar", *DEFECTS}


def outcome(bars: Bars, chosen: QualityRules) -> str:
    try:
        return apply(bars, chosen, CALENDAR)[0].sha256
    except InputError as refusal:
        return str(refusal)


THREE_FOR_TWO = scaled(clean(), slice(ROW, None), COLUMN, 1.006 / 1.5)
PERTURBED = {
    "action": (QualityAction.refuse, DEFECTS["high_low"](clean())),
    "mask_only": (["zero_volume", "stale_run"], DEFECTS["stale_run"](clean())),
    "range_tolerance": (0.02, DEFECTS["high_low"](clean())),
    "split_tolerance": (1e-5, DEFECTS["split"](clean())),
    "small_split_tolerance": (1e-5, THREE_FOR_TWO),
    "stale_sessions": (4, DEFECTS["stale_run"](clean())),
    "extreme_ratio": (4.0, DEFECTS["extreme_move"](clean())),
}


def test_every_value_of_the_gate_changes_what_passes():
    assert set(PERTURBED) == {item.name for item in fields(QualityRules)}
    for name, (value, bars) in PERTURBED.items():
        usual = REFUSE if name == "mask_only" else MASK
        assert outcome(bars, usual) != outcome(bars, replace(usual, **{name: value})), name
