"""Shows how an order is carried out: as a bar on a terminal, as plain lines elsewhere.

fleetd carries it out whether anybody watches or not; Ctrl-C only ends the watching.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal, TypeAlias

from rich.text import Text

from fleetd.cli.advice.verdict import Level
from fleetd.cli.client import EXIT_ERROR, EXIT_INTERRUPTED, Client
from fleetd.cli.terminal.lines import Lines, Page
from fleetd.cli.terminal.output import can_redraw, open_console, redrawn, show
from fleetd.cli.terminal.safe_text import cleaned
from fleetd.cli.terminal.symbols import QUIET, STYLES, bar, sign
from fleetd.core.model.facts import Value
from fleetd.core.model.hosts import RestartOfFleet
from fleetd.core.model.identity import InstanceKey, unit_of
from fleetd.core.model.status import InstanceStatus, Status
from fleetd.errors import FleetdError, SourceUnavailableError
from fleetd.words.formatting import duration, sentence, times
from fleetd.words.sharing import restart_words

POLL_SECONDS = 1.0
#: Give up after this many polls without a new tick. Ticks are a minute apart at most, and fleetd may be restarted.
SILENT_POLLS_MAX = 180
#: After this many ticks that say nothing of the order, it does not exist (any more).
TICKS_WITHOUT_MAX = 3
#: While the stage stays the same, plain lines are at least this far apart.
PLAIN_LINE_SECONDS = 30.0
_BAR_CELLS_MIN, _BAR_CELLS_MAX = 6, 40

Ended: TypeAlias = Literal["done", "given_up"]


class Progress(Value, frozen=True, kw_only=True):
    """How far an order is. `total` is 0 if there is nothing to count."""

    what: str  # "restart", "drain of @3"
    done: int
    total: int
    unit: str  # of done and total: "instance", "job"
    stage: str  # "at @4", "draining"; a change is worth a line. "": the order has ended
    sentence: str  # what happens now, or how it ended
    ended: Ended | None = None

    @property
    def position(self) -> str:
        """`2 of 5 instances, at @4`."""
        counted = f"{self.done} of {times(self.total, self.unit)}" if self.total else ""
        return ", ".join(part for part in (counted, self.stage) if part)


#: Finds an order in a status; None: the status says nothing of it.
Look = Callable[[Status], Progress | None]
#: Asks how far an order is, as it would be shown; with a number that changes when there is something new to look at.
#: Raises SourceUnavailableError if there is no answer.
Ask = Callable[[bool], tuple[int, Progress | None]]


def follow_restart(client: Client, host: str = "") -> int:
    """Watch a restart to its end; returns the exit status. `host`: the one that is restarted; "": every one."""
    several = _is_of_several(client, host)
    shows = "fleetctl hosts" if several else "fleetctl status"
    return _follow(
        client,
        _fleet_restart(client, host) if several else _in_status(client, _restart_in),
        absent=f"fleetd knows of no restart any more: {shows} shows what it does",
        goes_on=f"The restart goes on; {shows} shows how far it is. fleetctl pause holds it after the instance"
        " it is at, fleetctl resume lets it go on.",
    )


def _is_of_several(client: Client, host: str) -> bool:
    """Whether the restart concerns other hosts than the one that is asked."""
    try:
        fleet = client.fleet()
    except FleetdError:
        return False
    return fleet.several and host != fleet.host


def _in_status(client: Client, look: Look) -> Ask:
    def ask(ascii_only: bool) -> tuple[int, Progress | None]:
        status = client.status()
        return status.ticks_total, look(cleaned(status, ascii_only=ascii_only))

    return ask


def _fleet_restart(client: Client, host: str) -> Ask:
    """Each answer is a new look: the ledger has what every host told last."""
    looks = 0

    def ask(ascii_only: bool) -> tuple[int, Progress | None]:
        nonlocal looks
        fleet = cleaned(client.fleet(), ascii_only=ascii_only)
        if fleet.problem:
            raise SourceUnavailableError(fleet.problem)
        looks += 1
        return looks, next((_restart_of(r) for r in fleet.restarts if r.host == host), None)

    return ask


def _restart_of(restart: RestartOfFleet) -> Progress:
    moving = next((h.host for h in restart.hosts if h.phase == "under_way" and h.at_key is not None), "")
    said = sentence(restart_words(restart))
    failed = next((h.host for h in restart.hosts if h.phase == "given_up"), "")
    why = f" fleetctl status on {failed} says why." if failed else ""
    return Progress(
        what="restart",
        done=sum(h.done_instances for h in restart.hosts),
        total=sum(h.total_instances for h in restart.hosts),
        unit="instance",
        stage="" if restart.ended or not moving else f"on {moving}",
        sentence=f"given up: {said}{why}" if restart.ended == "given_up" else said,
        ended=restart.ended or None,
    )


def follow_drain(client: Client, number: int) -> int:
    """Watch the drain of one instance to its end; returns the exit status."""
    return _follow(
        client,
        _in_status(client, _drain_of(number)),
        absent=f"fleetd knows of no instance {number}",
        goes_on=f"The drain goes on: a quiet instance takes no new jobs. fleetctl status shows it, fleetctl release"
        f" {number} lets fleetd start it again.",
    )


def _restart_in(status: Status) -> Progress | None:
    rollout = status.rollout
    if rollout is None or (rollout.ended and rollout.cause != "restart"):
        return None
    said = sentence(rollout.sentence) or ("all of them are replaced." if rollout.ended else "being replaced.")
    return Progress(
        what="restart",
        done=rollout.done_instances,
        total=rollout.total_instances,
        unit="instance",
        stage=f"at {rollout.current}" if rollout.current else "",
        sentence=f"given up: {said}" if rollout.ended == "given_up" else said,
        ended=rollout.ended or None,
    )


def _drain_of(number: int) -> Look:
    """Looks at one instance. The jobs that it runs at first are the total."""
    jobs = left = 0
    leaves = False

    def look(status: Status) -> Progress | None:
        nonlocal jobs, left, leaves
        found = next((i for i in status.instances if i.number == number), None)
        if found is None and leaves:  # the configuration names it no more, so it is gone from the status too
            return _gone(number, jobs)
        if found is None:
            return None
        leaves = not found.configured
        if found.busy_threads is not None:  # while it is unknown, the last known number stays
            left = found.busy_threads
        jobs = max(jobs, left)
        ended, said = _drain_state(found)
        return Progress(
            what=f"drain of @{number}",
            done=jobs if ended == "done" else jobs - left,
            total=jobs,
            unit="job",
            stage="" if ended else found.state,
            sentence=said,
            ended=ended,
        )

    return look


def _gone(number: int, jobs: int) -> Progress:
    unit = unit_of(InstanceKey(number)).removesuffix(".service")
    return Progress(
        what=f"drain of @{number}",
        done=jobs,
        total=jobs,
        unit="job",
        stage="",
        sentence=f"{unit} is stopped.",
        ended="done",
    )


def _drain_state(found: InstanceStatus) -> tuple[Ended | None, str]:
    unit, note = unit_of(InstanceKey(found.number)).removesuffix(".service"), found.note
    gone = found.busy_threads is None and found.resident_bytes is None
    if found.state == "stopped" or (found.state == "pinned" and gone):
        return "done", f"{unit} is stopped."
    if found.state in ("failed", "undrainable", "unresponsive", "stalled"):
        return "given_up", sentence(f"{unit} is {found.state}{': ' + note if note else ''}")
    jobs = "? jobs" if found.busy_threads is None else times(found.busy_threads, "job")
    return None, sentence(note or f"{jobs} left")


def _follow(client: Client, ask: Ask, *, absent: str, goes_on: str) -> int:
    console, symbols = open_console()
    page, began_seconds = Page(console.width, symbols), time.monotonic()
    try:
        with redrawn(console, full_screen=False) as draw:

            def tell_bar(progress: Progress) -> None:
                spent = duration(time.monotonic() - began_seconds)
                draw(progress_lines(progress, spent, Page(console.width, symbols)))

            tell = tell_bar if can_redraw(console) else _plain_lines(draw)
            last = _watch(client, ask, tell, absent, ascii_only=symbols.ascii_only)
    except KeyboardInterrupt:
        show(console, page.wrap("", goes_on))
        return EXIT_INTERRUPTED
    if isinstance(last, str):
        show(console, page.item(Level.UNKNOWN, sentence(last)))
        return EXIT_ERROR
    return 0 if last.ended == "done" else EXIT_ERROR


def _watch(
    client: Client, ask: Ask, tell: Callable[[Progress], None], absent: str, *, ascii_only: bool
) -> Progress | str:
    """Poll until the order has ended; or return why there is nothing to see of it.

    The first answer may be from a tick before the order, so only later ones count.
    """
    before: int | None = None
    silent_polls = ticks_without = 0
    why = "no tick of it ended"
    while silent_polls < SILENT_POLLS_MAX:
        number, progress = before, None
        try:
            number, progress = ask(ascii_only)
        except SourceUnavailableError as error:  # fleetd may be restarting: it keeps the order
            why = str(error)
        if before is not None and number != before:
            silent_polls = 0
            ticks_without = ticks_without + 1 if progress is None else 0
            if progress is not None:
                tell(progress)
                if progress.ended:
                    return progress
            elif ticks_without >= TICKS_WITHOUT_MAX:
                return absent
        before = number
        silent_polls += 1
        client.sleep(POLL_SECONDS)
    return (
        f"fleetd has said nothing new for {duration(SILENT_POLLS_MAX * POLL_SECONDS)} ({why}). The order goes on once"
        " fleetd does: fleetctl status"
    )


def progress_lines(progress: Progress, spent: str, page: Page) -> Lines:
    """The bar with its numbers, and below it what happens now. `spent`: how long this has been watched."""
    level = {None: Level.MOVING, "done": Level.OK, "given_up": Level.BAD}[progress.ended]
    head = Text.assemble(sign(level, page.symbols), f" {progress.what}  ")
    tail = Text.assemble(f"  {progress.position}" if progress.position else "", (f"  {spent}", QUIET))
    cells = min(page.width - head.cell_len - tail.cell_len, _BAR_CELLS_MAX)
    share = progress.done / progress.total if progress.total else float(progress.ended == "done")
    drawn = bar(share, cells, STYLES[level], page.symbols) if cells >= _BAR_CELLS_MIN else Text()
    below = Text(progress.sentence, STYLES[level] if level == Level.BAD else "")
    return page.joined([[Text.assemble(head, drawn, tail), *page.wrap("  ", below)]])


def _plain_lines(draw: Callable[[Lines], None]) -> Callable[[Progress], None]:
    """Writes a line when the stage changes, and now and then when something else does."""
    last_line, last_stage, last_seconds = "", "", 0.0

    def tell(progress: Progress) -> None:
        nonlocal last_line, last_stage, last_seconds
        position = f"{progress.position}; " if progress.position else ""
        line, now = f"{progress.what}: {position}{progress.sentence}", time.monotonic()
        news = progress.stage != last_stage or now - last_seconds >= PLAIN_LINE_SECONDS
        if progress.ended or (news and line != last_line):
            last_line, last_stage, last_seconds = line, progress.stage, now
            draw([Text(line)])

    return tell
