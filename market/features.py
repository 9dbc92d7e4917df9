"""Which features are computed, and the record of it that goes wherever a policy goes."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from market.asset_features import ASSET_FEATURES
from market.errors import InputError
from market.indicators import TABLE, resolve
from market.normalise import Normaliser
from market.regimes import MARKET_FEATURES
from market.suggest import nearest
from market.timeframes import Timeframe

FEATURES_VERSION = 1
"""Raised whenever code changes what a feature means: caches and policies depend on it."""


@dataclass(slots=True)
class FeatureConfig:
    """The features to compute; those that the source cannot carry are left out by name.

    Args:
        asset: features a name, of `market.asset_features`.
        ranks: those of `asset` that also enter as a rank across names, "rank_<name>".
        indicators: columns of `market.indicators`, each in every timeframe, "<name>_weekly" ...
        timeframes: daily, weekly, monthly.
        market: inputs of the day, of `market.regimes`.
        clip: standard deviations at which every feature is cut off, >= 1.
    """

    asset: list[str]
    ranks: list[str]
    indicators: list[str]
    timeframes: list[Timeframe]
    market: list[str]
    clip: float

    def __post_init__(self) -> None:
        _check_names("asset", self.asset, ASSET_FEATURES)
        _check_names("ranks", self.ranks, self.asset)
        _check_names("indicators", self.indicators, TABLE)
        _check_names("market", self.market, MARKET_FEATURES)
        if not self.asset or not self.market:
            raise ValueError("features.asset and features.market need at least one name each")
        if len(set(self.timeframes)) != len(self.timeframes):
            raise ValueError(f"features.timeframes repeats itself: {self.timeframes}")
        if self.indicators and not self.timeframes:
            raise ValueError("features.timeframes is empty, features.indicators is not")
        if not 1.0 <= self.clip < float("inf"):
            raise ValueError(f"features.clip must be at least 1, was {self.clip}")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return {**asdict(self), "timeframes": [item.name for item in self.timeframes]}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "FeatureConfig":
        """Return what `to_dict` wrote."""
        timeframes = [Timeframe[name] for name in record["timeframes"]]
        return cls(**{**record, "timeframes": timeframes})


def _check_names(key: str, names: Sequence[str], known: Iterable[str]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"features.{key}: unknown {name}{nearest(name, known)}")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"features.{key} names {twice} more than once")


@dataclass(frozen=True, slots=True)
class Columns:
    """What is computed on one source.

    Args:
        asset: features a name, in order.
        ranks: features a name that also enter as a rank.
        indicators: of the table, close-only variants in their places.
        timeframes: of the indicators.
        market: inputs of the day.
        left_out: one sentence for each configured name that was replaced or left out.
    """

    asset: tuple[str, ...]
    ranks: tuple[str, ...]
    indicators: tuple[str, ...]
    timeframes: tuple[Timeframe, ...]
    market: tuple[str, ...]
    left_out: tuple[str, ...]

    @classmethod
    def of(cls, config: FeatureConfig, fields: Sequence[str], series: Iterable[str]) -> "Columns":
        """Keep what a source with these fields and series can carry."""
        indicators = resolve(config.indicators, fields)
        lacking = _lacking({name: ASSET_FEATURES[name].needs for name in config.asset}, fields)
        absent = _lacking({name: MARKET_FEATURES[name].needs for name in config.market}, series)
        said = [f"{name}: the source has no {what}" for name, what in (lacking | absent).items()]
        return cls(
            asset=tuple(name for name in config.asset if name not in lacking),
            ranks=tuple(name for name in config.ranks if name not in lacking),
            indicators=indicators.names,
            timeframes=tuple(config.timeframes) if indicators.names else (),
            market=tuple(name for name in config.market if name not in absent),
            left_out=(*said, *indicators.left_out),
        )

    @property
    def asset_names(self) -> tuple[str, ...]:
        """Return the names of the last axis of the asset features."""
        columns = list(self.asset)
        for timeframe in self.timeframes:
            suffix = "" if timeframe is Timeframe.daily else f"_{timeframe.name}"
            columns += [f"{name}{suffix}" for name in self.indicators]
        return (*columns, *(f"rank_{name}" for name in self.ranks))

    def definitions(self) -> dict[str, Any]:
        """Return what defines each column, as JSON types: equal definitions, equal meaning."""
        record: dict[str, Any] = {
            name: [ASSET_FEATURES[name].function.__name__, *ASSET_FEATURES[name].parameters]
            for name in self.asset
        }
        for name in self.indicators:
            row = TABLE[name]
            parameters = dict(sorted(row.parameters.items()))
            record[name] = [row.function, *row.inputs, row.output, parameters, row.scale.value]
        for name in self.market:
            feature = MARKET_FEATURES[name]
            record[name] = [feature.function.__name__, feature.window]
        return record


def _lacking(needs: Mapping[str, tuple[str, ...]], have: Iterable[str]) -> dict[str, str]:
    missing = {
        name: ", ".join(need for need in wanted if need not in have)
        for name, wanted in needs.items()
    }
    return {name: what for name, what in missing.items() if what}


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """Everything that turns bars into the numbers that a policy was trained on.

    Args:
        asset_names: F names of the last axis of the asset features.
        market_names: M names of the market features.
        parameters: JSON types: "version" of the code, the "config" asked for, and the
            "definitions" of every column.
        normaliser: of the market features, with the window it was fitted on.
        clip: standard deviations at which every feature is cut off.
        left_out: what the source could not carry, one sentence each.
    """

    asset_names: tuple[str, ...]
    market_names: tuple[str, ...]
    parameters: Mapping[str, Any]
    normaliser: Normaliser
    clip: float
    left_out: tuple[str, ...]

    @classmethod
    def of(cls, config: FeatureConfig, columns: Columns, normaliser: Normaliser) -> "FeatureSpec":
        """Write down the features of `columns` and the fitted numbers."""
        return cls(
            asset_names=columns.asset_names,
            market_names=columns.market,
            parameters={
                "version": FEATURES_VERSION,
                "config": config.to_dict(),
                "definitions": columns.definitions(),
            },
            normaliser=normaliser,
            clip=config.clip,
            left_out=columns.left_out,
        )

    @property
    def config(self) -> FeatureConfig:
        """Return the configuration that the record was made with."""
        return FeatureConfig.from_dict(self.parameters["config"])

    def check(self, columns: Columns) -> None:
        """Refuse a source on which a feature would be missing or mean something else.

        Raises:
            InputError: naming the first feature that differs.
        """
        if self.parameters["version"] != FEATURES_VERSION:
            raise InputError(
                f"the features are of version {self.parameters['version']}, this code makes"
                f" version {FEATURES_VERSION}"
            )
        for kind, wanted, found in (
            ("asset", self.asset_names, columns.asset_names),
            ("market", self.market_names, columns.market),
        ):
            for name in wanted:
                if name not in found:
                    raise InputError(f"{kind} feature {name} cannot be made from this source")
            for name in found:
                if name not in wanted:
                    raise InputError(f"{kind} feature {name} is not among the recorded ones")
            if wanted != found:
                raise InputError(f"the {kind} features are recorded in another order")
        recorded, current = self.parameters["definitions"], columns.definitions()
        for name, definition in recorded.items():
            if current.get(name) != definition:
                raise InputError(f"feature {name} is {current.get(name)}, recorded as {definition}")

    def to_json(self) -> str:
        """Return the record as JSON, the same text for the same content."""
        record = {
            "asset_names": list(self.asset_names),
            "market_names": list(self.market_names),
            "parameters": self.parameters,
            "normaliser": self.normaliser.to_dict(),
            "clip": self.clip,
            "left_out": list(self.left_out),
        }
        return json.dumps(record, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "FeatureSpec":
        """Return what `to_json` wrote.

        Raises:
            InputError: if the text is not such a record.
        """
        try:
            record = json.loads(text)
            return cls(
                asset_names=tuple(record["asset_names"]),
                market_names=tuple(record["market_names"]),
                parameters=record["parameters"],
                normaliser=Normaliser.from_dict(record["normaliser"]),
                clip=record["clip"],
                left_out=tuple(record["left_out"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"not a feature record: {error!r}") from error

    @property
    def sha256(self) -> str:
        """Return the hash of `to_json`."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()
