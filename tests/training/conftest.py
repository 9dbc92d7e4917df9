"""A small market with a planted drift, built by hand, and settings from `conf/`."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import hydra
import numpy as np
import pytest
import torch

from agents.mandates import Mandate
from agents.market_tensors import MarketTensors
from agents.network_spec import NetworkSpec
from agents.observation import BOOK_ASSET_FEATURES, BOOK_FEATURES
from cli.config import register
from envs.batch import EnvSettings
from envs.costs import CostModel
from market.compose import CONF
from training.configuration import Configuration
from training.local_ray import local_ray
from training.society import Society

torch.set_num_threads(1)  # these tensors are small: a second thread would spin, not help

SESSIONS, ASSETS, ASSET_FEATURES, MARKET_FEATURES = 400, 6, 4, 2
LOGICAL_CPUS = 4
DRIFT = 2e-3  # a day for one standard deviation of the first feature
MARKET = ("sessions=800", "assets=5", "world=planted_alpha", "drift_half_life=60")
RL_STEPS = 3 * 2 * 4 * 21 * 4  # agents x starts x replicas x sessions x iterations
LINEAR = CostModel(commission_bp=1.0, spread_bp=10.0, impact=0.0, borrow_rate=0.02)


@cache
def composed(*choices: str) -> Any:
    """Compose choices of groups, then changes of single values, into typed objects by group."""
    register()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose(
            overrides=[c if "." in c.split("=")[0] else f"+{c}" for c in choices]
        )
    return hydra.utils.instantiate(config, _convert_="object")


def settings_of(group: str, choice: str, **values: Any) -> Any:
    """Return the settings of one choice of a group with some values changed."""
    settings = composed(f"{group}={choice}")[group]
    changed = {name: getattr(settings, name) for name in settings.__dataclass_fields__}
    return type(settings)(**{**changed, **values})


def planted_market(sessions: int = SESSIONS, assets: int = ASSETS, seed: int = 0) -> MarketTensors:
    """Return a market in which the first feature of the close of t drives the return of t + 2.

    The decision of t fills at the close of t + 1, so that is the first return it can earn.
    """
    random = np.random.default_rng(seed)
    features = random.normal(size=(sessions, assets, ASSET_FEATURES)).clip(-3.0, 3.0)
    returns = 0.01 * random.normal(size=(sessions, 1)) + 0.01 * random.normal(
        size=(sessions, assets)
    )
    returns[2:] += DRIFT * features[:-2, :, 0]
    returns[0] = 0.0
    close = 100.0 * (1.0 + returns).cumprod(0)
    everywhere = torch.ones(sessions, assets, dtype=torch.bool)

    def money(values: np.ndarray) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float64)

    def constant(value: float) -> torch.Tensor:
        return torch.full((sessions, assets), value, dtype=torch.float64)

    return MarketTensors(
        open=money(close),
        close=money(close),
        tradable=everywhere,
        investable=everywhere,
        payout=constant(np.nan),
        reference_return=money(returns.mean(1)),
        reference_night=money(returns.mean(1)),
        volatility=constant(0.22),
        market_volatility=torch.full((sessions,), 0.16, dtype=torch.float64),
        beta=constant(1.0),
        idiosyncratic_volatility=constant(0.16),
        momentum=constant(0.0),
        adv=None,
        asset_features=torch.tensor(features, dtype=torch.float32),
        market_features=torch.zeros(sessions, MARKET_FEATURES),
        sector_of=torch.arange(assets),
        n_sectors=assets,
    )


def three_mandates() -> tuple[Mandate, ...]:
    """Return conservative, balanced and aggressive."""
    return tuple(composed("agents=three")["agents"].values())


def make_society(
    market: MarketTensors | None = None,
    mandates: tuple[Mandate, ...] | None = None,
    episode_sessions: int = 32,
    costs: CostModel = LINEAR,
) -> Society:
    """Return a society with tiny networks."""
    market = planted_market() if market is None else market
    spec = NetworkSpec(
        asset_features=market.asset_features.shape[-1],
        market_features=market.market_features.shape[-1],
        book_asset=BOOK_ASSET_FEATURES,
        book=BOOK_FEATURES,
        members=2,
        hidden=4,
        dropout=0.2,
        attention=False,
    )
    env = EnvSettings(costs, 100_000.0, episode_sessions, 0.1, False)
    return Society(market, mandates or three_mandates(), env, 0.0, spec)


@pytest.fixture(scope="session")
def ray_here() -> Iterator[None]:
    """Ray on this machine, started once for all tests of the folder, with CPUs for its actors."""
    with local_ray(cpus=LOGICAL_CPUS):
        yield


@pytest.fixture(scope="session")
def society_of() -> Callable[..., Society]:
    return make_society


@pytest.fixture(scope="session")
def settings() -> Callable[..., Any]:
    return settings_of


@pytest.fixture
def market_of() -> Callable[..., MarketTensors]:
    return planted_market


@pytest.fixture
def mandates() -> tuple[Mandate, ...]:
    return three_mandates()


@pytest.fixture(scope="session")
def compose() -> Callable[..., Any]:
    return composed


@pytest.fixture(scope="session")
def configuration(
    compose: Callable[..., Any], settings: Callable[..., Any]
) -> Callable[..., Configuration]:
    def build(**changes: Any) -> Configuration:
        groups = compose(
            "market=synthetic",
            *(f"market.{value}" for value in MARKET),
            "quality=refuse",
            "features=recipe",
            "env=default",
            "env.episode_sessions=21",
            "agents=three",
            "network=small",
            "network.members=2",
            "ensemble=fixed",
            "tracking=none",
        )
        trained = {
            "pretrain": settings("pretrain", "ranker", updates=20, batch_days=64),
            "algorithm": settings(
                "algorithm", "ppo", steps=RL_STEPS, starts=2, replicas=4, minibatch_days=21
            ),
            "selection": settings("selection", "inner"),
        }
        return Configuration(**{**groups, **trained, "seed": 3, **changes})

    return build
