"""Text laid out by hand to a width: every line here fits, so that a screen can be counted before it is shown."""

from __future__ import annotations

from io import StringIO

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from fleetd.cli.terminal.symbols import Symbols

_CONSOLE = Console(file=StringIO(), width=80)  # wrapping asks it for nothing but tab stops

Lines = list[Text]

#: Keeps a sign and its name on one line while wrapping, then becomes a space. rich breaks lines at the real
#: no-break space; this private character can't come from elsewhere, since `wording.clean` escapes it.
NBSP = "\ue000"


def fit(text: str, cells: int, symbols: Symbols) -> str:
    """Cut to `cells`, with an ellipsis where something is missing."""
    if cell_len(text) <= cells:
        return text
    while text and cell_len(text) > cells - 1:
        text = text[:-1]
    return text + symbols.ellipsis if cells > 0 else ""


def left(text: str, cells: int, symbols: Symbols) -> str:
    text = fit(text, cells, symbols)
    return text + " " * (cells - cell_len(text))


def right(text: str, cells: int, symbols: Symbols) -> str:
    text = fit(text, cells, symbols)
    return " " * (cells - cell_len(text)) + text


def hanging(head: Text, body: Text | str, width: int, *, lines_max: int, symbols: Symbols) -> Lines:
    """`head`, then `body` wrapped beside it; beyond `lines_max` lines it ends in an ellipsis."""
    indent = head.cell_len
    if width - indent < 16 and indent > 2:  # no room beside it: below it, then
        above = [head] if head.plain.strip() else []
        return above + hanging(Text("  "), body, width, lines_max=lines_max + 1, symbols=symbols)
    room = max(width - indent, 10)
    text = body.copy() if isinstance(body, Text) else Text(body)
    wrapped = list(text.wrap(_CONSOLE, room, overflow="fold")) or [Text()]
    for line in wrapped:
        line.rstrip()
        line.plain = line.plain.replace(NBSP, " ")
    if len(wrapped) > lines_max:
        last = wrapped[lines_max - 1]
        if last.cell_len >= room:
            last.truncate(room - 1)
            last.rstrip()
        last.append(symbols.ellipsis)
        wrapped = wrapped[:lines_max]
    return [Text.assemble(head if i == 0 else " " * indent, line) for i, line in enumerate(wrapped)]


def beside(one: Lines, two: Lines, one_width: int, gap: int) -> Lines:
    """Two blocks next to each other."""
    rows = max(len(one), len(two))
    joined = []
    for i in range(rows):
        first = one[i] if i < len(one) else Text()
        if i < len(two):
            first = Text.assemble(first, " " * (one_width - first.cell_len + gap), two[i])
        joined.append(first)
    return joined


def columns(cells: Lines, cell_width: int, width: int, indent: int) -> Lines:
    """Cells in as many columns as fit, filled row by row."""
    across = max(1, (width - indent + 1) // (cell_width + 1))
    rows = []
    for start in range(0, len(cells), across):
        row = Text(" " * indent)
        for i, cell in enumerate(cells[start : start + across]):
            row.append(" " * (indent + i * (cell_width + 1) - row.cell_len))
            row.append_text(cell)
        rows.append(row)
    return rows
