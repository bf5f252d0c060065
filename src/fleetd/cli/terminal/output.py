"""Standard output: what the terminal can draw, printing once, drawing again and again, leaving it as it was."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING

from fleetd.cli.terminal.symbols import ASCII, UNICODE, Symbols

if TYPE_CHECKING:
    from rich.console import Console

    from fleetd.cli.terminal.lines import Lines, Page

_WIDTH_MIN = 10
_WIDTH_USUAL = 80


def symbols_for(encoding: str | None, terminal: str) -> Symbols:
    """Unicode if it can be written and drawn. The font of the Linux console lacks most signs."""
    can_write = (encoding or "").lower().replace("-", "").replace("_", "") in ("utf8", "utf8sig")
    return UNICODE if can_write and terminal != "linux" else ASCII


def open_console() -> tuple[Console, Symbols]:
    """rich on standard output. It heeds NO_COLOR, TERM=dumb and pipes by itself."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    if console.width < _WIDTH_MIN:  # COLUMNS=0, a terminal that does not know its size: nothing could be drawn
        console.width = _WIDTH_USUAL
    return console, symbols_for(getattr(sys.stdout, "encoding", None), os.environ.get("TERM", ""))


def can_redraw(console: Console) -> bool:
    """Whether lines can be drawn over: only on a terminal, and not on a dumb one."""
    return console.is_terminal and not console.is_dumb_terminal


def show(console: Console, lines: Lines) -> None:
    """Print lines that are laid out already, without wrapping or cutting them again."""
    for line in lines:
        console.print(line, no_wrap=True, overflow="ignore", crop=False, soft_wrap=True)
    console.file.flush()


def show_screen(screen: Callable[[Page], Lines]) -> None:
    """Print a screen once, drawn to the width of standard output."""
    from fleetd.cli.terminal.lines import Page

    console, symbols = open_console()
    show(console, screen(Page(console.width, symbols)))


@contextlib.contextmanager
def redrawn(console: Console, *, full_screen: bool) -> Iterator[Callable[[Lines], None]]:
    """Yields a function that draws lines over those it drew before; if that can't be done, it prints them.

    `full_screen`: use the terminal's alternate screen, which vanishes at the end.
    """
    with ends_cleanly():
        if not can_redraw(console):
            yield lambda lines: show(console, lines)
            return
        from rich.console import Group
        from rich.live import Live

        with Live(console=console, auto_refresh=False, screen=full_screen) as live:
            yield lambda lines: live.update(Group(*lines), refresh=True)


@contextlib.contextmanager
def ends_cleanly() -> Iterator[None]:
    """Turns SIGTERM and SIGHUP into SystemExit, so that the terminal gets its old screen and cursor back."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
