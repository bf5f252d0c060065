"""The live screen: the phase, fleetd's view of queues and connections, and what Redis and systemd show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec import structs
from rich.text import Text

from fleetd.cli.advice.verdict import ROUTINE_CLAMPS, Level, scheduler_level
from fleetd.cli.screens.connections import limit_lines
from fleetd.cli.screens.status import event_lines, queue_lines
from fleetd.cli.screens.status_instances import profile_lines
from fleetd.cli.terminal.lines import Lines, Page, hanging, side_by_side
from fleetd.cli.terminal.safe_text import cleaned
from fleetd.cli.terminal.symbols import QUIET, Symbols, sign
from fleetd.core.model.policy_tables import SCHEDULER_QUEUE
from fleetd.core.model.reasons.base import ClampCode
from fleetd.core.model.status import ClampStatus, Status
from fleetd.words.formatting import sentence
from lab.demo.graph import graph
from lab.demo.samples import Sample
from lab.demo.story import SHORTENED, Progress

SPAN_SECONDS = 200
"""The span of the graphs. A longer story is squeezed into them."""

_STYLES = {
    "calm": "green",
    "surge": "red",
    "power cut": "red",
    "recovery": "yellow",
    "shrink": "cyan",
    "return": "cyan",
    "count": "green",
}


@dataclass(frozen=True)
class Scene:
    """Everything that one screen shows."""

    progress: Progress
    samples: Sequence[Sample]
    status: Status | None
    """fleetd's latest status. None: there is none yet."""
    silence: str = ""
    """Why there is no newer status although there should be."""
    keep: bool = False


@dataclass(frozen=True)
class _Layout:
    """How much of everything is shown. The first layout that fits is used."""

    clamps: int = 1
    blank_lines: bool = False
    instances: bool = False
    """Whether each instance has its own cell."""
    watch_rows: int = 2
    footer: bool = True


_LAYOUTS = (
    _Layout(clamps=4, blank_lines=True, instances=True),
    _Layout(clamps=3, blank_lines=True, instances=True),
    _Layout(clamps=2, blank_lines=True, instances=True),
    _Layout(clamps=2, instances=True),
    _Layout(clamps=2),
    _Layout(),
    _Layout(footer=False),
    _Layout(footer=False, watch_rows=1),
)


def graph_rows(height: int) -> int:
    """Depends only on the terminal's height, so that nothing jumps while the story goes on."""
    return next(rows for least, rows in ((50, 8), (36, 5), (30, 4), (26, 3), (22, 2), (0, 1)) if height >= least)


def screen_lines(scene: Scene, *, width: int, height: int, symbols: Symbols) -> Lines:
    """The screen as `height` lines of at most `width` cells."""
    width = max(width, 40)
    status = None if scene.status is None else shown(scene.status, symbols)
    rows = graph_rows(height)
    lines: Lines = []
    end: Lines = []
    for layout in _LAYOUTS:
        page = Page(width, symbols, dense=not layout.blank_lines)
        lines = _compose(scene, status, page, layout, rows)
        end = footer(scene, page, SHORTENED) if layout.footer else []
        if len(lines) + len(end) <= height:
            break
    lines = lines[: height - len(end)]
    lines += [Text() for _ in range(height - len(end) - len(lines))] + end
    for line in lines:
        line.truncate(width)
    return lines


def shown(status: Status, symbols: Symbols) -> Status:
    """The status, safe to draw, and without the queue of cron jobs, which is of no interest here."""
    status = cleaned(status, ascii_only=symbols.ascii_only)
    return structs.replace(status, queues=tuple(q for q in status.queues if q.name != SCHEDULER_QUEUE))


def _compose(scene: Scene, status: Status | None, page: Page, layout: _Layout, rows: int) -> Lines:
    blocks = [headline(scene, page, layout.watch_rows)]
    if status is None:
        blocks.append(graphs(scene, page, rows))
    else:
        blocks.append(queue_lines(status, page))
        blocks.append(graphs(scene, page, rows))
        blocks.append(_fleet(status, page, layout))
        blocks.append([*limit_lines(status, page), *_scheduler(status, page), *event_lines(status, page)])
    lines: Lines = []
    for block in blocks:
        if block and lines and layout.blank_lines:
            lines.append(Text())
        lines += block
    return lines


def headline(scene: Scene, page: Page, watch_rows: int) -> Lines:
    """The phase with its time, and what to watch for, in at most `watch_rows` lines."""
    progress = scene.progress
    style = _STYLES.get(progress.phase.name, "green")
    head = Text.assemble(
        (f" {progress.phase.name.upper()} ", f"bold reverse {style}"),
        (f"  {clock(progress.phase_seconds)}", "bold"),
        (f"   part {progress.number} of {progress.total}", QUIET),
    )
    tail = Text.assemble(("fleetd's demo  ", QUIET), (clock(progress.story_seconds), "bold"))
    gap = page.width - head.cell_len - tail.cell_len
    if gap > 0:
        head.append(" " * gap)
        head.append_text(tail)
    lines = hanging(Text(), progress.phase.watch, page.width, lines_max=watch_rows, symbols=page.symbols)
    if scene.silence:
        mark = Text.assemble(sign(Level.UNKNOWN, page.symbols), " ")
        lines += hanging(mark, scene.silence, page.width, lines_max=2, symbols=page.symbols)
    return [head, *lines]


def graphs(scene: Scene, page: Page, rows: int, title: str = "Instances (systemd)") -> Lines:
    """Two series side by side, both measured by the demo itself."""
    half = (page.width - 2) // 2
    instances = [sample.running_instances for sample in scene.samples]
    waiting = [sample.waiting_total for sample in scene.samples]
    symbols = page.symbols
    one = graph(title, instances, width=half, rows=rows, span=SPAN_SECONDS, style="cyan", symbols=symbols)
    two = graph(
        "Jobs waiting (Redis)", waiting, width=half, rows=rows, span=SPAN_SECONDS, style="yellow", symbols=symbols
    )
    return side_by_side(one, two, half, 2)


def telling(status: Status, number: int) -> list[ClampStatus]:
    """The clamps by importance: those that stop growth, then those that delay shrinking, then the rest."""

    def weight(clamp: ClampStatus) -> int:
        if clamp.code == ClampCode.CONNECTIONS:
            return 0
        return 1 if clamp.code not in ROUTINE_CLAMPS else 2 if clamp.code == ClampCode.HOLD_WINDOW else 3

    every = [clamp for profile in status.profiles for clamp in profile.clamps]
    return sorted(every, key=weight)[:number]


def _fleet(status: Status, page: Page, layout: _Layout) -> Lines:
    """The profiles as fleetctl shows them, but only with the most important clamps."""
    shown = telling(status, layout.clamps)
    seen = status if layout.instances else structs.replace(status, instances=())
    lines: Lines = []
    for profile in status.profiles:
        clamps = tuple(clamp for clamp in profile.clamps if clamp in shown)
        lines += profile_lines(seen, structs.replace(profile, clamps=clamps), page)
    return lines


def _scheduler(status: Status, page: Page) -> Lines:
    head = Text.assemble(page.label("Scheduler"), sign(scheduler_level(status), page.symbols), " ")
    said = sentence(status.scheduler.sentence)
    return hanging(head, said, page.width, lines_max=1, symbols=page.symbols)


def footer(scene: Scene, page: Page, shortened: str) -> Lines:
    """How it ends, and what is not as usual."""
    end = "It stays up." if scene.keep else "Ctrl-C ends it."
    return hanging(Text(), Text(f"{end} {shortened}", QUIET), page.width, lines_max=2, symbols=page.symbols)


def clock(seconds: float) -> str:
    """`0:07`, `2:31`."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"
