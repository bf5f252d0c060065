"""Where the output goes: what it can draw, how big it is, and how it is left as it was."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

from fleetd.cli.terminal.symbols import ASCII, UNICODE, Symbols

if TYPE_CHECKING:
    from rich.console import Console

    from fleetd.cli.terminal.lines import Lines


def symbols_for(encoding: str | None, terminal: str) -> Symbols:
    """Unicode only where it can be written and drawn: the Linux console's font lacks most of the signs."""
    can_write = (encoding or "").lower().replace("-", "").replace("_", "") in ("utf8", "utf8sig")
    return UNICODE if can_write and terminal != "linux" else ASCII


def open_console() -> tuple[Console, Symbols]:
    """rich on standard output; it keeps to NO_COLOR, dumb terminals and pipes by itself."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    return console, symbols_for(getattr(sys.stdout, "encoding", None), os.environ.get("TERM", ""))


def height_of(console: Console) -> int | None:
    """Lines of a screen that a person looks at, less one for the prompt; None: it isn't a screen."""
    return max(console.height - 1, 5) if console.is_terminal and not console.is_dumb_terminal else None


def show(console: Console, lines: Lines) -> None:
    """Print lines that were laid out to the width: nothing is wrapped or cut again."""
    for line in lines:
        console.print(line, no_wrap=True, overflow="ignore", crop=False, soft_wrap=True)


@contextlib.contextmanager
def ends_cleanly() -> Iterator[None]:
    """SIGTERM and SIGHUP leave by way of `finally`, so that the terminal gets its old screen and cursor back."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
