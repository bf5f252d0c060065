"""A series over time as columns of blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.text import Text

from fleetd.cli.terminal.lines import Lines, fit, right
from fleetd.cli.terminal.symbols import QUIET, Symbols
from fleetd.words.formatting import count

_EIGHTHS = " ▁▂▃▄▅▆▇█"
_AXIS_CELLS = 7


def stretched(values: Sequence[float | None], cells: int, span: int) -> list[float | None]:
    """Reduce `span` values to `cells`. Each cell has its greatest value, so no peak is lost; None: none is known.

    Values that are still to come (`values` is shorter than `span`) are left out, so the list may be shorter.
    """
    parts = []
    for cell in range(cells):
        start = cell * span // cells
        if start >= len(values):
            break
        part = values[start : max(start + 1, (cell + 1) * span // cells)]
        parts.append(max((value for value in part if value is not None), default=None))
    return parts


def graph(
    title: str,
    values: Sequence[float | None],
    *,
    width: int,
    rows: int,
    span: int,
    style: str,
    symbols: Symbols,
    newest: bool = True,
) -> Lines:
    """A title, optionally with the newest value, then `rows` lines of columns with an axis from 0 to a round maximum.

    The time axis has room for `span` values, or for all if there are more. Everything fits in `width` cells.
    """
    cells = max(width - _AXIS_CELLS - 1, 4)
    columns = stretched(values, cells, max(span, len(values), 1))
    top = _round_up(max((value for value in columns if value is not None), default=0.0))
    head = Text.assemble((fit(title, width - 12, symbols), "bold"))
    if newest:
        last = next((value for value in reversed(values) if value is not None), None)
        head.append("  now ", QUIET)
        head.append(count(last), f"bold {style}")
    lines = [head]
    for row in range(rows - 1, -1, -1):
        axis = count(top) if row == rows - 1 else "0" if row == 0 else ""
        line = Text.assemble((right(axis, _AXIS_CELLS - 1, symbols) + " ", QUIET))
        line.append("|" if symbols.ascii_only else "│", QUIET)
        line.append("".join(_cell(value, row, rows, top, symbols) for value in columns), style)
        lines.append(line)
    return lines


def strip(values: Sequence[float | None], *, cells: int, span: int, top: float, style: str, symbols: Symbols) -> Text:
    """A series as one row of columns, `top` high, without an axis. 0 and None: a dot."""
    line = Text()
    for value in stretched(values, cells, max(span, len(values), 1)):
        if value:
            line.append(_cell(value, 0, 1, top, symbols), style)
        else:
            line.append(symbols.dot, QUIET)
    return line


def _cell(value: float | None, row: int, rows: int, top: float, symbols: Symbols) -> str:
    if value is None:
        return "?" if row == 0 else " "
    level = min(max(math.ceil(value / top * rows * 8 - row * 8 - 1e-9), 0), 8)
    if symbols.ascii_only:
        return "#" if level >= 4 or (row == 0 and value > 0) else " "
    return _EIGHTHS[level]


def _round_up(number: float) -> float:
    """The next higher of 4, 6, 8, 10, 20, 40, 60, 80, 100, …"""
    if number <= 4:
        return 4.0
    scale = float(10 ** math.floor(math.log10(number)))
    return next(step * scale for step in (1, 2, 4, 6, 8, 10) if step * scale >= number - 1e-9)
