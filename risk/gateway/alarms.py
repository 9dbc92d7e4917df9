"""Alarms: what a person must hear of, one structured log line each, and a webhook where wanted.

Raising one never blocks and never fails: the engine does not wait for anybody's chat server.
"""

import json
import logging
import queue
import threading
import time
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import requests

logger = logging.getLogger(__name__)

ROOM = 200  # alarms that wait for the webhook; more are counted and dropped
QUIET_S = 600.0  # the same words are not sent again within


class Kind(NamedTuple):
    """What an alarm stands for."""

    level: int
    text: str
    act: str


_CRITICAL, _WARNING = logging.CRITICAL, logging.WARNING


class Alarm(Enum):
    """What can be raised; docs/operations.md has a row for each."""

    tripped = Kind(
        _CRITICAL,
        "the latch has tripped: nothing is sent any more",
        "read the reason; compare the account with the broker; arm only when it is understood",
    )
    cancel_failed = Kind(
        _CRITICAL,
        "open orders could not be cancelled",
        "cancel them at the broker by hand, at once",
    )
    keys_refused = Kind(
        _CRITICAL,
        "the broker does not know the keys any more",
        "put new keys into the environment, restart, arm",
    )
    strange_order = Kind(
        _CRITICAL,
        "an order of ours is another one at the broker",
        "find out who has put it; two gateways may run on one account",
    )
    order_lost = Kind(
        _CRITICAL,
        "an order of unknown outcome was never found at the broker",
        "look for it at the broker by its id before the next session",
    )
    strange_fills = Kind(
        _CRITICAL,
        "the account was traded past the gateway",
        "find out who did it; arming accepts the position",
    )
    ledger_failed = Kind(
        _CRITICAL,
        "the ledger or its anchor cannot be written: nothing is sent",
        "look at disk space, permissions and locks; it goes on by itself once it can write",
    )
    replaced = Kind(
        _CRITICAL,
        "another gateway has taken the ledger over; this one has ended",
        "make sure that only one is started",
    )
    failed = Kind(
        _CRITICAL,
        "the gateway met an error that it does not know",
        "read the traceback in its log; do not arm before it is understood",
    )
    supervisor_failed = Kind(
        _CRITICAL,
        "the supervisor has failed or died; without it the permit ends",
        "read its log; another one is started by itself",
    )
    no_permit = Kind(
        _WARNING,
        "the supervisor withholds the permit: nothing is sent",
        "the detail says what speaks against trading; it is renewed once that has gone",
    )
    not_reconciled = Kind(
        _WARNING,
        "the broker could not be read, so the books were not compared",
        "nothing at first; after minutes look at the broker's status page and the network",
    )
    cash_differs = Kind(
        _WARNING,
        "cash at the broker is not what fills and activities explain",
        "look for a deposit, a fee or a dividend that the broker has not listed",
    )
    refused = Kind(
        _WARNING,
        "a decision was refused",
        "look the codes up in docs/controls.md; three in a row trip the latch",
    )
    market_unknown = Kind(
        _WARNING,
        "the last close of market or account is not known: no decision is accepted",
        "bring the market data up to date; an account without money is not traded",
    )
    rule_hit = Kind(
        _WARNING,
        "a rule of the strategy made a target smaller",
        "nothing: it is the rule's purpose; the rebalancing log has every change",
    )
    exits_wait = Kind(
        _WARNING,
        "a rule of the strategy wants to leave a position, and may not trade now",
        "the codes say why; sell by hand if it cannot wait",
    )
    limits_changed = Kind(
        _WARNING,
        "limits were proposed, signed or changed",
        "make sure that you know of it",
    )
    ramp_changed = Kind(
        _WARNING,
        "a policy may trade another share of the capital",
        "nothing, if you know of it",
    )
    strangers = Kind(
        _WARNING,
        "requests were made without the right to make them",
        "the detail counts them by kind, route and caller; a caller of yours may have an old token",
    )


def alarm(kind: Alarm, detail: str) -> None:
    """Write an alarm as one line of JSON; handlers of this module's logger send it on."""
    line = {"alarm": kind.name, "text": kind.value.text, "detail": detail, "act": kind.value.act}
    logger.log(kind.value.level, "%s", json.dumps(line), extra={"alarm": kind, "detail": detail})


@dataclass(slots=True)
class AlertSettings:
    """Where alarms are sent beside the log."""

    url: str | None  # webhook that takes {"text": ...}, such as a Slack one; null is none
    timeout_s: float  # that one delivery may take, in (0, 60]

    def __post_init__(self) -> None:
        if self.url is not None and not self.url.startswith(("https://", "http://")):
            raise ValueError("alerts.url must begin with https:// or http://")
        if not 0.0 < self.timeout_s <= 60.0:
            raise ValueError(f"alerts.timeout_s must be in (0, 60], was {self.timeout_s}")


class Webhook(logging.Handler):
    """Sends alarms to a webhook, from a thread of its own and a queue that cannot grow.

    Args:
        url: that takes a POST of {"text": ...}; it may hold a secret and is never logged.
        timeout_s: that one delivery may take.
        who: words in front of every alarm.
    """

    def __init__(self, url: str, timeout_s: float, who: str) -> None:
        super().__init__()
        self._url, self._timeout_s, self._who = url, timeout_s, who
        self._waiting: queue.Queue[str | None] = queue.Queue(ROOM)
        self._sent_at: dict[str, float] = {}
        self._dropped = 0
        self._thread = threading.Thread(target=self._deliver, name="alarms", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue an alarm; one that finds no room is counted, one that was just sent is not sent."""
        kind = getattr(record, "alarm", None)
        if not isinstance(kind, Alarm):
            return
        text = f"{self._who}: {kind.value.text}: {getattr(record, 'detail', '')}"
        now = time.monotonic()
        if now - self._sent_at.get(text, float("-inf")) < QUIET_S:
            return
        self._sent_at = {words: at for words, at in self._sent_at.items() if now - at < QUIET_S} | {
            text: now
        }
        try:
            self._waiting.put_nowait(text)
        except queue.Full:
            self._dropped += 1

    def close(self) -> None:
        """Give what waits one delivery's time, then let go."""
        try:
            self._waiting.put_nowait(None)
            self._thread.join(self._timeout_s)
        except queue.Full:
            pass
        super().close()

    def _deliver(self) -> None:
        while (text := self._waiting.get()) is not None:
            dropped, self._dropped = self._dropped, 0
            if dropped:
                text += f" ({dropped} alarms before it found no room)"
            try:
                answer = requests.post(
                    self._url, json={"text": text}, timeout=self._timeout_s, allow_redirects=False
                )
                if not answer.ok:
                    logger.warning("the webhook of alarms answers %d", answer.status_code)
            except requests.RequestException as error:  # its text would show the address
                logger.warning("the webhook of alarms fails: %s", type(error).__name__)


def connect(settings: AlertSettings, who: str) -> Webhook | None:
    """Send every alarm from now on to the configured webhook; None where there is none."""
    if settings.url is None:
        return None
    hook = Webhook(settings.url, settings.timeout_s, who)
    logger.addHandler(hook)
    return hook


def disconnect(hook: Webhook | None) -> None:
    """End what `connect` began."""
    if hook is not None:
        logger.removeHandler(hook)
        hook.close()
