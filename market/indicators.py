"""The table of TA-Lib indicators: what each one reads, its parameters, how it loses its unit.

Every value is dimensionless: prices in another currency or volume in lots leave it unchanged.
An indicator that needs a field which the source does not declare is replaced by its close-only
variant, which has a name of its own, or it is left out; both are said, never silent.

Besides declared fields an indicator may read
    pair_high, pair_low: the higher and lower of this close and the one before, the pseudo-bar of
        two closes (its true range is |change of close|);
    unit: a volume of 1 a session;
    market: the level of the equal-weight index of the universe.

Source:
    TA-Lib 0.6 C library, https://ta-lib.org/functions; Wilder, "New Concepts in Technical Trading
    Systems", 1978, for ATR, RSI, ADX and SAR.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
import talib

from market.bars import FloatArray
from market.rolling import lagged, window_sum

FLOW_WINDOW = 21  # sessions over which a cumulative volume line is differenced


class Scale(Enum):
    """How a raw value becomes dimensionless; angles are in degrees."""

    gap = "x / close - 1"
    per_close = "x / close"
    percent = "x / 100"
    turns = "x / 360"
    sine = "sin x"
    lead_sine = "sin(x + 45)"
    plain = "x"
    flow = "change of x over 21 bars / volume of those bars"
    per_volume = "x / mean volume of 21 bars"

    def apply(self, values: FloatArray, close: FloatArray, volume: FloatArray | None) -> FloatArray:
        """Return the (S,) dimensionless value; the caller silences divisions by zero."""
        if self is Scale.gap:
            return values / close - 1.0
        if self is Scale.per_close:
            return values / close
        if self is Scale.percent:
            return values / 100.0
        if self is Scale.turns:
            return values / 360.0
        if self is Scale.sine:
            return np.sin(np.deg2rad(values))
        if self is Scale.lead_sine:
            return np.sin(np.deg2rad(values + 45.0))
        if self is Scale.plain or volume is None:
            return values
        total = window_sum(volume, FLOW_WINDOW)
        if self is Scale.flow:
            return (values - lagged(values, FLOW_WINDOW)) / total
        return values / (total / FLOW_WINDOW)


_DERIVED = {"pair_high": "close", "pair_low": "close", "unit": "close", "market": "close"}


@dataclass(frozen=True, slots=True)
class Indicator:
    """One column: one output of one TA-Lib function under one set of parameters.

    Args:
        name: of the column.
        function: the TA-Lib function's name.
        inputs: its series in the order of its arguments.
        scale: how it becomes dimensionless.
        parameters: keyword arguments; what is not named keeps TA-Lib's default.
        output: which of its outputs.
        close_only: the indicator used in its place where the source has no such inputs.
    """

    name: str
    function: str
    inputs: tuple[str, ...]
    scale: Scale
    parameters: Mapping[str, float] = field(default_factory=dict)
    output: int = 0
    close_only: str | None = None

    @property
    def needs(self) -> tuple[str, ...]:
        """Return the fields that a source must declare; the close is always among them."""
        return tuple(dict.fromkeys(("close", *(_DERIVED.get(i, i) for i in self.inputs))))

    @property
    def call(self) -> tuple[str, tuple[str, ...], tuple[tuple[str, float], ...]]:
        """Return what identifies the computation: outputs of one call share it."""
        return self.function, self.inputs, tuple(sorted(self.parameters.items()))

    @property
    def compute(self) -> Callable[..., Any]:
        """Return TA-Lib's function: arrays (S,) in, one array or a tuple of them out."""
        function: Callable[..., Any] = getattr(talib, self.function)
        return function


_CLOSE, _PAIR, _HLC = ("close",), ("pair_high", "pair_low", "close"), ("high", "low", "close")
_HL, _PAIR_HL, _OHLC = ("high", "low"), ("pair_high", "pair_low"), ("open", "high", "low", "close")
_CCC = ("close", "close", "close")
_VOLUME = ("high", "low", "close", "volume")


def _on_close() -> Iterable[Indicator]:
    for name, periods in {
        "sma": (10, 20, 50, 200),
        "ema": (10, 20, 50, 200),
        "wma": (20,),
        "dema": (20,),
        "tema": (20,),
        "trima": (20,),
        "kama": (30,),
        "t3": (10,),
        "midpoint": (14,),
        "linearreg": (14,),
        "linearreg_intercept": (14,),
        "tsf": (14,),
        "max": (252,),
        "min": (252,),
    }.items():
        for period in periods:
            yield Indicator(
                f"{name}_{period}", name.upper(), _CLOSE, Scale.gap, {"timeperiod": period}
            )
    for name, period, scale in (
        ("roc", 10, Scale.percent),
        ("trix", 15, Scale.percent),
        ("stddev", 20, Scale.per_close),
        ("avgdev", 20, Scale.per_close),
        ("linearreg_slope", 14, Scale.per_close),
        ("linearreg_slope", 63, Scale.per_close),
    ):
        yield Indicator(f"{name}_{period}", name.upper(), _CLOSE, scale, {"timeperiod": period})
    for name, period in (("rsi", 14), ("rsi_2", 2), ("rsi_28", 28)):
        yield Indicator(name, "RSI", _CLOSE, Scale.percent, {"timeperiod": period})
    yield Indicator("ppo", "PPO", _CLOSE, Scale.percent, {"matype": 1})
    for output, name in enumerate(("macd", "macd_signal", "macd_hist")):
        yield Indicator(name, "MACD", _CLOSE, Scale.per_close, {}, output)
    for output, name in ((0, "bbands_upper"), (2, "bbands_lower")):
        yield Indicator(name, "BBANDS", _CLOSE, Scale.gap, {"timeperiod": 20}, output)
    for output, name in enumerate(("stochrsi_k", "stochrsi_d")):
        yield Indicator(name, "STOCHRSI", _CLOSE, Scale.percent, {}, output)
    for output, name in enumerate(("mama", "fama")):
        parameters = {"fastlimit": 0.5, "slowlimit": 0.05}
        yield Indicator(name, "MAMA", _CLOSE, Scale.gap, parameters, output)


def _cycles_and_market() -> Iterable[Indicator]:
    yield Indicator("ht_trendline", "HT_TRENDLINE", _CLOSE, Scale.gap)
    yield Indicator("ht_dcperiod", "HT_DCPERIOD", _CLOSE, Scale.percent)
    yield Indicator("ht_dcphase", "HT_DCPHASE", _CLOSE, Scale.turns)
    yield Indicator("ht_trendmode", "HT_TRENDMODE", _CLOSE, Scale.plain)
    for output, name in enumerate(("ht_inphase", "ht_quadrature")):
        yield Indicator(name, "HT_PHASOR", _CLOSE, Scale.per_close, {}, output)
    # The outputs of HT_SINE, from the phase that is there already: another transform costs much.
    yield Indicator("ht_sine", "HT_DCPHASE", _CLOSE, Scale.sine)
    yield Indicator("ht_leadsine", "HT_DCPHASE", _CLOSE, Scale.lead_sine)
    with_market = ("market", "close")
    yield Indicator("beta_63", "BETA", with_market, Scale.plain, {"timeperiod": 63})
    yield Indicator("correl_63", "CORREL", with_market, Scale.plain, {"timeperiod": 63})


def _with_variant(
    name: str,
    function: str,
    inputs: tuple[str, ...],
    variant_inputs: tuple[str, ...],
    scale: Scale,
    parameters: Mapping[str, float] | None = None,
    output: int = 0,
    suffix: str = "close",
) -> Iterable[Indicator]:
    variant = f"{name}_{suffix}"
    settings = dict(parameters or {})
    yield Indicator(name, function, inputs, scale, settings, output, variant)
    yield Indicator(variant, function, variant_inputs, scale, settings, output)


def _on_bars() -> Iterable[Indicator]:
    period = {"timeperiod": 14}
    for name, scale in (
        ("adx", Scale.percent),
        ("adxr", Scale.percent),
        ("dx", Scale.percent),
        ("plus_di", Scale.percent),
        ("minus_di", Scale.percent),
        ("atr", Scale.per_close),
    ):
        yield from _with_variant(name, name.upper(), _HLC, _PAIR, scale, period)
    yield from _with_variant("trange", "TRANGE", _HLC, _PAIR, Scale.per_close)
    for name in ("plus_dm", "minus_dm"):
        yield from _with_variant(name, name.upper(), _HL, _PAIR_HL, Scale.per_close, period)
    # The place of the close in its range: on closes alone, in the range of closes.
    for name, output in (("stoch_k", 0), ("stoch_d", 1)):
        yield from _with_variant(name, "STOCH", _HLC, _CCC, Scale.percent, {}, output)
    yield from _with_variant("stochf_k", "STOCHF", _HLC, _CCC, Scale.percent)
    yield from _with_variant("willr", "WILLR", _HLC, _CCC, Scale.percent, period)
    yield from _with_variant("cci", "CCI", _HLC, _CCC, Scale.percent, period)
    yield from _with_variant("ultosc", "ULTOSC", _HLC, _PAIR, Scale.percent)
    for name, output in (("aroon_down", 0), ("aroon_up", 1)):
        yield from _with_variant(
            name, "AROON", _HL, ("close", "close"), Scale.percent, {"timeperiod": 25}, output
        )
    yield from _with_variant("sar", "SAR", _HL, _PAIR_HL, Scale.gap)
    for name, output in (("accbands_upper", 0), ("accbands_lower", 2)):
        yield from _with_variant(
            name, "ACCBANDS", _HLC, _PAIR, Scale.gap, {"timeperiod": 20}, output
        )
    yield Indicator("midprice", "MIDPRICE", _HL, Scale.gap, period, 0, "midpoint_14")
    yield Indicator("typprice", "TYPPRICE", _HLC, Scale.gap)
    yield Indicator("avgprice", "AVGPRICE", _OHLC, Scale.gap)
    yield Indicator("bop", "BOP", _OHLC, Scale.plain)
    yield Indicator("imi", "IMI", ("open", "close"), Scale.percent, period)


def _candles_and_volume() -> Iterable[Indicator]:
    for name in ("doji", "engulfing", "hammer", "harami", "shootingstar", "eveningstar"):
        yield Indicator(f"cdl_{name}", f"CDL{name.upper()}", _OHLC, Scale.percent)
    yield from _with_variant(
        "obv", "OBV", ("close", "volume"), ("close", "unit"), Scale.flow, suffix="unit"
    )
    yield Indicator("ad", "AD", _VOLUME, Scale.flow)
    yield Indicator("adosc", "ADOSC", _VOLUME, Scale.per_volume)
    yield Indicator("mfi", "MFI", _VOLUME, Scale.percent, {"timeperiod": 14})
    yield Indicator("correl_volume", "CORREL", ("close", "volume"), Scale.plain, {"timeperiod": 21})


TABLE: dict[str, Indicator] = {
    row.name: row
    for rows in (_on_close(), _cycles_and_market(), _on_bars(), _candles_and_volume())
    for row in rows
}


@dataclass(frozen=True, slots=True)
class Resolution:
    """Which indicators a source can carry.

    Args:
        names: those to compute, in the order asked for, close-only variants in their places.
        left_out: one sentence for each one that was replaced or left out.
    """

    names: tuple[str, ...]
    left_out: tuple[str, ...]


def resolve(names: Iterable[str], fields: Iterable[str]) -> Resolution:
    """Replace or drop the indicators whose fields a source does not declare.

    Args:
        names: indicators of the table.
        fields: that the source declares.

    >>> resolve(["atr", "rsi", "bop"], ["close"]).names
    ('atr_close', 'rsi')
    >>> resolve(["bop"], ["close"]).left_out
    ('bop: the source has no open, high, low',)
    """
    have = set(fields)
    chosen: dict[str, None] = {}
    said = []
    for name in names:
        row = TABLE[name]
        missing = ", ".join(need for need in row.needs if need not in have)
        if not missing:
            chosen[name] = None
        elif row.close_only is not None:
            chosen[row.close_only] = None
            said.append(f"{name}: the source has no {missing}; {row.close_only} in its place")
        else:
            said.append(f"{name}: the source has no {missing}")
    return Resolution(tuple(chosen), tuple(said))
