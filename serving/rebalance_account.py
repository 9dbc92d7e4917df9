"""The account around a rebalance: what it made since the last close, and how it came here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the account stands.

    Args:
        times: sessions of the closes that are known, ISO dates, oldest first, and then the time of
            the rebalance.
        equity: account currency at each of them.
        peak: highest equity up to each of them, account currency.
        regimes: the market's at each close; None where it is not known, and now.
    """

    times: tuple[str, ...]
    equity: tuple[Decimal, ...]
    peak: tuple[Decimal, ...]
    regimes: tuple[str | None, ...]

    @property
    def drawdown(self) -> tuple[Decimal, ...]:
        """Return the fall from the peak at each time, fraction in [0, 1]."""
        pairs = zip(self.equity, self.peak, strict=True)
        return tuple(1 - equity / peak if peak > 0 else ZERO for equity, peak in pairs)

    @property
    def gain(self) -> Decimal | None:
        """Return what changed since the last close, account currency; None without one."""
        return self.equity[-1] - self.equity[-2] if len(self.equity) > 1 else None


def standing(
    before: Mapping[str, Any],
    after: Mapping[str, Any] | None,
    days: Sequence[Mapping[str, Any]] | None,
) -> Standing | None:
    """Return where the account stands after a rebalance.

    Args:
        before: state of the gateway at its start.
        after: at its end; None where it could not be asked.
        days: closes as the gateway tells them, newest first; None where it could not be asked.

    Returns:
        None where the equity is not known.
    """
    now = before if after is None else after
    if now["equity"] is None:
        return None
    when = now["reconciled_at"]
    at = "now" if when is None else f"{datetime.fromisoformat(when):%Y-%m-%d %H:%M}"
    kept = [one for one in reversed(days or ()) if one["session"] < at[:10]]
    equity = [Decimal(one["equity"]) for one in kept]
    peaks: list[Decimal] = []
    for close, row in zip(equity, kept, strict=True):
        # The peak of the strategy's rules may begin anew after a stop; here it does not.
        peaks.append(max([close, Decimal(row["peak"]), *peaks[-1:]]))
    last = Decimal(now["equity"])
    return Standing(
        times=(*(one["session"] for one in kept), at),
        equity=(*equity, last),
        peak=(*peaks, max([last, *peaks[-1:]])),
        regimes=(*(one["regime"] for one in kept), None),
    )
