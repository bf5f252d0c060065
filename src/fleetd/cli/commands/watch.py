"""Draws a screen of fleetd's status, once or again and again. Importing this imports rich."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TypeAlias

from rich.console import Console
from rich.text import Text

from fleetd.cli.advice import postmortem
from fleetd.cli.advice.last_words import LastWords, failed_units, last_words
from fleetd.cli.client import Client, exit_code
from fleetd.cli.screens.down import down_screen, message_screen
from fleetd.cli.screens.hosts import hosts_screen
from fleetd.cli.screens.status import cropped, status_screen
from fleetd.cli.terminal.keys import quit_key
from fleetd.cli.terminal.lines import Lines, Page
from fleetd.cli.terminal.output import can_redraw, open_console, redrawn, show
from fleetd.cli.terminal.symbols import Symbols
from fleetd.core.model.status import Status
from fleetd.errors import FleetdError, SourceUnavailableError

WATCH_SECONDS = 2.0
_STANDARD_INPUT = 0
#: The journal is read again after this long, not for every frame: reading a big one is slow.
JOURNAL_SECONDS = 10.0

#: Draws a status on a page. The height of the terminal in lines is None where lines can scroll away; the time is None
#: where the screen is drawn only once.
View: TypeAlias = Callable[[Status, Page, int | None, str | None], Lines]


def draw(client: Client, view: View, *, again: bool) -> int:
    """Print the screen; returns the exit status. `again`: draw it until q or Ctrl-C, even while fleetd is down."""
    console, symbols = open_console()
    if not again:
        height = max(console.height - 1, 5) if can_redraw(console) else None  # the prompt takes one
        lines, code = _frame(client, view, Page(console.width, symbols), height)
        show(console, lines)
        return code
    with (
        contextlib.suppress(KeyboardInterrupt),
        quit_key(_STANDARD_INPUT, client.sleep) as quits,
        redrawn(console, full_screen=True) as show_again,
    ):
        show_again(_watched_frame(client, view, console, symbols))
        while not quits(WATCH_SECONDS):
            show_again(_watched_frame(client, view, console, symbols))
    return 0


def _watched_frame(client: Client, view: View, console: Console, symbols: Symbols) -> Lines:
    page = Page(console.width, symbols)
    height = console.height if can_redraw(console) else None
    try:
        lines, _ = _frame(client, view, page, height, time.strftime("%H:%M:%S"))
    except FleetdError as error:
        lines = message_screen(str(error), page)
    return [*lines, *page.wrap("", "")] if height is None else cropped(lines, height, symbols)


def _frame(client: Client, view: View, page: Page, height: int | None, clock: str | None = None) -> tuple[Lines, int]:
    """What to show now, and the exit status that goes with it."""
    try:
        status = client.status()
    except SourceUnavailableError as error:
        found = postmortem.examine(str(error), client.run)
        return down_screen(found, page), exit_code(found)
    return view(status, page, height, clock), 0


def status_view(client: Client, *, fleet: bool = False) -> View:
    """`fleetctl status`, with the last words of what failed. `fleet`: and all hosts below it."""
    # By failed units: when the journal was read, and what it had of them.
    read: dict[tuple[str, ...], tuple[float, dict[str, LastWords]]] = {}

    def view(status: Status, page: Page, height: int | None, clock: str | None) -> Lines:
        units, now = failed_units(status), time.monotonic()
        if units not in read or now - read[units][0] >= JOURNAL_SECONDS:
            read.clear()
            read[units] = now, last_words(status, client.run)
        below = fleet_lines(client, page) if fleet else []
        room = None if height is None else max(height - len(below), 5)
        return status_screen(status, page, height=room, clock=clock, last_words=read[units][1]) + below

    return view


def fleet_lines(client: Client, page: Page) -> Lines:
    """All hosts, or why they are unknown, below a screen."""
    try:
        fleet = client.fleet()
    except FleetdError as error:
        return [Text(), *message_screen(f"The other hosts are unknown: {error}", page)]
    return [Text(), *hosts_screen(fleet, page)]
