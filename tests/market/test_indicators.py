from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import talib

from market.bars import PRICE_FIELDS, Bars, FloatArray
from market.indicator_arrays import indicator_arrays, symbol_values
from market.indicators import TABLE, Scale, resolve
from market.timeframes import Timeframe

DOCS = Path(__file__).parents[2] / "docs" / "features.md"


def computed(bars: Bars, names: list[str]) -> dict[str, np.ndarray]:
    """Return the daily indicators (T, N) by name; the close of symbol 0 stands for the market."""
    out = np.empty((*bars.close.shape, len(names)), np.float32)
    level = bars.known_close()[:, 3]
    indicator_arrays(bars, names, Timeframe.daily, level, out)
    return {name: out[:, :, k] for k, name in enumerate(names)}


def of_closes(closes: FloatArray, name: str) -> np.ndarray:
    """Return one indicator of one symbol that has closes alone."""
    close = np.asarray(closes, dtype=np.float64)
    return symbol_values([TABLE[name]], {"close": close, "market": close})[0]


@pytest.fixture(scope="module")
def walk() -> FloatArray:
    generator = np.random.default_rng(3)
    return 40.0 * np.exp(np.cumsum(generator.normal(0.0, 0.02, 400)))


def test_the_table_holds_at_least_sixty_talib_functions() -> None:
    assert len({row.function for row in TABLE.values()}) >= 60
    assert all(row.function in talib.get_functions() for row in TABLE.values())


def test_closes_alone_still_carry_sixty_indicators() -> None:
    assert len(resolve(TABLE, ["close"]).names) >= 60


def test_the_sines_of_the_cycle_are_those_of_talib(walk: FloatArray) -> None:
    expected = talib.HT_SINE(walk)
    for name, series in zip(("ht_sine", "ht_leadsine"), expected, strict=True):
        np.testing.assert_array_equal(of_closes(walk, name), series.astype(np.float32))


def test_every_close_only_variant_reads_closes_alone() -> None:
    for row in TABLE.values():
        if row.close_only is not None:
            assert TABLE[row.close_only].needs == ("close",)


def test_a_missing_field_brings_the_named_variant_or_a_sentence() -> None:
    result = resolve(["atr", "obv", "mfi", "rsi"], ["open", "high", "low", "close"])
    assert result.names == ("atr", "obv_unit", "rsi")
    assert result.left_out == (
        "obv: the source has no volume; obv_unit in its place",
        "mfi: the source has no volume",
    )


def test_a_variant_that_was_also_asked_for_appears_once() -> None:
    assert resolve(["midpoint_14", "midprice"], ["close"]).names == ("midpoint_14",)


def test_rsi_is_the_published_one() -> None:
    """The fourteen-day example of StockCharts' ChartSchool, "Relative Strength Index"."""
    closes = [
        44.3389, 44.0902, 44.1497, 43.6124, 44.3278, 44.8264, 45.0955, 45.4245, 45.8433,
        46.0826, 45.8931, 46.0328, 45.6140, 46.2820, 46.2820, 46.0028, 46.0328,
    ]  # fmt: skip
    found = of_closes(np.array(closes), "rsi")[14:]
    np.testing.assert_allclose(found, [0.7053, 0.6632, 0.6655], atol=6e-5)


def test_atr_close_is_wilders_mean_of_absolute_changes(walk: FloatArray) -> None:
    change = np.abs(np.diff(walk))
    mean = change[:14].mean()
    expected = [mean]
    for value in change[14:]:
        mean = (13.0 * mean + value) / 14.0
        expected.append(mean)
    found = of_closes(walk, "atr_close")
    np.testing.assert_allclose(found[14:], np.array(expected) / walk[14:], rtol=1e-6)
    assert np.isnan(found[:14]).all()


def test_cci_close_is_lamberts_formula_on_the_close(walk: FloatArray) -> None:
    window = walk[100:114]
    deviation = np.abs(window - window.mean()).mean()
    expected = (walk[113] - window.mean()) / (0.015 * deviation) / 100.0
    assert of_closes(walk, "cci_close")[113] == pytest.approx(expected, rel=1e-5)


def test_adx_close_is_wilders_adx_of_pairs_of_closes(walk: FloatArray) -> None:
    """Wilder (1978), section 4, summed by hand on the pseudo-bars of two closes."""
    high = np.maximum(walk[1:], walk[:-1])
    low = np.minimum(walk[1:], walk[:-1])
    up, down = np.diff(high), -np.diff(low)
    plus = np.where((up > down) & (up > 0.0), up, 0.0)
    minus = np.where((down > up) & (down > 0.0), down, 0.0)

    def smoothed(values: FloatArray) -> FloatArray:
        total, result = 0.0, []
        for value in values:
            total = total - total / 14.0 + value
            result.append(total)
        return np.array(result)

    plus_sum, minus_sum = smoothed(plus), smoothed(minus)
    dx = np.abs(plus_sum - minus_sum) / np.maximum(plus_sum + minus_sum, 1e-12)
    mean, expected = dx[200:214].mean(), []
    for value in dx[214:]:
        mean = (13.0 * mean + value) / 14.0
        expected.append(mean)
    # The recursions forget their start at 13/14 a bar: after a hundred bars it is below 1e-3.
    np.testing.assert_allclose(of_closes(walk, "adx_close")[-50:], expected[-50:], atol=1e-3)


def test_obv_unit_counts_rises_less_falls() -> None:
    closes = 10.0 + np.cumsum(np.r_[np.ones(15), -np.ones(15)])
    found = of_closes(closes, "obv_unit")
    assert found[-1] == pytest.approx((6.0 - 15.0) / 21.0)
    assert np.isnan(found[:21]).all()


def test_no_indicator_has_a_unit(ragged_bars: Bars) -> None:
    """Prices in another currency and volume in lots change nothing."""
    prices = {name: getattr(ragged_bars, name) * 4.0 for name in PRICE_FIELDS}
    other = replace(ragged_bars, **prices, volume=ragged_bars.volume * 0.125)
    before, after = computed(ragged_bars, list(TABLE)), computed(other, list(TABLE))
    for name in TABLE:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_every_indicator_is_known_and_of_moderate_size(ragged_bars: Bars) -> None:
    for name, values in computed(ragged_bars, list(TABLE)).items():
        assert np.isfinite(values[400:, 3]).mean() > 0.98, name
        assert np.nanmax(np.abs(values)) < 20.0, name


def test_a_gap_does_not_end_an_indicator_and_is_as_if_cut_out(ragged_bars: Bars) -> None:
    """Symbol 0 misses a month and some single sessions."""
    own = np.flatnonzero(np.isfinite(ragged_bars.close[:, 0]))
    assert len(own) < len(ragged_bars.dates)
    fields = {name: getattr(ragged_bars, name)[own, 0] for name in (*PRICE_FIELDS, "volume")}
    fields["market"] = ragged_bars.known_close()[own, 3]
    found = computed(ragged_bars, list(TABLE))
    for name, row in TABLE.items():
        np.testing.assert_array_equal(found[name][own, 0], symbol_values([row], fields)[0], name)
        gap = np.isnan(ragged_bars.close[:, 0])
        assert np.isnan(found[name][gap, 0]).all(), name


def test_a_missing_volume_leaves_the_price_indicators_alone(ragged_bars: Bars) -> None:
    volume = ragged_bars.volume.copy()
    volume[600:640] = np.nan
    before = computed(ragged_bars, ["rsi", "adx", "obv"])
    after = computed(replace(ragged_bars, volume=volume), ["rsi", "adx", "obv"])
    for name in ("rsi", "adx"):
        np.testing.assert_array_equal(after[name], before[name])
    assert np.isnan(after["obv"][600:640]).all()
    assert np.isfinite(after["obv"][700:, 3]).any()


def test_a_symbol_without_a_price_and_one_with_a_single_session_are_unknown() -> None:
    close = np.full((30, 2), np.nan)
    close[10, 1] = 5.0
    listed = np.ones((30, 2), dtype=bool)
    days = np.arange(np.datetime64("2019-01-01"), np.datetime64("2019-01-31"))
    bars = Bars(days, ("NONE", "ONE"), close, listed, listed)
    out = np.zeros((30, 2, 2), np.float32)
    for timeframe in Timeframe:
        indicator_arrays(bars, ("rsi", "sma_10"), timeframe, np.ones(30), out)
        assert np.isnan(out).all()


def test_a_flat_price_gives_numbers_or_nothing_but_no_infinity() -> None:
    for name in resolve(TABLE, ["close"]).names:
        assert not np.isinf(of_closes(np.full(400, 7.0), name)).any(), name


def test_a_block_boundary_of_symbols_does_not_show(ragged_bars: Bars) -> None:
    repeated = np.tile(ragged_bars.close[:, 3:4], (1, 37))
    listed = np.ones(repeated.shape, dtype=bool)
    names = tuple(f"N{i}" for i in range(37))
    found = computed(Bars(ragged_bars.dates, names, repeated, listed, listed), ["rsi", "macd"])
    for values in found.values():
        np.testing.assert_array_equal(values, np.tile(values[:, :1], (1, 37)))


def test_what_an_indicator_remembers_fades(ragged_bars: Bars) -> None:
    """Started 700 sessions later, the last value is the same to five digits: live equals offline.

    The Hilbert transform's phase follows a zero crossing and the parabolic stop a reversal, so
    these may start out of step; everything else must agree.
    """
    slow = ("ht_", "sar", "mama", "fama", "ema_200")  # 400 sessions are 4 half-lives of ema_200
    names = [name for name in TABLE if not name.startswith(slow)]
    late = ragged_bars.select(slice(len(ragged_bars.dates) - 400, None))
    long, short = computed(ragged_bars, names), computed(late, names)
    for name in names:
        np.testing.assert_allclose(
            short[name][-1], long[name][-1], rtol=1e-5, atol=1e-5, err_msg=name
        )


def test_flows_are_shares_of_the_volume() -> None:
    values = np.arange(40.0)
    found = Scale.flow.apply(values, np.ones(40), np.full(40, 2.0))
    np.testing.assert_allclose(found[21:], 21.0 / 42.0)


def test_the_documented_table_is_the_table() -> None:
    documented = [line for line in DOCS.read_text().splitlines() if line.startswith("| `")]
    for row in TABLE.values():
        parameters = ", ".join(f"{key} {value:g}" for key, value in row.parameters.items())
        variant = f"`{row.close_only}`" if row.close_only else ""
        cells = [
            f"`{row.name}`", f"{row.function}({', '.join(row.inputs)})", str(row.output),
            parameters, row.scale.value, variant,
        ]  # fmt: skip
        assert f"| {' | '.join(cells)} |" in documented, f"docs/features.md lacks {row.name}"
