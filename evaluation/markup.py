"""Small pieces of HTML. Whatever came from outside is escaped here and nowhere else."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple


class Cell(NamedTuple):
    """One table cell.

    Args:
        text: shown as it is, escaped.
        colour: CSS background, or empty.
        css: class names.
    """

    text: str
    colour: str = ""
    css: str = ""


def section(anchor: str, heading: str, *parts: str) -> str:
    """Return a section of the page; the parts are HTML."""
    return f'<section id="{anchor}"><h2>{escape(heading)}</h2>{"".join(parts)}</section>'


def paragraph(text: str, css: str = "") -> str:
    """Return an escaped paragraph."""
    return f"<p{_class(css)}>{escape(text)}</p>"


def items(texts: Sequence[str], css: str = "") -> str:
    """Return an escaped list."""
    return f"<ul{_class(css)}>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>"


def fold(heading: str, body: str, opened: bool) -> str:
    """Return a part that can be folded away; the body is HTML."""
    state = " open" if opened else ""
    return f"<details{state}><summary>{escape(heading)}</summary>{body}</details>"


def legend(colours: Mapping[str, str]) -> str:
    """Return what each colour (CSS, from our own tables) stands for."""
    chips = "".join(
        f'<span><i style="background:{colour}"></i>{escape(text)}</span>'
        for text, colour in colours.items()
    )
    return f'<div class="legend">{chips}</div>'


def table(
    header: Sequence[str], rows: Sequence[Sequence[str | Cell]], emphasised: Sequence[int] = ()
) -> str:
    """Return a table whose first column names the row.

    Args:
        header: a text per column.
        rows: cells, as many as the header has.
        emphasised: rows to set in bold.
    """
    words = [isinstance(cell, Cell) and cell.css == "text" for cell in rows[0]] if rows else []
    head = "".join(
        f"<th scope=col{_class('text' if index < len(words) and words[index] else '')}>"
        f"{escape(text)}</th>"
        for index, text in enumerate(header)
    )
    body = "".join(_row(row, index in emphasised) for index, row in enumerate(rows))
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _row(cells: Sequence[str | Cell], emphasised: bool) -> str:
    first, *others = (Cell(cell) if isinstance(cell, str) else cell for cell in cells)
    columns = "".join(_cell(cell) for cell in others)
    css = ' class="strong"' if emphasised else ""
    return f"<tr{css}><th scope=row{_class(first.css)}>{escape(first.text)}</th>{columns}</tr>"


def _cell(cell: Cell) -> str:
    style = f' style="background:{cell.colour}"' if cell.colour else ""
    return f"<td{_class(cell.css)}{style}>{escape(cell.text)}</td>"


def _class(css: str) -> str:
    return f' class="{css}"' if css else ""
