"""Verified artefacts and the featurised market, made once for all replicas."""

import threading
from collections import OrderedDict
from typing import Any

import ray

from agents.policies import ArtefactPolicy, ChampionPolicy
from market.features import FeatureSpec
from market.load import MarketConfig
from market.quality import QualityRules
from risk.access.errors import NotAnswered
from serving.routing import Wanted
from serving.sources import ARTEFACTS_KEPT, DATASETS_KEPT, OwnSources, Universe

STORED = ARTEFACTS_KEPT + DATASETS_KEPT


class SourcesReplica:
    """The sources of the head node, each content put into the object store once.

    Args: as for `OwnSources`.
    """

    def __init__(
        self,
        policy: ArtefactPolicy | ChampionPolicy,
        public_key: str | None,
        market: MarketConfig,
        quality: QualityRules,
    ) -> None:
        self._own = OwnSources(policy, public_key, market, quality)
        self._stored: OrderedDict[int, tuple[Any, ray.ObjectRef]] = OrderedDict()
        self._storing = threading.Lock()

    def wanted(self) -> Wanted | NotAnswered:
        """Return what is to be served now."""
        try:
            return self._own.wanted()
        except NotAnswered as error:
            return error

    def contents(self, sha256: str) -> list[ray.ObjectRef] | NotAnswered:
        """Return a reference to the verified bytes of an artefact."""
        try:
            return [self._reference(self._own.contents(sha256))]
        except NotAnswered as error:
            return error

    def snapshot(
        self, features: str, universe: Universe
    ) -> tuple[str, ray.ObjectRef] | NotAnswered:
        """Return the version of the data and a reference to them."""
        try:
            found = self._own.snapshot(FeatureSpec.from_json(features), universe)
        except NotAnswered as error:
            return error
        return found.version, self._reference(found.data)

    def refresh(self) -> None:
        """Try data again that were refused."""
        self._own.forget_refusals()

    def _reference(self, content: Any) -> ray.ObjectRef:
        """Return where the object store holds what the sources hold, storing it the first time."""
        with self._storing:
            stored = self._stored.get(id(content))
            if stored is None or stored[0] is not content:
                stored = content, ray.put(content)
                self._stored[id(content)] = stored
                if len(self._stored) > STORED:
                    self._stored.popitem(last=False)
            return stored[1]
