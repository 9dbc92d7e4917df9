"""From bars to a Dataset: every feature, the regime and the risk estimates, causally.

Nothing but the market features' normaliser depends on a window; it is fitted on train alone.
"""

import hashlib
import json
from collections.abc import Mapping

import numpy as np

from market.asset_features import ASSET_FEATURES
from market.bars import Bars, FloatArray
from market.cache import ArrayCache, Arrays
from market.dataset import Dataset
from market.factor_model import fit
from market.features import FEATURES_VERSION, Columns, FeatureConfig, FeatureSpec
from market.indicator_arrays import Float32Array, indicator_arrays
from market.normalise import Normaliser, Window, rank_across, zscore_across
from market.regimes import MARKET_FEATURES, REGIME_NAMES, Market, regimes
from market.rolling import lagged, window_count, window_sum
from market.threads import NAMES_PER_BLOCK, blocks, each

ADV_WINDOW = 21  # sessions


def prepare(
    bars: Bars,
    train: slice,
    test: slice,
    config: FeatureConfig,
    assumed_adv: float | Mapping[str, float] | None = None,
    cache: ArrayCache | None = None,
) -> Dataset:
    """Featurise a market and fit its normaliser on the train rows.

    Args:
        bars: checked bars.
        train: rows that may be learned from.
        test: sealed rows, after train.
        config: the features.
        assumed_adv: account currency a day, for all names or by symbol, where `bars` has no
            volume.
        cache: keeps the features by content of the bars and configuration.

    Raises:
        InputError: if the test rows begin before the train rows end.
    """
    columns = Columns.of(config, bars.fields, bars.series)
    arrays = _arrays(bars, columns, config.clip, cache)
    window = _window("train", bars, train)
    normaliser = Normaliser.fit(columns.market, arrays["market_state"][train], window)
    spec = FeatureSpec.of(config, columns, normaliser)
    return _dataset(bars, train, test, spec, arrays, assumed_adv)


def prepare_like(
    bars: Bars,
    train: slice,
    test: slice,
    spec: FeatureSpec,
    assumed_adv: float | Mapping[str, float] | None = None,
    cache: ArrayCache | None = None,
) -> Dataset:
    """Featurise a market exactly as a recorded specification says: nothing is fitted.

    Arguments as for `prepare`; `spec` comes from a policy's artefact.

    Raises:
        InputError: if a feature would be missing or differ, naming it, or the test rows begin
            before the window that the recorded normaliser was fitted on ends.
    """
    columns = Columns.of(spec.config, bars.fields, bars.series)
    spec.check(columns)
    arrays = _arrays(bars, columns, spec.clip, cache)
    return _dataset(bars, train, test, spec, arrays, assumed_adv)


def _window(label: str, bars: Bars, rows: slice) -> Window:
    dates = bars.dates[rows].astype("datetime64[D]")
    return Window(label, str(dates[0]), str(dates[-1]))


def _arrays(bars: Bars, columns: Columns, clip: float, cache: ArrayCache | None) -> Arrays:
    if cache is None:
        return _build(bars, columns, clip)
    made_of = [FEATURES_VERSION, columns.asset_names, columns.definitions(), clip, bars.sha256]
    key = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
    return cache.array_group(f"features-{key}", lambda: _build(bars, columns, clip))


def _build(bars: Bars, columns: Columns, clip: float) -> Arrays:
    model = fit(bars)
    market = Market.of(bars, model)
    state = [
        (MARKET_FEATURES[name].function, MARKET_FEATURES[name].window) for name in columns.market
    ]
    momentum = lagged(market.close, 21) / lagged(market.close, 252) - 1.0
    return {
        "asset_features": _asset_features(market, columns, clip),
        "market_state": np.stack([function(market, window) for function, window in state], axis=1),
        "regime": regimes(market),
        "volatility": model.volatility,
        "market_volatility": model.market_volatility,
        "beta": model.beta,
        "idiosyncratic_volatility": model.idiosyncratic_volatility,
        "momentum": np.where(np.isfinite(market.close), momentum, np.nan),
    }


def _asset_features(market: Market, columns: Columns, clip: float) -> Float32Array:
    """Return the (T, N, F) columns in the order of `columns.asset_names`, compared across names."""
    out: Float32Array = np.empty((*market.close.shape, len(columns.asset_names)), np.float32)
    features = [ASSET_FEATURES[name] for name in columns.asset]

    def compute(names: slice) -> None:
        part = market.names(names)
        values = [feature.function(part, *feature.parameters) for feature in features]
        out[:, names, : len(features)] = np.stack(values, axis=-1)

    each(compute, blocks(len(market.bars.symbols), NAMES_PER_BLOCK))
    start = len(features)
    for timeframe in columns.timeframes:
        stop = start + len(columns.indicators)
        block = out[:, :, start:stop]
        indicator_arrays(market.bars, columns.indicators, timeframe, market.level, block)
        start = stop
    for k, name in enumerate(columns.ranks, start=start):
        out[:, :, k] = out[:, :, columns.asset.index(name)]
    investable = np.isfinite(market.close)
    zscore_across(out[:, :, :start], investable, clip)
    rank_across(out[:, :, start:], investable)
    return out


def _dataset(
    bars: Bars,
    train: slice,
    test: slice,
    spec: FeatureSpec,
    arrays: Arrays,
    assumed_adv: float | Mapping[str, float] | None,
) -> Dataset:
    return Dataset(
        bars=bars,
        features=spec,
        asset_features=arrays["asset_features"],
        market_features=_scaled_state(bars, test, spec, arrays["market_state"]),
        volatility=arrays["volatility"],
        market_volatility=arrays["market_volatility"],
        beta=arrays["beta"],
        idiosyncratic_volatility=arrays["idiosyncratic_volatility"],
        momentum=arrays["momentum"],
        adv=average_traded_value(bars, assumed_adv),
        regime=arrays["regime"],
        regime_names=REGIME_NAMES,
        train=train,
        test=test,
    )


def _scaled_state(bars: Bars, test: slice, spec: FeatureSpec, state: FloatArray) -> Float32Array:
    """Scale the market state, telling the normaliser which rows are the sealed ones."""
    parts = [("before", slice(0, test.start)), ("test", test), ("after", slice(test.stop, None))]
    scaled = [
        spec.normaliser.transform(state[rows], _window(label, bars, rows), spec.clip)
        for label, rows in parts
        if len(bars.dates[rows])
    ]
    return np.concatenate(scaled)


def average_traded_value(
    bars: Bars, assumed: float | Mapping[str, float] | None
) -> FloatArray | None:
    """Return the traded value of an ordinary session.

    Args:
        bars: with or without volume.
        assumed: account currency a day, for all names or by symbol; stands where the volume knows
            nothing.

    Returns:
        (T, N) mean over the known ones of the last ADV_WINDOW sessions, account currency; None
        without volume and assumption; NaN for a name without either.

    >>> dates = np.array(["2019-01-02"], "datetime64[D]")
    >>> one = np.ones((1, 1))
    >>> average_traded_value(Bars(dates, ("A",), one, one > 0, one > 0), 1e6)
    array([[1000000.]])
    """
    if bars.volume is None and assumed is None:
        return None
    stand_in = np.full(len(bars.symbols), np.nan)
    if isinstance(assumed, Mapping):
        stand_in = np.array([assumed.get(symbol, np.nan) for symbol in bars.symbols])
    elif assumed is not None:
        stand_in[:] = assumed
    if bars.volume is None:
        return np.broadcast_to(stand_in, bars.close.shape).copy()
    value = bars.close * bars.volume
    count = window_count(np.isfinite(value), ADV_WINDOW)
    mean = window_sum(value, ADV_WINDOW) / np.maximum(count, 1.0)
    return np.where(count > 0, mean, stand_in)
