"""The gateway as a process: what it is made of, how it starts, and the thread that keeps it going.

It starts HALTED: after `Running.start` ledger and broker agree as far as they can, and nothing is
sent before somebody arms.
"""

import json
import logging
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from market.errors import InputError
from risk.gateway.alarms import Alarm, AlertSettings, Webhook, alarm, connect, disconnect
from risk.gateway.broker import Broker, BrokerError
from risk.gateway.engine import Gateway
from risk.gateway.execution import ExecutionSettings
from risk.gateway.front import Refused
from risk.gateway.latch import arm_paper
from risk.gateway.ledger import Ledger
from risk.gateway.limits import GatewayLimits, limits_from_record, loosened, tightest
from risk.gateway.limits_in_force import keep_limits
from risk.gateway.market_days import MarketDays
from risk.gateway.object_anchor import open_anchor
from risk.gateway.observer import MarketSource, Memory, Observer, Permissions
from risk.gateway.permit import HaltFile, LedgerPermit, Permit, RedisPermit
from risk.gateway.records import Account
from risk.gateway.settings import ClockKind, ControlSettings, PermitKind, ServiceSettings
from risk.gateway.signing import load_persons
from risk.gateway.storage import LedgerFailed, StaleEpoch
from risk.gateway.strategist import Strategist
from risk.gateway.strategy import StrategyRules
from risk.gateway.supervisor import Supervisor

logger = logging.getLogger(__name__)

Clock = Callable[[], datetime]
PATIENCE_S = 10.0  # without a look at the broker, until the gateway says that it is not ready


@dataclass(frozen=True, slots=True)
class Parts:
    """What a gateway is made of.

    Args:
        broker: of the account.
        control: where the account is kept.
        service: what may be traded, and when.
        limits: configured; those that the ledger holds are never loosened by them.
        execution: how orders are placed.
        market: the second source.
        names: of the market.
        strategy: the rules on every target.
        days: the states of the market, for them.
        alerts: where alarms are sent.
    """

    broker: Broker
    control: ControlSettings
    service: ServiceSettings
    limits: GatewayLimits
    execution: ExecutionSettings
    market: MarketSource
    names: frozenset[str]
    strategy: StrategyRules
    days: MarketDays
    alerts: AlertSettings


class BrokerTime:
    """The broker's time, going on by itself while the broker cannot be asked.

    Args:
        broker: whose clock it is.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._last = broker.clock().now, time.monotonic()

    def __call__(self) -> datetime:
        """Return it, UTC; while the broker does not tell, what has passed since it last did."""
        now, read = self._last
        try:
            self._last = self._broker.clock().now, time.monotonic()
        except BrokerError:
            return now + timedelta(seconds=time.monotonic() - read)
        return self._last[0]


def open_ledger(control: ControlSettings) -> Ledger:
    """Return the account's ledger; nothing is read yet.

    Raises:
        InputError: if ledger or anchor have an address of an unknown kind.
    """
    return Ledger(control.ledger, open_anchor(control.anchor))


def permit_of(control: ControlSettings, ledger: Ledger, account: str) -> Permit:
    """Return the account's permit, where it is kept."""
    if control.permit is PermitKind.redis:
        assert control.redis is not None, "checked by the settings"
        return RedisPermit(control.redis, account)
    return LedgerPermit(ledger)


def clock_of(kind: ClockKind, broker: Broker, account: Account) -> Clock:
    """Return the clock that sessions follow.

    Raises:
        InputError: if it should be the broker's and the account is not paper.
        BrokerError: if the broker does not say its time.
    """
    if kind is ClockKind.own:
        return _own_time
    if account.paper is not True:
        raise InputError(f"service.clock=broker needs a paper account, {account.id} is not")
    return BrokerTime(broker)


def permissions_of(parts: Parts) -> Permissions:
    """Return which names and models may be followed.

    Raises:
        InputError: if a name is allowed that the market does not have.
    """
    service = parts.service
    allowed = parts.names if service.allowed is None else frozenset(service.allowed)
    if unknown := sorted(allowed - parts.names):
        raise InputError(f"service.allowed: the market has no {unknown[0]}")
    models = frozenset(service.models)
    return Permissions(allowed, frozenset(service.restricted), models)


def supervisor_of(parts: Parts) -> Supervisor:
    """Return the supervisor of the gateway that is made of the same parts.

    Raises:
        InputError: if something configured does not fit.
        BrokerError: if the broker does not say whose account it is.
    """
    account = parts.broker.account()
    clock = clock_of(parts.service.clock, parts.broker, account)
    ledger = open_ledger(parts.control)
    return Supervisor(
        parts.broker,
        ledger,
        parts.market,
        permit_of(parts.control, ledger, account.id),
        HaltFile(Path(parts.control.halt_file)),
        permissions_of(parts),
        parts.service.permit_s,
        clock,
        None if parts.service.clock is ClockKind.broker else _own_time,
    )


class Running:
    """A gateway with its thread.

    Args:
        parts: what it is made of.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._stopping = threading.Event()
        self._looked_at = float("-inf")
        self._thread = threading.Thread(target=self._go_on, name="gateway", daemon=True)
        self.memory = Memory()
        self.refused = Refused()
        self.halt_file = HaltFile(Path(parts.control.halt_file))
        self.ended: str | None = None  # why it gave up for good
        self._webhook: Webhook | None = None

    def start(self) -> None:
        """Take the ledger over, learn what happened meanwhile, and go on from there.

        Raises:
            InputError: if something configured does not fit.
            BrokerError, LedgerFailed: if the broker or the ledger cannot be used.
        """
        parts = self._parts
        persons = load_persons(parts.service.persons)
        self._webhook = connect(parts.alerts, f"gateway on {socket.gethostname()}")
        parts.broker.self_test()
        account = parts.broker.account()
        self.clock = clock_of(parts.service.clock, parts.broker, account)
        self.ledger = open_ledger(parts.control)
        self.ledger.migrate()
        self.epoch = self.ledger.acquire(f"gateway on {socket.gethostname()}")
        self.permit = permit_of(parts.control, self.ledger, account.id)
        observer = Observer(
            parts.broker,
            self.ledger,
            self.epoch,
            parts.market,
            self.permit,
            self.halt_file,
            permissions_of(parts),
            self.memory,
            self.clock,
            None if parts.service.clock is ClockKind.broker else _own_time,
        )
        self.gateway = Gateway(
            parts.broker,
            self.ledger,
            self.epoch,
            observer,
            self._limits(),
            parts.execution,
            self.clock,
            Strategist(
                self.ledger, self.epoch, parts.broker, parts.strategy, parts.days, self.clock
            ),
            persons,
        )
        self.gateway.recover()
        if parts.service.auto_arm:
            self._arm(account)
        self._looked_at = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """End the thread and let go of the ledger; what is under way is found again at a start."""
        self._stopping.set()
        self._thread.join(PATIENCE_S)
        self.ledger.close()
        disconnect(self._webhook)

    def kill(self, reason: str, actor: str) -> None:
        """Stop: by the latch and the broker, and by the HALT file where the ledger fails.

        Raises:
            LedgerFailed: if the latch could not be tripped; the file was written then.
        """
        try:
            self.gateway.kill(reason, actor)
        except LedgerFailed:
            self.halt_file.halt(f"{reason} ({actor})")
            raise

    @property
    def problem(self) -> str | None:
        """Return why the gateway is not at work; None if it is, be it armed or not."""
        if self.ended is not None:
            return self.ended
        since = time.monotonic() - self._looked_at
        if since > PATIENCE_S + self._parts.service.interval_s:
            return f"broker and ledger were last looked at {since:.0f} s ago"
        return None if self.memory.ledger_writable else "the ledger cannot be written"

    def _limits(self) -> GatewayLimits:
        """Return the tighter of the configured and the recorded limits, and record it."""
        configured, stored = self._parts.limits, self.ledger.limits()
        if stored is None:
            found = configured
        else:
            before = limits_from_record(json.loads(stored.body))
            found = tightest(before, configured)
            if looser := loosened(before, configured):
                logger.warning("limits are not loosened by a start: %s", ", ".join(looser))
        if stored is None or found != before:
            with self.ledger.writing(self.epoch) as writer:
                keep_limits(writer, found, "configuration", self.clock())
        return found

    def _arm(self, account: Account) -> None:
        try:
            arm_paper(self.ledger, self.epoch, account, self.clock())
        except InputError as error:
            logger.warning("not armed: %s", error)

    def _go_on(self) -> None:
        while not self._stopping.wait(self._parts.service.interval_s):
            try:
                self.gateway.step()
                self.refused.write(self.ledger, self.epoch, self.clock)
            except StaleEpoch as error:
                alarm(Alarm.replaced, str(error))
                self.ended = str(error)
                return
            except LedgerFailed as error:
                alarm(Alarm.ledger_failed, str(error))
                self.memory.ledger_writable = False
            except Exception as error:  # one of the two places that catch all: it stops trading
                logger.exception("the gateway failed")
                alarm(Alarm.failed, type(error).__name__)
                self._trip()
            else:
                self.memory.ledger_writable = True
                self._looked_at = time.monotonic()

    def _trip(self) -> None:
        try:
            if self.ledger.latch().armed:
                self.kill("the gateway failed; its log says why", "gateway")
        except LedgerFailed as error:
            alarm(Alarm.ledger_failed, str(error))
            self.memory.ledger_writable = False


def _own_time() -> datetime:
    return datetime.now(UTC)
