"""`report.html`: one file that opens without a network and says first, in words, what was found."""

import base64
import gzip
import json
import os
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from evaluation import doubt_sections, figures, markup, sections
from evaluation.contest import Contest
from evaluation.wording import Summary, title

SECTIONS = {  # anchor: entry in the menu, heading
    "verdict": ("Verdict", "In plain words"),
    "results": ("Out of sample", "Out of sample"),
    "curves": ("Growth", "Growth and drawdown"),
    "weights": ("Weights", "Weights over time"),
    "months": ("Months", "Monthly returns"),
    "costs": ("Costs", "Under other costs"),
    "regimes": ("Regimes", "By market regime"),
    "risk": ("Measures", "All measures"),
    "stages": ("Learning", "What learning added"),
    "doubts": ("Doubts", "Luck, timing or one stock?"),
    "holdings": ("Holdings", "What each agent holds, and why it is not 1/N"),
    "data": ("Data and run", "Data and run"),
}

# The library is unpacked in the browser: a third of the size, and no address in plain text that a
# scanner could mistake for something to fetch.
SCRIPT = """
(async () => {
  const packed = document.getElementById("plotly").textContent;
  const bytes = Uint8Array.from(atob(packed), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const library = document.createElement("script");
  library.textContent = await new Response(stream).text();
  document.head.appendChild(library);
  const { dates, figures } = JSON.parse(document.getElementById("figures").textContent);
  const options = { displaylogo: false, responsive: true, plotlyServerURL: "",
    modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"] };
  const draw = (place) => {
    const { data, layout } = figures[place.id];
    for (const trace of data) trace.x = dates[trace.x];
    Plotly.newPlot(place, data, layout, options);
  };
  for (const place of document.querySelectorAll(".figure")) {
    const folded = place.closest("details:not([open])");
    if (folded) folded.addEventListener("toggle", () => draw(place), { once: true });
    else draw(place);
  }
})();
"""


def write_report(path: Path, summary: Summary, contest: Contest) -> None:
    """Write the report under another name first, so that a reader never sees half a file."""
    page = render(summary, contest)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(page, encoding="utf-8")
    part.replace(path)


def render(summary: Summary, contest: Contest) -> str:
    """Return the whole page.

    Args:
        summary: what `evaluation.summary.build` returned.
        contest: the books it was built from.
    """
    drawn: dict[str, go.Figure] = {"figure-curves": figures.growth_and_drawdown(contest)}
    policies = contest.policies
    for number, name in enumerate(policies):
        drawn[f"figure-weights-{number}"] = figures.weights(contest, name)
    bodies = {
        "verdict": sections.verdict(summary),
        "results": sections.results(summary),
        "curves": _place("figure-curves"),
        "weights": markup.legend(figures.name_colours(contest))
        + "".join(
            markup.fold(title(name), _place(f"figure-weights-{number}"), opened=True)
            for number, name in enumerate(policies)
        ),
        "months": sections.months(contest),
        "costs": sections.costs(summary),
        "regimes": sections.regimes(summary),
        "risk": sections.risk(summary),
        "stages": sections.stages(summary),
        "doubts": doubt_sections.doubts(summary),
        "holdings": doubt_sections.holdings(summary),
        "data": sections.data(summary),
    }
    return _page(summary, bodies, drawn)


def _place(name: str) -> str:
    return f'<div class="figure" id="{name}"></div>'


def _shared_dates(drawn: Mapping[str, go.Figure]) -> dict[str, Any]:
    """Return the figures with each distinct axis of dates written once; a trace has its number."""
    numbers: dict[tuple[str, ...], int] = {}
    plain = {name: json.loads(figure.to_json()) for name, figure in drawn.items()}
    for figure in plain.values():
        for trace in figure["data"]:
            trace["x"] = numbers.setdefault(tuple(trace["x"]), len(numbers))
    return {"dates": list(numbers), "figures": plain}


def _page(summary: Summary, bodies: Mapping[str, str], drawn: Mapping[str, go.Figure]) -> str:
    heading = f"Tercet run {summary['run_id']}"
    links = "".join(f'<a href="#{key}">{escape(text)}</a>' for key, (text, _) in SECTIONS.items())
    body = "".join(markup.section(key, text, bodies[key]) for key, (_, text) in SECTIONS.items())
    css = (files("evaluation") / "report.css").read_text(encoding="utf-8")
    library = base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()
    data = json.dumps(_shared_dates(drawn))
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(heading)}</title><style>{css}</style></head>
<body><header><h1>{escape(heading)}</h1>{sections.meta(summary)}</header>
<nav><div>{links}</div></nav>
<main>{body}</main>
<footer>{escape(sections.ORIGIN)}</footer>
<script type="application/json" id="figures">{data.replace("<", chr(92) + "u003c")}</script>
<script type="application/gzip" id="plotly">{library}</script>
<script>{SCRIPT}</script>
</body></html>
"""
