"""The sections of the report, as HTML made from the summary."""

from collections.abc import Mapping
from typing import Any

from evaluation import markup
from evaluation.books import ENSEMBLE
from evaluation.contest import Contest
from evaluation.markup import Cell
from evaluation.metrics import METRICS, monthly_returns
from evaluation.wording import (
    HEADER,
    Row,
    Summary,
    cells,
    number,
    ordered,
    title,
    verdict_paragraphs,
    warnings,
)

ORIGIN = "Past results on a sample of one history. Not investment advice."
FEW_SESSIONS = 63  # a quarter: a regime seen for less says little
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
FULL_COLOUR = 0.10  # monthly return at which a cell has its strongest colour
GAIN, LOSS = (46, 139, 87), (200, 75, 60)

PERCENT = "z.1%"
MEASURES: dict[str, tuple[str, str]] = {
    "cagr": ("growth a year (CAGR)", PERCENT),
    "volatility": ("volatility a year", PERCENT),
    "sharpe": ("Sharpe ratio", "z.2f"),
    "sharpe_se": ("its standard error", "z.2f"),
    "psr": ("PSR: chance that the true Sharpe is > 0", "z.3f"),
    "sortino": ("Sortino ratio", "z.2f"),
    "calmar": ("Calmar ratio", "z.2f"),
    "max_drawdown": ("deepest drawdown", PERCENT),
    "var_95": ("value at risk, 95 %, a day", "z.2%"),
    "cvar_95": ("expected shortfall, 95 %, a day", "z.2%"),
    "turnover_annual": ("turnover a year, buys + sells", "z.2f"),
    "cost_annual": ("cost a year", "z.2%"),
    "win_rate": ("days with a gain", PERCENT),
    "profit_factor": ("profit factor of daily returns", "z.2f"),
    "beta": ("beta to 1/N", "z.2f"),
    "correlation": ("correlation with 1/N", "z.2f"),
    "effective_positions": ("effective number of positions", "z.1f"),
    "active_share_vs_equal_weight": ("active share against 1/N", PERCENT),
}


def meta(summary: Summary) -> str:
    """Return the line below the title."""
    data = summary["data"]
    return markup.paragraph(
        f"{len(data['symbols'])} assets of {data['source']}, trained {data['train'][0]} to "
        f"{data['train'][1]}, tested {data['test'][0]} to {data['test'][1]}; "
        f"commit {summary['commit'][:12]}, seed {number(summary['seed'], 'd')}",
        "meta",
    )


def verdict(summary: Summary) -> str:
    """Return the words, the ensemble's main numbers and the warnings."""
    row = summary[ENSEMBLE]
    shown = {
        "growth a year": number(row["cagr"], PERCENT),
        "volatility": number(row["volatility"], PERCENT),
        "deepest drawdown": number(row["max_drawdown"], PERCENT),
        "Sharpe ratio ± s.e.": f"{number(row['sharpe'])} ± {number(row['sharpe_se'])}",
        "turnover a year": number(row["turnover_annual"]),
        "cost a year": number(row["cost_annual"], "z.2%"),
    }
    cards = "".join(
        f'<div class="card"><b>{value}</b><span>{label}</span></div>'
        for label, value in shown.items()
    )
    first, *others = verdict_paragraphs(summary)
    flagged = warnings(summary)
    return "".join(
        [
            markup.paragraph(first, "lead"),
            f'<div class="cards">{cards}</div>',
            *(markup.paragraph(text) for text in others),
            markup.items(flagged, "warnings") if flagged else "",
            markup.items(summary["notes"], "notes"),
        ]
    )


def results(summary: Summary) -> str:
    """Return the table of all books."""
    rows = [cells(name, row) for name, row in ordered(summary)]
    return markup.table(HEADER, rows, emphasised=[0]) + markup.paragraph(
        "Net of costs. DD is drawdown, se the standard error, PSR the probability that the true "
        "Sharpe ratio is above zero. Turnover counts buys and sells, in NAVs a year.",
        "soft",
    )


def months(contest: Contest) -> str:
    """Return a calendar of monthly returns for the ensemble and each agent."""
    return "".join(
        markup.fold(title(name), _calendar(contest, name), opened=name == contest.policies[0])
        for name in contest.policies
    )


def _calendar(contest: Contest, name: str) -> str:
    returns = monthly_returns(contest.book(name))
    rows: list[list[str | Cell]] = []
    for year in sorted({year for year, _ in returns}):
        of_year = [returns.get((year, month)) for month in range(1, 13)]
        total = 1.0
        for value in of_year:
            total *= 1.0 + (value or 0.0)
        rows.append([str(year), *map(_month, of_year), _month(total - 1.0, strong=True)])
    return markup.table(("year", *MONTHS, "year's total"), rows)


def _month(value: float | None, strong: bool = False) -> Cell:
    if value is None:
        return Cell("")
    scale = FULL_COLOUR * (3.0 if strong else 1.0)
    red, green, blue = GAIN if value >= 0.0 else LOSS
    opacity = 0.55 * min(abs(value) / scale, 1.0)
    return Cell(number(value, PERCENT), f"rgba({red},{green},{blue},{opacity:.2f})")


def costs(summary: Summary) -> str:
    """Return Sharpe ratio and growth of every book at each cost scale."""
    scales = summary["cost_sensitivity"]
    header = [
        "",
        *(f"Sharpe ×{scale}" for scale in scales),
        *(f"CAGR ×{scale}" for scale in scales),
    ]
    rows = []
    for name, _ in ordered(summary):
        if all(name in books for books in scales.values()):
            every = [books[name] for books in scales.values()]
            ratios = [number(row["sharpe"]) for row in every]
            rows.append([title(name), *ratios, *(number(row["cagr"], PERCENT) for row in every)])
    model = ", ".join(
        f"{key.replace('_', ' ')} {value:g}" for key, value in summary["costs"].items()
    )
    return markup.table(header, rows, emphasised=[0]) + markup.paragraph(
        f"The whole cost model is multiplied; ×1 is {model}.", "soft"
    )


def regimes(summary: Summary) -> str:
    """Return mean return and volatility in the sessions decided in each regime."""
    books: Mapping[str, Mapping[str, Row]] = summary["regimes"]
    names = list(dict.fromkeys(regime for rows in books.values() for regime in rows))
    rows: list[list[str | Cell]] = []
    for regime in names:
        sessions = int(next(iter(books.values()))[regime]["sessions"] or 0)
        few = sessions < FEW_SESSIONS
        by_book = [
            "–"
            if few
            else f"{number(of_book[regime]['mean_annual'], PERCENT)} / "
            f"{number(of_book[regime]['volatility'], PERCENT)}"
            for of_book in books.values()
        ]
        rows.append([regime, str(sessions), *by_book])
    return markup.table(["", "sessions", *map(title, books)], rows) + markup.paragraph(
        "Mean return a year / volatility. The regime is the one known at the decision; fewer than "
        f"{FEW_SESSIONS} sessions are too few to show.",
        "soft",
    )


def risk(summary: Summary) -> str:
    """Return every measure of every book."""
    books = ordered(summary)
    rows = [
        [MEASURES[name][0], *(number(row[name], MEASURES[name][1]) for _, row in books)]
        for name in METRICS
    ]
    return markup.table(["", *(title(name) for name, _ in books)], rows)


def stages(summary: Summary) -> str:
    """Return rule, warm start and reinforcement learning side by side for each agent."""
    if not summary["stages"]:
        return markup.paragraph(
            "Nothing was trained in this run: every policy here is a rule or was trained before."
        )
    rows: list[list[str | Cell]] = []
    chosen = []
    for agent, of_agent in summary["stages"].items():
        for row in of_agent:
            if row["chosen"]:
                chosen.append(len(rows))
            _, *numbers = cells(agent, row)
            mark = "✓" if row["chosen"] else ""
            stage = f"{title(agent)}: {title(row['stage'])}"
            rows.append([stage, mark, *numbers, Cell(row["decision"], css="text")])
    return markup.table(["", "kept", *HEADER[1:], "inner validation"], rows, chosen) + (
        markup.paragraph(
            "All stages are shown on the test window; which one is kept was decided on data before "
            "it.",
            "soft",
        )
    )


def data(summary: Summary) -> str:
    """Return where everything came from and how to run it again."""
    record = summary["data"]
    adv = summary["assumed_adv"]
    rows = [
        ("source", record["source"]),
        ("symbols", ", ".join(record["symbols"])),
        ("fields", ", ".join(record["fields"])),
        ("training window", " to ".join(record["train"])),
        ("test window", " to ".join(record["test"])),
        ("test window read", _reading(summary["test_window"])),
        ("sha256 of the data", record["sha256"]),
        ("commit", summary["commit"]),
        ("seed", number(summary["seed"], "d")),
        ("command", summary["command"]),
        ("starting capital of each book", number(summary["capital"], ",.0f")),
        ("cash rate", number(summary["cash_rate"], "z.2%")),
        ("daily traded value", "as measured" if adv is None else f"assumed: {adv}"),
        ("configurations compared", number(summary["trials"], "d")),
        ("seconds", ", ".join(f"{name} {value:.1f}" for name, value in summary["seconds"].items())),
        ("artefact", summary["artefact"] or "–"),
    ]
    return markup.table(("", ""), [(name, Cell(value, css="text")) for name, value in rows])


def _reading(opening: Mapping[str, Any]) -> str:
    earlier = opening["earlier_readings"]
    return f"{opening['opened']}, after {earlier} earlier readings by the runs beside this one"
