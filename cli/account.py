"""What the verbs of an account have in common: from their configuration to broker and market."""

from collections.abc import Callable
from pathlib import Path

from brokers.alpaca import AlpacaBroker
from brokers.settings import AlpacaSettings, keys_from_environment
from cli.account_config import GatewayConfig
from market.bars import Bars
from market.load import load_bars
from risk.gateway.market_days import MarketDays
from risk.gateway.market_facts import BarsSource
from risk.gateway.process import Parts


def connection(settings: AlpacaSettings) -> Callable[[], AlpacaBroker]:
    """Return what makes connections to the broker.

    Raises:
        InputError: if its keys are not in the environment.
    """
    keys = keys_from_environment(settings)
    return lambda: AlpacaBroker(settings, keys)


def parts(config: GatewayConfig) -> Parts:
    """Return what a gateway, or its supervisor, is made of.

    Raises:
        InputError: if the market cannot be read or the keys are missing.
    """
    broker = connection(config.broker)()
    market = config.market
    bars = load_bars(market, config.quality)
    read: dict[str, Bars] = {market.version(): bars}

    def load() -> Bars:
        # The first reading is the one above; a source that has changed is read again, once.
        version = market.version()
        if version not in read:
            read.clear()
            read[version] = load_bars(market, config.quality)
        return read[version]

    source = BarsSource(
        load,
        market.version,
        market.exchange,
        market.assumed_adv,
        float(config.strategy.max_correlation),
    )
    # Files of the account are made in folders that are there: a missing one reads as HALT.
    for place in (config.control.halt_file, config.control.anchor):
        if "://" in place:
            continue
        Path(place).absolute().parent.mkdir(parents=True, exist_ok=True)
    return Parts(
        broker,
        config.control,
        config.service,
        config.gateway,
        config.execution,
        source,
        frozenset(bars.symbols),
        config.strategy,
        MarketDays(load, market.version, market.exchange),
        config.alerts,
    )
