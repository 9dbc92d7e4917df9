"""A permit that ends by the market's driven time, so that a run is the same whenever it is run."""

from datetime import datetime

from benchmarks.machine.market import Market


class DrivenPermit:
    """Leave to trade for one epoch; see `risk.gateway.permit.Permit`.

    Args:
        market: whose time it ends by.
        ttl_ms: for which a supervisor that is well gives it, again and again.
    """

    def __init__(self, market: Market, ttl_ms: int) -> None:
        self._market, self._ttl_ms = market, ttl_ms
        self._given: tuple[int, datetime, int] | None = None
        self.kept = False  # a supervisor is well; without one it ends by itself

    def renew(self, epoch: int, ttl_ms: int) -> None:
        """Give leave from now on."""
        self._given = epoch, self._market.now, ttl_ms

    def left_s(self, epoch: int) -> float:
        """Return the seconds that are left, 0 for another epoch."""
        if self.kept:
            self.renew(epoch, self._ttl_ms)
        if self._given is None or self._given[0] != epoch:
            return 0.0
        _, since, ttl_ms = self._given
        return max(0.0, ttl_ms / 1000 - (self._market.now - since).total_seconds())

    def valid(self, epoch: int) -> bool:
        """Return whether leave was given and has not ended."""
        return self.left_s(epoch) > 0.0

    def revoke(self) -> None:
        """Take leave away."""
        self._given, self.kept = None, False
