"""The screen of `fleetctl status`: airy where that fits the terminal, else dense."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from rich.text import Text

from fleetd.cli.advice.findings import findings, headline
from fleetd.cli.advice.last_words import LastWords
from fleetd.cli.advice.verdict import Level, queue_level, scheduler_level, told_as_full
from fleetd.cli.screens.connections import limit_lines
from fleetd.cli.screens.head import finding_lines, fleet_head_lines, origin_lines, would_lines
from fleetd.cli.screens.status_instances import (
    clamp_lines,
    instance_lines,
    last_words_lines,
    people_lines,
    profile_lines,
)
from fleetd.cli.screens.status_jobs import job_lines
from fleetd.cli.terminal.lines import NBSP, Lines, Page, left, right, side_by_side
from fleetd.cli.terminal.safe_text import cleaned
from fleetd.cli.terminal.symbols import QUIET, STYLES, Symbols, bar, sign
from fleetd.core.model.identity import SCHEDULER_UNIT
from fleetd.core.model.reasons.base import ClampCode
from fleetd.core.model.status import ClampStatus, QueueStatus, Status
from fleetd.words.formatting import UNKNOWN, count, duration, sentence, size

WIDTH_MAX = 220  # the eye loses longer lines
_TWO_PANES_CELLS = 150
_NEED_CELLS = len(" 9,999 threads")
_EVENTS_AIRY, _EVENTS_DENSE = 5, 1


def status_screen(
    status: Status,
    page: Page,
    *,
    height: int | None,
    clock: str | None = None,
    last_words: Mapping[str, LastWords] | None = None,
) -> Lines:
    """The whole screen.

    If it is higher than `height` (lines; None: any height will do) it is drawn dense, and if need be without the line
    that says which fleetd this is, then without the lines about jobs, by which nothing is decided. If it is still
    higher, it scrolls, and has those lines again: a dense screen says less about each thing, but leaves nothing out.
    A screen that is drawn again and again can't scroll, and does without them.

    `clock`: the time, if it is drawn again and again. `last_words`: of failed units, by unit.
    """
    ascii_only = page.symbols.ascii_only
    status = cleaned(status, ascii_only=ascii_only)
    words = {unit: cleaned(said, ascii_only=ascii_only) for unit, said in (last_words or {}).items()}
    page = replace(page, width=min(page.width, WIDTH_MAX))
    found, lines = findings(status) or (headline(status),), Lines()
    watched = clock is not None
    for dense, origin, jobs in (
        (False, True, True),
        (True, True, True),
        (True, watched, True),
        (True, watched, False),
        (True, watched, not watched),
    ):
        drawn_on = replace(page, dense=dense)
        head = finding_lines(found, drawn_on)
        if not dense and all(finding.banner for finding in found):
            head += page.item(Level.OK, "Every queue waits less than its target.")
        head += origin_lines(status, page, clock) if origin else []
        head += fleet_head_lines(status, page)
        lines = drawn_on.joined(_blocks(status, drawn_on, head, jobs, words))
        if height is None or len(lines) <= height:
            break
    return lines


def cropped(lines: Lines, height: int, symbols: Symbols) -> Lines:
    """The first lines, and how many more there are; for a screen that can't scroll."""
    if len(lines) <= height:
        return lines
    missing = len(lines) - height + 1
    hint = f"{symbols.ellipsis} {missing} more lines: a higher window shows them"
    return [*lines[: height - 1], Text(hint, QUIET)]


def _blocks(status: Status, page: Page, head: Lines, jobs: bool, last_words: Mapping[str, LastWords]) -> list[Lines]:
    people, events = people_lines(status, page), event_lines(status, page)
    if page.width < _TWO_PANES_CELLS:
        host = limit_lines(status, page) + _host_lines(status, page, last_words)
        fleet = _fleet_lines(status, page, last_words)
        return [head, people, _queues_and_jobs(status, page, jobs), fleet, host + events]
    pane = replace(page, width=(page.width - 4) // 2)
    host = limit_lines(status, pane) + _host_lines(status, pane, last_words)
    left_pane = pane.joined([_queues_and_jobs(status, pane, jobs), host])
    right_pane = _fleet_lines(status, pane, last_words)
    return [head, people, side_by_side(left_pane, right_pane, pane.width, 4), events]


def _queues_and_jobs(status: Status, page: Page, jobs: bool) -> Lines:
    return queue_lines(status, page) + (job_lines(status.jobs, page) if jobs else [])


def _fleet_lines(status: Status, page: Page, last_words: Mapping[str, LastWords]) -> Lines:
    lines: Lines = []
    for profile in status.profiles:
        lines += profile_lines(status, profile, page, last_words)
    known = {profile.name for profile in status.profiles}
    strays = [instance for instance in status.instances if instance.profile not in known]
    for name in dict.fromkeys(instance.profile for instance in strays):
        own = [instance for instance in strays if instance.profile == name]
        if any(instance.configured for instance in own):
            lines.append(Text("? of no profile", "bold"))
        else:
            lines += page.item(Level.MOVING, Text.assemble((name, "bold"), "  not in fleetd.toml any more"))
        lines += instance_lines(own, page, last_words)
    return lines


def queue_lines(status: Status, page: Page) -> Lines:
    """For each queue: the age of its oldest job, its target, the jobs that wait, busy threads and needed ones."""
    symbols, width = page.symbols, page.width
    name_cells = min(max([10, *(len(q.name) for q in status.queues)]), 12 if width < 60 else 20)
    room = width - 2 - name_cells - 9 - 8
    numbers: tuple[tuple[str, int], ...] = (("JOBS", 9), ("BUSY", 7), ("NEED", _NEED_CELLS))
    cells_wanted = sum(cells for _, cells in numbers)
    numbers = numbers[: 3 if room >= cells_wanted else 1 if room >= 9 else 0]
    bar_cells = min(room - cells_wanted - 9, 60) if room - cells_wanted - 9 >= 6 else 0
    title = "  " + left("QUEUE", name_cells, symbols) + f"{'WAITING':>9}{'TARGET':>8}"
    title += " " * (bar_cells + 9) if bar_cells else ""
    title += "".join(right(name, cells, symbols) for name, cells in numbers)
    lines = [Text(title, f"bold {QUIET}")]
    for queue in status.queues:
        level = queue_level(queue)
        line = Text.assemble(sign(level, symbols), " ", left(queue.name, name_cells, symbols))
        style = f"bold {STYLES[level]}" if level > Level.OK else ""
        line.append(right(duration(queue.latency_seconds), 9, symbols), style)
        target = "none" if queue.target_seconds is None else duration(queue.target_seconds)
        line.append(right(target, 8, symbols), QUIET)
        if bar_cells:
            line.append_text(_wait_bar(queue, status, bar_cells, symbols))
        values = (count(queue.length_jobs), count(queue.busy_threads), _threads(queue.need_threads))
        for (_, cells), value in zip(numbers, values, strict=False):
            line.append(right(value, cells, symbols))
        lines.append(line)
    return lines if status.queues else [*lines, Text("  no queue is known yet", QUIET)]


def _threads(threads: float | None) -> str:
    """`97 threads`, in the unit that tells them from instances."""
    if threads is None or threads != threads:
        return UNKNOWN
    return f"{count(threads if threads < 9.95 else round(threads))} threads"


def _wait_bar(queue: QueueStatus, status: Status, cells: int, symbols: Symbols) -> Text:
    """The wait as a share of the target, beyond it as a multiple; or why it is unknown."""
    if queue.latency_seconds is None:
        lost = any(source.name == "redis" and not source.ok for source in status.sources)
        why = "Redis can't be read" if lost else "see the log: unreadable key"
        return Text("  " + left(why, cells + 7, symbols), QUIET)
    if queue.target_seconds is None:
        return Text("  " + left("may wait for ever", cells + 7, symbols), QUIET)
    share = queue.latency_seconds / queue.target_seconds if queue.target_seconds > 0 else 0.0
    style = STYLES[queue_level(queue)]
    drawn, factor = bar(share, cells, style, symbols), ""
    if share > 1:  # then the whole bar is the wait, with a mark at the target
        at = min(max(round(cells / share), 0), cells - 1)
        rest = symbols.fill * (cells - at - 1)
        drawn = Text.assemble((symbols.fill * at, style), (symbols.mark, "bold"), (rest, style))
        number = f"{share:.1f}" if share < 9.95 else f"{min(share, 9999):,.0f}"
        factor = ("x" if symbols.ascii_only else "×") + number
    return Text.assemble("  ", drawn, " ", (left(factor, 6, symbols), f"bold {style}"))


#: The findings name each such unit, and what is wrong with it.
_SAID_ABOVE = frozenset({ClampCode.FOREIGN_UNIT})


def _host_lines(status: Status, page: Page, last_words: Mapping[str, LastWords]) -> Lines:
    """Memory, the sources of all readings, the scheduler, and clamps of no profile."""
    memory, sources = _memory(status, page.symbols), _sources(status, page.symbols)
    both = Text.assemble(memory, "   ", ("Sources ", "bold"), sources)
    if page.dense and page.label("Memory").cell_len + both.cell_len <= page.width:
        lines = page.labelled("Memory", both)
    else:
        lines = page.labelled("Memory", memory) + page.labelled("Sources", sources)
    head = Text.assemble(page.label("Scheduler"), sign(scheduler_level(status), page.symbols), " ")
    said = sentence(status.scheduler.sentence)
    if (status.scheduler.processes or 0) > 1:
        said = f"{status.scheduler.processes} processes, on {', '.join(status.scheduler.where)}: {said}"
    if status.scheduler.unit_state not in ("", "inactive"):
        said += f" Unit here: {status.scheduler.unit_state}."
    lines += page.wrap(head, said)
    if status.scheduler.unit_state == "failed":
        lines += last_words_lines(SCHEDULER_UNIT, page, last_words)
    for clamp in status.clamps:
        if not clamp.profile and not _is_said(status, clamp):
            lines += clamp_lines(clamp, page)
    return lines


def _is_said(status: Status, clamp: ClampStatus) -> bool:
    """Whether another line says the same: the findings, the scheduler's own line, or that of the rollout."""
    if clamp.code == ClampCode.ROLLING:
        return status.rollout is not None
    above = clamp.code in _SAID_ABOVE or told_as_full(clamp)
    return above or clamp.sentence == status.scheduler.sentence


#: Less pressure than this is usual.
_PRESSURE_SHOWN_SHARE = 0.05
_SCARCE = frozenset({ClampCode.MEMORY, ClampCode.MEMORY_UNKNOWN, ClampCode.HOST_PRESSURE, ClampCode.OOM_KILLED})


def _memory(status: Status, symbols: Symbols) -> Text:
    if status.memory_available_bytes is None:
        why = next((s.why for s in status.sources if s.name == "host" and s.why), "no reading")
        return Text.assemble(sign(Level.UNKNOWN, symbols), f"{NBSP}unknown: {sentence(why)}")
    scarce = any(clamp.code in _SCARCE for clamp in status.clamps)
    amount = f"{size(status.memory_available_bytes)} available of {size(status.memory_total_bytes)}"
    if status.pressure is not None:
        stalled, short = status.pressure.memory_stalled_share, status.pressure.cpu_waiting_share
        amount += f", memory pressure {stalled:.0%}" if stalled >= _PRESSURE_SHOWN_SHARE else ""
        amount += f", CPU pressure {short:.0%}" if short >= _PRESSURE_SHOWN_SHARE else ""
    return Text.assemble(sign(Level.WARN if scarce else Level.OK, symbols), f" {amount}")


def _sources(status: Status, symbols: Symbols) -> Text:
    """Each source that can't be read, with the age of its last reading; then how old the other readings are."""
    lost = [source for source in status.sources if not source.ok]
    read_ages = [source.age_seconds or 0.0 for source in status.sources if source.ok]
    text = Text()
    for source in lost:
        age = "never read" if source.age_seconds is None else f"last read {duration(source.age_seconds)} ago"
        text.append_text(Text.assemble(sign(Level.UNKNOWN, symbols), f"{NBSP}{source.name}{NBSP}"))
        text.append(age.replace(" ", NBSP), STYLES[Level.UNKNOWN]).append("  ")
    if read_ages:
        said = f"the other {len(read_ages)}" if lost else f"all {len(read_ages)}"
        said = f"{NBSP}{said} read {duration(max(read_ages))} ago"
        text.append_text(Text.assemble(sign(Level.OK, symbols), said))
    return text


def event_lines(status: Status, page: Page) -> Lines:
    """What fleetd did last, the newest first, and what it does next."""
    events_max = _EVENTS_DENSE if page.dense else _EVENTS_AIRY
    events = sorted(status.last_events, key=lambda event: event.age_seconds)[:events_max]
    lines: Lines = []
    for event in events:
        label = page.label("Last" if event is events[0] else "")
        age = left(f"{duration(event.age_seconds)} ago", 12, page.symbols)
        lines += page.wrap(Text.assemble(label, (age, QUIET)), event.sentence)
    if not events:
        lines += page.labelled("Last", Text("nothing since it started", QUIET))
    lines += would_lines(status, page)
    return lines + page.labelled("Next", sentence(status.next_sentence) or UNKNOWN)
