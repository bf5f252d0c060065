"""Drawing the status once or again and again; here rich is loaded, for a person is looking."""

from __future__ import annotations

import contextlib
import time

from rich.console import Console, Group

from fleetd.cli import postmortem
from fleetd.cli.bars import Symbols
from fleetd.cli.last_words import LastWords, failed_units, last_words
from fleetd.cli.lines import Lines
from fleetd.cli.render import cropped, status_lines
from fleetd.cli.render_down import down_lines, sentence_lines
from fleetd.cli.status import ANSWER_SECONDS_MAX, WATCH_SECONDS, Reach, exit_code, read_status
from fleetd.cli.terminal import ends_cleanly, height_of, open_console, show
from fleetd.core.status import Status
from fleetd.errors import FleetdError, SourceUnavailableError

#: The journal is asked again after this long, not for every frame: a big one takes its time.
JOURNAL_SECONDS = 10.0


def draw_once(reach: Reach) -> int:
    """Print the screen; returns the exit status."""
    console, symbols = open_console()
    lines, code = _frame(reach, console, symbols, _Journal(reach.run), clock="")
    show(console, lines)
    return code


def watch_forever(reach: Reach) -> int:
    """Draw every `WATCH_SECONDS` until Ctrl-C, in a screen of its own where there is one.

    fleetd may come and go meanwhile: that is what one wants to watch.
    """
    console, symbols = open_console()
    height, journal = height_of(console), _Journal(reach.run)
    own_screen = console.screen() if height is not None else contextlib.nullcontext()
    with contextlib.suppress(KeyboardInterrupt), ends_cleanly(), own_screen as screen:
        while True:
            clock = time.strftime("%H:%M:%S")
            try:
                lines, _ = _frame(reach, console, symbols, journal, clock)
            except FleetdError as error:
                lines = _sentence(str(error), console, symbols)
            if screen is None:
                show(console, lines)
                console.print()
                console.file.flush()
            else:
                screen.update(Group(*cropped(lines, console.height, symbols)))
            reach.sleep(WATCH_SECONDS)
    return 0


class _Journal:
    """The last words of what failed, kept for a few frames."""

    def __init__(self, run: postmortem.Run) -> None:
        self._run = run
        self._units: tuple[str, ...] = ()
        self._words: dict[str, LastWords] = {}
        self._read_at_seconds = 0.0

    def last_words(self, status: Status) -> dict[str, LastWords]:
        units, now = failed_units(status), time.monotonic()
        if units != self._units or now - self._read_at_seconds >= JOURNAL_SECONDS:
            self._units, self._words = units, last_words(status, self._run)
            self._read_at_seconds = time.monotonic()
        return self._words


def _frame(
    reach: Reach, console: Console, symbols: Symbols, journal: _Journal, clock: str
) -> tuple[Lines, int]:
    """What there is to show now, and the exit status that goes with it."""
    try:
        status = read_status(reach.fetch(ANSWER_SECONDS_MAX))
    except SourceUnavailableError as error:
        found = postmortem.examine(str(error), reach.run)
        return down_lines(found, width=console.width, symbols=symbols), exit_code(found)
    height = height_of(console)
    if clock and height is not None:
        height = console.height  # no prompt comes after it
    lines = status_lines(
        status,
        width=console.width,
        height=height,
        symbols=symbols,
        clock=clock,
        last_words=journal.last_words(status),
    )
    return lines, 0


def _sentence(text: str, console: Console, symbols: Symbols) -> Lines:
    return sentence_lines(text, width=console.width, symbols=symbols)
