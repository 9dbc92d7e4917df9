"""What an artefact says about its policies, and the proof that its files are whole. No torch here.

An artefact is one folder: `policy.safetensors`, `manifest.json`, and `sha256.json` with the hash
of the other two and of itself; the last one is the artefact's identity. Not a byte of a file is
parsed before every hash was found right. The hashes find damage; who made the artefact is said by
`signature.json`, where there is one (`agents.signature`).
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from agents.ensemble import Mixer, mixer_from_dict, mixer_to_dict, require_shares
from agents.mandates import Mandate
from agents.network_spec import NetworkSpec
from agents.signature import MOST_BYTES as SIGNATURE_BYTES
from agents.signature import SIGNATURE, check
from agents.untrusted import misfit, read_plain, strict_json
from market.errors import InputError
from market.features import FeatureConfig, FeatureSpec

FORMAT_VERSION = 1
"""Raised whenever code changes what an action, an observation or a field here means."""

MANIFEST = "manifest.json"
PARAMETERS = "policy.safetensors"
HASHES = "sha256.json"
MOST_BYTES = {MANIFEST: 1 << 22, PARAMETERS: 1 << 30, HASHES: 1 << 12}
"""Of each file; the widest society that fits a machine's memory stays far below."""

MOST_SYMBOL = 32  # characters
MOST_WORDS = 300  # characters of an error that may quote what was found
_OWN_HASH = b', "self": "'


class Stage(Enum):
    """How far an agent's policy came; each stage was kept only where validation said so."""

    rule = "rule"
    warm_start = "warm_start"
    rl = "rl"


@dataclass(frozen=True, slots=True, eq=False)
class Manifest:
    """Everything that a policy set needs to act elsewhere as it acted in training.

    Args:
        mandates: of the agents, in the order of the agents' axis.
        stages: agent -> what plays it; an agent at the rule needs no parameters.
        network: shape of every policy network.
        features: names, definitions and the fitted normaliser.
        ensemble: how capital is shared between the agents.
        universe: symbols of training; others are possible, the policies do not depend on it.
        data_sha256: of the bars of training.
        code_version: of the program that trained.
        assumed_adv: account currency a day, one or by symbol, where the source had no volume.
        metrics: what was measured, by name; None where undefined.
        trials: configurations that were tried on this data, this one among them, >= 1.
        deterministic: the policies act by their mean.
    """

    mandates: tuple[Mandate, ...]
    stages: Mapping[str, Stage]
    network: NetworkSpec
    features: FeatureSpec
    ensemble: Mixer
    universe: tuple[str, ...]
    data_sha256: str
    code_version: str
    assumed_adv: float | Mapping[str, float] | None
    metrics: Mapping[str, float | None]
    trials: int
    deterministic: bool = True

    def __post_init__(self) -> None:
        names = [mandate.name for mandate in self.mandates]
        if sorted(self.stages) != sorted(names):
            raise ValueError(f"stages name {sorted(self.stages)}, mandates {sorted(names)}")
        if not names or len(set(self.universe)) != len(self.universe):
            raise ValueError("at least one mandate, and a universe without repetitions, are needed")
        for symbol in self.universe:
            if not 1 <= len(symbol) <= MOST_SYMBOL or ".." in symbol:  # no way out of a folder
                raise ValueError(f"universe holds {symbol[:MOST_SYMBOL]!r}, which is no symbol")
        if self.trials < 1:
            raise ValueError(f"trials must be at least 1, was {self.trials}")
        if not self.deterministic:
            raise ValueError("an artefact's policies act by their mean: deterministic must be true")
        for field, features in (
            ("asset_features", self.features.asset_names),
            ("market_features", self.features.market_names),
        ):
            if getattr(self.network, field) != len(features):
                raise ValueError(
                    f"network.{field} is {getattr(self.network, field)}, "
                    f"the features are {len(features)}"
                )
        require_shares(self.ensemble, len(self.mandates))

    @property
    def policies(self) -> tuple[str, ...]:
        """Return the policies with parameters: those that play an agent beyond the rule."""
        played = (m.policy for m in self.mandates if self.stages[m.name] is not Stage.rule)
        return tuple(dict.fromkeys(played))

    def to_json(self) -> str:
        """Return the manifest as JSON, the same text for the same content."""
        record = {
            "format_version": FORMAT_VERSION,
            "mandates": [mandate.to_dict() for mandate in self.mandates],
            "stages": {name: stage.name for name, stage in self.stages.items()},
            "network": asdict(self.network),
            "features": json.loads(self.features.to_json()),
            "ensemble": mixer_to_dict(self.ensemble),
            "universe": list(self.universe),
            "data_sha256": self.data_sha256,
            "code_version": self.code_version,
            "assumed_adv": self.assumed_adv,
            "metrics": dict(self.metrics),
            "trials": self.trials,
            "deterministic": self.deterministic,
        }
        return json.dumps(record, sort_keys=True, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: bytes) -> "Manifest":
        """Return what `to_json` wrote.

        Raises:
            InputError: if the format version is another one, or the text is no manifest.
        """
        try:
            found = strict_json(text)
            record = dict(found)
            version = record.pop("format_version")
            if version != FORMAT_VERSION:
                raise InputError(f"format version {version}, this program reads {FORMAT_VERSION}")
            parsed = {
                "mandates": tuple(Mandate.from_dict(item) for item in record["mandates"]),
                "stages": {name: Stage[stage] for name, stage in record["stages"].items()},
                "network": NetworkSpec(**record["network"]),
                "features": FeatureSpec.from_json(json.dumps(record["features"])),
                "ensemble": mixer_from_dict(record["ensemble"]),
                "universe": tuple(record["universe"]),
            }
            manifest = cls(**{**record, **parsed})
            _check_types(manifest, manifest.features)
            difference = first_difference(found, json.loads(manifest.to_json()))
            if difference is not None:  # a word in the place of a list of letters, and the like
                raise InputError(difference)
            return manifest
        except InputError:
            raise
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise InputError(f"not a manifest: {error!r}") from error


@dataclass(frozen=True, slots=True)
class Contents:
    """The bytes of an artefact, which can travel to another process.

    Args:
        files: name -> content of the three files.
        sha256: identity of the artefact, 64 hexadecimal digits.
    """

    files: Mapping[str, bytes]
    sha256: str


def read_verified(folder: Path, public_key: Path | None = None) -> Contents:
    """Return the bytes of an artefact after comparing their hashes, and its signature if asked to.

    Args:
        folder: holds the files; links in it are not followed.
        public_key: PEM file; None does not ask who made the artefact.

    Raises:
        InputError: naming the file that is missing, damaged, too large or not signed by the key.
    """
    files = {name: read_plain(folder / name, most) for name, most in MOST_BYTES.items()}
    contents = Contents(files, require_whole(files, str(folder)))
    if public_key is not None:
        if not (folder / SIGNATURE).exists():
            raise InputError(f"{folder} is not signed: it has no {SIGNATURE}")
        check(contents.sha256, read_plain(folder / SIGNATURE, SIGNATURE_BYTES), public_key)
    return contents


def identity(folder: Path) -> str:
    """Return the sha256 of an artefact, 64 hexadecimal digits, after comparing every hash.

    Raises:
        InputError: naming the file that is missing or damaged.
    """
    return read_verified(folder).sha256


def require_whole(files: Mapping[str, bytes], origin: str) -> str:
    """Return the identity of an artefact's files; nothing in them is parsed.

    Raises:
        InputError: naming the file that is damaged.
    """
    recorded = files[HASHES]
    start = recorded.rpartition(_OWN_HASH)[0]
    if recorded != _with_own_hash(start):
        raise InputError(f"{origin}/{HASHES} is damaged: its sha256 is not the recorded one")
    covered = {name: files[name] for name in (MANIFEST, PARAMETERS)}
    for name, content in covered.items():
        if hashlib.sha256(content).hexdigest().encode() not in start:
            raise InputError(f"{origin}/{name} is damaged: its sha256 is not the recorded one")
    if recorded != hashes_of(covered):
        raise InputError(f"{origin}/{HASHES} is not the record of {' and '.join(covered)}")
    return hashlib.sha256(start).hexdigest()


def parse_manifest(contents: Contents, origin: str) -> Manifest:
    """Return the manifest among the verified contents of an artefact.

    Raises:
        InputError: if it is of another format version, or no manifest.
    """
    try:
        return Manifest.from_json(contents.files[MANIFEST])
    except InputError as error:
        raise InputError(f"{origin}/{MANIFEST}: {str(error)[:MOST_WORDS]}") from error


def hashes_of(contents: Mapping[str, bytes]) -> bytes:
    """Return the content of `sha256.json`: each file's hash, and its own."""
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    return _with_own_hash(b'{"files": ' + json.dumps(digests, sort_keys=True).encode())


def _check_types(manifest: Manifest, features: FeatureSpec) -> None:
    """Refuse a record whose numbers are words, whose features do not fit together, and the like.

    Raises:
        InputError: naming the first field.
    """
    config, version = features.config, features.parameters["version"]
    wrong = (
        misfit(manifest, Manifest, "manifest")
        or misfit(config, FeatureConfig, "features.config")
        or misfit(version, int, "features.version")
        or misfit(features.parameters["definitions"], Mapping[str, list[Any]], "definitions")
    )
    if wrong is not None:
        raise InputError(f"{wrong} is not of its type")
    fitted = features.normaliser
    if not fitted.names == features.market_names or features.clip != config.clip:
        raise InputError("the features, their normaliser and their configuration differ")
    if not len(fitted.names) == len(fitted.mean) == len(fitted.std):
        raise InputError(f"the normaliser has not one mean and one std for {fitted.names}")


def first_difference(recorded: Any, found: Any, path: str = "") -> str | None:
    """Return where two JSON values first differ, with both values, or None.

    >>> first_difference({"a": [1, 2]}, {"a": [1, 3]})
    'a[1] is 3, recorded as 2'
    """
    if isinstance(recorded, Mapping) and isinstance(found, Mapping):
        keys = list(dict.fromkeys([*recorded, *found]))
        pairs = [(f"{path}.{key}" if path else str(key), key) for key in keys]
        parts = ((place, recorded.get(key), found.get(key)) for place, key in pairs)
        return _first(parts)
    if _is_list(recorded) and _is_list(found):
        length = max(len(recorded), len(found))
        parts = ((f"{path}[{i}]", _at(recorded, i), _at(found, i)) for i in range(length))
        return _first(parts)
    return None if recorded == found else f"{path} is {found}, recorded as {recorded}"


def _first(parts: Iterable[tuple[str, Any, Any]]) -> str | None:
    differences = (first_difference(ours, theirs, place) for place, ours, theirs in parts)
    return next((difference for difference in differences if difference is not None), None)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _at(values: Sequence[Any], index: int) -> Any:
    return values[index] if index < len(values) else None


def _with_own_hash(start: bytes) -> bytes:
    return start + _OWN_HASH + hashlib.sha256(start).hexdigest().encode() + b'"}\n'
