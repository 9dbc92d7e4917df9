"""The report's figures. Everything is drawn from books at cost scale 1."""

from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from evaluation.books import ENSEMBLE, EQUAL_WEIGHT, Book
from evaluation.contest import Contest
from evaluation.wording import title
from market.bars import DateArray, FloatArray
from risk import measures

CASH = "CASH"
OTHERS = "others"
INK, GRID, CASH_COLOUR = "#1f2933", "#e8ebef", "#e3e7ec"
AGENT_COLOURS = ("#0f8b8d", "#3066be", "#d9652b", "#8f4fbf", "#5b8c2a", "#b23a6b")
YARDSTICK_COLOUR, BASELINE_COLOUR = "#6b7785", "#b9c1ca"
ASSET_COLOURS = (  # of more names than these, the smallest are drawn as one, "others"
    *("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#edc948", "#b07aa1", "#9c755f"),
    *("#a0cbe8", "#ffbe7d", "#8cd17d", "#ff9d9a", "#86bcb6", "#f1ce63", "#d4a6c8", "#d7b5a6"),
    *("#35608f", "#b6992d", "#499894", "#d37295"),
)


def colour_of(contest: Contest, name: str) -> str:
    """Return the colour that a book has in every figure."""
    if name == ENSEMBLE:
        return INK
    if name in contest.agents:
        return AGENT_COLOURS[contest.agents.index(name) % len(AGENT_COLOURS)]
    return YARDSTICK_COLOUR if name == EQUAL_WEIGHT else BASELINE_COLOUR


def drawn(contest: Contest) -> dict[str, go.Figure]:
    """Return every figure of the report by name."""
    by_policy = {f"weights-{name}": weights(contest, name) for name in contest.policies}
    return {"curves": growth_and_drawdown(contest), **by_policy}


def growth_and_drawdown(contest: Contest) -> go.Figure:
    """Return the growth of one unit of capital (logarithmic) above the fall from its peak."""
    figure = make_subplots(2, 1, shared_xaxes=True, row_heights=[0.64, 0.36], vertical_spacing=0.04)
    _style(figure, height=700)
    for book in _back_to_front(contest):
        growth, fall = book.nav / book.nav[0], -measures.drawdown(book.nav)
        _add_line(figure, contest, book, growth, {"row": 1, "hovertemplate": "%{y:.2f}"})
        below = {"row": 2, "hovertemplate": "%{y:.1%}", "showlegend": False}
        _add_line(figure, contest, book, fall, below)
    figure.update_yaxes(row=1, type="log", title="growth of 1", dtick="D2", tickformat=".2~f")
    figure.update_yaxes(row=2, title="fall from peak", tickformat=".0%")
    return figure


def weights(contest: Contest, name: str) -> go.Figure:
    """Return a book's weights as a stack, by week, with cash on top."""
    book = contest.book(name)
    rows = _last_of_each_week(book.dates)
    figure = _style(go.Figure(), height=300)
    held = book.weights[rows]
    dates = book.dates[rows].astype(str)
    colours = name_colours(contest)
    columns = [contest.symbols.index(symbol) for symbol in colours if symbol in contest.symbols]
    areas = {contest.symbols[column]: held[:, column] for column in columns}
    if OTHERS in colours:
        areas[OTHERS] = np.delete(held, columns, axis=1).sum(axis=1)
    areas[CASH] = np.maximum(1.0 - held.sum(axis=1), 0.0)
    for label, values in areas.items():
        figure.add_scatter(
            x=dates,
            y=values.astype(np.float32),
            name=label,
            stackgroup="weights",
            mode="lines",
            line={"width": 0, "color": colours[label]},
            fillcolor=colours[label],
            hovertemplate="%{y:.1%}",
        )
    figure.update_yaxes(tickformat=".0%", range=[0.0, 1.0])
    figure.update_layout(showlegend=False, hovermode="x", hoverlabel={"namelength": -1})
    return figure


def name_colours(contest: Contest) -> dict[str, str]:
    """Return the colour of each name that is drawn by itself, of the others and of cash.

    The names are those with the largest mean weight in the first policy, the same everywhere.
    """
    means = contest.book(contest.policies[0]).weights.mean(axis=0)
    order = np.argsort(-means, kind="stable")
    fits = len(order) <= len(ASSET_COLOURS)
    shown = [contest.symbols[i] for i in (order if fits else order[: len(ASSET_COLOURS) - 1])]
    return {
        **dict(zip(shown, ASSET_COLOURS, strict=False)),
        **({} if fits else {OTHERS: ASSET_COLOURS[-1]}),
        CASH: CASH_COLOUR,
    }


def _back_to_front(contest: Contest) -> list[Book]:
    """Return all books, the prominent ones last so that they are drawn on top."""
    index = [] if contest.index is None else [contest.index]
    names = (*contest.names[len(contest.policies) :], *reversed(contest.policies))
    return [*index, *(contest.book(name) for name in names)]


def _add_line(
    figure: go.Figure, contest: Contest, book: Book, values: FloatArray, options: dict[str, Any]
) -> None:
    """Draw policies daily and strong; baselines weekly, thin and at first hidden."""
    name = book.name
    policy = name == ENSEMBLE or name in contest.agents
    daily = policy or name == EQUAL_WEIGHT
    rows = np.arange(len(book.dates)) if daily else _last_of_each_week(book.dates)
    figure.add_scatter(
        x=book.dates[rows].astype(str),
        y=values[rows].astype(np.float32),
        name=title(name),
        legendgroup=name,
        mode="lines",
        visible=True if daily else "legendonly",
        line={
            "color": colour_of(contest, name),
            "width": 2.2 if name == ENSEMBLE else 1.5 if policy else 1.2,
            "dash": "dot" if name == EQUAL_WEIGHT else "solid",
        },
        legendrank=_legend_rank(contest, name),
        col=1,
        **options,
    )


def _legend_rank(contest: Contest, name: str) -> int:
    """Return the place in the legend: ensemble, agents, 1/N, the other baselines."""
    places = (ENSEMBLE, *contest.agents, EQUAL_WEIGHT)
    return places.index(name) if name in places else len(places)


def _last_of_each_week(dates: DateArray) -> NDArray[np.intp]:
    """Return the rows of the last session of every week (Friday ends it), and of the last one."""
    week = (dates.astype(np.int64) + 4) // 7  # 1970-01-01 was a Thursday
    return np.append(np.flatnonzero(week[1:] != week[:-1]), len(dates) - 1)


def _style(figure: go.Figure, height: int) -> go.Figure:
    axis = {"gridcolor": GRID, "zeroline": False, "linecolor": GRID, "automargin": True}
    figure.update_layout(
        template="none",
        height=height,
        font={"family": "system-ui, sans-serif", "size": 12, "color": INK},
        margin={"l": 60, "r": 12, "t": 12, "b": 36},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        hovermode="x unified",
        legend={"orientation": "h", "yanchor": "top", "y": -0.05, "x": 0.0, "font": {"size": 12}},
        modebar={"bgcolor": "rgba(255,255,255,0)", "color": BASELINE_COLOUR},
    )
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    return figure
