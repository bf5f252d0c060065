"""The status screen: the densest sheet that is needed, the airiest that fits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from rich.console import Group
from rich.text import Text

from fleetd.cli.bars import QUIET, Symbols
from fleetd.cli.last_words import LastWords
from fleetd.cli.lines import Lines, beside
from fleetd.cli.render_people import people_lines
from fleetd.cli.render_profiles import instance_lines, profile_lines
from fleetd.cli.render_status import (
    connection_lines,
    headline_lines,
    machine_lines,
    queue_lines,
    story_lines,
)
from fleetd.cli.sheet import Sheet
from fleetd.cli.wording import cleaned
from fleetd.core.model.status import Status

_TWO_PANES_CELLS = 150
_WIDTH_MAX = 220  # wider lines are not read, they are searched


def status_lines(
    status: Status,
    *,
    width: int,
    height: int | None,
    symbols: Symbols,
    clock: str = "",
    last_words: Mapping[str, LastWords] | None = None,
) -> Lines:
    """The whole screen as lines of at most `width` cells.

    With a height (lines of the terminal) it is made denser until it fits; what can't fit even then is left to
    scroll, never left out. `clock` stands at the right end of the second line; `last_words` of a unit, below it.
    """
    status = cleaned(status, ascii_only=symbols.ascii_only)
    sheet = Sheet(width=max(20, min(width, _WIDTH_MAX)), symbols=symbols, last_words=last_words or {})
    tall = height is None or height >= 50
    dense = replace(sheet, events=1, blank_lines=False, cell_kind="small", wrap_lines=2)
    sheets = [
        replace(sheet, events=10 if tall else 4),
        replace(sheet, events=2),
        replace(sheet, events=2, blank_lines=False),
        replace(dense, cell_kind="middle"),
        dense,
        replace(dense, subline=False),
        replace(dense, subline=False, journal_lines=1, wrap_lines=1 if width >= 60 else 2),
    ]
    lines: Lines = []
    for sheet in sheets:
        lines = _compose(status, sheet, clock)
        if height is None or len(lines) <= height:
            break
    for line in lines:
        line.truncate(width)  # for terminals narrower than any sheet
    return lines


def status_screen(
    status: Status, *, width: int, height: int | None, symbols: Symbols, clock: str = ""
) -> Group:
    """The same as one thing that rich can print."""
    return Group(*status_lines(status, width=width, height=height, symbols=symbols, clock=clock))


def cropped(lines: Lines, height: int, symbols: Symbols) -> Lines:
    """For a screen that can't scroll: the first lines, and how many are missing."""
    if len(lines) <= height:
        return lines
    missing = len(lines) - height + 1
    return [
        *lines[: height - 1],
        Text(f"{symbols.ellipsis} {missing} more lines: a higher window shows them", QUIET),
    ]


def _compose(status: Status, sheet: Sheet, clock: str) -> Lines:
    head = headline_lines(status, sheet, clock)
    people = people_lines(status, sheet)
    if sheet.width >= _TWO_PANES_CELLS:
        pane = replace(sheet, width=(sheet.width - 4) // 2)
        left = _spaced(
            [queue_lines(status, pane), connection_lines(status, pane), machine_lines(status, pane)], pane
        )
        right = _profiles(status, pane)
        return _spaced([head, people, beside(left, right, pane.width, 4), story_lines(status, sheet)], sheet)
    rest = connection_lines(status, sheet) + machine_lines(status, sheet) + story_lines(status, sheet)
    return _spaced([head, people, queue_lines(status, sheet), _profiles(status, sheet), rest], sheet)


def _profiles(status: Status, sheet: Sheet) -> Lines:
    lines: Lines = []
    known = {profile.name for profile in status.profiles}
    for profile in status.profiles:
        lines += profile_lines(status, profile, sheet)
    strays = [instance for instance in status.instances if instance.profile not in known]
    if strays:
        lines.append(Text("? of no profile", "bold"))
        lines += instance_lines(strays, sheet)
    return lines


def _spaced(blocks: list[Lines], sheet: Sheet) -> Lines:
    lines: Lines = []
    for block in blocks:
        if block and lines and sheet.blank_lines:
            lines.append(Text())
        lines += block
    return lines
