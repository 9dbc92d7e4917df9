"""What may be done with each name, asked of the broker now and then and not with every look.

It serves to plan. An order that is about to be sent has its name's asset asked for anew, and a name
that could not be traded is asked for with every look, so that the end of a halt is seen at once.
"""

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta

from risk.gateway.broker import Broker, BrokerError
from risk.gateway.records import Asset

logger = logging.getLogger(__name__)

KEPT = timedelta(minutes=10)


class KnownAssets:
    """The assets of the last minutes. A broker tells them name by name, and counts the questions.

    Args:
        broker: that knows them.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._known: dict[str, tuple[datetime, Asset]] = {}

    def of(
        self, symbols: Iterable[str], now: datetime, anew: str | None = None
    ) -> dict[str, Asset]:
        """Return assets by symbol; one that the broker does not tell is missing.

        Args:
            symbols: wanted.
            now: by the clock that sessions follow.
            anew: the one that is asked for whatever is known.
        """
        found = {}
        for symbol in symbols:
            asset = None if symbol == anew else self._remembered(symbol, now)
            asset = asset or self._asked(symbol, now)
            if asset is not None:
                found[symbol] = asset
        return found

    def _remembered(self, symbol: str, now: datetime) -> Asset | None:
        at, asset = self._known.get(symbol, (None, None))
        if at is None or asset is None or not asset.tradable:
            return None
        return asset if timedelta(0) <= now - at < KEPT else None  # a clock may be set back

    def _asked(self, symbol: str, now: datetime) -> Asset | None:
        self._known.pop(symbol, None)
        try:
            asset = self._broker.asset(symbol)
        except BrokerError as error:
            logger.warning("asset %s not known: %s", symbol, error)
            return None
        self._known[symbol] = now, asset
        return asset
