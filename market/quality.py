"""The gate every record of bars passes: a defect is refused or masked, and always named.

What is masked at a session depends on that session and earlier ones only, so the gate does not
carry the future into the past. Faults of the record itself are refused whatever the action:
sessions out of order, a session twice, an infinite price.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np

from market import defects
from market.bars import Bars, BoolArray, DateArray
from market.errors import InputError
from market.suggest import nearest

logger = logging.getLogger(__name__)

EVERY_SYMBOL = "every symbol"


class QualityAction(Enum):
    """What happens to a record with a defect."""

    refuse = "refuse"
    mask = "mask"


@dataclass(slots=True)
class QualityRules:
    """What the gate does, and from where on a value is a defect.

    Args:
        action: refuse the record, or mask the cells.
        mask_only: rules that mask even under refuse, because real markets break them every day.
        range_tolerance: fraction by which low may exceed, or high fall short of, open and close:
            prices stored in 32 bits are rounded, in (0, 1).
        split_tolerance: a jump in excess of the other symbols that is this close (fraction) to a
            whole split factor is an unadjusted split, in (0, 1).
        small_split_tolerance: likewise for 3/2; narrow, since stocks do lose a third in a day.
        stale_sessions: this many closes in a row equal to the one before them are a feed that
            hangs, >= 1.
        extreme_ratio: a close this many times the previous one, or this many times smaller, is
            an error, > 1.
    """

    action: QualityAction
    mask_only: list[str]
    range_tolerance: float
    split_tolerance: float
    small_split_tolerance: float
    stale_sessions: int
    extreme_ratio: float

    def __post_init__(self) -> None:
        for name in ("range_tolerance", "split_tolerance", "small_split_tolerance"):
            if not 0.0 < getattr(self, name) < 1.0:
                raise ValueError(f"quality.{name} must be in (0, 1), was {getattr(self, name)}")
        if not self.stale_sessions >= 1:
            raise ValueError(f"quality.stale_sessions must be >= 1, was {self.stale_sessions}")
        if not self.extreme_ratio > 1.0:
            raise ValueError(f"quality.extreme_ratio must be above 1, was {self.extreme_ratio}")
        for name in self.mask_only:
            if name not in RULES:
                raise ValueError(f"quality.mask_only: no rule {name!r}{nearest(name, RULES)}")


@dataclass(frozen=True, slots=True)
class Finding:
    """One defect: a run of sessions of one symbol that break one rule.

    Args:
        rule: a name in `RULES`.
        symbol: the symbol, or `EVERY_SYMBOL`.
        date: the first session of the run.
        sessions: the length of the run.
        detail: what is wrong, with the values of the first session.
    """

    rule: str
    symbol: str
    date: np.datetime64
    sessions: int
    detail: str

    def __str__(self) -> str:
        return f"{self.symbol} {self.date}: {self.rule}: {self.detail}"


def apply(bars: Bars, rules: QualityRules, calendar: DateArray) -> tuple[Bars, list[Finding]]:
    """Return the checked record and everything that was found in it.

    Args:
        bars: as the source made it.
        rules: action and thresholds.
        calendar: (S,) sessions of the exchange, at least from the first to the last of the record.

    Returns:
        The record on the sessions of the calendar, with the defects masked and a note that counts
        them, and one finding per defect.

    Raises:
        InputError: if dates are unsorted or repeated or a price is infinite; under refuse at any
            finding of a rule that is not in `mask_only`. Names symbol, date and rule.
    """
    _refuse_broken_structure(bars, calendar)
    bars, findings = _without_strange_sessions(bars, calendar)
    for name, rule in CELL_RULES.items():
        mask = rule.broken(bars, rules)
        if mask.any():
            findings += _findings(name, rule.detail, mask, bars)
            bars = rule.masked(bars, mask)
    bars, missing = _with_missing_sessions(bars, calendar)
    findings += missing
    refused = [finding for finding in findings if finding.rule not in rules.mask_only]
    if refused and rules.action is QualityAction.refuse:
        raise InputError(f"{refused[0]}; quality=refuse found {_summary(refused)}")
    if findings:
        summary = f"quality masked {_summary(findings)}"
        logger.warning(summary)
        bars = replace(bars, notes=(*bars.notes, summary))
    return bars, findings


def _summary(findings: list[Finding]) -> str:
    """Return the sessions each rule concerns, with its first example, on one line."""
    parts = []
    for rule in dict.fromkeys(finding.rule for finding in findings):
        found = [finding for finding in findings if finding.rule == rule]
        count = sum(finding.sessions for finding in found)
        parts.append(f"{rule} {count} (first {found[0].symbol} {found[0].date})")
    return ", ".join(parts)


# -- the record as a whole ------------------------------------------------------------------------


def _refuse_broken_structure(bars: Bars, calendar: DateArray) -> None:
    step = np.diff(bars.dates).astype(np.int64)
    for rule, broken in (("unsorted", step < 0), ("duplicate", step == 0)):
        if broken.any():
            date = bars.dates[1:][broken][0]
            raise InputError(f"{EVERY_SYMBOL} {date}: {rule}: sessions must strictly increase")
    if not np.isin(bars.dates, calendar).any():
        raise InputError(f"{EVERY_SYMBOL} {bars.dates[0]}: off_calendar: no date is a session")
    for field in bars.fields:
        infinite = np.isinf(getattr(bars, field))
        if infinite.any():
            row, column = np.argwhere(infinite)[0]
            where = f"{bars.symbols[column]} {bars.dates[row]}"
            raise InputError(f"{where}: infinite: {field} is not a finite number")


def _without_strange_sessions(bars: Bars, calendar: DateArray) -> tuple[Bars, list[Finding]]:
    """Drop the days on which the exchange has no session."""
    strange = ~np.isin(bars.dates, calendar)
    findings = []
    for row in np.flatnonzero(strange):
        priced = np.flatnonzero(np.isfinite(bars.close[row]))
        symbol = bars.symbols[priced[0]] if len(priced) == 1 else EVERY_SYMBOL
        detail = "the exchange has no session"
        findings.append(Finding("off_calendar", symbol, bars.dates[row], 1, detail))
    return (_on_dates(bars, bars.dates[~strange]) if findings else bars), findings


def _with_missing_sessions(bars: Bars, calendar: DateArray) -> tuple[Bars, list[Finding]]:
    """Add an empty session for each one that the record skips."""
    within = calendar[(calendar >= bars.dates[0]) & (calendar <= bars.dates[-1])]
    findings = [
        Finding("missing_session", EVERY_SYMBOL, date, 1, "the record skips the session")
        for date in np.setdiff1d(within, bars.dates, assume_unique=True)
    ]
    return (_on_dates(bars, within) if findings else bars), findings


def _on_dates(bars: Bars, dates: DateArray) -> Bars:
    """Return the record on other dates; new rows are empty, and listed where their neighbours are.

    Args:
        bars: the record.
        dates: (T2,) increasing, from its first to its last session at most.
    """
    before = np.searchsorted(bars.dates, dates, side="right") - 1
    after = np.searchsorted(bars.dates, dates, side="left")
    present = np.isin(dates, bars.dates)
    changed: dict[str, Any] = {
        name: np.where(present[:, None], getattr(bars, name)[before], np.nan)
        for name in bars.fields
    }
    changed["series"] = {
        name: np.where(present, values[before], np.nan) for name, values in bars.series.items()
    }
    return replace(
        bars,
        dates=dates,
        listed=bars.listed[before] & bars.listed[after],
        tradable=bars.tradable[before] & present[:, None],
        **changed,
    )


# -- what masking a cell does ---------------------------------------------------------------------


def _without_price(bars: Bars, mask: BoolArray) -> Bars:
    emptied: dict[str, Any] = {
        name: np.where(mask, np.nan, getattr(bars, name)) for name in bars.fields
    }
    return replace(bars, tradable=bars.tradable & ~mask, **emptied)


def _without_trade(bars: Bars, mask: BoolArray) -> Bars:
    """Keep the price: it values what is held."""
    return replace(bars, tradable=bars.tradable & ~mask)


def _without_listing(bars: Bars, mask: BoolArray) -> Bars:
    """Take the symbol out of the universe at its last good price, for as long as it lasts.

    Whether it will ever come back is not known at the time.
    """
    return replace(
        _without_price(bars, mask),
        listed=bars.listed & ~mask,
        terminal_return=np.where(mask.any(axis=0), 0.0, bars.terminal_return),
    )


def _findings(name: str, detail: str, mask: BoolArray, bars: Bars) -> list[Finding]:
    """Return one finding per run, in the order of dates."""
    edge = np.diff(np.pad(mask, ((1, 1), (0, 0))).astype(np.int8), axis=0).T
    columns, starts = np.nonzero(edge == 1)
    stops = np.nonzero(edge == -1)[1]
    return [
        Finding(
            name,
            bars.symbols[columns[run]],
            bars.dates[starts[run]],
            int(stops[run] - starts[run]),
            f"{detail} ({_values(bars, int(starts[run]), int(columns[run]))})",
        )
        for run in np.lexsort((columns, starts))
    ]


def _values(bars: Bars, row: int, column: int) -> str:
    values = {name: getattr(bars, name)[row, column] for name in bars.fields}
    if row > 0:
        values = {"previous close": bars.close[row - 1, column], **values}
    return ", ".join(f"{name} {value:g}" for name, value in values.items())


@dataclass(frozen=True, slots=True)
class _CellRule:
    broken: Callable[[Bars, QualityRules], BoolArray]
    masked: Callable[[Bars, BoolArray], Bars]
    detail: str


CELL_RULES = {
    "missing_session": _CellRule(
        lambda bars, _: defects.missing(bars), _without_price, "no values inside the listing"
    ),
    "nan_price": _CellRule(
        lambda bars, _: defects.nan_price(bars), _without_price, "NaN price inside the listing"
    ),
    "non_positive": _CellRule(
        lambda bars, _: defects.non_positive(bars), _without_price, "price is not above 0"
    ),
    "high_low": _CellRule(
        lambda bars, rules: defects.high_low(bars, rules.range_tolerance),
        _without_price,
        "open or close outside low to high",
    ),
    "zero_volume": _CellRule(
        lambda bars, _: defects.zero_volume(bars), _without_trade, "nothing was traded"
    ),
    "split": _CellRule(
        lambda bars, rules: defects.rescaled(
            bars, rules.split_tolerance, rules.small_split_tolerance
        ),
        _without_listing,
        "jump like an unadjusted split without a move of the market",
    ),
    "extreme_move": _CellRule(
        lambda bars, rules: defects.extreme(bars, rules.extreme_ratio),
        _without_price,
        "jump beyond extreme_ratio",
    ),
    "stale_run": _CellRule(
        lambda bars, rules: defects.stale(bars, rules.stale_sessions),
        _without_trade,
        "close unchanged too long",
    ),
}
"""Rules on cells in the order they are applied: each sees what the ones before have masked."""

RULES = ("off_calendar", *CELL_RULES)
"""The names of all rules that can mask."""
