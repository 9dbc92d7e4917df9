"""The account's history as the ledger has it: days, regimes, and what each model made of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from risk.gateway.ledger import Ledger
from risk.gateway.stored import Performance
from risk.gateway.strategy_reads import DayEnd, Ramp

_GRAIN = Decimal("1e-10")


@dataclass(frozen=True, slots=True)
class InRegime:
    """What a model made of the sessions of one regime.

    Args:
        model: sha256 of its artefact.
        regime: of the market.
        sessions: how many.
        mean_return: of a session, simple, fraction.
        total_return: of all of them one after another, fraction.
    """

    model: str
    regime: str
    sessions: int
    mean_return: Decimal
    total_return: Decimal


@dataclass(frozen=True, slots=True)
class History:
    """See the module; days come newest first, each with its regime."""

    days: tuple[tuple[DayEnd, str | None], ...]
    performance: tuple[InRegime, ...]
    ramps: tuple[Ramp, ...]


def history(ledger: Ledger, days: int) -> History:
    """Return the last days of an account.

    Raises:
        LedgerFailed: if the ledger cannot be read.
    """
    found = ledger.days(days)
    models = sorted({day.model for day in found if day.model is not None})
    return History(
        days=tuple((day, ledger.regime(day.session)) for day in found),
        performance=tuple(
            one for model in models for one in by_regime(model, ledger.performance(model))
        ),
        ramps=tuple(ledger.ramps()),
    )


def by_regime(model: str, made: Iterable[Performance]) -> list[InRegime]:
    """Return what a model made of its days, by regime.

    >>> from datetime import date
    >>> half = Decimal("0.5")
    >>> days = [Performance("m", date(2024, 1, day), "bull/low", half) for day in (2, 3)]
    >>> by_regime("m", days)[0].total_return
    Decimal('1.2500000000')
    """
    returns: dict[str, list[Decimal]] = {}
    for one in made:
        returns.setdefault(one.regime, []).append(one.returns)
    found = []
    for regime, ones in sorted(returns.items()):
        total = Decimal(1)
        for one_return in ones:
            total *= 1 + one_return
        mean = sum(ones, Decimal(0)) / len(ones)
        found.append(
            InRegime(model, regime, len(ones), mean.quantize(_GRAIN), (total - 1).quantize(_GRAIN))
        )
    return found
