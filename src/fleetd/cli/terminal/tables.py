"""Tables of figures: each figure whole. What does not fit gets shorter names, or its rows one below the other."""

from __future__ import annotations

from dataclasses import dataclass

from rich.text import Text

from fleetd.cli.terminal.lines import Lines, fit
from fleetd.cli.terminal.symbols import Symbols

INDENT, GAP = 1, 2


@dataclass(frozen=True)
class Column:
    """`least`: cells to which its texts may be shortened; 0: never, as they are figures."""

    title: str
    left: bool = False
    least: int = 0


def table(columns: tuple[Column, ...], rows: list[list[str]], width: int, symbols: Symbols) -> Lines:
    """A head and a line each row, or each row as a block of lines."""
    cells = [[Text(text) for text in row] for row in rows]
    widths = [
        max([len(column.title), *(row[index].cell_len for row in cells)])
        for index, column in enumerate(columns)
    ]
    over = INDENT + sum(widths) + GAP * (len(columns) - 1) - width
    while over > 0:
        room = [
            w - max(c.least, len(c.title)) if c.least else 0 for w, c in zip(widths, columns, strict=True)
        ]
        longest = max(range(len(columns)), key=lambda i: (room[i] > 0) * widths[i])
        if room[longest] <= 0:
            return _blocks(columns, rows, width, symbols)
        widths[longest] -= 1
        over -= 1
    titles = [column.title for column in columns]
    head = _line(columns, titles, widths, symbols)
    head.stylize("bold")
    return [head, *(_line(columns, row, widths, symbols) for row in rows)]


def _line(columns: tuple[Column, ...], texts: list[str], widths: list[int], symbols: Symbols) -> Text:
    line = Text(" " * INDENT)
    for index, (column, text, cells) in enumerate(zip(columns, texts, widths, strict=True)):
        shown = Text(fit(text, cells, symbols))
        space = " " * (cells - shown.cell_len)
        line.append(" " * GAP if index else "")
        line.append(shown.plain + space if column.left else space + shown.plain)
    line.rstrip()
    return line


def _blocks(columns: tuple[Column, ...], rows: list[list[str]], width: int, symbols: Symbols) -> Lines:
    """The first cell, then a line each other one; a title that leaves its figure no room is cut."""
    found: Lines = []
    names = max(len(column.title) for column in columns[1:])
    for row in rows:
        found.append(Text(" " * INDENT + fit(row[0], width - INDENT, symbols), "bold"))
        for column, text in zip(columns[1:], row[1:], strict=True):
            shown = (
                fit(text, max(column.least, width - INDENT - GAP - 1 - names), symbols)
                if column.least
                else text
            )
            room = max(0, width - INDENT - GAP - 1 - Text(shown).cell_len)
            title = fit(column.title, min(names, room), symbols)
            found.append(Text(" " * (INDENT + GAP) + f"{title:<{min(names, room)}} {shown}"))
    return found
