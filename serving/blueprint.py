"""Everything that the application is built from, as plain JSON: a Serve config file carries it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, overload

from pydantic import TypeAdapter, ValidationError

from agents.policies import ArtefactPolicy, ChampionPolicy
from envs.batch import EnvSettings
from envs.costs import CostModel
from market.errors import InputError
from market.load import MarketConfig
from market.quality import QualityRules
from market.sources.embedded import EmbeddedMarket
from market.sources.files import FilesMarket
from market.sources.synthetic import SyntheticMarket
from serving.settings import ServingSettings
from serving.sources import OwnSources

MARKETS: dict[str, type[MarketConfig]] = {
    "embedded": EmbeddedMarket,
    "files": FilesMarket,
    "synthetic": SyntheticMarket,
}
POLICIES: dict[str, type[ArtefactPolicy] | type[ChampionPolicy]] = {
    "artefact": ArtefactPolicy,
    "champion": ChampionPolicy,
}
KIND = "kind"


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What is served, over which market, by which rules.

    Args:
        market: the source, the universe and the test window, whose first session begins the books.
        quality: what the gate refuses or masks.
        env: costs and capital of the model books.
        policy: one artefact, or the roles of a registry.
        serving: processes, limits, files.
    """

    market: MarketConfig
    quality: QualityRules
    env: EnvSettings
    policy: ArtefactPolicy | ChampionPolicy
    serving: ServingSettings

    def sources(self) -> OwnSources:
        """Return the sources of this machine.

        Raises:
            InputError: if a fixed artefact cannot be used.
        """
        return OwnSources(self.policy, self.serving.public_key, self.market, self.quality)

    def located(self) -> "Blueprint":
        """Return the same with absolute paths: a process elsewhere must mean the same files."""
        serving = replace(
            self.serving,
            decisions=_absolute(self.serving.decisions),
            tokens=_absolute(self.serving.tokens),
            public_key=_absolute(self.serving.public_key),
        )
        if isinstance(self.policy, ArtefactPolicy):
            policy: ArtefactPolicy | ChampionPolicy = ArtefactPolicy(_absolute(self.policy.path))
        else:
            policy = ChampionPolicy(_absolute(self.policy.registry))
        market = self.market
        if isinstance(market, FilesMarket):
            market = replace(
                market,
                path=_absolute(market.path),
                series={name: _absolute(path) for name, path in market.series.items()},
                sectors=_absolute(market.sectors),
                membership=_absolute(market.membership),
            )
        return replace(self, market=market, policy=policy, serving=serving)

    def to_json(self) -> dict[str, Any]:
        """Return JSON types that `from_json` reads."""
        return {
            "market": _tagged(self.market, MARKETS),
            "quality": _plain(self.quality),
            "env": _plain(self.env),
            "policy": _tagged(self.policy, POLICIES),
            "serving": _plain(self.serving),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Blueprint":
        """Return what `to_json` wrote, wherever it was written.

        Raises:
            InputError: naming the first key that is missing, unknown or out of range.
        """
        expected = {"market", "quality", "env", "policy", "serving"}
        if set(record) != expected:
            odd = ", ".join(sorted(set(record) ^ expected))
            raise InputError(f"args must have {', '.join(sorted(expected))}; see {odd}")
        return cls(
            market=_untagged("market", record["market"], MARKETS),
            quality=_read("quality", record["quality"], QualityRules),
            env=_env(record["env"]),
            policy=_untagged("policy", record["policy"], POLICIES),
            serving=_read("serving", record["serving"], ServingSettings),
        )


@overload
def _absolute(path: str) -> str: ...
@overload
def _absolute(path: None) -> None: ...
def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).expanduser().absolute())


def _plain(record: Any) -> dict[str, Any]:
    plain: dict[str, Any] = TypeAdapter(type(record)).dump_python(record, mode="json")
    return plain


def _tagged(record: Any, kinds: Mapping[str, type]) -> dict[str, Any]:
    (name,) = (name for name, kind in kinds.items() if type(record) is kind)
    return {KIND: name, **_plain(record)}


def _untagged(key: str, record: Mapping[str, Any], kinds: Mapping[str, type]) -> Any:
    kind = kinds.get(record.get(KIND, ""))
    if kind is None:
        raise InputError(f"args.{key}.{KIND} must be one of {', '.join(kinds)}")
    return _read(key, {name: value for name, value in record.items() if name != KIND}, kind)


def _env(record: Mapping[str, Any]) -> EnvSettings:
    """Read settings and, by itself, the cost model: its type is chosen and not in the settings'."""
    costs = record.get("costs")
    if isinstance(costs, Mapping):
        record = {**record, "costs": _read("env.costs", costs, CostModel)}
    settings: EnvSettings = _read("env", record, EnvSettings)
    return settings


def _read(key: str, record: Mapping[str, Any], kind: type) -> Any:
    try:
        read: Any = TypeAdapter(kind).validate_python(dict(record))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join([key, *map(str, first["loc"])])
        raise InputError(f"args.{place}: {first['msg']}") from error
    unknown = _unknown(key, record, asdict(read))
    if unknown is not None:
        raise InputError(f"args.{unknown} is unknown")
    return read


def _unknown(key: str, record: Mapping[str, Any], known: Mapping[str, Any]) -> str | None:
    """Return the first key that a record has beyond the known ones; pydantic would drop it."""
    for name, value in record.items():
        if name not in known:
            return f"{key}.{name}"
        if isinstance(value, Mapping) and isinstance(known[name], Mapping):
            found = _unknown(f"{key}.{name}", value, known[name])
            if found is not None:
                return found
    return None
