"""Equity and its fall from the peak as one drawing that needs no script and no network."""

from collections.abc import Sequence
from html import escape

from serving.rebalance_account import Standing

WIDTH, LEFT, RIGHT = 1080, 78, 12  # drawing units; the page scales them
EQUITY_TOP, EQUITY_BOTTOM = 14, 200
FALL_TOP, FALL_BOTTOM = 232, 312
HEIGHT = 336
SOFT, GRID, BLUE, RED = "#5c6977", "#e8ebef", "#2c5b9e", "#b23a48"
GRID_LINES = 4


def drawing(found: Standing) -> str:
    """Return the drawing as HTML; at least two times are needed.

    Whoever does not see it hears its title and the sentence below it.
    """
    equity = [float(value) for value in found.equity]
    falls = [-float(value) for value in found.drawdown]
    low, high = _padded(min(equity), max(equity))
    deepest = min([*falls, -0.01])
    across = _across(len(equity))
    line = _points(across, equity, low, high, EQUITY_TOP, EQUITY_BOTTOM)
    fall = _points(across, falls, deepest, 0.0, FALL_TOP, FALL_BOTTOM)
    told = (
        f"Equity from {found.times[0]} to {found.times[-1]}: lowest {min(equity):,.0f}, highest "
        f"{max(equity):,.0f}, last {equity[-1]:,.0f}; deepest fall from the peak "
        f"{-min(falls):.1%}, now {-falls[-1]:.1%}."
    )
    first, last = across[0], across[-1]
    parts = [
        *_scale(low, high, EQUITY_TOP, EQUITY_BOTTOM, ",.0f"),
        *_scale(deepest, 0.0, FALL_TOP, FALL_BOTTOM, ".1%", lines=2),
        f'<polyline points="{line}" fill="none" stroke="{BLUE}" stroke-width="2"/>',
        f'<polygon points="{first:.1f},{FALL_TOP} {fall} {last:.1f},{FALL_TOP}" fill="{RED}" '
        f'fill-opacity="0.25" stroke="{RED}" stroke-width="1.2"/>',
        _text(LEFT, EQUITY_TOP - 3, "equity", "start"),
        _text(LEFT, FALL_TOP - 6, "fall from the peak", "start"),
        _text(LEFT, HEIGHT - 6, found.times[0], "start"),
        _text(WIDTH - RIGHT, HEIGHT - 6, found.times[-1], "end"),
    ]
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="100%" role="img" '
        f'aria-labelledby="chart-title chart-told"><title id="chart-title">Equity and its fall '
        f'from the peak</title><desc id="chart-told">{escape(told)}</desc>{"".join(parts)}</svg>'
        f'<p class="soft">{escape(told)}</p>'
    )


def _padded(low: float, high: float) -> tuple[float, float]:
    """Return a range that shows a flat line in its middle, and no line at its edge."""
    room = max((high - low) * 0.06, abs(high) * 0.001, 1e-9)
    return low - room, high + room


def _across(count: int) -> list[float]:
    step = (WIDTH - LEFT - RIGHT) / (count - 1)
    return [LEFT + step * row for row in range(count)]


def _points(
    across: Sequence[float], values: Sequence[float], low: float, high: float, top: int, bottom: int
) -> str:
    heights = (_height(value, low, high, top, bottom) for value in values)
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, heights, strict=True))


def _height(value: float, low: float, high: float, top: int, bottom: int) -> float:
    return bottom - (value - low) / (high - low) * (bottom - top)


def _scale(
    low: float, high: float, top: int, bottom: int, form: str, lines: int = GRID_LINES
) -> list[str]:
    """Return the horizontal lines of a panel, with their values."""
    drawn = []
    for row in range(lines + 1):
        value = low + (high - low) * row / lines
        y = _height(value, low, high, top, bottom)
        drawn.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{GRID}"/>'
        )
        drawn.append(_text(LEFT - 8, y + 4, format(value, form), "end"))
    return drawn


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="12" fill="{SOFT}" '
        f'text-anchor="{anchor}">{escape(words)}</text>'
    )
