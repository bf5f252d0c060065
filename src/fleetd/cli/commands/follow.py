"""Watching an order being carried out: a bar on a terminal, plain lines elsewhere.

fleetd carries it out whether anybody watches or not; Ctrl-C ends the watching and nothing else.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from fleetd.cli.advice.verdict import Level
from fleetd.cli.client import ANSWER_SECONDS_MAX, EXIT_ERROR, EXIT_INTERRUPTED, Reach, read_status
from fleetd.cli.terminal.lines import Lines, hanging
from fleetd.cli.terminal.output import ends_cleanly, open_console, show
from fleetd.cli.terminal.safe_text import cleaned
from fleetd.cli.terminal.symbols import QUIET, STYLES, Symbols, bar, sign
from fleetd.core.model.decision import instance_unit
from fleetd.core.model.facts import Value
from fleetd.core.model.status import InstanceStatus, Status
from fleetd.errors import SourceUnavailableError
from fleetd.words.formatting import duration, sentence, times

POLL_SECONDS = 1.0
#: So long without a new tick (they are a minute apart at most, and fleetd may be restarted meanwhile): no use.
SILENT_POLLS_MAX = 180
#: So many ticks that say nothing of the order: it is not there (any more).
TICKS_WITHOUT_MAX = 3
#: Plain lines whose figures alone changed come no faster.
PLAIN_LINE_SECONDS = 30.0
_BAR_CELLS_MAX = 40


class Progress(Value, frozen=True, kw_only=True):
    """How far it is; a total of 0 means that there is nothing to count."""

    what: str  # "restart", "drain of @3"
    done: int
    total: int
    unit: str  # of done and total: "instance", "job"
    sentence: str  # what happens now, or how it ended
    ended: Literal["", "done", "given_up"] = ""

    @property
    def far(self) -> str:
        return f"{self.done} of {times(self.total, self.unit)}" if self.total else ""


Look = Callable[[Status], Progress | None]  # None: this status says nothing of it


def follow_restart(reach: Reach) -> int:
    """Watch a restart to its end; returns the exit status."""
    return _follow(
        reach,
        _restart_in,
        absent="fleetd tells of no restart any more: fleetctl status shows what it does",
        goes_on="The restart goes on without being watched, and fleetctl status shows it. To stop it: fleetctl pause"
        " holds it after the instance it is at, fleetctl resume lets it go on.",
    )


def follow_drain(reach: Reach, number: int) -> int:
    """Watch the drain of one instance to its end; returns the exit status."""
    return _follow(
        reach,
        _DrainOf(number),
        absent=f"fleetd tells of no instance {number}",
        goes_on=f"The drain goes on without being watched: what is quiet takes no new jobs. fleetctl status shows"
        f" it, fleetctl release {number} lets fleetd start it again.",
    )


def _restart_in(status: Status) -> Progress | None:
    roll = status.rollout
    if roll is None or (roll.ended and roll.cause != "restart"):
        return None
    said = sentence(roll.sentence)
    if roll.ended:
        said = f"Given up: {said}" if roll.ended == "given_up" else said or "All of them are replaced."
    elif roll.current and roll.current not in said:
        said = f"{roll.current}: {said or 'is being replaced.'}"
    return Progress(
        what="restart",
        done=roll.done_instances,
        total=roll.total_instances,
        unit="instance",
        sentence=said,
        ended=roll.ended,
    )


class _DrainOf:
    """Looks at one instance; what it was busy with when first seen is the whole."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._jobs = 0

    def __call__(self, status: Status) -> Progress | None:
        found = next((i for i in status.instances if i.number == self._number), None)
        if found is None:
            return None
        left = found.busy_threads or 0
        self._jobs = max(self._jobs, left)
        ended, said = _drain_state(found)
        return Progress(
            what=f"drain of @{self._number}",
            done=self._jobs if ended == "done" else self._jobs - left,
            total=self._jobs,
            unit="job",
            sentence=said,
            ended=ended,
        )


def _drain_state(found: InstanceStatus) -> tuple[Literal["", "done", "given_up"], str]:
    unit, note = instance_unit(found.number).removesuffix(".service"), found.note
    gone = found.busy_threads is None and found.resident_bytes is None
    if found.state == "stopped" or (found.state == "pinned" and gone):
        return "done", f"{unit} is stopped."
    if found.state in ("failed", "undrainable", "unresponsive"):
        return "given_up", sentence(f"{unit} is {found.state}{': ' + note if note else ''}")
    jobs = "? jobs" if found.busy_threads is None else times(found.busy_threads, "job")
    return "", sentence(f"{found.state}: {note or jobs + ' left'}")


def _follow(reach: Reach, look: Look, *, absent: str, goes_on: str) -> int:
    console, symbols = open_console()
    screen: _Bar | _Plain = _Plain(console, symbols)
    if console.is_terminal and not console.is_dumb_terminal:
        screen = _Bar(console, symbols)
    try:
        with ends_cleanly(), screen.open():
            last = _watch(reach, look, screen.show, absent, symbols)
    except KeyboardInterrupt:
        show(console, _paragraph(goes_on, console, symbols))
        return EXIT_INTERRUPTED
    if isinstance(last, str):
        level = Text.assemble(sign(Level.UNKNOWN, symbols), " ")
        show(console, hanging(level, sentence(last), console.width, lines_max=6, symbols=symbols))
        return EXIT_ERROR
    return 0 if last.ended == "done" else EXIT_ERROR


def _watch(
    reach: Reach, look: Look, show_progress: Callable[[Progress], None], absent: str, symbols: Symbols
) -> Progress | str:
    """Until it ended, or until there is nothing to be seen of it: then why.

    The first status may be of a tick before the order, so only one of a later tick counts.
    """
    ticks: int | None = None
    silent_polls = ticks_without = 0
    why = "no tick of it ended"
    while silent_polls < SILENT_POLLS_MAX:
        status = None
        try:
            status = read_status(reach.fetch(ANSWER_SECONDS_MAX))
        except SourceUnavailableError as error:  # restarted, perhaps: the order outlives that
            why = str(error)
        if status is not None and ticks is not None and status.ticks_total != ticks:
            silent_polls = 0
            progress = look(cleaned(status, ascii_only=symbols.ascii_only))
            ticks_without = ticks_without + 1 if progress is None else 0
            if progress is not None:
                show_progress(progress)
                if progress.ended:
                    return progress
            elif ticks_without >= TICKS_WITHOUT_MAX:
                return absent
        ticks = ticks if status is None else status.ticks_total
        silent_polls += 1
        reach.sleep(POLL_SECONDS)
    return (
        f"fleetd has said nothing new for {duration(SILENT_POLLS_MAX * POLL_SECONDS)} ({why}). It goes on once"
        " fleetd does: fleetctl status"
    )


class _Bar:
    """Drawn anew in place."""

    def __init__(self, console: Console, symbols: Symbols) -> None:
        self._console, self._symbols = console, symbols
        self._live = Live(console=console, auto_refresh=False)
        self._since_seconds = time.monotonic()

    def open(self) -> AbstractContextManager[object]:
        return self._live

    def show(self, progress: Progress) -> None:
        spent = duration(time.monotonic() - self._since_seconds)
        lines = progress_lines(progress, spent, width=self._console.width, symbols=self._symbols)
        self._live.update(Group(*lines), refresh=True)


def progress_lines(progress: Progress, spent: str, *, width: int, symbols: Symbols) -> Lines:
    """The bar with its figures, and below it what happens now."""
    level = {"": Level.MOVING, "done": Level.OK, "given_up": Level.BAD}[progress.ended]
    head = Text.assemble(sign(level, symbols), f" {progress.what}  ")
    tail = Text(f"  {progress.far}" if progress.far else "")
    tail.append(f"  {spent}", QUIET)
    cells = min(width - head.cell_len - tail.cell_len, _BAR_CELLS_MAX)
    share = progress.done / progress.total if progress.total else float(progress.ended == "done")
    line = Text.assemble(head, bar(share, cells, STYLES[level], symbols) if cells >= 6 else "", tail)
    line.truncate(width)
    below = Text(progress.sentence, STYLES[level] if level == Level.BAD else "")
    return [line, *hanging(Text("  "), below, width, lines_max=4, symbols=symbols)]


class _Plain:
    """A line when something happened, for a log; figures that only count down are news now and then."""

    def __init__(self, console: Console, symbols: Symbols) -> None:
        self._console, self._symbols = console, symbols
        self._said: tuple[int, str] | None = None
        self._line = ""
        self._said_at_seconds = 0.0

    def open(self) -> AbstractContextManager[object]:
        return nullcontext()

    def show(self, progress: Progress) -> None:
        said = progress.done, re.sub("[0-9.]+", "", progress.sentence) + progress.ended
        line = f"{progress.what}: {progress.far}{'; ' if progress.far else ''}{progress.sentence}"
        now = time.monotonic()
        due = line != self._line and now - self._said_at_seconds >= PLAIN_LINE_SECONDS
        if said == self._said and not due:
            return
        self._said, self._line, self._said_at_seconds = said, line, now
        self._console.print(Text(line), no_wrap=True, overflow="ignore", crop=False, soft_wrap=True)
        self._console.file.flush()


def _paragraph(text: str, console: Console, symbols: Symbols) -> Lines:
    return hanging(Text(), text, console.width, lines_max=8, symbols=symbols)
