"""The live screen of three hosts: what observers see on each of them, and what the leading host says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from fleetd.cli.advice.verdict import scheduler_level
from fleetd.cli.screens.connections import limit_lines
from fleetd.cli.screens.hosts import host_lines
from fleetd.cli.screens.status import queue_lines
from fleetd.cli.terminal.lines import Lines, Page, hanging, left, right
from fleetd.cli.terminal.safe_text import clean, cleaned
from fleetd.cli.terminal.symbols import QUIET, Symbols, sign
from fleetd.core.model.status import Status
from fleetd.words.formatting import UNKNOWN, sentence, times
from lab.demo.graph import strip
from lab.demo.hosts.scene import FleetScene
from lab.demo.hosts.story import HOSTS, INSTANCES_MAX, SHORTENED
from lab.demo.samples import Sample
from lab.demo.screen import SPAN_SECONDS, footer, graph_rows, graphs, headline, shown

_NAME_CELLS = 11
_TAIL_CELLS = 14


@dataclass(frozen=True)
class _Layout:
    """How much of everything is shown. The first layout that fits is used."""

    news_least: int
    news_lines: int = 1
    """How many lines one piece of news may take."""
    blank_lines: bool = False
    queues: bool = False
    table: bool = True
    watch_rows: int = 2
    footer: bool = True


_LAYOUTS = (
    _Layout(news_least=8, news_lines=2, blank_lines=True, queues=True),
    _Layout(news_least=5, news_lines=2, blank_lines=True, queues=True),
    _Layout(news_least=5, news_lines=2, blank_lines=True),
    _Layout(news_least=3, news_lines=2),
    _Layout(news_least=2, watch_rows=1),
    _Layout(news_least=1, watch_rows=1, table=False, footer=False),
)


def fleet_lines(scene: FleetScene, *, width: int, height: int, symbols: Symbols) -> Lines:
    """The screen as `height` lines of at most `width` cells."""
    width = max(width, 40)
    status = None if scene.status is None else shown(scene.status, symbols)
    rows = graph_rows(height)
    lines: Lines = []
    end: Lines = []
    for layout in _LAYOUTS:
        page = Page(width, symbols, dense=not layout.blank_lines)
        lines = page.joined(_blocks(scene, status, page, layout, rows))
        end = footer(scene, page, SHORTENED) if layout.footer else []
        room = height - len(lines) - len(end) - layout.blank_lines
        if room >= layout.news_least:
            break
    lines += [Text()] if layout.blank_lines else []
    lines += _news_lines(scene, page, layout, height - len(lines) - len(end))
    lines = lines[: height - len(end)]
    lines += [Text() for _ in range(height - len(end) - len(lines))] + end
    for line in lines:
        line.truncate(width)
    return lines


def _blocks(scene: FleetScene, status: Status | None, page: Page, layout: _Layout, rows: int) -> list[Lines]:
    blocks = [
        headline(scene, page, layout.watch_rows),
        graphs(scene, page, rows, "Instances on all hosts"),
        _host_strips(scene.samples, page),
    ]
    if layout.table and scene.fleet is not None:
        blocks.append(host_lines(cleaned(scene.fleet, ascii_only=page.symbols.ascii_only), page))
    if status is not None:
        blocks.append(queue_lines(status, page) if layout.queues else [])
        blocks.append([*limit_lines(status, page), *_scheduler(status, page)])
    return blocks


def _host_strips(samples: Sequence[Sample], page: Page) -> Lines:
    """For each host its live instances over time, and below them where a scheduler lived."""
    cells = max(page.width - _NAME_CELLS - _TAIL_CELLS - 3, 4)
    span, symbols = SPAN_SECONDS, page.symbols
    lines: Lines = []
    for host in HOSTS:
        seen = [None if s.instances_by_host is None else s.instances_by_host.get(host) for s in samples]
        drawn = strip(seen, cells=cells, span=span, top=INSTANCES_MAX, style="cyan", symbols=symbols)
        lines.append(_row(host, drawn, cells, *_state(samples, host), page))
    drawn = _scheduler_strip(samples, cells)
    said, style = _scheduler_state(samples)
    return [*lines, _row("scheduler", drawn, cells, said, style, page)]


def _row(name: str, drawn: Text, cells: int, said: str, style: str, page: Page) -> Text:
    bar = "|" if page.symbols.ascii_only else "│"
    line = Text.assemble((left(name, _NAME_CELLS, page.symbols), "bold"), (bar, QUIET), drawn)
    line.append(" " * (cells - drawn.cell_len))
    line.append("  ")
    return line.append(left(said, _TAIL_CELLS, page.symbols), style)


def _state(samples: Sequence[Sample], host: str) -> tuple[str, str]:
    seen = samples[-1].instances_by_host if samples else None
    if seen is None:
        return UNKNOWN, QUIET
    if host not in seen:
        return "no power", "bold red"
    return times(seen[host], "instance"), ""


def _scheduler_strip(samples: Sequence[Sample], cells: int) -> Text:
    """A host's number where its scheduler lived alone; `-`: none was seen; `!`: more than one lived."""
    line = Text()
    span = max(SPAN_SECONDS, len(samples), 1)
    for cell in range(cells):
        part = samples[cell * span // cells : max(cell * span // cells + 1, (cell + 1) * span // cells)]
        if not part:
            break
        worst = max((sample.scheduler_hosts or () for sample in part), key=len)
        line.append(worst[0][-1] if len(worst) == 1 else "!" if worst else "-", "yellow" if worst else "bold red")
    return line


def _scheduler_state(samples: Sequence[Sample]) -> tuple[str, str]:
    hosts = samples[-1].scheduler_hosts if samples else None
    if hosts is None:
        return UNKNOWN, QUIET
    if not hosts:
        return "on no host", "bold red"
    return f"on {' and '.join(hosts)}", "bold red" if len(hosts) > 1 else ""


def _scheduler(status: Status, page: Page) -> Lines:
    head = Text.assemble(page.label("Scheduler"), sign(scheduler_level(status), page.symbols), " ")
    said = f"{status.host}: {sentence(status.scheduler.sentence)}"
    return hanging(head, said, page.width, lines_max=2, symbols=page.symbols)


def _news_lines(scene: FleetScene, page: Page, layout: _Layout, room: int) -> Lines:
    """The newest news that fit, newest last."""
    lines: Lines = []
    for told in reversed(scene.told):
        age = max(0.0, scene.progress.story_seconds - told.at_seconds)
        head = Text.assemble((right(f"{age:.0f} s ago", 10, page.symbols), QUIET), "  ")
        said = clean(told.sentence, ascii_only=page.symbols.ascii_only)
        more = hanging(head, said, page.width, lines_max=layout.news_lines, symbols=page.symbols)
        if len(lines) + len(more) > room:
            break
        lines = more + lines
    return lines
