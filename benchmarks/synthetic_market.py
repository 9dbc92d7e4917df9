"""A market of any size as tensors, invented with numpy alone: for measuring speed, never a result.

Prices are geometric random walks with one common factor; what an agent would estimate from them
(volatility, beta, traded value) is the truth that drew them.
"""

from collections.abc import Sequence

import numpy as np
import torch

from agents.mandates import Mandate
from agents.market_tensors import MarketTensors
from benchmarks import defaults
from envs.batch import EnvSettings
from market.bars import TRADING_DAYS, FloatArray
from training.society import Society

SECTORS = 11  # as many as GICS has
ASSET_FEATURES, MARKET_FEATURES = 17, 8  # of the recipe
FEATURE_CLIP = 3.0
NIGHT = 0.3  # share of a session's log return that comes before the open
FIRST_PRICE = 100.0
ADV = 1e9  # account currency a day

MARKET_VOLATILITY = 0.16  # annual, on average
VOLATILITY_MEMORY = 0.98  # autocorrelation of the market's log volatility
VOLATILITY_SPREAD = 0.3  # standard deviation of it


def random_walk(
    sessions: int,
    assets: int,
    device: str = "cpu",
    *,
    features: int = ASSET_FEATURES,
    seed: int = 0,
) -> MarketTensors:
    """Return T sessions of N assets: the same numbers on every device."""
    random = np.random.default_rng(seed)
    shape = (sessions, assets)
    market_volatility = _slow_volatility(random, sessions)
    beta = np.broadcast_to(random.uniform(0.6, 1.4, assets), shape)
    own_volatility = np.broadcast_to(random.uniform(0.15, 0.35, assets), shape)
    common = market_volatility * random.standard_normal(sessions)
    shock = beta * common[:, None] + own_volatility * random.standard_normal(shape)
    log_return = shock / TRADING_DAYS**0.5
    close = FIRST_PRICE * np.exp(log_return.cumsum(0))
    opening = close * np.exp((NIGHT - 1.0) * log_return)

    def tensor(array: FloatArray, dtype: torch.dtype = torch.float64) -> torch.Tensor:
        return torch.tensor(np.ascontiguousarray(array), dtype=dtype, device=device)

    def feature(*size: int) -> torch.Tensor:
        drawn = random.standard_normal(size, dtype=np.float32).clip(-FEATURE_CLIP, FEATURE_CLIP)
        return torch.tensor(drawn, device=device)

    everywhere = torch.ones(shape, dtype=torch.bool, device=device)
    return MarketTensors(
        open=tensor(opening),
        close=tensor(close),
        tradable=everywhere,
        investable=everywhere,
        payout=torch.full(shape, torch.nan, dtype=torch.float64, device=device),
        reference_return=tensor(_mean_return(close, close)),
        reference_night=tensor(_mean_return(close, opening)),
        volatility=tensor(np.hypot(beta * market_volatility[:, None], own_volatility)),
        market_volatility=tensor(market_volatility),
        beta=tensor(beta),
        idiosyncratic_volatility=tensor(own_volatility),
        momentum=tensor(_momentum(close)),
        adv=tensor(ADV * np.exp(0.5 * random.standard_normal(shape))),
        asset_features=feature(sessions, assets, features),
        market_features=feature(sessions, MARKET_FEATURES),
        sector_of=torch.arange(assets, device=device) % SECTORS,
        n_sectors=min(SECTORS, assets),
    )


def society(
    market: MarketTensors,
    mandates: Sequence[Mandate],
    settings: EnvSettings,
    network: str = "small",
) -> Society:
    """Return who trades in an invented market, with a shape of the group `network`."""
    features = market.asset_features.shape[-1], market.market_features.shape[-1]
    return Society(
        market=market,
        mandates=tuple(mandates),
        settings=settings,
        cash_rate=0.0,
        network=defaults.network(network, *features),
    )


def _slow_volatility(random: np.random.Generator, sessions: int) -> FloatArray:
    """Return (T,) annual volatilities whose logarithm is a stationary AR(1)."""
    shock = random.standard_normal(sessions) * VOLATILITY_SPREAD
    shock[1:] *= (1.0 - VOLATILITY_MEMORY**2) ** 0.5
    for session in range(1, sessions):
        shock[session] += VOLATILITY_MEMORY * shock[session - 1]
    volatility: FloatArray = MARKET_VOLATILITY * np.exp(shock)
    return volatility


def _mean_return(close: FloatArray, later: FloatArray) -> FloatArray:
    """Return (T,) the mean return from each close to a price of the next session, 0 at first."""
    mean = np.zeros(len(close))
    mean[1:] = (later[1:] / close[:-1]).mean(1) - 1.0
    return mean


def _momentum(close: FloatArray) -> FloatArray:
    """Return (T, N) the return from a year to a month ago, 0 where unknown."""
    month = TRADING_DAYS // 12
    momentum = np.zeros_like(close)
    momentum[TRADING_DAYS:] = close[TRADING_DAYS - month : -month] / close[:-TRADING_DAYS] - 1.0
    return momentum
