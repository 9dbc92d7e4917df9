"""Small markets and mandates built by hand, so that these tests need no data and no configuration.

`random_market` is hostile on purpose: overnight gaps, sessions without a price, halts with one,
late listings, delistings that pay less, nothing or a premium.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from agents.mandates import BasePortfolio, ExposureRule, Mandate, RewardWeights
from agents.market_tensors import MarketTensors
from agents.observation import ObservationSpec
from envs.batch import BatchEnv, EnvSettings
from envs.costs import CostModel
from envs.market_env import MarketEnv
from risk.breakers import BreakerRules
from risk.exits import ExitRules
from risk.limits import Limits

torch.set_num_threads(1)  # these tensors are small: a second thread would spin, not help

LINEAR = CostModel(commission_bp=1.0, spread_bp=10.0, impact=0.0, borrow_rate=0.02)
NO_EXITS = ExitRules(None, None, None, None, None)
NO_BREAKERS = BreakerRules(None, None, None, None, None, None)
REWARD = RewardWeights(
    log_growth=0.5,
    active_return=1.0,
    downside=-0.5,
    drawdown=-0.3,
    cost=-0.1,
    turnover=-0.05,
    differential_sharpe=0.4,
    momentum=0.3,
    diversification=0.2,
)
FREE_LIMITS = Limits(1.0, 1.0, 1.0, 0.0, 1.0, 2.0, 10.0)


def _mandate(name: str = "alpha", **changes: Any) -> Mandate:
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
        limits=FREE_LIMITS,
        exits=NO_EXITS,
        breakers=NO_BREAKERS,
        reward=REWARD,
    )
    return replace(plain, **changes)


def _three_mandates() -> list[Mandate]:
    return [
        _mandate(
            "careful",
            base=BasePortfolio.inverse_volatility,
            target_volatility=0.08,
            limits=Limits(0.4, 0.6, 0.9, 0.02, 0.95, 1.0, 0.2),
        ),
        _mandate("middle"),
        _mandate("free", base=BasePortfolio.none, tilt=10.0, tilt_rate=1.0, band=0.0),
    ]


def _market(
    close: np.ndarray,
    open_: np.ndarray | None = None,
    *,
    tradable: np.ndarray | None = None,
    investable: np.ndarray | None = None,
    payout: np.ndarray | None = None,
    adv: np.ndarray | None = None,
    seed: int = 0,
) -> MarketTensors:
    """Return the tensors of (T, N) prices; every estimate is some plausible number."""
    sessions, assets = close.shape
    random = np.random.default_rng(seed)
    returns = np.zeros_like(close)
    returns[1:] = close[1:] / close[:-1] - 1.0
    nights = returns if open_ is None else np.zeros_like(close)
    if open_ is not None:
        nights[1:] = open_[1:] / close[:-1] - 1.0
    everywhere = np.ones(close.shape, dtype=bool)

    def money(array: np.ndarray) -> torch.Tensor:
        return torch.tensor(array, dtype=torch.float64)

    def feature(*shape: int) -> torch.Tensor:
        return torch.tensor(random.normal(size=shape).clip(-3, 3), dtype=torch.float32)

    return MarketTensors(
        open=money(close if open_ is None else open_),
        close=money(close),
        tradable=torch.tensor(everywhere if tradable is None else tradable),
        investable=torch.tensor(everywhere if investable is None else investable),
        payout=money(np.full(close.shape, np.nan) if payout is None else payout),
        reference_return=money(returns.mean(1)),
        reference_night=money(nights.mean(1)),
        volatility=money(random.uniform(0.1, 0.5, close.shape)),
        market_volatility=money(random.uniform(0.08, 0.3, sessions)),
        beta=money(random.uniform(0.5, 1.5, close.shape)),
        idiosyncratic_volatility=money(random.uniform(0.1, 0.4, close.shape)),
        momentum=money(random.normal(0.0, 0.2, close.shape)),
        adv=None if adv is None else money(adv),
        asset_features=feature(sessions, assets, 3),
        market_features=feature(sessions, 2),
        sector_of=torch.arange(assets) % 3,
        n_sectors=3,
    )


def _random_market(
    seed: int,
    sessions: int = 120,
    assets: int = 6,
    *,
    hostile: bool = True,
    opens: bool = True,
    adv: bool = True,
) -> MarketTensors:
    random = np.random.default_rng(seed)
    shape = (sessions, assets)
    first = np.zeros(assets, dtype=int)
    last = np.full(assets, sessions)  # the first session after the listing
    priced, halted = np.ones(shape, dtype=bool), np.zeros(shape, dtype=bool)
    terminal = np.zeros(assets)
    if hostile:
        late, gone = random.permutation(assets)[:2], random.permutation(assets)[: assets // 2]
        first[late] = random.integers(1, sessions // 2, late.shape)
        last[gone] = random.integers(sessions // 2, sessions, gone.shape)
        terminal[gone] = random.choice([-1.0, -0.7, -0.1, 0.0, 0.3], gone.shape)
        priced = random.random(shape) > 0.05
        halted = random.random(shape) < 0.05
    row = np.arange(sessions)[:, None]
    listed = (row >= first) & (row < last)

    overnight = random.standard_t(4, shape) * 0.008
    intraday = random.standard_t(4, shape) * 0.012
    path = 50.0 * np.exp(np.cumsum(overnight + intraday, axis=0))
    path *= random.uniform(0.2, 5.0, assets)
    quoted = listed & priced
    known = np.maximum.accumulate(np.where(quoted, row, -1), axis=0)
    close = np.where(known >= 0, np.take_along_axis(path, np.maximum(known, 0), axis=0), 1.0)
    open_ = np.where(quoted, path * np.exp(-intraday), close) if opens else close
    payout = np.full(shape, np.nan)
    for asset in np.flatnonzero(last < sessions):
        payout[last[asset], asset] = 1.0 + terminal[asset]
    traded = random.uniform(2e6, 2e7, shape) if adv else None
    return _market(
        close,
        open_,
        tradable=quoted & ~halted,
        investable=listed & (known >= 0),
        payout=payout,
        adv=traded,
        seed=seed,
    )


def _settings(
    costs: CostModel = LINEAR, capital: float = 1e5, episode_sessions: int = 40, ruin: float = 0.1
) -> EnvSettings:
    return EnvSettings(costs, capital, episode_sessions, ruin, False)


def _batch(
    market: MarketTensors,
    mandates: list[Mandate] | None = None,
    settings: EnvSettings | None = None,
    **options: Any,
) -> BatchEnv:
    return BatchEnv(
        market,
        _three_mandates() if mandates is None else mandates,
        _settings() if settings is None else settings,
        options.pop("rows", slice(0, market.n_sessions)),
        **options,
    )


def _market_env(batch: BatchEnv) -> MarketEnv:
    market = batch.market
    spec = ObservationSpec(
        n_assets=market.n_assets,
        asset_features=market.asset_features.shape[-1],
        market_features=market.market_features.shape[-1],
        clip=3.0,
    )
    return MarketEnv(batch, spec)


@pytest.fixture(scope="session")
def plain_market() -> Callable[..., MarketTensors]:
    return _market


@pytest.fixture(scope="session")
def random_market() -> Callable[..., MarketTensors]:
    return _random_market


@pytest.fixture(scope="session")
def mandate() -> Callable[..., Mandate]:
    return _mandate


@pytest.fixture(scope="session")
def three_mandates() -> Callable[[], list[Mandate]]:
    return _three_mandates


@pytest.fixture(scope="session")
def settings() -> Callable[..., EnvSettings]:
    return _settings


@pytest.fixture(scope="session")
def batch() -> Callable[..., BatchEnv]:
    return _batch


@pytest.fixture(scope="session")
def market_env() -> Callable[[BatchEnv], MarketEnv]:
    return _market_env
