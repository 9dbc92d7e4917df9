"""The limits of one account: every control's number, in one record.

Every limit is always on: there is no value that means "off". A fraction is of NAV where nothing
else is said, and fractions, prices and money are exact decimals: YAML and JSON hold them as text.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from market.errors import InputError

if TYPE_CHECKING:
    Exact = Decimal
else:
    Exact = Any  # OmegaConf knows no Decimal: __post_init__ makes one of what stands in the YAML


class Rule(NamedTuple):
    """What a limit belongs to, and which values of it mean something at all."""

    controls: tuple[int, ...]  # of docs/controls.md
    least: Decimal | int
    includes_least: bool
    most: Decimal | int
    asks_for_more: bool = False  # a larger value is tighter; of the others it is looser


@dataclass(slots=True)
class GatewayLimits:
    """Limits of one account, by control of docs/controls.md."""

    max_quantity: Exact  # 1: shares of one order, > 0
    max_order_adv: Exact  # 1: of one order, fraction of the average daily volume, in (0, 1]
    max_order_weight: Exact  # 2: notional of one order, fraction of NAV, in (0, 1]
    max_collar: Exact  # 3: limit price from the reference, fraction, in (0, 0.2]
    max_collar_sigmas: Exact  # 3: the same in daily standard deviations, > 0; the nearer counts
    max_quote_age_s: Exact  # 4: seconds, > 0
    max_close_gap: Exact  # 4: quote from the last close, fraction, in (0, 1)
    max_source_gap: Exact  # 4: quote from the second source's price, fraction, in (0, 1)
    max_parent_adv: Exact  # 5: of all slices of an order, fraction of the daily volume, in (0, 1]
    max_day_adv: Exact  # 5: of all trades of a day in a name, fraction of the volume, in (0, 1]
    max_weight: Exact  # 6: of a name, open orders included, in (0, 1]
    max_gross: Exact  # 7: sum of absolute weights, open orders included, in (0, 1]
    max_net: Exact  # 7: absolute sum of weights, open orders included, in (0, 1]
    max_multiplier: Exact  # 7: of the account's buying power, >= 1
    max_sector: Exact  # 8: of the names of one sector, in (0, 1]
    min_cash: Exact  # 9: left after all fills at their limits, in [0, 1)
    max_agent_weight: Exact  # 10: of a name in one agent's own book, in (0, 1]
    max_agent_gross: Exact  # 10: of one agent's own book, in (0, 1]
    max_turnover_day: Exact  # 11: buys and sells, fraction of NAV, in (0, 2]
    max_turnover_week: Exact  # 11: the same, since the week's first session, in (0, 10]
    max_orders_per_name: int  # 12: of one decision, for each name of it or held, >= 1
    max_orders_day: int  # 12: parent orders, >= 1
    max_slices: int  # 12: of one parent order, >= 1
    max_slices_day: int  # 12: of all parent orders, >= 1
    max_messages_second: int  # 13: to the broker, >= 1
    max_messages_minute: int  # 13: to the broker, >= 1
    max_failures: int  # 14: refused or failed decisions at which the latch trips, >= 1
    max_unknown_orders: int  # 14: orders of unknown outcome that are borne, >= 0
    max_short_weight: Exact  # 19: sold short of a name, in [0, 1]; 0 is long only
    open_buffer_s: Exact  # 21: after the opening, >= 0
    close_buffer_s: Exact  # 21: before the close, >= 0
    max_calendar_gap_s: Exact  # 21: between the broker's close and the calendar's, >= 0
    max_position_jump: Exact  # 23: broker's position from the ledger's, fraction, in (0, 1)
    max_day_loss: Exact  # 24: fraction of the last close's equity, in (0, 1)
    max_drawdown: Exact  # 24: fraction of the peak, in (0, 1)
    clean_reads: int  # 24, 37: readings of the account in a row that confirm, >= 1
    max_cancel_s: Exact  # 26: from the kill to the call that cancels everything, > 0
    max_permit_s: Exact  # 29: that a permit may live, > 0
    quantity_decimals: int  # 30: of a fractional quantity, in [0, 9]
    max_weight_error: Exact  # 31: of a sum of weights, in [0, 0.001]
    max_weight_move: Exact  # 31: sum of absolute moves since the last decision, in (0, 2]
    min_agents: int  # 32: that take part, >= 1
    max_disagreement: Exact  # 32: half the L1 distance of two agents' books, in (0, 1]
    decision_ttl_s: Exact  # 33: from receipt, or the opening buffer's end, to acceptance, > 0
    loosening_persons: int  # 35: different ones that must sign, >= 2
    max_reconcile_age_s: Exact  # 36: > 0
    max_snapshot_age_s: Exact  # 37: > 0
    max_equity_jump: Exact  # 37: between readings, fraction, in (0, 1)
    max_equity_error: Exact  # 37: of equity from cash and positions, fraction, in (0, 1)
    clock_alert_s: Exact  # 38: from the broker's clock, > 0
    max_clock_skew_s: Exact  # 38: from the broker's clock, >= clock_alert_s

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            setattr(self, item.name, _typed(item, getattr(self, item.name)))
        for name, rule in RULES.items():
            value = getattr(self, name)
            above = value >= rule.least if rule.includes_least else value > rule.least
            if not (above and value <= rule.most):
                bracket = "[" if rule.includes_least else "("
                raise ValueError(
                    f"{name} must be in {bracket}{rule.least}, {rule.most}], was {value}"
                )
        if not self.clock_alert_s <= self.max_clock_skew_s:
            raise ValueError(
                f"clock_alert_s must be at most max_clock_skew_s {self.max_clock_skew_s}, "
                f"was {self.clock_alert_s}"
            )

    def record(self) -> dict[str, str | int]:
        """Return it for JSON: decimals as text, counts as numbers."""
        return {name: _text(getattr(self, name)) for name in RULES}

    @property
    def version(self) -> str:
        """Return the sha256 of the values, hexadecimal: the same limits have the same version."""
        return _version(tuple(getattr(self, name) for name in RULES))


@lru_cache(maxsize=64)  # every verdict asks, limits change once a month
def _version(values: tuple[Decimal | int, ...]) -> str:
    plain = [_text(value.normalize()) if isinstance(value, Decimal) else value for value in values]
    text = json.dumps(dict(zip(RULES, plain, strict=True)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _text(value: Decimal | int) -> str | int:
    return format(value, "f") if isinstance(value, Decimal) else value


def limits_from_record(record: Mapping[str, Any]) -> GatewayLimits:
    """Return limits from what `GatewayLimits.record` gave.

    Raises:
        InputError: if a field is missing, unknown or out of range.
    """
    names = {item.name for item in dataclasses.fields(GatewayLimits)}
    wrong = sorted(names ^ set(record))
    if wrong:
        raise InputError(f"limits: {wrong[0]} is {'missing' if wrong[0] in names else 'no limit'}")
    try:
        return GatewayLimits(**record)
    except ValueError as error:
        raise InputError(f"limits: {error}") from None


def loosened(old: GatewayLimits, new: GatewayLimits) -> tuple[str, ...]:
    """Return the fields in which `new` allows what `old` refused."""
    return tuple(
        item.name
        for item in dataclasses.fields(GatewayLimits)
        if _looser(item.name, getattr(old, item.name), getattr(new, item.name))
    )


def tightest(old: GatewayLimits, new: GatewayLimits) -> GatewayLimits:
    """Return, field by field, the tighter of two: what is in force while a change waits."""
    looser = set(loosened(old, new))
    return GatewayLimits(
        **{
            item.name: getattr(old if item.name in looser else new, item.name)
            for item in dataclasses.fields(GatewayLimits)
        }
    )


def _looser(name: str, old: Decimal | int, new: Decimal | int) -> bool:
    return new < old if RULES[name].asks_for_more else new > old


RULES = {
    "max_quantity": Rule((1,), 0, False, 1_000_000_000),
    "max_order_adv": Rule((1,), 0, False, 1),
    "max_order_weight": Rule((2,), 0, False, 1),
    "max_collar": Rule((3,), 0, False, Decimal("0.2")),
    "max_collar_sigmas": Rule((3,), 0, False, 10),
    "max_quote_age_s": Rule((4,), 0, False, 3_600),
    "max_close_gap": Rule((4,), 0, False, Decimal("0.9")),
    "max_source_gap": Rule((4,), 0, False, Decimal("0.9")),
    "max_parent_adv": Rule((5,), 0, False, 1),
    "max_day_adv": Rule((5,), 0, False, 1),
    "max_weight": Rule((6,), 0, False, 1),
    "max_gross": Rule((7,), 0, False, 1),
    "max_net": Rule((7,), 0, False, 1),
    "max_multiplier": Rule((7,), 1, True, 4),
    "max_sector": Rule((8,), 0, False, 1),
    "min_cash": Rule((9,), 0, True, Decimal("0.99"), asks_for_more=True),
    "max_agent_weight": Rule((10,), 0, False, 1),
    "max_agent_gross": Rule((10,), 0, False, 1),
    "max_turnover_day": Rule((11,), 0, False, 2),
    "max_turnover_week": Rule((11,), 0, False, 10),
    "max_orders_per_name": Rule((12,), 1, True, 100),
    "max_orders_day": Rule((12,), 1, True, 10_000),
    "max_slices": Rule((12,), 1, True, 1_000),
    "max_slices_day": Rule((12,), 1, True, 100_000),
    "max_messages_second": Rule((13,), 1, True, 100),
    "max_messages_minute": Rule((13,), 1, True, 6_000),
    "max_failures": Rule((14,), 1, True, 100),
    "max_unknown_orders": Rule((14,), 0, True, 100),
    "max_short_weight": Rule((19,), 0, True, 1),
    "open_buffer_s": Rule((21,), 0, True, 7_200, asks_for_more=True),
    "close_buffer_s": Rule((21,), 0, True, 7_200, asks_for_more=True),
    "max_calendar_gap_s": Rule((21,), 0, True, 600),
    "max_position_jump": Rule((23,), 0, False, Decimal("0.9")),
    "max_day_loss": Rule((24,), 0, False, Decimal("0.9")),
    "max_drawdown": Rule((24,), 0, False, Decimal("0.9")),
    "clean_reads": Rule((24, 37), 1, True, 100, asks_for_more=True),
    "max_cancel_s": Rule((26,), 0, False, 60),
    "max_permit_s": Rule((29,), 0, False, 600),
    "quantity_decimals": Rule((30,), 0, True, 9),
    "max_weight_error": Rule((31,), 0, True, Decimal("0.001")),
    "max_weight_move": Rule((31,), 0, False, 2),
    "min_agents": Rule((32,), 1, True, 100, asks_for_more=True),
    "max_disagreement": Rule((32,), 0, False, 1),
    "decision_ttl_s": Rule((33,), 0, False, 86_400),
    "loosening_persons": Rule((35,), 2, True, 10, asks_for_more=True),
    "max_reconcile_age_s": Rule((36,), 0, False, 3_600),
    "max_snapshot_age_s": Rule((37,), 0, False, 3_600),
    "max_equity_jump": Rule((37,), 0, False, Decimal("0.9")),
    "max_equity_error": Rule((37,), 0, False, Decimal("0.9")),
    "clock_alert_s": Rule((38,), 0, False, 60),
    "max_clock_skew_s": Rule((38,), 0, False, 60),
}


def _typed(item: dataclasses.Field[Any], value: object) -> Decimal | int:
    """Return a limit in its own type.

    Raises:
        ValueError: if it is no finite number, or no whole one where a count is wanted.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise ValueError(f"{item.name} must be a number, was {value!r}")
    if item.type is int:
        if not isinstance(value, int):
            raise ValueError(f"{item.name} must be a whole number, was {value!r}")
        return value
    return exact(item.name, value)


def exact(name: str, value: object) -> Decimal:
    """Return a number of a configuration as the decimal that was written.

    Raises:
        ValueError: if it is no finite number.
    """
    try:
        number = Decimal(str(value))  # of a float, the shortest text that means it: 0.1 is 0.1
    except InvalidOperation:
        raise ValueError(f"{name} must be a number, was {value!r}") from None
    if not number.is_finite():
        raise ValueError(f"{name} must be a finite number, was {value!r}")
    return number
