import json
from dataclasses import fields, replace
from pathlib import Path

import hydra
import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra

import market.config
from market.asset_features import ASSET_FEATURES
from market.bars import Bars
from market.errors import InputError
from market.factor_model import fit
from market.features import Columns, FeatureConfig, FeatureSpec
from market.indicators import TABLE
from market.normalise import Normaliser, Window
from market.regimes import MARKET_FEATURES, Market
from market.timeframes import Timeframe

CONF = Path(__file__).parents[2] / "conf"
OHLCV = ("open", "high", "low", "close", "volume")


def composed(*overrides: str) -> FeatureConfig:
    """Return a preset of conf/features as the application would."""
    market.config.register()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose(overrides=[f"+{overrides[0]}", *overrides[1:]])
    built: FeatureConfig = hydra.utils.instantiate(config.features, _convert_="object")
    return built


def config(**changes: object) -> FeatureConfig:
    settings: dict[str, object] = {
        "asset": ["log_return_21", "log_volume_ratio"],
        "ranks": ["log_return_21"],
        "indicators": ["rsi", "atr"],
        "timeframes": [Timeframe.daily, Timeframe.weekly],
        "market": ["trend_50", "log_vix"],
        "clip": 3.0,
    }
    return FeatureConfig(**{**settings, **changes})


def spec(**changes: object) -> FeatureSpec:
    columns = Columns.of(config(**changes), OHLCV, ["VIX"])
    moments = ((0.5,), (2.0,)) if len(columns.market) == 1 else ((0.5, 0.1), (2.0, 3.0))
    normaliser = Normaliser(columns.market, *moments, Window("train", "2001-01-01", "2009-01-01"))
    return FeatureSpec.of(config(**changes), columns, normaliser)


def test_the_recipe_has_seventeen_asset_features_and_eight_of_the_market() -> None:
    recipe = composed("features=recipe")
    assert len(recipe.asset) == 17 and len(recipe.market) == 8
    assert recipe.clip == 3.0
    columns = Columns.of(recipe, ["close"], [])
    assert len(columns.asset_names) == 16
    assert columns.left_out == ("log_volume_ratio: the source has no volume",)


def test_the_indicator_preset_lists_the_whole_table_without_its_variants() -> None:
    variants = {row.close_only for row in TABLE.values()} - {"midpoint_14"}
    listed = composed("features=indicators").indicators
    assert len(listed) >= 60
    assert set(listed) == set(TABLE) - variants - {"rsi"}  # the recipe has rsi_14


def test_the_command_line_chooses_indicators_and_timeframes() -> None:
    chosen = composed(
        "features=indicators", "features.indicators=[rsi]", "features.timeframes=[weekly,monthly]"
    )
    names = Columns.of(chosen, OHLCV, []).asset_names
    assert names[17:19] == ("rsi_weekly", "rsi_monthly")


def test_no_two_columns_share_a_name() -> None:
    everything = config(
        asset=list(ASSET_FEATURES),
        ranks=list(ASSET_FEATURES),
        indicators=list(TABLE),
        timeframes=list(Timeframe),
        market=list(MARKET_FEATURES),
    )
    columns = Columns.of(everything, OHLCV, ["VIX"])
    names = [*columns.asset_names, *columns.market]
    assert len(set(names)) == len(names)
    assert len(columns.definitions()) == len(ASSET_FEATURES) + len(TABLE) + len(MARKET_FEATURES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"asset": ["log_retrun_21"]}, r"unknown log_retrun_21 \(nearest: log_return_21\)"),
        ({"ranks": ["beta_252"]}, "features.ranks: unknown beta_252"),
        ({"indicators": ["rsi", "rsi"]}, "rsi more than once"),
        ({"market": ["vix"]}, "features.market: unknown vix"),
        ({"market": []}, "at least one name each"),
        ({"timeframes": []}, "features.timeframes is empty"),
        ({"timeframes": [Timeframe.daily, Timeframe.daily]}, "repeats itself"),
        ({"clip": 0.0}, "features.clip must be at least 1, was 0.0"),
        ({"clip": float("nan")}, "features.clip must be at least 1, was nan"),
    ],
)
def test_a_bad_value_is_refused_by_key_and_value(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**change)


def test_every_name_that_a_source_cannot_carry_is_said() -> None:
    columns = Columns.of(config(), ["close"], [])
    assert columns.asset_names == (
        "log_return_21", "rsi", "atr_close", "rsi_weekly", "atr_close_weekly",
        "rank_log_return_21",
    )  # fmt: skip
    assert columns.market == ("trend_50",)
    assert columns.left_out == (
        "log_volume_ratio: the source has no volume",
        "log_vix: the source has no VIX",
        "atr: the source has no high, low; atr_close in its place",
    )


def test_a_specification_survives_json_with_the_same_hash() -> None:
    original = spec()
    again = FeatureSpec.from_json(original.to_json())
    assert again == original
    assert again.sha256 == original.sha256
    assert again.config == config()


def test_every_field_of_a_specification_is_in_its_hash() -> None:
    original = spec()
    moved = replace(original.normaliser, mean=(0.5, 0.2))
    window = replace(original.normaliser, window=Window("train", "2001-01-01", "2009-01-02"))
    changed = {
        "asset_names": original.asset_names[::-1],
        "market_names": original.market_names[::-1],
        "parameters": {**original.parameters, "version": 99},
        "normaliser": moved,
        "clip": 2.0,
        "left_out": ("x",),
    }
    assert set(changed) == {field.name for field in fields(FeatureSpec)}
    variants = [replace(original, **{name: value}) for name, value in changed.items()]
    variants += [replace(original, normaliser=window)]
    assert len({original.sha256, *(variant.sha256 for variant in variants)}) == 8


def test_a_text_that_is_no_specification_is_refused() -> None:
    for text in ("", "[]", "{}", spec().to_json().replace("clip", "clap")):
        with pytest.raises(InputError, match="not a feature record"):
            FeatureSpec.from_json(text)


def test_a_source_that_lacks_a_recorded_feature_is_refused_by_its_name() -> None:
    with pytest.raises(InputError, match="log_volume_ratio cannot be made from this source"):
        spec().check(Columns.of(config(), OHLCV[:4], ["VIX"]))
    with pytest.raises(InputError, match="market feature log_vix cannot be made"):
        spec().check(Columns.of(config(), OHLCV, []))


def test_a_feature_that_now_means_something_else_is_refused_by_its_name() -> None:
    record = json.loads(spec().to_json())
    record["parameters"]["definitions"]["rsi"][3] = {"timeperiod": 21}
    with pytest.raises(InputError, match="feature rsi is"):
        FeatureSpec.from_json(json.dumps(record)).check(Columns.of(config(), OHLCV, ["VIX"]))
    record["parameters"]["version"] = 0
    with pytest.raises(InputError, match="version 0"):
        FeatureSpec.from_json(json.dumps(record)).check(Columns.of(config(), OHLCV, ["VIX"]))


def test_other_columns_or_another_order_are_refused() -> None:
    more = config(asset=["log_return_21", "log_volume_ratio", "beta_252"])
    with pytest.raises(InputError, match="beta_252 is not among the recorded ones"):
        spec().check(Columns.of(more, OHLCV, ["VIX"]))
    turned = config(asset=["log_volume_ratio", "log_return_21"])
    with pytest.raises(InputError, match="another order"):
        spec().check(Columns.of(turned, OHLCV, ["VIX"]))


@pytest.fixture(scope="module")
def walk(ragged_bars: Bars) -> Market:
    return Market.of(ragged_bars, fit(ragged_bars))


def feature(walk: Market, name: str) -> np.ndarray:
    row = ASSET_FEATURES[name]
    return row.function(walk, *row.parameters)


def test_momentum_leaves_out_the_last_month(walk: Market) -> None:
    close = walk.bars.known_close()[:, 3]
    t = 900
    assert feature(walk, "momentum_12_1")[t, 3] == pytest.approx(
        np.log(close[t - 21] / close[t - 252])
    )
    assert feature(walk, "momentum_6_1")[t, 3] == pytest.approx(
        np.log(close[t - 21] / close[t - 126])
    )
    assert feature(walk, "log_return_3y_1y")[t, 3] == pytest.approx(
        np.log(close[t - 252] / close[t - 756])
    )


def test_drawdown_gap_and_largest_return_are_those_of_the_window(walk: Market) -> None:
    close, returns = walk.bars.known_close()[:, 4], walk.model.returns[:, 4]
    t = 800
    expected = {
        "drawdown_252": 1.0 - close[t] / close[t - 251 : t + 1].max(),
        "gap_200": close[t] / close[t - 199 : t + 1].mean() - 1.0,
        "largest_return_21": np.nanmax(returns[t - 20 : t + 1]),
        "log_volatility_21": np.log(np.nanstd(returns[t - 20 : t + 1], ddof=1)),
    }
    for name, value in expected.items():
        assert feature(walk, name)[t, 4] == pytest.approx(value, rel=1e-9), name


def test_idiosyncratic_momentum_is_the_beta_hedged_return_in_standard_deviations(
    walk: Market,
) -> None:
    t, i, model = 900, 5, walk.model
    rows = slice(t - 251, t - 20)
    own, common = model.returns[rows, i], model.market_return[rows]
    kept = np.isfinite(own)
    hedged = own[kept].sum() - model.beta[t, i] * common[kept].sum()
    spread = model.idiosyncratic_volatility[t, i] / np.sqrt(252.0) * np.sqrt(231.0)
    assert feature(walk, "idiosyncratic_momentum")[t, i] == pytest.approx(hedged / spread)
