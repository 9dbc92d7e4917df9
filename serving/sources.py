"""What policies are made of, each in one place: verified artefacts, and the market's features."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from agents.manifest import Contents, read_verified
from agents.policies import ArtefactPolicy, ChampionPolicy
from agents.registry import Registry
from market.build import build
from market.dataset import Dataset
from market.errors import InputError
from market.features import FeatureSpec
from market.load import MarketConfig
from market.quality import QualityRules
from risk.access.errors import NotAnswered, Reason
from serving.routing import Wanted

DATASETS_KEPT = 8  # of several universes; each holds all features of its names
ARTEFACTS_KEPT = 4

Universe = tuple[str, ...] | None


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """A market as it was in one version of the source's data."""

    version: str
    data: Dataset


class Sources(Protocol):
    """Where a seat gets its model and its market from: in this process, or across a cluster."""

    def wanted(self) -> Wanted:
        """Return what is to be served now; cheap enough for every second.

        Raises:
            NotAnswered: if that cannot be known.
        """
        ...

    def contents(self, sha256: str) -> Contents:
        """Return the verified bytes of an artefact.

        Raises:
            NotAnswered: if it is missing, damaged or not signed.
        """
        ...

    def snapshot(self, features: FeatureSpec, universe: Universe) -> Snapshot:
        """Return the market, featurised by a policy's own record.

        Raises:
            NotAnswered: if the data cannot be used.
        """
        ...


class OwnSources:
    """The sources of one machine.

    Args:
        policy: one folder, or the champion and challenger of a registry.
        public_key: PEM file of who must have signed an artefact; None does not ask.
        market: the source, the universe and the test window, whose first session begins the books.
        quality: what the gate refuses or masks.
    """

    def __init__(
        self,
        policy: ArtefactPolicy | ChampionPolicy,
        public_key: str | None,
        market: MarketConfig,
        quality: QualityRules,
    ) -> None:
        self._policy = policy
        self._public_key = None if public_key is None else Path(public_key)
        self._market, self._quality = market, quality
        self._contents: OrderedDict[str, Contents] = OrderedDict()
        self._snapshots: OrderedDict[tuple[str, str, Universe], Snapshot] = OrderedDict()
        self._refused: tuple[str, NotAnswered] | None = None  # the version of the data, and why
        self._building = threading.Lock()
        if isinstance(policy, ArtefactPolicy):  # a folder is read once: what it holds may not move
            fixed = read_verified(Path(policy.path), self._public_key)
            self._contents[fixed.sha256] = fixed
            self._fixed: str | None = fixed.sha256
        else:
            self._fixed = None

    def require_champion(self) -> None:
        """Refuse sources that have nothing to serve.

        Raises:
            InputError: if there is no champion, or its artefact cannot be used.
        """
        try:
            champion = self.wanted().champion
            if champion is None:
                raise InputError("there is no champion yet: tercet promote path=<artefact> reason=")
            self.contents(champion)
        except NotAnswered as error:
            raise InputError(error.detail) from error

    def forget_refusals(self) -> None:
        """Try data again that were refused, though nothing seems to have changed."""
        self._refused = None

    def wanted(self) -> Wanted:
        """Return what is to be served now; see `Sources`."""
        version = self._market.version()
        if isinstance(self._policy, ArtefactPolicy):
            return Wanted(self._fixed, None, 0.0, version)
        try:
            state = Registry(Path(self._policy.registry)).state()
        except InputError as error:
            raise NotAnswered(Reason.stale_model, str(error)) from error
        champion = None if state.champion is None else state.champion.sha256
        challenger = None if state.challenger is None else state.challenger.sha256
        return Wanted(champion, challenger, state.share, version)

    def contents(self, sha256: str) -> Contents:
        """Return the verified bytes of an artefact; see `Sources`."""
        found = self._contents.get(sha256)
        if found is None:
            assert isinstance(self._policy, ChampionPolicy), (
                "a fixed artefact was read at the start"
            )
            admitted = Registry(Path(self._policy.registry)).artefacts()
            try:
                found = next(one for one in admitted if one.sha256 == sha256).contents(
                    self._public_key
                )
            except InputError as error:
                raise NotAnswered(Reason.stale_model, str(error)) from error
            self._contents[sha256] = found
            if len(self._contents) > ARTEFACTS_KEPT:
                self._contents.popitem(last=False)
        return found

    def snapshot(self, features: FeatureSpec, universe: Universe) -> Snapshot:
        """Return the market in its present version, made once for all who ask; see `Sources`."""
        version = self._market.version()
        key = (version, features.sha256, universe)
        with self._building:
            found = self._snapshots.get(key)
            if found is None:
                if self._refused is not None and self._refused[0] == version:
                    raise self._refused[1].again()
                found = Snapshot(version, self._build(features, universe, version))
                stale = [old for old in self._snapshots if old[0] != version]
                for old in stale:
                    del self._snapshots[old]
                self._snapshots[key] = found
                if len(self._snapshots) > DATASETS_KEPT:
                    self._snapshots.popitem(last=False)
            return found

    def _build(self, features: FeatureSpec, universe: Universe, version: str) -> Dataset:
        try:
            return build(narrowed(self._market, universe), self._quality, features)
        except InputError as error:
            if universe is not None:
                raise NotAnswered(Reason.invalid, str(error)) from error
            refusal = NotAnswered(Reason.bad_data, str(error))
            self._refused = version, refusal  # nobody reads bad files every second
            raise refusal from error


def narrowed(market: MarketConfig, universe: Universe) -> MarketConfig:
    """Return the market of a few of its names."""
    if universe is None:
        return market
    adv = market.assumed_adv
    if isinstance(adv, Mapping):
        adv = {symbol: value for symbol, value in adv.items() if symbol in universe}
    return replace(market, symbols=list(universe), assumed_adv=adv)
