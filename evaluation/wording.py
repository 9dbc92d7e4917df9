"""What a summary says, for people: a table of the books and a verdict in plain words."""

from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.books import ENSEMBLE, EQUAL_WEIGHT
from evaluation.contest import INDEX

Summary = Mapping[str, Any]  # the content of summary.json
Row = Mapping[str, float | None]

HEADER = ("", "Sharpe ± se", "CAGR", "volatility", "max DD", "turnover", "cost", "PSR")
TITLES = {
    INDEX: "index (price only, no costs)",
    EQUAL_WEIGHT: "equal weight (1/N)",
    "hrp": "hierarchical risk parity",
    "rl": "reinforcement learning",
}
CLEAR = 2.0  # standard errors from which on a ratio is called more than luck
PROMISE = (
    "What is promised is control of volatility and drawdown; a higher Sharpe ratio is not promised."
)


def number(value: float | None, pattern: str = "z.2f") -> str:
    """Return a formatted number, or a dash for what is undefined."""
    return "–" if value is None else format(value, pattern)


def title(name: str) -> str:
    """Return a book's or stage's name as people read it.

    >>> title("equal_weight"), title("buy_and_hold")
    ('equal weight (1/N)', 'buy and hold')
    """
    return TITLES.get(name, name.replace("_", " "))


def policies(summary: Summary) -> dict[str, Row]:
    """Return the rows of the ensemble and the agents; a single policy is its own ensemble."""
    ensemble = {} if summary["single_policy"] else {ENSEMBLE: summary[ENSEMBLE]}
    return {**ensemble, **summary["agents"]}


def ordered(summary: Summary) -> list[tuple[str, Row]]:
    """Return every book's row: policies, baselines by falling Sharpe ratio, the index."""
    first = policies(summary)
    baselines: dict[str, Row] = dict(summary["baselines"])
    baselines = {name: row for name, row in baselines.items() if name not in first}
    index = baselines.pop(INDEX, None)
    best_first = sorted(
        baselines.items(), key=lambda item: (item[1]["sharpe"] is None, -(item[1]["sharpe"] or 0.0))
    )
    last = [] if index is None else [(INDEX, index)]
    return [*first.items(), *best_first, *last]


def table(summary: Summary) -> str:
    """Return the out-of-sample table as aligned text."""
    rows = [HEADER, *(cells(name, row) for name, row in ordered(summary))]
    lines = aligned(rows)
    rule = "-" * max(map(len, lines))
    end = 1 + len(policies(summary))
    return "\n".join([lines[0], rule, *lines[1:end], rule, *lines[end:]])


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines of text with the first column on the left and the others on the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def cells(name: str, row: Row) -> tuple[str, ...]:
    """Return one line of the table, in the order of `HEADER`."""
    return (
        title(name),
        f"{number(row['sharpe'])} ± {number(row['sharpe_se'])}",
        number(row["cagr"], "z.1%"),
        number(row["volatility"], "z.1%"),
        number(row["max_drawdown"], "z.1%"),
        number(row["turnover_annual"]),
        number(row["cost_annual"], "z.2%"),
        number(row["psr"]),
    )


def verdict(summary: Summary) -> str:
    """Return what the numbers allow to be said, a paragraph a line, warnings and notes last."""
    notes = [f"{note[:1].upper()}{note[1:].rstrip('.')}." for note in summary["notes"]]
    return "\n".join([*verdict_paragraphs(summary), *warnings(summary), *notes])


def verdict_paragraphs(summary: Summary) -> list[str]:
    """Return the result, who beats which yardstick, what beta explains, and what is promised."""
    return [_result(summary), *_yardsticks(summary), *_hedged(summary), _control(summary)]


def warnings(summary: Summary) -> list[str]:
    """Return a sentence for every detector of degenerate policies that was set off."""
    return [
        f"Warning, {title(name)}: {finding['sentence']}"
        for name, findings in summary["degeneracy"].items()
        for finding in findings
        if finding["flagged"]
    ]


def _result(summary: Summary) -> str:
    row, (first, last) = summary[ENSEMBLE], summary["data"]["test"]
    return (
        f"Out of sample from {first} to {last}, net of costs, {subject(summary)} grew by "
        f"{number(row['cagr'], 'z.1%')} a year at {number(row['volatility'], 'z.1%')} volatility, "
        f"fell by {number(row['max_drawdown'], 'z.1%')} at worst and had a Sharpe ratio of "
        f"{number(row['sharpe'])} ± {number(row['sharpe_se'])} (standard error)."
    )


def subject(summary: Summary) -> str:
    """Return what the result is about, as people read it."""
    return title(next(iter(summary["agents"]))) if summary["single_policy"] else "the ensemble"


def _yardsticks(summary: Summary) -> list[str]:
    """Say who beats each yardstick, which needs an interval that excludes zero."""
    comparisons = summary["comparisons"]
    yardsticks = dict.fromkeys(name for rows in comparisons.values() for name in rows)
    return [_against(yardstick, comparisons) for yardstick in yardsticks]


def _against(yardstick: str, comparisons: Mapping[str, Mapping[str, Row]]) -> str:
    rows = {name: rows[yardstick] for name, rows in comparisons.items() if yardstick in rows}
    known = {name: row for name, row in rows.items() if row["difference"] is not None}
    whom = _yardstick_title(yardstick)
    if not known:
        return f"A book that does not vary has no Sharpe ratio and cannot be compared with {whom}."
    better = [name for name, row in known.items() if (row["low"] or 0.0) > 0.0]
    worse = [name for name, row in known.items() if (row["high"] or 0.0) < 0.0]
    shown = "; ".join(
        f"{title(name)} {number(row['difference'], '+z.2f')} "
        f"[{number(row['low'], '+z.2f')}, {number(row['high'], '+z.2f')}]"
        for name, row in known.items()
    )
    if better:
        says = f"{_listed(better)} {'beat' if len(better) > 1 else 'beats'} {whom}"
        says += ", before any allowance for having compared several policies"
    else:
        says = f"Nothing here beats {whom}"
    if worse:
        says += f"; {_listed(worse)} {'fall' if len(worse) > 1 else 'falls'} behind it"
    return (
        f"{says[0].upper()}{says[1:]}. Difference in Sharpe ratio with 95 % bootstrap interval: "
        f"{shown}."
    )


def _yardstick_title(name: str) -> str:
    if name == EQUAL_WEIGHT:
        return f"{title(name)} of the same universe"
    return f"the best volatility-targeted rule ({title(name)})"


def _hedged(summary: Summary) -> list[str]:
    """Say what is left of each policy once its beta to 1/N is hedged; nothing where undefined."""
    ratios: Mapping[str, Row] = summary["active_information_ratio"]
    known = {
        name: (row["value"], row["standard_error"])
        for name, row in ratios.items()
        if row["value"] is not None and row["standard_error"] is not None
    }
    if not known:
        return []
    clear = [name for name, (value, error) in known.items() if value > CLEAR * error]
    whom = _listed(clear) if clear else "no policy"
    verb = "earn" if len(clear) > 1 else "earns"
    allowance = ", before any allowance for having compared several policies" if clear else ""
    shown = "; ".join(
        f"{title(name)} {value:+z.2f} ± {error:z.2f}" for name, (value, error) in known.items()
    )
    return [
        f"With the beta to {title(EQUAL_WEIGHT)} hedged, {whom} {verb} an excess that is "
        f"{CLEAR:g} standard errors above zero{allowance}. Active information ratio ± standard "
        f"error: {shown}."
    ]


def _control(summary: Summary) -> str:
    """Compare the ensemble's volatility and drawdown with those of 1/N, either way."""
    own, other = summary[ENSEMBLE], summary["baselines"].get(EQUAL_WEIGHT)
    if other is None or None in (own["volatility"], other["volatility"]):
        return PROMISE
    return (
        f"{PROMISE} Volatility of {subject(summary)} was {own['volatility']:z.1%} against "
        f"{other['volatility']:z.1%} of equal weight, its deepest drawdown "
        f"{number(own['max_drawdown'], 'z.1%')} against {number(other['max_drawdown'], 'z.1%')}."
    )


def _listed(names: Sequence[str]) -> str:
    titles = [title(name) for name in names]
    return titles[0] if len(titles) == 1 else f"{', '.join(titles[:-1])} and {titles[-1]}"
