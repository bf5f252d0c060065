"""The summary: figures from job records, Redis, systemd and Postgres, and whether each promise was kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from fleetd.cli.advice.verdict import Level
from fleetd.cli.terminal.lines import Lines, fit, hanging, left
from fleetd.cli.terminal.safe_text import clean
from fleetd.cli.terminal.symbols import QUIET, STYLES, Symbols, sign
from fleetd.words.formatting import UNKNOWN, count, duration, times
from lab.demo.graph import graph
from lab.demo.samples import Sample, known
from lab.demo.story import INSTANCES_MIN, TARGETS_SECONDS
from lab.jobs.records import Tally

PROMISED = "the fleet grew, stopped at its budget, shrank again, and no job was lost"
_LABEL_CELLS = 21


@dataclass(frozen=True)
class Figures:
    """What was counted at the end of the story. None: that source could not be read."""

    tally: Tally
    """From the records of loaders and schedulers, the record of every run on every host, and Redis."""
    redis_processed_jobs: int | None
    """`stat:processed`, Sidekiq's own count."""
    redis_failed_jobs: int | None
    samples: Sequence[Sample]
    connections_limit: int | None
    """How many connections Postgres has for ordinary roles."""
    refusals: int | None
    """Lines with "too many clients" or "remaining connection slots" in Postgres's log."""
    restarts: int | None
    """Restarts of Sidekiq's units, according to systemd's journal."""
    failed_units: Sequence[str] | None
    cron_doubles: int
    """Cron jobs that were enqueued again too early, as two schedulers would do."""
    stopped_by_budget: str
    """fleetd's sentence when connections stopped growth; "" if there was none."""
    overdue_phases: Sequence[str] = ()
    """Phases that did not end by themselves."""


@dataclass(frozen=True)
class Line:
    """One line of the summary. `kept` is None if nothing was promised."""

    label: str
    figure: str
    kept: bool | None = None


@dataclass(frozen=True)
class Group:
    """Lines with one source."""

    source: str
    lines: tuple[Line, ...]


def judge(figures: Figures) -> list[Group]:
    """The whole summary, in order."""
    return [_records(figures), _redis(figures), _systemd(figures), _postgres(figures), _fleetd(figures)]


def broken(groups: Sequence[Group]) -> list[str]:
    """The broken promises, as `label: figure`."""
    return [f"{line.label}: {line.figure}" for group in groups for line in group.lines if line.kept is False]


def _records(figures: Figures) -> Group:
    tally = figures.tally
    unfinished = tally.waiting + tally.running
    processed = count(tally.done) + (f", {times(unfinished, 'job')} not finished" if unfinished else "")
    lost = f"{len(tally.lost)}" + (f" ({', '.join(tally.lost[:3])} …)" if tally.lost else "")
    waits = [f"{queue} {duration(tally.waits[queue].longest)}" for queue in TARGETS_SECONDS if queue in tally.waits]
    return Group(
        "Job records: every enqueuing, start and end, written down where it happened",
        (
            Line("jobs enqueued", count(tally.enqueued), tally.enqueued > 0),
            Line("jobs processed", processed, unfinished == 0 and tally.done > 0),
            Line("jobs lost", lost, not tally.lost),
            Line("jobs run twice", count(len(tally.repeated)), not tally.repeated),
            Line("cron jobs doubled", count(figures.cron_doubles), figures.cron_doubles == 0),
            Line("slowest wait", ", ".join(waits) or UNKNOWN),
        ),
    )


def _redis(figures: Figures) -> Group:
    processed, failed = figures.redis_processed_jobs, figures.redis_failed_jobs
    late = [name for name in figures.overdue_phases if name in ("recovery", "count")]
    after = "every queue back within its target" if not late else "not every queue came back within its target"
    seen = known([sample.schedulers for sample in figures.samples])
    schedulers = f"{min(seen)} at least, {max(seen)} at most" if seen else UNKNOWN
    return Group(
        "Redis, once a second",
        (
            Line("Sidekiq's own count", f"{count(processed)} processed, {count(failed)} failed", failed == 0),
            Line("after the surge", after, not late),
            Line("schedulers", schedulers, set(seen) == {1}),
        ),
    )


def _systemd(figures: Figures) -> Group:
    running = known([sample.running_instances for sample in figures.samples])
    course, grew_and_shrank = UNKNOWN, False
    if running:
        most = max(running)
        course = f"{running[0]} at first, {most} at most, {running[-1]} in the end"
        grew_and_shrank = running[0] == INSTANCES_MIN == running[-1] and most > INSTANCES_MIN
    failed = figures.failed_units
    troubles = UNKNOWN if failed is None else f"{len(failed)}" + (f" ({', '.join(failed)})" if failed else "")
    return Group(
        "systemd and its journal, once a second",
        (
            Line("instances", course, grew_and_shrank),
            Line("died and restarted", count(figures.restarts), figures.restarts == 0),
            Line("failed units", troubles, failed is not None and not failed),
        ),
    )


def _postgres(figures: Figures) -> Group:
    seen = known([sample.connections for sample in figures.samples])
    peak, limit = max(seen, default=None), figures.connections_limit
    within = peak is not None and limit is not None and peak <= limit
    return Group(
        "Postgres: pg_stat_activity once a second, and its log",
        (
            Line("most connections", f"{count(peak)} of {count(limit)}", within),
            Line("'too many clients'", count(figures.refusals), figures.refusals == 0),
        ),
    )


def _fleetd(figures: Figures) -> Group:
    said = figures.stopped_by_budget
    return Group("fleetd", (Line("what stopped growth", said or "not the connections", bool(said)),))


def summary_lines(
    groups: Sequence[Group], samples: Sequence[Sample], *, width: int, symbols: Symbols, counted_by: str = "systemd"
) -> Lines:
    """The summary for a terminal or a pipe, `width` cells wide."""
    width = min(max(width, 40), 120)
    running = [sample.running_instances for sample in samples]
    drawn = graph(
        f"Instances over time ({counted_by})",
        running,
        width=width,
        rows=3,
        span=len(running),
        style="cyan",
        symbols=symbols,
        newest=False,
    )
    for group in groups:
        drawn += [Text(), Text(fit(group.source, width, symbols), QUIET)]
        for line in group.lines:
            level = Level.OK if line.kept else Level.BAD
            mark = sign(level, symbols) if line.kept is not None else (symbols.dot, QUIET)
            head = Text.assemble(mark, " ", left(line.label, _LABEL_CELLS, symbols))
            style = f"bold {STYLES[level]}" if line.kept is False else "bold"
            figure = clean(line.figure, ascii_only=symbols.ascii_only)
            drawn += hanging(head, Text(figure, style), width, lines_max=4, symbols=symbols)
    return drawn


def verdict(groups: Sequence[Group], promised: str = PROMISED) -> str:
    """The last sentence. `promised`: what was, as a clause."""
    wrong = broken(groups)
    return f"Not as promised: {'; '.join(wrong)}." if wrong else f"As promised: {promised}."
