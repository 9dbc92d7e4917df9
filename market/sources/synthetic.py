"""Seeded markets whose truth is known: for tests of learning, of masks and of the quality gate.

Log prices are a random walk. Between the close of s - 1 and the close of s lie the night, which
carries `NIGHT` of the session's drift and variance, and the day, which carries the rest. The
decision of row t fills at the open of t + 1, so its drift acts on the day of t + 1 and on the
following night, and nothing that is known at the close of t has moved by it.
"""

from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from market.bars import TRADING_DAYS, Bars, DateArray, FloatArray
from market.calendar import iso_date, sessions
from market.errors import InputError
from market.load import MarketConfig

NIGHT = 0.3
SECTORS = ("Alpha", "Beta", "Gamma", "Delta", "Epsilon")
FIRST_PRICE = 50.0
DAILY_NOTIONAL = 5e7
LONGEST_GAP = 5

REGIMES = np.array([[0.14, 0.8, 0.995], [-0.05, 1.6, 0.985], [-0.60, 3.5, 0.96]])
"""Calm, volatile, crisis: annual market drift, multiple of the volatilities, chance to stay."""


class World(Enum):
    """What is true of the market."""

    regimes = "regimes"
    planted_alpha = "planted_alpha"
    zero_alpha = "zero_alpha"


@dataclass(slots=True)
class SyntheticMarket(MarketConfig):
    """Open, high, low, close and volume of invented symbols.

    Args:
        seed: equal configurations give equal bars.
        world: `regimes`: calm, volatile and crisis days follow each other, names have their own
            beta and share their sector's moves. `planted_alpha`: each name has a hidden drift that
            fades slowly. `zero_alpha`: the same noise, and one drift for all.
        assets: N, >= 2.
        first: the earliest session, an ISO date.
        sessions: T, >= 100.
        market_volatility: daily standard deviation of the common factor, >= 0.
        idiosyncratic_volatility: daily, of each name, >= 0.
        market_drift: annual log growth of the expected price of every name, but in `regimes`.
        drift_dispersion: annual standard deviation of the hidden drift across names, >= 0.
        drift_half_life: sessions in which a hidden drift fades to half, > 0.
        splits: names with one unadjusted two-for-one split, a defect for the gate to find.
        delistings: names that end early and book a terminal return.
        gaps: halts of one to five sessions within listings.
    """

    seed: int
    world: World
    assets: int
    first: str
    sessions: int
    market_volatility: float
    idiosyncratic_volatility: float
    market_drift: float
    drift_dispersion: float
    drift_half_life: float
    splits: int
    delistings: int
    gaps: int

    def __post_init__(self) -> None:
        MarketConfig.__post_init__(self)  # zero-argument super() fails in a class with slots
        lowest = {"seed": 0, "assets": 2, "sessions": 100, "splits": 0, "delistings": 0, "gaps": 0}
        lowest |= {"market_volatility": 0, "idiosyncratic_volatility": 0, "drift_dispersion": 0}
        for name, bound in lowest.items():
            if not getattr(self, name) >= bound:
                raise ValueError(f"market.{name} must be >= {bound}, was {getattr(self, name)}")
        if not self.drift_half_life > 0:
            raise ValueError(f"market.drift_half_life must be > 0, was {self.drift_half_life}")
        if self.splits + self.delistings > self.assets:
            events = self.splits + self.delistings
            raise ValueError(f"market.splits and delistings need {events} of {self.assets} assets")
        iso_date(self.first)

    @property
    def origin(self) -> str:
        """Return the choice of the group."""
        return "market=synthetic"

    def version(self) -> str:
        """Return the settings, which are all that the bars are made of."""
        return f"synthetic {asdict(self)}"

    def load(self) -> Bars:
        """Return the bars: the same for the same configuration, to the last bit."""
        streams = _streams(self.seed)
        night, day, volatility = _log_returns(self, streams)
        close = FIRST_PRICE * np.exp(np.cumsum(night + day, axis=0))
        open_ = close * np.exp(-day)
        reach = 0.3 * volatility * np.abs(streams["range"].standard_normal((2, *close.shape)))
        size = np.exp(streams["size"].standard_normal(self.assets))
        busyness = np.exp(0.4 * streams["volume"].standard_normal(close.shape))
        present = np.ones(close.shape, dtype=bool)
        bars = Bars(
            dates=_dates(self),
            symbols=tuple(f"S{index:03d}" for index in range(self.assets)),
            close=close,
            tradable=present,
            listed=present,
            open=open_,
            high=np.maximum(open_, close) * np.exp(reach[0]),
            low=np.minimum(open_, close) * np.exp(-reach[1]),
            volume=np.ceil(DAILY_NOTIONAL * size * busyness / close),
            sectors=tuple(SECTORS[index % len(SECTORS)] for index in range(self.assets)),
            source="synthetic",
            notes=(f"synthetic market ({self.world.value}): no result here is about real assets",),
        )
        return _with_events(bars, self, streams["events"])


def planted_drift(config: SyntheticMarket) -> FloatArray:
    """Return the truth of a world of planted or zero alpha, which no feature may see.

    Returns:
        (T, N) expected simple return, a fraction per session, that a position earns from the fill
        of the decision of row t to the next fill.

    Raises:
        ValueError: in a world of regimes, which has no such drift.
    """
    if config.world is World.regimes:
        raise ValueError("a world of regimes has no planted drift")
    drift: FloatArray = np.expm1(_log_drift(config, _streams(config.seed)["drift"])[2:])
    return drift


def _streams(seed: int) -> dict[str, np.random.Generator]:
    """Return one generator per purpose, so that worlds of one seed share their noise."""
    names = ("drift", "regime", "beta", "market", "sector", "own", "range", "size", "volume")
    children = np.random.SeedSequence(seed).spawn(len(names) + 1)
    generators = [np.random.default_rng(child) for child in children]
    return dict(zip((*names, "events"), generators, strict=True))


def _dates(config: SyntheticMarket) -> DateArray:
    first = iso_date(config.first)
    days = config.sessions * 8 // 5 + 30  # more than an exchange needs, five days a week
    found = sessions(config.exchange, first, first + np.timedelta64(days, "D"))[: config.sessions]
    if len(found) < config.sessions:
        raise InputError(f"market.exchange: {config.exchange} has too few sessions a year")
    return found


def _log_drift(config: SyntheticMarket, stream: np.random.Generator) -> FloatArray:
    """Return (T + 2, N) log growth per session of the expected price.

    Row t + 2 belongs to the decision of row t: the first two act on the first session only.
    """
    shape = (config.sessions + 2, config.assets)
    common = config.market_drift / TRADING_DAYS
    if config.world is World.zero_alpha:
        return np.full(shape, common)
    keep = 0.5 ** (1.0 / config.drift_half_life)
    shocks = stream.standard_normal(shape) * config.drift_dispersion / TRADING_DAYS
    drift = np.empty(shape)
    drift[0] = shocks[0]
    for row in range(1, len(drift)):
        drift[row] = keep * drift[row - 1] + np.sqrt(1.0 - keep**2) * shocks[row]
    return np.asarray(common + drift - drift.mean(axis=1, keepdims=True))


def _log_returns(
    config: SyntheticMarket, streams: dict[str, np.random.Generator]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the log returns of nights and days and the daily volatility, each (T, N)."""
    shape = (config.sessions, config.assets)
    if config.world is World.regimes:
        regime = _regime_path(config.sessions, streams["regime"])
        drift = np.repeat(REGIMES[regime, 0] / TRADING_DAYS, 2).reshape(-1, 2, 1)
        scale = REGIMES[regime, 1][:, None]
        beta = streams["beta"].uniform(0.6, 1.4, config.assets)
        shared = 0.3  # of the idiosyncratic variance, by the sector
    else:
        log_drift = _log_drift(config, streams["drift"])
        drift = np.stack([log_drift[:-2], log_drift[1:-1]], axis=1)  # night of s, day of s
        scale, beta, shared = np.ones((config.sessions, 1)), np.ones(config.assets), 0.0
    sector = np.arange(config.assets) % len(SECTORS)
    variance = scale**2 * (
        (beta * config.market_volatility) ** 2 + config.idiosyncratic_volatility**2
    )
    parts = []
    for part, share in enumerate((NIGHT, 1.0 - NIGHT)):
        market = streams["market"].standard_normal((config.sessions, 1))
        of_sector = streams["sector"].standard_normal((config.sessions, len(SECTORS)))[:, sector]
        own = np.sqrt(shared) * of_sector
        own = own + np.sqrt(1.0 - shared) * streams["own"].standard_normal(shape)
        noise = config.market_volatility * beta * market + config.idiosyncratic_volatility * own
        # Half the variance is taken off, so that the drift is that of the expected price.
        parts.append(share * (drift[:, part] - variance / 2.0) + np.sqrt(share) * scale * noise)
    return parts[0], parts[1], np.sqrt(np.broadcast_to(variance, shape))


def _regime_path(count: int, stream: np.random.Generator) -> NDArray[np.int64]:
    """Return (T,) rows of `REGIMES`: a Markov chain that begins calm and leaves to any other."""
    path = np.zeros(count, dtype=np.int64)
    leaves, steps = stream.random(count), stream.integers(1, len(REGIMES), count)
    for row in range(1, count):
        stays = leaves[row] < REGIMES[path[row - 1], 2]
        path[row] = path[row - 1] if stays else (path[row - 1] + steps[row]) % len(REGIMES)
    return path


def _with_events(bars: Bars, config: SyntheticMarket, stream: np.random.Generator) -> Bars:
    """Return the bars with splits, delistings and gaps, on different names where it matters."""
    columns = stream.permutation(config.assets)
    count = config.sessions
    arrays: dict[str, FloatArray] = {name: getattr(bars, name).copy() for name in bars.fields}
    listed = bars.listed.copy()
    terminal_return = np.zeros(config.assets)
    for column in columns[: config.splits]:
        row = int(stream.integers(count // 4, count - 1))
        for name in bars.fields:
            arrays[name][row:, column] *= 2.0 if name == "volume" else 0.5
    for column in columns[config.splits : config.splits + config.delistings]:
        row = int(stream.integers(count // 4, count - 1))
        listed[row:, column] = False
        terminal_return[column] = stream.uniform(-0.6, 0.2)
    tradable = listed.copy()
    for _ in range(config.gaps):
        row = int(stream.integers(1, count // 4 - LONGEST_GAP))  # before any split or delisting
        column = int(stream.integers(config.assets))
        tradable[row : row + int(stream.integers(1, LONGEST_GAP + 1)), column] = False
    empty: dict[str, Any] = {
        name: np.where(tradable, array, np.nan) for name, array in arrays.items()
    }
    return replace(bars, listed=listed, tradable=tradable, terminal_return=terminal_return, **empty)
