"""Draws a screen of fleetd's status once, or again and again. Loads rich: a person is looking."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TypeAlias

from rich.console import Console

from fleetd.cli.advice import postmortem
from fleetd.cli.advice.last_words import LastWords, failed_units, last_words
from fleetd.cli.client import Client, exit_code
from fleetd.cli.screens.connections import connection_screen
from fleetd.cli.screens.down import down_screen, message_screen
from fleetd.cli.screens.explain import explain_screen
from fleetd.cli.screens.status import cropped, status_screen
from fleetd.cli.terminal.lines import Lines, Page
from fleetd.cli.terminal.output import can_redraw, open_console, redrawn, show
from fleetd.cli.terminal.symbols import Symbols
from fleetd.core.model.status import Status
from fleetd.errors import FleetdError, SourceUnavailableError

WATCH_SECONDS = 2.0
#: The journal is asked again after this long, not for every frame: a big one takes its time.
JOURNAL_SECONDS = 10.0

#: A screen of a status on a page. The height of the terminal, in lines, is None where there is none; the clock is ""
#: where the screen is drawn once.
View: TypeAlias = Callable[[Status, Page, int | None, str], Lines]


def draw(client: Client, view: View, *, again: bool) -> int:
    """Print the screen; returns the exit status. `again`: draw it until Ctrl-C, also while fleetd is down."""
    console, symbols = open_console()
    if not again:
        height = max(console.height - 1, 5) if can_redraw(console) else None  # less the prompt
        lines, code = _frame(client, view, Page(console.width, symbols), height)
        show(console, lines)
        return code
    with contextlib.suppress(KeyboardInterrupt), redrawn(console, full_screen=True) as show_again:
        while True:
            show_again(_watched_frame(client, view, console, symbols))
            client.sleep(WATCH_SECONDS)
    return 0


def _watched_frame(client: Client, view: View, console: Console, symbols: Symbols) -> Lines:
    page = Page(console.width, symbols)
    height = console.height if can_redraw(console) else None
    try:
        lines, _ = _frame(client, view, page, height, time.strftime("%H:%M:%S"))
    except FleetdError as error:
        lines = message_screen(str(error), page)
    return [*lines, *page.wrap("", "")] if height is None else cropped(lines, height, symbols)


def _frame(client: Client, view: View, page: Page, height: int | None, clock: str = "") -> tuple[Lines, int]:
    """What there is to show now, and the exit status that goes with it."""
    try:
        status = client.status()
    except SourceUnavailableError as error:
        found = postmortem.examine(str(error), client.run)
        return down_screen(found, page), exit_code(found)
    return view(status, page, height, clock), 0


def status_view(client: Client) -> View:
    """`fleetctl status`, with the last words of what failed."""
    journal = _Journal(client.run)

    def view(status: Status, page: Page, height: int | None, clock: str) -> Lines:
        words = journal.last_words(status)
        return status_screen(status, page, height=height, clock=clock, last_words=words)

    return view


def connection_view(status: Status, page: Page, _height: int | None, clock: str) -> Lines:
    """`fleetctl connections`."""
    return connection_screen(status, page, clock=clock)


def explain_view(choose: Callable[[Status], str | None]) -> View:
    """`fleetctl explain`; `choose`: which profile, for only a status tells which there are."""
    return lambda status, page, _height, clock: explain_screen(
        status, page, profile=choose(status), clock=clock
    )


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
