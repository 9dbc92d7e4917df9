import base64
import gzip
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from plotly.offline import get_plotlyjs

from evaluation.contest import Contest
from evaluation.report import SECTIONS, render, write_report
from evaluation.wording import verdict_paragraphs

LARGEST = 8e6  # bytes


class _Page(HTMLParser):
    """What a page refers to, its ids and the text of each of its elements with an id."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.links: list[str] = []
        self.ids: list[str] = []
        self.figures: list[str] = []
        self.text: dict[str, str] = {}
        self.words: list[str] = []
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.links += [v for k, v in attrs if k in ("src", "href", "srcset", "data") and v]
        self._inside = values.get("id") or "" if tag == "script" else ""
        if values.get("id"):
            self.ids.append(str(values["id"]))
        if values.get("class") == "figure":
            self.figures.append(str(values["id"]))

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.text[self._inside] = self.text.get(self._inside, "") + data
        else:
            self.words.append(data)


@pytest.fixture(scope="module")
def html(summary: dict[str, Any], contest: Contest) -> str:
    return render(summary, contest)


@pytest.fixture(scope="module")
def page(html: str) -> _Page:
    parsed = _Page()
    parsed.feed(html)
    return parsed


def test_the_report_has_every_section_and_begins_with_the_verdict(
    page: _Page, summary: dict[str, Any]
) -> None:
    words = " ".join(page.words)
    for anchor, (_, heading) in SECTIONS.items():
        assert anchor in page.ids and heading in words
    positions = [words.index(text) for text in verdict_paragraphs(summary)]
    assert positions == sorted(positions) and positions[-1] < words.index("Sharpe ± se")


def test_the_report_needs_no_network(html: str, page: _Page) -> None:
    assert page.links and all(link.startswith("#") for link in page.links)
    assert not re.search(r"@import|url\(", html)
    assert not re.search(r"https?://", html)


def test_the_library_is_in_the_page_once_and_whole(page: _Page) -> None:
    packed = base64.b64decode(page.text["plotly"])
    assert gzip.decompress(packed).decode() == get_plotlyjs()


def test_every_figure_has_its_place(page: _Page, contest: Contest) -> None:
    content = json.loads(page.text["figures"])
    figures = content["figures"]
    assert sorted(figures) == sorted(page.figures)
    assert len(figures) == 1 + len(contest.policies)
    weights = figures["figure-weights-0"]["data"]
    assert [trace["name"] for trace in weights][-1] == "CASH"
    assert {trace["name"] for trace in weights} == {*contest.symbols, "CASH"}
    daily = [str(date) for date in contest.book("ensemble").dates]
    first = figures["figure-curves"]["data"][-1]
    assert first["legendgroup"] == "ensemble" and content["dates"][first["x"]] == daily


def test_baselines_but_equal_weight_are_hidden_at_first(page: _Page, contest: Contest) -> None:
    traces = json.loads(page.text["figures"])["figures"]["figure-curves"]["data"]
    shown = {trace["legendgroup"] for trace in traces if trace["visible"] is True}
    assert shown == {*contest.policies, "equal_weight"}
    assert len(traces) == 2 * (len(contest.names) + 1)


def test_what_came_from_outside_is_escaped(html: str) -> None:
    assert "tercet train &lt;script&gt;" in html and "tercet train <script>" not in html
    assert "&lt;F&amp;F&gt;" in html and "<F&F>" not in html


def test_the_report_is_one_small_file(
    summary: dict[str, Any], contest: Contest, tmp_path: Path
) -> None:
    write_report(tmp_path / "run" / "report.html", summary, contest)
    entries = list((tmp_path / "run").iterdir())
    assert [entry.name for entry in entries] == ["report.html"]
    assert entries[0].stat().st_size < LARGEST


def test_the_same_run_gives_the_same_report(
    html: str, summary: dict[str, Any], contest: Contest
) -> None:
    assert render(summary, contest) == html
