"""Text laid out to a width, so that the lines of a screen can be counted before they are shown.

rich wraps and crops while it prints. `fleetctl status` has to know before that whether a layout fits the terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import TypeAlias

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from fleetd.cli.advice.verdict import Level
from fleetd.cli.terminal.symbols import QUIET, Symbols, sign

Lines: TypeAlias = list[Text]
Row: TypeAlias = Sequence[Text | str]

_CONSOLE = Console(file=StringIO(), width=80)  # rich asks it for tab stops while it wraps
#: Keeps two words on one line while wrapping, then becomes a space. rich breaks lines at the real no-break space; this
#: private character can't come from elsewhere, since safe_text.clean escapes it.
NBSP = "\ue000"
#: A body narrower than this is hard to read, so it goes below its head.
_BODY_CELLS_MIN = 16
_LABEL_CELLS = 13
_TABLE_INDENT, _TABLE_GAP = 2, 2


@dataclass(frozen=True)
class Page:
    """What a screen is drawn on: the width in cells and the symbols of the terminal. `dense`: use few lines."""

    width: int
    symbols: Symbols
    dense: bool = False

    def wrap(self, head: Text | str, body: Text | str) -> Lines:
        """`head`, and `body` wrapped beside it."""
        return hanging(Text(head) if isinstance(head, str) else head, body, self.width, symbols=self.symbols)

    def labelled(self, label: str, body: Text | str) -> Lines:
        """A bold label in the left column, and `body` wrapped beside it."""
        return self.wrap(self.label(label), body)

    def label(self, text: str) -> Text:
        """A bold text as wide as the left column."""
        return Text(left(text, _LABEL_CELLS if self.width >= 50 else _LABEL_CELLS - 1, self.symbols), "bold")

    def item(self, level: Level, body: Text | str, *, indent: int = 0) -> Lines:
        """The sign of a level, and `body` wrapped beside it."""
        return self.wrap(Text.assemble(" " * indent, sign(level, self.symbols), " "), body)

    def joined(self, blocks: Iterable[Lines]) -> Lines:
        """The blocks one below the other, with an empty line between them unless dense. Lines too wide are cut."""
        lines: Lines = []
        for block in blocks:
            lines += [Text(), *block] if lines and block and not self.dense else block
        for line in lines:
            line.truncate(self.width)
        return lines


def fit(text: str, cells: int, symbols: Symbols) -> str:
    """Cut to `cells`, with an ellipsis where something is missing."""
    if cell_len(text) <= cells:
        return text
    while text and cell_len(text) > cells - 1:
        text = text[:-1]
    return text + symbols.ellipsis if cells > 0 else ""


def left(text: str, cells: int, symbols: Symbols) -> str:
    """Aligned to the left of `cells`, and cut if need be."""
    text = fit(text, cells, symbols)
    return text + " " * (cells - cell_len(text))


def right(text: str, cells: int, symbols: Symbols) -> str:
    """Aligned to the right of `cells`, and cut if need be."""
    text = fit(text, cells, symbols)
    return " " * (cells - cell_len(text)) + text


def hanging(head: Text, body: Text | str, width: int, *, symbols: Symbols, lines_max: int | None = None) -> Lines:
    """`head`, and `body` wrapped beside it; with `lines_max`, cut after so many lines with an ellipsis."""
    indent = head.cell_len
    if width - indent < _BODY_CELLS_MIN and indent > 2:
        above = [head] if head.plain.strip() else []
        more = None if lines_max is None else lines_max + 1
        return above + hanging(Text("  "), body, width, symbols=symbols, lines_max=more)
    room = max(width - indent, 10)
    text = body.copy() if isinstance(body, Text) else Text(body)
    wrapped = list(text.wrap(_CONSOLE, room, overflow="fold")) or [Text()]
    for line in wrapped:
        line.rstrip()
        line.plain = line.plain.replace(NBSP, " ")
    if lines_max is not None and len(wrapped) > lines_max:
        wrapped = wrapped[:lines_max]
        wrapped[-1].truncate(room - 1)
        wrapped[-1].append(symbols.ellipsis)
    return [Text.assemble(head if i == 0 else " " * indent, line) for i, line in enumerate(wrapped)]


def side_by_side(one: Lines, two: Lines, one_width: int, gap: int) -> Lines:
    """Two blocks next to each other."""
    joined = []
    for i in range(max(len(one), len(two))):
        first = one[i] if i < len(one) else Text()
        if i < len(two):
            first = Text.assemble(first, " " * (one_width - first.cell_len + gap), two[i])
        joined.append(first)
    return joined


def columns(cells: Lines, page: Page, *, indent: int) -> Lines:
    """Cells in as many columns as fit, filled row by row."""
    gap = 1 if page.dense else 2
    step = max([cell.cell_len for cell in cells], default=0) + gap
    across = max(1, (page.width - indent + gap) // step)
    rows = []
    for start in range(0, len(cells), across):
        row = Text(" " * indent)
        for i, cell in enumerate(cells[start : start + across]):
            row.append(" " * (indent + i * step - row.cell_len))
            row.append_text(cell)
        rows.append(row)
    return rows


@dataclass(frozen=True)
class Column:
    """A column of a table. `cells_min`: its texts may be cut to this many cells; None: never, they are numbers."""

    title: str
    left: bool = False
    cells_min: int | None = None


def table(columns: Sequence[Column], rows: Sequence[Row], page: Page) -> Lines:
    """A line of titles, and a line for each row.

    If the page is too narrow, names are cut. If that is not enough, each row becomes a block, a line for each column.
    """
    texts = [[Text.assemble(cell) for cell in row] for row in rows]
    widths = [max([len(column.title), *(row[i].cell_len for row in texts)]) for i, column in enumerate(columns)]
    over = _TABLE_INDENT + sum(widths) + _TABLE_GAP * (len(columns) - 1) - page.width
    while over > 0:
        spare = [
            0 if column.cells_min is None else width - max(column.cells_min, len(column.title))
            for width, column in zip(widths, columns, strict=True)
        ]
        widest = max(range(len(columns)), key=lambda i: (spare[i] > 0) * widths[i])
        if spare[widest] <= 0:
            return [line for row in texts for line in _block(columns, row, page)]
        widths[widest] -= 1
        over -= 1
    titles = [Text(column.title, f"bold {QUIET}") for column in columns]
    return [_table_row(columns, row, widths, page) for row in (titles, *texts)]


def _table_row(columns: Sequence[Column], row: Lines, widths: list[int], page: Page) -> Text:
    line = Text(" " * _TABLE_INDENT)
    for column, text, cells in zip(columns, row, widths, strict=True):
        shown = _cut(text, cells, page)
        shown.align("left" if column.left else "right", cells)
        line = Text.assemble(line, shown, " " * _TABLE_GAP)
    line.rstrip()
    return line


def _block(columns: Sequence[Column], row: Lines, page: Page) -> Lines:
    """The first cell, then a line for each other one. A title is cut if it leaves its number no room."""
    lines = [Text.assemble(" " * _TABLE_INDENT, _cut(row[0], page.width - _TABLE_INDENT, page))]
    titles = max(len(column.title) for column in columns)
    indent = 2 * _TABLE_INDENT
    for column, text in zip(columns[1:], row[1:], strict=True):
        if not text:
            continue
        room = page.width - indent - 1
        shown = text if column.cells_min is None else _cut(text, max(column.cells_min, room - titles), page)
        title = left(column.title, max(0, min(titles, room - shown.cell_len)), page.symbols)
        lines.append(Text.assemble(" " * indent, title, " ", shown))
    return lines


def _cut(text: Text, cells: int, page: Page) -> Text:
    if text.cell_len <= cells:
        return text
    cut = text.copy()
    cut.truncate(cells - 1)
    return cut.append(page.symbols.ellipsis)
