"""From the configuration of a market to the dataset that agents learn from."""

from pathlib import Path

from market.cache import Cache
from market.dataset import Dataset
from market.features import FeatureConfig
from market.load import MarketConfig, load_bars, windows
from market.prepare import prepare
from market.quality import QualityRules


def build(market: MarketConfig, quality: QualityRules, features: FeatureConfig) -> Dataset:
    """Load the bars, check them, cut the windows and compute the features.

    Raises:
        InputError: if the data cannot be used; names file, symbol, date or key.
    """
    bars = load_bars(market, quality)
    train, test = windows(bars, market)
    cache = None if market.cache is None else Cache(Path(market.cache).expanduser())
    return prepare(bars, train, test, features, market.assumed_adv, cache)
