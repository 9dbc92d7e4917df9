"""One small market with overnight gaps, a late listing and a delisting, and all that runs on it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from agents import baselines
from agents.ensemble import Fixed
from agents.mandates import BasePortfolio, ExposureRule, Mandate, RewardWeights
from agents.market_tensors import MarketTensors
from agents.network_spec import NetworkSpec
from agents.networks import PolicyNetwork
from agents.observation import BOOK_ASSET_FEATURES, BOOK_FEATURES
from envs.batch import EnvSettings
from envs.costs import CostModel
from evaluation.backtest import BacktestWindow
from evaluation.contest import Contest, run_contest
from evaluation.summary import Opening, RunFacts, Stage, build
from market.bars import Bars
from market.dataset import Dataset
from market.features import FeatureConfig
from market.prepare import prepare
from market.timeframes import Timeframe
from risk.breakers import BreakerRules
from risk.exits import ExitRules
from risk.limits import Limits

COSTS = CostModel(commission_bp=1.0, spread_bp=10.0, impact=0.5, borrow_rate=0.02)
REWARD = RewardWeights(0.0, 1.0, -0.2, -0.1, 0.0, 0.0, 0.0, 0.0, 0.0)
BASELINES = ("equal_weight", "buy_and_hold", "inverse_volatility", "volatility_target_middle")


def _bars(seed: int = 3, sessions: int = 640, assets: int = 6) -> Bars:
    random = np.random.default_rng(seed)
    shape = (sessions, assets)
    dates = np.datetime64("2015-01-01") + np.arange(2 * sessions)
    dates = dates[np.is_busday(dates)][:sessions]
    overnight, intraday = (random.normal(0.0002, 0.007, shape) for _ in range(2))
    close = 40.0 * np.exp(np.cumsum(overnight + intraday, axis=0))
    open_ = close * np.exp(-intraday)
    row = np.arange(sessions)[:, None]
    listed = (row >= np.array([0] * (assets - 1) + [430])) & (
        row < np.array([sessions] * (assets - 2) + [520, sessions])
    )
    index = 2000.0 * np.exp(np.cumsum(random.normal(0.0003, 0.009, sessions)))
    return Bars(
        dates=dates.astype("datetime64[D]"),
        symbols=("AAA", "BB.B", "CCC", "DDD", "EEE", "<F&F>")[:assets],
        close=np.where(listed, close, np.nan),
        open=np.where(listed, open_, np.nan),
        volume=np.where(listed, random.uniform(1e4, 1e5, shape), np.nan),
        tradable=listed,
        listed=listed,
        terminal_return=np.array([0.0] * (assets - 2) + [-0.3, 0.0]),
        series={"SP500": index},
        source="drawn",
        notes=("drawn at random",),
    )


def _mandate(name: str, **changes: Any) -> Mandate:
    plain = Mandate(
        name=name,
        policy=name,
        target_volatility=0.09,
        base=BasePortfolio.equal_weight,
        tilt=0.6,
        tilt_rate=0.1,
        exposure=ExposureRule.volatility_target,
        exposure_authority=0.2,
        band=0.05,
        limits=Limits(0.5, 1.0, 1.0, 0.0, 1.0, 2.0, 10.0),
        exits=ExitRules(None, None, None, None, None),
        breakers=BreakerRules(None, None, None, None, None, None),
        reward=REWARD,
    )
    return replace(plain, **changes)


@pytest.fixture(scope="session")
def mandate() -> Callable[..., Mandate]:
    return _mandate


def _network(market: MarketTensors, seed: int) -> PolicyNetwork:
    spec = NetworkSpec(
        asset_features=market.asset_features.shape[-1],
        market_features=market.market_features.shape[-1],
        book_asset=BOOK_ASSET_FEATURES,
        book=BOOK_FEATURES,
        members=2,
        hidden=8,
        dropout=0.2,
        attention=False,
    )
    generator = torch.Generator().manual_seed(seed)
    network = PolicyNetwork(spec, generator)
    with torch.no_grad():  # an untrained network does not look at its book; this one does
        for weight in (network.book_score_weight, network.exposure_weight):
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3)
    return network


@pytest.fixture(scope="session")
def network() -> Callable[[MarketTensors, int], PolicyNetwork]:
    """Return a maker of networks from a market and a seed."""
    return _network


@pytest.fixture(scope="session")
def mandates() -> list[Mandate]:
    return [
        _mandate("careful", target_volatility=0.05, base=BasePortfolio.inverse_volatility),
        _mandate("middle"),
    ]


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    config = FeatureConfig(
        asset=["log_return_21", "log_volatility_21"],
        ranks=[],
        indicators=[],
        timeframes=[Timeframe.daily],
        market=["market_log_volatility", "trend_50"],
        clip=3.0,
    )
    return prepare(_bars(), slice(0, 350), slice(372, 640), config)


@pytest.fixture(scope="session")
def market(dataset: Dataset) -> MarketTensors:
    return MarketTensors.build(dataset)


@pytest.fixture(scope="session")
def window(dataset: Dataset) -> BacktestWindow:
    settings = EnvSettings(COSTS, capital=50_000.0, episode_sessions=20, ruin=0.1, compile=False)
    return BacktestWindow(dataset.test, settings, cash_rate=0.02)


@pytest.fixture(scope="session")
def schedules(dataset: Dataset, mandates: list[Mandate]) -> dict[str, baselines.Schedule]:
    return {name: baselines.build(name, dataset, dataset.test, mandates) for name in BASELINES}


@pytest.fixture(scope="session")
def contest(
    dataset: Dataset,
    market: MarketTensors,
    window: BacktestWindow,
    mandates: list[Mandate],
    schedules: dict[str, baselines.Schedule],
) -> Contest:
    rules = {mandate.policy: None for mandate in mandates}
    return run_contest(dataset, market, window, mandates, rules, Fixed(None), schedules, {})


@pytest.fixture(scope="session")
def facts() -> RunFacts:
    return RunFacts(
        run_id="a-run",
        command="tercet train <script>",
        seed=0,
        seconds={"backtest": 1.5},
        artefact="artefact",
        assumed_adv=None,
        costs=COSTS,
        opening=Opening("2020-01-02T03:04:05+00:00", 0),
        trials=1,
    )


@pytest.fixture(scope="session")
def summary(facts: RunFacts, dataset: Dataset, contest: Contest) -> dict[str, Any]:
    stages = {
        name: [
            Stage("rule", contest.book(name), True, "kept: nothing beat it"),
            Stage("warm_start", contest.book(name), False, "no better than the rule"),
        ]
        for name in contest.agents
    }
    return build(facts, dataset, contest, stages)
