"""The report's sections for a sceptic: what else could explain the result, and what is held."""

from collections.abc import Mapping, Sequence
from typing import Any

from evaluation import markup
from evaluation.books import ENSEMBLE, EQUAL_WEIGHT
from evaluation.sections import PERCENT
from evaluation.wording import Row, Summary, number, policies, subject, title

LEGEND = (
    "The active information ratio is what the beta to monthly 1/N of the same universe leaves of a "
    "book, over its volatility; se is its standard error. In training it is in sample, over the "
    "last ten years of the training window at most, and only of policies that were trained.",
    "Average weights are those that the policy itself held on average in the test window, restored "
    "every month. They are hindsight, so no rival; what the policy has over them is what its "
    "timing added, with a 95 % bootstrap interval.",
)


def doubts(summary: Summary) -> str:
    """Return Sharpe ratios with timing, beta, training data or one stock taken away."""
    without = summary["without_best_stock"]
    names = list(dict.fromkeys((*policies(summary), EQUAL_WEIGHT)))
    header = ["", "Sharpe", "active IR ± se", "in training", "average weights, Sharpe"]
    header += ["timing adds to Sharpe"]
    header += [] if without is None else [f"Sharpe without {without['symbol']}"]
    rows = []
    for name in names:
        row = [title(name), *_doubted(name, summary)]
        if without is not None:
            row.append(number(without["sharpe"][name]["without"]))
        rows.append(row)
    sentences = [] if without is None else [_stock(without, summary)]
    return "".join(
        [
            markup.table(header, rows, emphasised=[0]),
            *(markup.paragraph(text) for text in sentences),
            *(markup.paragraph(text, "soft") for text in LEGEND),
        ]
    )


def _doubted(name: str, summary: Summary) -> list[str]:
    """Return one book's cells; the yardstick has no more than its Sharpe ratio."""
    row = policies(summary).get(name)
    if row is None:
        return [number(summary["baselines"][name]["sharpe"]), "–", "–", "–", "–"]
    ratio = summary["active_information_ratio"][name]
    still = summary["average_weights"][name]
    return [
        number(row["sharpe"]),
        f"{number(ratio['value'])} ± {number(ratio['standard_error'])}",
        number(ratio["in_training"]),
        number(still["sharpe"]),
        f"{number(still['difference'], '+z.2f')} "
        f"[{number(still['low'], '+z.2f')}, {number(still['high'], '+z.2f')}]",
    ]


def _stock(without: Mapping[str, Any], summary: Summary) -> str:
    """Say how much of the result is one stock, and what is left without it."""
    symbol, share = without["symbol"], without["share_of_gain"]
    ratios: Mapping[str, Row] = without["sharpe"]
    first = next(iter(ratios))
    equal = (
        ""
        if first == EQUAL_WEIGHT
        else (
            f"; that of {title(EQUAL_WEIGHT)} goes from {number(ratios[EQUAL_WEIGHT]['with'])} to "
            f"{number(ratios[EQUAL_WEIGHT]['without'])}"
        )
    )
    part = "" if share is None else f", with {number(share, PERCENT)} of its gain before costs"
    return (
        f"The stock that did most for {subject(summary)} is {symbol}{part}. Where it cannot be "
        f"held, the Sharpe ratio goes from {number(ratios[first]['with'])} to "
        f"{number(ratios[first]['without'])}{equal}. The stock is chosen with hindsight."
    )


def holdings(summary: Summary) -> str:
    """Return what each policy holds against its base, and what the detectors saw."""
    parts = []
    for name, held in summary["holdings"].items():
        findings = summary["degeneracy"][name]
        flagged = [finding["sentence"] for finding in findings if finding["flagged"]]
        calm = [finding["sentence"] for finding in findings if not finding["flagged"]]
        body = [
            markup.paragraph(_held(name, held, summary)),
            f'<div class="pair">{_names("largest overweights", held["over"])}'
            f"{_names('largest underweights', held['under'])}</div>",
            markup.items(flagged, "warnings") if flagged else "",
            markup.items(calm, "notes"),
        ]
        parts.append(markup.fold(title(name), "".join(body), opened=True))
    return "".join(parts)


def _held(name: str, held: Mapping[str, Any], summary: Summary) -> str:
    row = summary[ENSEMBLE] if name == ENSEMBLE else summary["agents"][name]
    return (
        f"Held {number(held['mean_cash'], PERCENT)} cash on average and the equivalent of "
        f"{number(row['effective_positions'], 'z.1f')} equal positions; its beta to 1/N was "
        f"{number(row['beta'])} and {number(row['active_share_vs_equal_weight'], PERCENT)} of the "
        f"book differed from it, cash included. Below, shares of what is invested, against the "
        f"portfolio that the book tilts from."
    )


def _names(heading: str, rows: Sequence[Mapping[str, Any]]) -> str:
    return markup.table(
        (heading, "mean weight", "difference"),
        [
            (row["symbol"], number(row["weight"], "z.2%"), number(row["difference"], "+z.2%"))
            for row in rows
        ],
    )
