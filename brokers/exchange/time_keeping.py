"""The exchange's time: the machine's, shifted or not, or one that only moves when it is told to."""

from datetime import UTC, datetime, timedelta

from brokers.exchange.records import Rejection
from brokers.exchange.settings import ClockMode
from brokers.exchange.store import Store, time_text


class ExchangeClock:
    """Time that goes on where it was after a restart.

    Args:
        store: where it is kept.
        mode: what moves it.
        start: of a new exchange; None is now, by the wall.
    """

    def __init__(self, store: Store, mode: ClockMode, start: datetime | None) -> None:
        self._store = store
        self._mode = mode
        if store.fact("clock") is None:
            begin = start or datetime.now(UTC)
            shift = timedelta(0) if start is None else start - datetime.now(UTC)
            with store.transaction():
                store.set_fact("clock", time_text(begin))
                store.set_fact("clock_shift", str(shift.total_seconds()))

    def now(self) -> datetime:
        """Return the time; it never runs backwards."""
        kept = datetime.fromisoformat(self._store.fact("clock") or "")
        if self._mode is ClockMode.driven:
            return kept
        shift = timedelta(seconds=float(self._store.fact("clock_shift") or 0.0))
        return max(kept, datetime.now(UTC) + shift)

    def check_move(self, to: datetime) -> None:
        """Refuse to set a clock that is not driven, or to set it back.

        Raises:
            Rejection: if it is not driven, or would run backwards.
        """
        if self._mode is not ClockMode.driven:
            raise Rejection(409, 40910000, "the clock follows the wall")
        if to < self.now():
            raise Rejection(422, 42210000, f"time cannot run back to {time_text(to)}")

    def keep(self, now: datetime) -> None:
        """Remember the time up to which everything has happened."""
        self._store.set_fact("clock", time_text(now))

    def kept(self) -> datetime:
        """Return the time up to which everything has happened."""
        return datetime.fromisoformat(self._store.fact("clock") or "")

    def stamp(self) -> datetime:
        """Return the time that is kept, or just after the last stamp: no two are the same."""
        last = self._store.fact("last_stamp")
        now = self.kept()
        if last is not None:
            now = max(now, datetime.fromisoformat(last) + timedelta(microseconds=1))
        self._store.set_fact("last_stamp", time_text(now))
        return now
