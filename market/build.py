"""From the configuration of a market to the dataset that agents learn from."""

from market.cache import open_cache
from market.dataset import Dataset
from market.features import FeatureConfig, FeatureSpec
from market.load import MarketConfig, load_bars, windows
from market.prepare import prepare, prepare_like
from market.quality import QualityRules


def build(
    market: MarketConfig, quality: QualityRules, features: FeatureConfig | FeatureSpec
) -> Dataset:
    """Load the bars, check them, cut the windows and compute the features.

    Args:
        market: the source, the universe and the windows.
        quality: what the gate refuses or masks.
        features: what to compute and fit on the train window, or a policy's own record of its
            features, with which nothing is fitted.

    Raises:
        InputError: if the data cannot be used; names file, symbol, date or key.
    """
    bars = load_bars(market, quality)
    train, test = windows(bars, market)
    cache = open_cache(market.cache)
    if isinstance(features, FeatureSpec):
        return prepare_like(bars, train, test, features, market.assumed_adv, cache)
    return prepare(bars, train, test, features, market.assumed_adv, cache)
