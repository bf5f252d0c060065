"""The status screen: the densest sheet that is needed, the airiest that fits; each section gives lines of its width."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from rich.console import Group
from rich.text import Text

from fleetd.cli.advice.findings import findings, headline
from fleetd.cli.advice.last_words import LastWords
from fleetd.cli.advice.verdict import (
    Level,
    binding,
    connection_level,
    queue_level,
    scheduler_level,
    told_above,
)
from fleetd.cli.screens.people import people_lines
from fleetd.cli.screens.profiles import clamp_lines, instance_lines, profile_lines, words_lines
from fleetd.cli.screens.shares import share_bar, share_legend, tightest_shares
from fleetd.cli.screens.sheet import LABEL_CELLS, Sheet
from fleetd.cli.terminal.lines import NBSP, Lines, beside, fit, hanging, left, right
from fleetd.cli.terminal.safe_text import cleaned
from fleetd.cli.terminal.symbols import BANNER_STYLE, QUIET, STYLES, Symbols, bar, sign
from fleetd.core.model.decision import SCHEDULER_UNIT, ClampCode
from fleetd.core.model.status import QueueStatus, Status
from fleetd.words.formatting import CONNECTION_SOURCES, UNKNOWN, count, duration, sentence, size

_TWO_PANES_CELLS = 150
_WIDTH_MAX = 220  # wider lines are not read, they are searched


def status_lines(
    status: Status,
    *,
    width: int,
    height: int | None,
    symbols: Symbols,
    clock: str = "",
    last_words: Mapping[str, LastWords] | None = None,
) -> Lines:
    """The whole screen as lines of at most `width` cells.

    With a height (lines of the terminal) it is made denser until it fits; what can't fit even then is left to
    scroll, never left out. `clock` stands at the right end of the second line; `last_words` of a unit, below it.
    """
    status = cleaned(status, ascii_only=symbols.ascii_only)
    sheet = Sheet(width=max(20, min(width, _WIDTH_MAX)), symbols=symbols, last_words=last_words or {})
    tall = height is None or height >= 50
    dense = replace(sheet, events=1, blank_lines=False, cell_kind="small", wrap_lines=2)
    sheets = [
        replace(sheet, events=10 if tall else 4),
        replace(sheet, events=2),
        replace(sheet, events=2, blank_lines=False),
        replace(dense, cell_kind="middle"),
        dense,
        replace(dense, subline=False),
        replace(dense, subline=False, journal_lines=1, wrap_lines=1 if width >= 60 else 2),
    ]
    lines: Lines = []
    for sheet in sheets:
        lines = _compose(status, sheet, clock)
        if height is None or len(lines) <= height:
            break
    for line in lines:
        line.truncate(width)  # for terminals narrower than any sheet
    return lines


def status_screen(
    status: Status, *, width: int, height: int | None, symbols: Symbols, clock: str = ""
) -> Group:
    """The same as one thing that rich can print."""
    return Group(*status_lines(status, width=width, height=height, symbols=symbols, clock=clock))


def cropped(lines: Lines, height: int, symbols: Symbols) -> Lines:
    """For a screen that can't scroll: the first lines, and how many are missing."""
    if len(lines) <= height:
        return lines
    missing = len(lines) - height + 1
    return [
        *lines[: height - 1],
        Text(f"{symbols.ellipsis} {missing} more lines: a higher window shows them", QUIET),
    ]


def _compose(status: Status, sheet: Sheet, clock: str) -> Lines:
    head = headline_lines(status, sheet, clock)
    people = people_lines(status, sheet)
    if sheet.width >= _TWO_PANES_CELLS:
        pane = replace(sheet, width=(sheet.width - 4) // 2)
        left = _spaced(
            [queue_lines(status, pane), connection_lines(status, pane), machine_lines(status, pane)], pane
        )
        right = _profiles(status, pane)
        return _spaced([head, people, beside(left, right, pane.width, 4), story_lines(status, sheet)], sheet)
    rest = connection_lines(status, sheet) + machine_lines(status, sheet) + story_lines(status, sheet)
    return _spaced([head, people, queue_lines(status, sheet), _profiles(status, sheet), rest], sheet)


def _profiles(status: Status, sheet: Sheet) -> Lines:
    lines: Lines = []
    known = {profile.name for profile in status.profiles}
    for profile in status.profiles:
        lines += profile_lines(status, profile, sheet)
    strays = [instance for instance in status.instances if instance.profile not in known]
    if strays:
        lines.append(Text("? of no profile", "bold"))
        lines += instance_lines(strays, sheet)
    return lines


def _spaced(blocks: list[Lines], sheet: Sheet) -> Lines:
    lines: Lines = []
    for block in blocks:
        if block and lines and sheet.blank_lines:
            lines.append(Text())
        lines += block
    return lines


def headline_lines(status: Status, sheet: Sheet, clock: str) -> Lines:
    """The verdict, whatever else is wrong, and who says so."""
    found = findings(status)[:9] or (headline(status),)
    lines: Lines = []
    for finding in found:
        style = f"bold {STYLES[finding.level]}" if finding is found[0] else ""
        text = Text(finding.sentence, style)
        if finding.banner:  # loud: nothing else explains why nothing moves
            text = Text.assemble((f" {finding.banner} ", BANNER_STYLE), " ", text)
        head = Text.assemble(sign(finding.level, sheet.symbols), " ")
        lines_max = 8 if finding.banner else 4 if style else min(2, sheet.wrap_lines)
        lines += hanging(head, text, sheet.width, lines_max=lines_max, symbols=sheet.symbols)
    if sheet.blank_lines and all(finding.banner for finding in found):
        lines.append(Text.assemble(sign(Level.OK, sheet.symbols), " Every queue waits less than its target."))
    return [*lines, origin_line(status, sheet, clock)] if sheet.subline or clock else lines


def origin_line(status: Status, sheet: Sheet, clock: str) -> Text:
    """Who says all this, and how old it is."""
    dot = f" {sheet.symbols.dot} "
    said = dot.join(
        [
            status.host,
            f"fleetd {status.version}",
            *([f"Mastodon {status.mastodon_version}"] if status.mastodon_version else []),
            f"up {duration(status.uptime_seconds)}",
            f"looked {duration(status.tick_age_seconds)} ago",
        ]
    )
    gap = " " * max(1, sheet.width - 2 - len(said) - len(clock)) if clock else ""
    return Text(fit(f"  {said}{gap}{clock}", sheet.width, sheet.symbols), QUIET)


def queue_lines(status: Status, sheet: Sheet) -> Lines:
    """Per queue: how long its oldest job waits against the target, how many wait, threads busy and needed."""
    symbols, width = sheet.symbols, sheet.width
    name_cells = min(max([10, *(len(q.name) for q in status.queues)]), 12 if width < 60 else 20)
    fixed = 2 + name_cells + 1 + 8 + 1 + 7
    jobs, threads = width >= fixed + 9, width >= fixed + 23
    bar_cells = min(width - fixed - 9 - 14 - 9, 60) if threads else 0
    if bar_cells < 6:
        bar_cells = 0
    head = (
        "  " + left("QUEUE", name_cells, symbols) + right("WAITING", 9, symbols) + right("TARGET", 8, symbols)
    )
    head += "  " + " " * bar_cells + " " * 7 if bar_cells else ""
    head += right("JOBS", 9, symbols) if jobs else ""
    head += right("BUSY", 7, symbols) + right("NEED", 7, symbols) if threads else ""
    lines = [_header(head, width)]
    for queue in status.queues:
        level = queue_level(queue)
        line = Text.assemble(sign(level, symbols), " ", left(queue.name, name_cells, symbols))
        style = f"bold {STYLES[level]}" if level > Level.OK else ""
        line.append(right(duration(queue.latency_seconds), 9, symbols), style)
        line.append(right(duration(queue.target_seconds), 8, symbols), QUIET)
        if bar_cells:
            line.append_text(_wait_bar(queue, status, bar_cells, symbols))
        if jobs:
            line.append(right(count(queue.length_jobs), 9, symbols))
        if threads:
            line.append(right(count(queue.busy_threads), 7, symbols))
            line.append(right(count(queue.need_threads), 7, symbols))
        lines.append(line)
    if not status.queues:
        lines.append(Text("  no queue is known yet", QUIET))
    return lines


def _header(text: str, width: int) -> Text:
    return Text(text[:width].rstrip(), f"bold {QUIET}")


def _wait_bar(queue: QueueStatus, status: Status, cells: int, symbols: Symbols) -> Text:
    """The wait as a share of the target; beyond it how many times. Unknown: why."""
    if queue.latency_seconds is None:
        redis = next((s for s in status.sources if s.name == "redis"), None)
        why = "Redis can't be read" if redis is not None and not redis.ok else "see the log: unreadable key"
        return Text("  " + left(why, cells + 7, symbols), QUIET)
    share = queue.latency_seconds / queue.target_seconds if queue.target_seconds > 0 else 0.0
    style = STYLES[queue_level(queue)]
    line = Text.assemble("  ", bar(share, cells, style, symbols))
    over = ""
    if share > 1:  # then the whole bar is the wait, and a mark stands where the target is
        at = min(max(round(cells / share), 0), cells - 1)
        line = Text.assemble(
            "  ", (symbols.fill * at, style), (symbols.mark, "bold"), (symbols.fill * (cells - at - 1), style)
        )
        times = f"{share:.1f}" if share < 9.95 else f"{share:,.0f}"
        over = ("x" if symbols.ascii_only else "×") + (times if share < 9999 else "9999")
    line.append(" " + left(over, 6, symbols), f"bold {style}")
    return line


def connection_lines(status: Status, sheet: Sheet) -> Lines:
    """The limit that binds as one bar: others, claims, headroom, reserve; then the same in numbers."""
    symbols, label = sheet.symbols, sheet.label("Connections")
    level, shares = connection_level(status), tightest_shares(status)
    limit = count(status.connections.limit_connections)
    source = binding(status)
    if source is not None and source.name != "postgres":
        limit = f"{CONNECTION_SOURCES[source.name]}'s {limit}"
    legend = hanging(
        Text(" " * label.cell_len), share_legend(shares, symbols), sheet.width, lines_max=4, symbols=symbols
    )
    if status.connections.limit_connections is None or level == Level.UNKNOWN:
        lost = [s for s in status.sources if s.name in CONNECTION_SOURCES and s.why]
        why = sentence(lost[0].why) if lost else "The limit is unknown."
        rows = hanging(
            Text.assemble(label, sign(level, symbols), f" of {limit}: "),
            why,
            sheet.width,
            lines_max=min(2, sheet.wrap_lines),
            symbols=symbols,
        )
        return rows + legend
    tail = Text.assemble(f" of {limit} ", sign(level, symbols))
    cells = max(4, min(100, sheet.width - label.cell_len - tail.cell_len))
    return [Text.assemble(label, share_bar(shares, cells, symbols), tail), *legend]


#: Clamps that say no more than another line does: the scheduler's, the roll's.
_SAID_ABOVE = frozenset({ClampCode.SCHEDULER_LIVE, ClampCode.ROLLING})


def machine_lines(status: Status, sheet: Sheet) -> Lines:
    """Memory, the scheduler, and the sources of all readings."""
    symbols = sheet.symbols
    lines: Lines = []
    memory, sources = _memory(status, symbols), _sources(status, symbols)
    if sheet.blank_lines or memory.cell_len + sources.cell_len + 2 * LABEL_CELLS + 2 > sheet.width:
        lines += hanging(sheet.label("Memory"), memory, sheet.width, lines_max=2, symbols=symbols)
        lines += hanging(sheet.label("Sources"), sources, sheet.width, lines_max=4, symbols=symbols)
    else:
        both = Text.assemble(memory, "   ", ("Sources ", "bold"), sources)
        lines += hanging(sheet.label("Memory"), both, sheet.width, lines_max=2, symbols=symbols)
    level = scheduler_level(status)
    said = sentence(status.scheduler.sentence)
    if not all(host in said for host in status.scheduler.where):
        said = f"{', '.join(status.scheduler.where)}: {said}"
    if (status.scheduler.processes or 0) > 1:
        said = f"{status.scheduler.processes} processes: {said}"
    if status.scheduler.unit_state not in ("", "inactive"):
        said += f" Unit here: {status.scheduler.unit_state}."
    head = Text.assemble(sheet.label("Scheduler"), sign(level, symbols), " ")
    lines += hanging(head, said, sheet.width, lines_max=min(2, sheet.wrap_lines), symbols=symbols)
    if status.scheduler.unit_state == "failed":
        lines += words_lines(SCHEDULER_UNIT, sheet)
    for clamp in status.clamps:
        told = clamp.sentence in told_above(status)
        said_above = told or (clamp.code in _SAID_ABOVE and not sheet.blank_lines)
        if not clamp.profile and not said_above:
            lines += clamp_lines(clamp, sheet)
    return lines


#: Pressure below this share of the last minute is no news.
_FELT_SHARE = 0.05
_SCARCE = frozenset(
    {ClampCode.MEMORY, ClampCode.MEMORY_UNKNOWN, ClampCode.HOST_PRESSURE, ClampCode.OOM_KILLED}
)


def _memory(status: Status, symbols: Symbols) -> Text:
    scarce = any(clamp.code in _SCARCE for clamp in status.clamps)
    level = Level.UNKNOWN if status.memory_available_bytes is None else Level.WARN if scarce else Level.OK
    if status.memory_available_bytes is None:
        host = next((s for s in status.sources if s.name == "host"), None)
        why = host.why if host is not None and host.why else "no reading"
        return Text.assemble(sign(level, symbols), f"{NBSP}unknown: {sentence(why)}")
    amount = f"{size(status.memory_available_bytes)} available of {size(status.memory_total_bytes)}"
    if status.pressure is not None:
        shares = (
            ("stalled", status.pressure.memory_stalled_share),
            ("CPU short", status.pressure.cpu_waiting_share),
        )
        amount += "".join(f", {what} {share:.0%}" for what, share in shares if share >= _FELT_SHARE)
    return Text.assemble(sign(level, symbols), f" {amount}")


def _sources(status: Status, symbols: Symbols) -> Text:
    """Well in few words; each that can't be read by name, with its age."""
    lost = [source for source in status.sources if not source.ok]
    well = [source.age_seconds or 0.0 for source in status.sources if source.ok]
    read = Text()
    for source in lost:
        age = "never read" if source.age_seconds is None else f"last read {duration(source.age_seconds)} ago"
        read.append_text(Text.assemble(sign(Level.UNKNOWN, symbols), f"{NBSP}{source.name}{NBSP}"))
        read.append(age.replace(" ", NBSP), STYLES[Level.UNKNOWN])
        read.append("  ")
    if well:
        who = f"the other {len(well)}" if lost else f"all {len(well)}"
        read.append_text(
            Text.assemble(sign(Level.OK, symbols), f"{NBSP}{who} read {duration(max(well))} ago")
        )
    return read


def story_lines(status: Status, sheet: Sheet) -> Lines:
    """What fleetd did, newest first, and what comes next."""
    lines: Lines = []
    events = sorted(status.last_events, key=lambda event: event.age_seconds)[: max(1, sheet.events)]
    label = sheet.label("Last")
    for event in events:
        head = Text.assemble(label, (left(duration(event.age_seconds) + " ago", 12, sheet.symbols), QUIET))
        lines += hanging(
            head, event.sentence, sheet.width, lines_max=min(2, sheet.wrap_lines), symbols=sheet.symbols
        )
        label = Text(" " * label.cell_len)
    if not events:
        lines.append(Text.assemble(label, ("nothing since it started", QUIET)))
    return lines + hanging(
        sheet.label("Next"),
        sentence(status.next_sentence) or UNKNOWN,
        sheet.width,
        lines_max=3,
        symbols=sheet.symbols,
    )
