"""Drawing the status once or again and again; here rich is loaded, for a person is looking."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Protocol

from rich.console import Console, Group

from fleetd.cli.advice import postmortem
from fleetd.cli.advice.last_words import LastWords, failed_units, last_words
from fleetd.cli.client import ANSWER_SECONDS_MAX, WATCH_SECONDS, Reach, exit_code, read_status
from fleetd.cli.screens.connections import connection_screen
from fleetd.cli.screens.down import down_lines, sentence_lines
from fleetd.cli.screens.explain import explain_screen
from fleetd.cli.screens.status import cropped, status_lines
from fleetd.cli.terminal.lines import Lines
from fleetd.cli.terminal.output import ends_cleanly, height_of, open_console, show
from fleetd.cli.terminal.symbols import Symbols
from fleetd.core.model.status import Status
from fleetd.errors import FleetdError, SourceUnavailableError

#: The journal is asked again after this long, not for every frame: a big one takes its time.
JOURNAL_SECONDS = 10.0


class View(Protocol):
    """How a screen is made of a status; `height`: lines of the terminal, None where it isn't one."""

    def __call__(
        self, status: Status, *, width: int, height: int | None, symbols: Symbols, clock: str
    ) -> Lines: ...


def draw_once(reach: Reach, view: View) -> int:
    """Print the screen; returns the exit status."""
    console, symbols = open_console()
    lines, code = _frame(reach, view, console, symbols, clock="")
    show(console, lines)
    return code


def watch_forever(reach: Reach, view: View) -> int:
    """Draw every `WATCH_SECONDS` until Ctrl-C, in a screen of its own where there is one.

    fleetd may come and go meanwhile: that is what one wants to watch.
    """
    console, symbols = open_console()
    own_screen = console.screen() if height_of(console) is not None else contextlib.nullcontext()
    with contextlib.suppress(KeyboardInterrupt), ends_cleanly(), own_screen as screen:
        while True:
            clock = time.strftime("%H:%M:%S")
            try:
                lines, _ = _frame(reach, view, console, symbols, clock)
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


def status_view(reach: Reach) -> View:
    """The screen of `fleetctl status`, with the last words of what failed."""
    journal = _Journal(reach.run)

    def view(status: Status, *, width: int, height: int | None, symbols: Symbols, clock: str) -> Lines:
        words = journal.last_words(status)
        return status_lines(
            status, width=width, height=height, symbols=symbols, clock=clock, last_words=words
        )

    return view


def connection_view(status: Status, *, width: int, height: int | None, symbols: Symbols, clock: str) -> Lines:
    """The screen of `fleetctl connections`; it is as high as it has to be."""
    return connection_screen(status, width=width, symbols=symbols, clock=clock)


def explain_view(choose: Callable[[Status], str]) -> View:
    """The screen of `fleetctl explain`; `choose`: which profile, once it is known which there are."""

    def view(status: Status, *, width: int, height: int | None, symbols: Symbols, clock: str) -> Lines:
        profile = choose(status)
        return explain_screen(status, width=width, symbols=symbols, profile=profile, clock=clock)

    return view


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


def _frame(reach: Reach, view: View, console: Console, symbols: Symbols, clock: str) -> tuple[Lines, int]:
    """What there is to show now, and the exit status that goes with it."""
    try:
        status = read_status(reach.fetch(ANSWER_SECONDS_MAX))
    except SourceUnavailableError as error:
        found = postmortem.examine(str(error), reach.run)
        return down_lines(found, width=console.width, symbols=symbols), exit_code(found)
    height = height_of(console)
    if clock and height is not None:
        height = console.height  # no prompt comes after it
    return view(status, width=console.width, height=height, symbols=symbols, clock=clock), 0


def _sentence(text: str, console: Console, symbols: Symbols) -> Lines:
    return sentence_lines(text, width=console.width, symbols=symbols)
