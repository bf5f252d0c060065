"""How a demo is to be shown, and what it comes to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console

from fleetd.cli.terminal.lines import Lines
from fleetd.cli.terminal.symbols import Symbols
from lab.demo.progress import Steps
from lab.demo.summary import Group


@dataclass(frozen=True)
class Terms:
    """How a demo is to be shown."""

    steps: Steps
    console: Console
    symbols: Symbols
    seconds_scale: float
    keep: bool
    plain: bool


@dataclass(frozen=True)
class Outcome:
    """What a demo came to."""

    groups: Sequence[Group]
    lines: Lines
    """The summary."""
    promised: str
    """What was promised, as a clause."""
    go_on: Callable[[], None]
    """Starts a calm load for another hour."""
    around: Sequence[tuple[str, str]]
    """What to look at afterwards: host and command."""
    attempt: tuple[str, str]
    """A host with a shell, and a command to try there."""
