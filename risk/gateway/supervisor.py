"""The supervisor: a second pair of eyes that lets the gateway trade for half a minute at a time.

It runs in a process of its own, with its own look at broker, ledger and market. Only after loss,
drift, clock and feed were found in order does it renew the permit; what must trip, it trips itself.
When it dies, hangs or cannot see, the permit ends and so does trading.
"""

import json
import logging
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal

from risk.checks.judge import trips
from risk.gateway.alarms import Alarm, alarm
from risk.gateway.broker import Broker, BrokerError
from risk.gateway.ledger import Ledger
from risk.gateway.limits import GatewayLimits, limits_from_record
from risk.gateway.observer import MarketSource, Memory, Observer, Permissions
from risk.gateway.permit import HaltFile, Permit, PermitFailed
from risk.gateway.records import Side
from risk.gateway.state import GatewayState
from risk.gateway.storage import LedgerFailed, StaleEpoch

logger = logging.getLogger(__name__)

FILLS_BACK = timedelta(days=1)
Differences = frozenset[tuple[str, Decimal, Decimal]]


class Supervisor:
    """Looks, and renews or withholds.

    Args:
        broker: of the account, by a connection of its own.
        ledger: of it; not taken over.
        market: the second source.
        permit: that is renewed.
        halt_file: the file that stops everything.
        permissions: names and models.
        permit_s: that a permit lives.
        clock: UTC, the one that sessions follow.
        own_clock: UTC, of this machine; None where sessions follow the broker's.
    """

    def __init__(
        self,
        broker: Broker,
        ledger: Ledger,
        market: MarketSource,
        permit: Permit,
        halt_file: HaltFile,
        permissions: Permissions,
        permit_s: float,
        clock: Callable[[], datetime],
        own_clock: Callable[[], datetime] | None,
    ) -> None:
        self._broker, self._ledger, self._market = broker, ledger, market
        self._permit, self._halt_file, self._permissions = permit, halt_file, permissions
        self._ttl_ms = round(permit_s * 1000)
        self._clock, self._own_clock = clock, own_clock
        self._memory = Memory()
        self._observer: tuple[int, Observer] | None = None  # with the epoch that it looks for
        self._seen: deque[tuple[Differences, frozenset[str]]] = deque(maxlen=100)

    def step(self) -> tuple[str, ...]:
        """Look once; renew the permit if nothing speaks against it, and return what does."""
        try:
            found = self._against()
            if not found:
                self._permit.renew(self._ledger.epoch(), self._ttl_ms)
        except (LedgerFailed, StaleEpoch, BrokerError, PermitFailed) as error:
            found = (str(error),)
        except Exception as error:
            logger.exception("the supervisor failed")
            alarm(Alarm.supervisor_failed, type(error).__name__)
            found = (f"the supervisor failed: {type(error).__name__}",)
        for reason in found:
            alarm(Alarm.no_permit, reason)
        return found

    def _against(self) -> tuple[str, ...]:
        stored = self._ledger.limits()
        if stored is None:
            return ("no gateway has taken the ledger over",)
        latch = self._ledger.latch()
        if latch.tripped:
            return (f"tripped by {latch.actor}: {latch.reason}",)
        if self._halt_file.halted():
            return ("a HALT file is there",)
        limits = limits_from_record(json.loads(stored.body))
        state = self._looked(limits)
        if breaches := trips(state, limits):
            reason = "; ".join(map(str, breaches[:3]))
            self._stop(reason)
            return (reason,)
        return (*_unknown(state), *self._feed(state, limits))

    def _looked(self, limits: GatewayLimits) -> GatewayState:
        self._compare(limits.clean_reads)
        return self._observer_of(self._ledger.epoch()).look(limits)

    def _observer_of(self, epoch: int) -> Observer:
        """Return the one that has looked before, unless another gateway has come since."""
        if self._observer is None or self._observer[0] != epoch:
            self._observer = (
                epoch,
                Observer(
                    self._broker,
                    self._ledger,
                    epoch,
                    self._market,
                    self._permit,
                    self._halt_file,
                    self._permissions,
                    self._memory,
                    self._clock,
                    self._own_clock,
                ),
            )
        return self._observer[1]

    def _compare(self, reads: int) -> None:
        """Note what differs between ledger and broker, once it was seen so in several looks.

        The gateway books a fill a moment after the broker has it: what differs once is no drift,
        nor what executions of our own orders explain that a slow gateway has not booked yet.
        """
        held = {name: one.quantity for name, one in self._broker.positions().items()}
        open_ids = {order.client_order_id for order in self._broker.open_orders()}
        ours = self._ledger.positions()
        known = self._ledger.recent_ids(self._clock())
        if _differing(ours, held):
            ours = self._with_unbooked(ours, known)
        self._seen.append((_differing(ours, held), frozenset(open_ids - known)))
        last = list(self._seen)[-reads:]
        drifted = frozenset.intersection(*(one[0] for one in last))
        foreign = frozenset.intersection(*(one[1] for one in last))
        confirmed = len(last) == reads
        self._memory.drifted = frozenset(one[0] for one in drifted) if confirmed else frozenset()
        self._memory.foreign = foreign if confirmed else frozenset()
        self._memory.reconciled_at = self._clock()

    def _with_unbooked(self, ours: Mapping[str, Decimal], known: set[str]) -> dict[str, Decimal]:
        """Return our shares as they will be once the executions of our orders are booked.

        Args:
            ours: signed shares by symbol.
            known: client order ids of the ledger.
        """
        since = self._clock() - FILLS_BACK
        booked = {fill.execution_id for fill in self._ledger.fills(since - FILLS_BACK)}
        orders = self._broker.orders(since)
        own = {one.broker_id for one in orders if one.client_order_id in known}
        found = dict(ours)
        for fill in self._broker.fills(since):
            if fill.broker_id in own and fill.execution_id not in booked:
                signed = fill.quantity if fill.side is Side.buy else -fill.quantity
                found[fill.symbol] = found.get(fill.symbol, Decimal(0)) + signed
        return found

    def _feed(self, state: GatewayState, limits: GatewayLimits) -> tuple[str, ...]:
        """Return whether prices arrive: during a session by the broker, daily by the market.

        A name may rest for minutes; that none of them moves is a feed that stands still.
        """
        found: tuple[str, ...] = ()
        watched = sorted({*(state.positions or {}), *sorted(self._permissions.allowed)[:20]})
        facts = self._market.facts(watched, state.now)
        if not any(one.close_session == state.previous_session for one in facts.values()):
            found += ("the market source does not have the last session",)
        if state.clock is not None and state.clock.is_open:
            ages = [
                (state.now - quote.at).total_seconds()
                for quote in self._broker.quotes(watched).values()
            ]
            if not any(age <= limits.max_quote_age_s for age in ages):
                found += ("the broker has no fresh quote of any name",)
        return found

    def _stop(self, reason: str) -> None:
        """Trip, take the permit away, and cancel every order; each whatever comes of the others."""
        alarm(Alarm.tripped, f"{reason} (supervisor)")
        acts: tuple[Callable[[], None], ...] = (
            lambda: self._ledger.trip(reason, "supervisor", self._clock()),
            self._permit.revoke,
            self._broker.cancel_all,
        )
        for act in acts:
            try:
                act()
            except (LedgerFailed, PermitFailed, BrokerError) as error:
                logger.critical("%s", error)


def _unknown(state: GatewayState) -> tuple[str, ...]:
    parts = {
        "account": state.account,
        "clock": state.clock,
        "positions": state.positions,
        "open orders": state.open_orders,
    }
    return tuple(f"the broker does not say its {name}" for name, it in parts.items() if it is None)


def _differing(ours: Mapping[str, Decimal], theirs: Mapping[str, Decimal]) -> Differences:
    zero = Decimal(0)
    return frozenset(
        (name, ours.get(name, zero), theirs.get(name, zero))
        for name in {*ours, *theirs}
        if ours.get(name, zero) != theirs.get(name, zero)
    )
