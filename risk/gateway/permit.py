"""The permit: leave to trade that expires by itself, and that a supervisor has to renew.

What is absent, unreadable, expired, evicted or of another epoch is no permit. No clock on a wall
takes part: one that is set back would make a permit live longer.
"""

import os
import secrets
import threading
import time
from pathlib import Path
from typing import Protocol

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from market.errors import InputError
from risk.gateway.durable import settle
from risk.gateway.ledger import Ledger
from risk.gateway.settings import LONGEST_MS
from risk.gateway.storage import LedgerFailed
from risk.gateway.stored import PermitRow

PATIENCE_S = 0.25
_NS_PER_MS = 1_000_000
# Counts on while the machine sleeps, where the system has such a clock.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class PermitFailed(Exception):
    """The permit could not be written; whoever trades will find it expired."""


class Permit(Protocol):
    """Leave to trade for one epoch of the gateway."""

    def renew(self, epoch: int, ttl_ms: int) -> None:
        """Give leave to an epoch for some time from now; `PermitFailed` if it cannot be said."""
        ...

    def left_s(self, epoch: int) -> float:
        """Return for how long an epoch has leave, in seconds; every doubt is 0."""
        ...

    def valid(self, epoch: int) -> bool:
        """Return whether an epoch has leave now."""
        ...

    def revoke(self) -> None:
        """Take leave away at once; `PermitFailed` if it cannot be said."""
        ...


class RedisPermit:
    """A permit as a key of Redis.

    Redis forgets the key when its time is up, by its own wall clock. So each renewal is a new text,
    and who reads it trusts one text no longer than its time, on a monotonic clock of its own.

    Args:
        url: `redis://...`.
        account: the broker's id of the account; each has its permit.
    """

    def __init__(self, url: str, account: str) -> None:
        try:
            self._redis = Redis.from_url(
                url,
                socket_timeout=PATIENCE_S,
                socket_connect_timeout=PATIENCE_S,
                retry=Retry(NoBackoff(), 0),
                decode_responses=True,
            )
        except ValueError as error:
            raise InputError(f"the permit's address cannot be read: {error}") from None
        self._key = f"tercet:permit:{account}"
        self._seen = ("", 0)
        self._lock = threading.Lock()

    def renew(self, epoch: int, ttl_ms: int) -> None:
        """Set the key, with a text that was never there before."""
        _check(ttl_ms)
        value = f"{epoch} {ttl_ms} {secrets.token_hex(8)}"
        try:
            if not self._redis.set(self._key, value, px=ttl_ms):
                raise PermitFailed("Redis did not set the permit")
        except (RedisError, OSError) as error:
            raise PermitFailed(f"Redis does not take the permit: {error}") from error

    def left_s(self, epoch: int) -> float:
        """Return the shorter of what Redis says and what this reader has seen."""
        now = time.clock_gettime_ns(_CLOCK)  # before the answer, so that a slow one ages it
        try:
            asked = self._redis.pipeline(transaction=False)
            asked.get(self._key)
            asked.pttl(self._key)
            value, left_ms = asked.execute()
        except (RedisError, OSError, UnicodeDecodeError):
            return 0.0
        if not isinstance(value, str) or not isinstance(left_ms, int):
            return 0.0
        # A key that never expires, or later than it says of itself, was not set by `renew`.
        found, ttl_ms = _parse(value)
        if found != epoch or not 0 < left_ms <= ttl_ms:
            return 0.0
        left_ns = min(left_ms, ttl_ms) * _NS_PER_MS - (time.clock_gettime_ns(_CLOCK) - now)
        return max(0.0, min(left_ns, ttl_ms * _NS_PER_MS - self._age(value, now)) / 1e9)

    def _age(self, value: str, now: int) -> int:
        """Return for how many ns a text has been the one that this reader sees."""
        with self._lock:
            if self._seen[0] != value:
                self._seen = (value, now)
            return time.clock_gettime_ns(_CLOCK) - self._seen[1]

    def valid(self, epoch: int) -> bool:
        """Return whether the key is there, of this epoch, and was renewed in time."""
        return self.left_s(epoch) > 0.0

    def revoke(self) -> None:
        """Delete the key."""
        try:
            self._redis.delete(self._key)
        except (RedisError, OSError) as error:
            raise PermitFailed(f"Redis does not revoke the permit: {error}") from error


class LedgerPermit:
    """A permit as a row of the ledger, for processes of one machine.

    Its end is a reading of the machine's clock since boot, which all processes share and nobody
    sets, together with the id of that boot.

    Args:
        ledger: of the account.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def renew(self, epoch: int, ttl_ms: int) -> None:
        """Write the row; an epoch that has ended gets none."""
        _check(ttl_ms)
        until = time.clock_gettime_ns(_CLOCK) + ttl_ms * _NS_PER_MS
        try:
            with self._ledger.writing(epoch) as writer:
                writer.set_permit(PermitRow(epoch, _boot_id(), until, ttl_ms))
        except (LedgerFailed, OSError) as error:
            raise PermitFailed(str(error)) from error

    def left_s(self, epoch: int) -> float:
        """Return what is left of a row of this epoch and boot."""
        try:
            row = self._ledger.permit()
            boot = _boot_id()
        except (LedgerFailed, OSError):
            return 0.0
        if row is None or row.epoch != epoch or row.boot != boot:
            return 0.0
        left_ns = row.expires_ns - time.clock_gettime_ns(_CLOCK)
        in_time = 0 < left_ns <= row.ttl_ms * _NS_PER_MS <= LONGEST_MS * _NS_PER_MS
        return left_ns / 1e9 if in_time else 0.0

    def valid(self, epoch: int) -> bool:
        """Return whether the row is of this epoch and boot, and has not ended."""
        return self.left_s(epoch) > 0.0

    def revoke(self) -> None:
        """Delete the row."""
        try:
            self._ledger.revoke_permit()
        except LedgerFailed as error:
            raise PermitFailed(str(error)) from error


class HaltFile:
    """A file whose presence stops all trading: `touch` is enough, for a person or a script.

    Args:
        path: of the file; its folder must exist, because a folder that cannot be read may hold it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    def halted(self) -> bool:
        """Return whether the file is there, or whether that cannot be found out."""
        try:
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return True
        try:
            os.stat(self.path.name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        finally:
            os.close(folder)
        return True

    def halt(self, reason: str) -> None:
        """Create the file durably; the reason is added if there is room for it.

        Raises:
            OSError: if it cannot be created.
        """
        descriptor = os.open(
            self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644
        )
        try:
            settle(self.path.parent)
            try:
                os.write(descriptor, f"{reason}\n".encode("utf-8", "replace"))
                os.fsync(descriptor)
            except OSError:
                return  # a full disk takes no words, but the file is there
        finally:
            os.close(descriptor)

    def clear(self) -> None:
        """Remove the file; a person decides that."""
        self.path.unlink(missing_ok=True)


def _check(ttl_ms: int) -> None:
    if not 0 < ttl_ms <= LONGEST_MS:
        raise ValueError(f"a permit lives for 1 to {LONGEST_MS} ms, was {ttl_ms}")


def _parse(value: str) -> tuple[int, int]:
    """Return epoch and lifetime in ms of a permit's text; what cannot be read lives for 0 ms."""
    parts = value.split(" ")
    if len(parts) != 3 or not (parts[0].isdecimal() and parts[1].isdecimal()):
        return 0, 0
    if not (len(parts[0]) <= 18 and len(parts[1]) <= 18):
        return 0, 0
    ttl_ms = int(parts[1])
    return int(parts[0]), ttl_ms if ttl_ms <= LONGEST_MS else 0


def _boot_id() -> str:
    """Return what tells this run of the machine from the one before."""
    if _BOOT_ID.exists():
        return _BOOT_ID.read_text().strip()
    # Without such an id a clock that began anew at boot could be mistaken: its start, to the
    # minute, tells boots apart and is the same for all processes.
    return str(round(time.time() - time.clock_gettime(_CLOCK), -2))
