"""An explanation adds up: from what agents wanted, through what changed it, to the account."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from agents import artefact
from agents.action_map import ActionMap
from agents.artefact import Artefact
from agents.ensemble import Fixed
from agents.mandates import BasePortfolio, ExposureRule, Mandate, RewardWeights
from agents.manifest import Manifest, Stage
from agents.market_tensors import MarketTensors
from agents.network_spec import NetworkSpec
from agents.networks import PolicyNetwork
from agents.observation import BOOK_ASSET_FEATURES, BOOK_FEATURES
from envs.batch import EnvSettings
from envs.costs import CostModel
from evaluation.netting import Netting
from market.bars import Bars
from market.dataset import Dataset
from market.features import FeatureConfig
from market.prepare import prepare
from market.timeframes import Timeframe
from risk.breakers import BreakerRules
from risk.exits import ExitRules
from risk.limits import Limits
from serving.explain import MOST_FEATURES, explain
from serving.questions import CASH
from serving.track import Track, replay

FREE = Limits(1.0, 1.0, 1.0, 0.0, 1.0, 2.0, 10.0)
TIGHT = Limits(0.15, 0.4, 0.4, 0.05, 1.0, 0.3, 0.05)
SETTINGS = EnvSettings(CostModel(1.0, 10.0, 0.0, 0.02), 1e5, 20, 0.1, False)
NO_EXITS = ExitRules(None, None, None, None, None)
NO_BREAKERS = BreakerRules(None, None, None, None, None, None)
MIXER = Fixed([0.5, 0.3, 0.2])


def mandate(name: str, **changes: Any) -> Mandate:
    plain = Mandate(
        name=name,
        policy=name,
        target_volatility=0.12,
        base=BasePortfolio.equal_weight,
        tilt=2.0,
        tilt_rate=0.3,
        exposure=ExposureRule.volatility_target,
        exposure_authority=0.3,
        band=0.05,
        limits=FREE,
        exits=NO_EXITS,
        breakers=NO_BREAKERS,
        reward=RewardWeights(1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    )
    return replace(plain, **changes)


MANDATES = (
    mandate("free", band=0.0),
    mandate("tight", limits=TIGHT, exits=replace(NO_EXITS, stop_loss=0.03)),
    mandate("ruled"),
)


def bars(sessions: int = 480, assets: int = 7) -> Bars:
    random = np.random.default_rng(5)
    steps = random.normal(0.0002, 0.01, (sessions, assets))
    dates = np.busday_offset("2015-01-05", np.arange(sessions)).astype("datetime64[D]")
    close = 40.0 * np.exp(np.cumsum(steps, axis=0))
    listed = np.ones(close.shape, dtype=bool)
    listed[470:, 0] = False
    symbols = ("AAA", "BRK.B", "CCC", "DDD", "EEE", "FFF", "GGG")
    close = np.where(listed, close, np.nan)
    return Bars(dates, symbols, close, listed, listed, source="drawn")


@pytest.fixture(scope="module")
def data() -> Dataset:
    config = FeatureConfig(
        asset=["log_return_1", "log_return_21", "momentum_12_1", "log_volatility_21"],
        ranks=["log_return_1", "log_return_21"],
        indicators=["rsi_2", "sma_10"],
        timeframes=[Timeframe.daily, Timeframe.weekly],
        market=["market_log_volatility", "trend_50"],
        clip=3.0,
    )
    return prepare(bars(), slice(0, 380), slice(400, 480), config)


@pytest.fixture(scope="module")
def trained(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    spec = NetworkSpec(
        asset_features=data.asset_features.shape[-1],
        market_features=data.market_features.shape[-1],
        book_asset=BOOK_ASSET_FEATURES,
        book=BOOK_FEATURES,
        members=3,
        hidden=8,
        dropout=0.0,
        attention=False,
    )
    generator = torch.Generator().manual_seed(2)
    networks = {name: PolicyNetwork(spec, generator) for name in ("free", "tight")}
    with torch.no_grad():
        for network in networks.values():
            for parameter in network.parameters():
                parameter.copy_(0.8 * torch.randn(parameter.shape, generator=generator))
            # Away from all cash, where no feature moves anything and no limit binds.
            network.exposure_weight *= 0.1
            network.book_exposure_weight *= 0.1
            network.exposure_bias.fill_(1.0)
        # The first policy is deaf to one of its features.
        networks["free"].asset_weight[:, 1] = 0.0
    stages = {"free": Stage.rl, "tight": Stage.warm_start, "ruled": Stage.rule}
    manifest = Manifest(
        mandates=MANDATES,
        stages=stages,
        network=spec,
        features=data.features,
        ensemble=MIXER,
        universe=data.bars.symbols,
        data_sha256=data.bars.sha256,
        code_version="test",
        assumed_adv=None,
        metrics={},
        trials=1,
    )
    folder = tmp_path_factory.mktemp("explain") / "artefact"
    artefact.save(folder, networks, manifest)
    return artefact.load(folder)


@pytest.fixture(scope="module")
def market(data: Dataset) -> MarketTensors:
    return MarketTensors.build(data)


@pytest.fixture(scope="module")
def track(trained: Artefact, market: MarketTensors, data: Dataset) -> Track:
    return replay(market, MANDATES, trained.networks, SETTINGS, data.test.start, 0.0)


@pytest.fixture(scope="module")
def netting(track: Track, data: Dataset) -> Netting:
    return track.netted(MIXER, data.regime)


Explained = list[dict[str, Any]]


@pytest.fixture(scope="module")
def explained(
    trained: Artefact, market: MarketTensors, track: Track, netting: Netting, data: Dataset
) -> Explained:
    """Return the explanation of every session of the track."""
    action_map = ActionMap(MANDATES, market)
    rows = range(track.first, track.first + len(track.nav))
    return [explain(trained, action_map, track, netting, row, data.bars.symbols) for row in rows]


def vector(weights: dict[str, float], symbols: tuple[str, ...]) -> Any:
    return np.array([weights.get(symbol, 0.0) for symbol in symbols])


def test_an_explanation_is_json_without_unknown_numbers(explained: Explained) -> None:
    for one in explained:
        assert json.loads(json.dumps(one, allow_nan=False)) == one


def test_what_the_agents_contribute_sums_to_the_account(
    explained: Explained, netting: Netting, data: Dataset
) -> None:
    symbols = data.bars.symbols
    for i, one in enumerate(explained):
        parts = one["mixer"]["contributions"]
        total = sum(vector(parts[name], symbols) for name in parts)
        assert total == pytest.approx(netting.weights[i], abs=3e-6)
        assert vector(one["weights"], symbols) == pytest.approx(total, abs=3e-6)
        assert sum(one["weights"].values()) == pytest.approx(1.0, abs=1e-5)
        shares = one["mixer"]["shares"]
        for name, agent in one["agents"].items():
            share = shares[name] * vector(agent["target"], symbols)
            assert vector(parts[name], symbols) == pytest.approx(share, abs=2e-6)


def test_the_causes_bridge_the_way_from_what_was_wanted_to_the_target(
    explained: Explained, data: Dataset
) -> None:
    symbols, bridged = data.bars.symbols, 0
    for one in explained:
        for agent in one["agents"].values():
            wanted, target = (vector(agent[key], symbols) for key in ("wanted", "target"))
            distance = float(np.abs(target - wanted).sum())
            assert distance <= sum(agent["moved_by"].values()) + 2e-5
            assert agent["exposure"]["wanted"] == pytest.approx(wanted.sum(), abs=1e-5)
            assert agent["exposure"]["target"] == pytest.approx(target.sum(), abs=1e-5)
            assert agent["wanted"][CASH] == pytest.approx(1.0 - wanted.sum(), abs=1e-5)
            bridged += distance > 0.01
    assert bridged > 50


def test_an_agent_without_limits_and_band_gets_what_it_wants(explained: Explained) -> None:
    for one in explained:
        free = one["agents"]["free"]
        assert free["moved_by"] == {}
        assert free["wanted"] == free["target"]


def test_every_cause_is_seen_somewhere(explained: Explained) -> None:
    tight = {cause for one in explained for cause in one["agents"]["tight"]["moved_by"]}
    assert {"max_turnover", "max_weight", "max_volatility", "band", "exits_and_breakers"} <= tight
    ruled = {cause for one in explained for cause in one["agents"]["ruled"]["moved_by"]}
    assert ruled == {"band"}


def test_an_agent_at_its_rule_wants_the_rule_and_no_feature_moves_it(explained: Explained) -> None:
    for one in explained:
        ruled = one["agents"]["ruled"]
        assert ruled["stage"] == "rule"
        assert ruled["features"] == []
        assert ruled["exposure"]["wanted"] == pytest.approx(ruled["exposure"]["rule"], abs=1e-12)


def test_the_features_come_largest_first_and_a_deaf_policy_does_not_name_one(
    explained: Explained, data: Dataset
) -> None:
    known = {*data.features.asset_names, *data.features.market_names}
    assert len(known) > MOST_FEATURES
    for one in explained:
        for name in ("free", "tight"):
            found = one["agents"][name]["features"]
            moved = [feature["moved"] for feature in found]
            assert moved == sorted(moved, reverse=True)
            assert len(found) == MOST_FEATURES
            assert {feature["feature"] for feature in found} <= known
        assert "log_return_21" not in {f["feature"] for f in one["agents"]["free"]["features"]}
    assert "log_return_21" in {
        f["feature"] for one in explained for f in one["agents"]["tight"]["features"]
    }


def test_a_feature_moves_what_its_absence_from_the_market_moves(
    trained: Artefact,
    market: MarketTensors,
    track: Track,
    netting: Netting,
    data: Dataset,
    explained: Explained,
) -> None:
    i = 40
    row = track.first + i
    for feature in explained[i]["agents"]["free"]["features"][:4]:
        without = replace(
            market,
            asset_features=market.asset_features.clone(),
            market_features=market.market_features.clone(),
        )
        name = feature["feature"]
        if name in data.features.asset_names:
            without.asset_features[row, :, data.features.asset_names.index(name)] = 0.0
        else:
            without.market_features[row, data.features.market_names.index(name)] = 0.0
        rows = replay(without, MANDATES, trained.networks, SETTINGS, data.test.start, 0.0)
        # Without limits, band and rules the target of the first agent is what it wants.
        moved = np.abs(rows.target[i, 0] - track.target[i, 0]).sum()
        assert feature["moved"] == pytest.approx(moved, abs=1e-5)


def test_a_name_that_is_no_longer_listed_is_nowhere(explained: Explained) -> None:
    last = explained[-1]
    assert all("AAA" not in agent["wanted"] for agent in last["agents"].values())
    assert "AAA" in explained[0]["agents"]["ruled"]["wanted"]
