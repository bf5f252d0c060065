"""The screens of `fleetctl simulate` and `fleetctl replay`: tables of late jobs, instance-hours and starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from fleetd.cli.advice.verdict import Level
from fleetd.cli.screens.simulated_hosts import hosts_lines
from fleetd.cli.terminal.lines import Column, Lines, Page, Row, table
from fleetd.cli.terminal.safe_text import clean
from fleetd.cli.terminal.symbols import QUIET, sign
from fleetd.words.formatting import count, duration

if TYPE_CHECKING:
    from fleetd.simulate.replay.reconstruct import Reconstruction
    from fleetd.simulate.replay.replay import FleetError, QueueError
    from fleetd.simulate.scoring.outcome import Outcome
    from fleetd.simulate.trace.trace import Trace

REBUILT = "as recorded, rebuilt"


def _clean(text: str, page: Page) -> str:
    return clean(text, ascii_only=page.symbols.ascii_only)


def simulation_screen(trace: Trace, outcomes: list[Outcome], page: Page) -> Lines:
    """A row for each policy; if there is only one, a row for each of its queues, and of its hosts, as well."""
    title = Text.assemble(
        (_clean(trace.name, page), "bold"), f"  {duration(trace.duration_seconds)}, seed {trace.seed}"
    )
    legend = (
        f"{page.symbols.signs[Level.OK]} at most 1 % of all jobs late, and 5 % of those of a queue; hours: of all "
        "instances; reversals: starts soon after a stop, and stops soon after a start; claims: the most connections "
        "at once"
    )
    blocks = [page.wrap("", title), _policies(outcomes, page), page.wrap("", Text(legend, QUIET))]
    if len(outcomes) == 1:
        blocks.append(_queues(outcomes[0], page))
    if trace.hosts:
        blocks += [hosts_lines(trace, outcome, page) for outcome in outcomes]
    return page.joined(blocks)


#: For every run.
_COLUMNS = (
    Column("run", left=True),
    Column("late"),
    Column("worst queue", left=True, cells_min=11),
    Column("hours"),
    Column("starts"),
)


def _row(outcome: Outcome, name: str, page: Page) -> list[Text | str]:
    """The cells of `_COLUMNS`. The sign says whether the run meets the objective."""
    score, queues = outcome.score, outcome.score.queues
    worst = max(queues, key=lambda queue: queues[queue].late_fraction, default=None)
    return [
        Text.assemble(sign(Level.OK if score.meets_objective else Level.BAD, page.symbols), f" {name}"),
        f"{score.late_fraction:.2%}",
        # The number first: the name may be cut.
        "" if worst is None else f"{queues[worst].late_fraction:.1%} {_clean(worst, page)}",
        f"{score.instance_seconds / 3600:.1f}",
        str(score.starts),
    ]


def _policies(outcomes: list[Outcome], page: Page) -> Lines:
    rows = []
    for outcome in outcomes:
        score = outcome.score
        more = (score.reversals, score.connections_max, score.lost_jobs)
        rows.append([*_row(outcome, outcome.policy, page), *map(str, more)])
    return table((*_COLUMNS, Column("reversals"), Column("claims"), Column("lost")), rows, page)


def _queues(outcome: Outcome, page: Page) -> Lines:
    columns = (
        Column("queue", left=True, cells_min=8),
        *(Column(title) for title in ("jobs", "p50", "p95", "p99", "max", "late")),
    )
    rows = [
        [
            _clean(name, page),
            str(queue.jobs),
            *(f"{queue.wait_seconds[mark]:.0f} s" for mark in ("p50", "p95", "p99", "max")),
            f"{queue.late_fraction:.2%}",
        ]
        for name, queue in outcome.score.queues.items()
    ]
    return table(columns, rows, page)


def replay_screen(
    found: Reconstruction,
    outcomes: list[Outcome],
    errors: dict[str, QueueError],
    fleet_error: FleetError | None,
    page: Page,
) -> Lines:
    """What was recorded, the runs, what the new configuration changes, and how far all of it can be trusted."""
    errors = {_clean(name, page): error for name, error in errors.items()}
    title = f"{_clean(found.trace.name, page)}, {duration(found.trace.duration_seconds)}"
    well = page.symbols.signs[Level.OK]
    legend = (
        "late: jobs that waited longer than their queue's target; a recording does not tell how many. "
        f"{well} at most 1 % of all jobs, and 5 % of those of a queue. "
        "rebuilt: a simulation with as many instances as truly ran."
    )
    runs = [*_runs(found, outcomes, fleet_error, page), Text(), *page.wrap("", Text(legend, QUIET))]
    runs += page.wrap("", _fleet_sentence(fleet_error))
    if len(outcomes) > 2:
        runs += page.wrap("", _difference(outcomes[-2], outcomes[-1], fleet_error, page))
    trusted = all(error.trusted for error in errors.values())
    trust = page.item(Level.OK if trusted else Level.WARN, error_sentence(errors))
    hint = "Of each queue's oldest job, recorded and rebuilt; the percentile is of the time in which a job waited."
    notes = [row for note in found.notes for row in page.wrap("", Text(f"note: {_clean(note, page)}", QUIET))]
    return page.joined(
        [
            page.wrap("", Text(title, "bold")),
            runs,
            [*trust, *_errors(errors, page), *page.wrap("", Text(hint, QUIET))],
            notes,
        ]
    )


def _runs(found: Reconstruction, outcomes: list[Outcome], fleet_error: FleetError | None, page: Page) -> Lines:
    truly = found.use
    recorded: Row = ["  recorded", "", "", f"{truly.instance_seconds / 3600:.1f}", str(truly.starts), ""]
    rows = [recorded]
    for index, outcome in enumerate(outcomes):
        row = _row(outcome, _run_name(outcome, page) if index else REBUILT, page)
        if index > 1 and fleet_error is not None:
            same = fleet_error.means_nothing(outcomes[1], outcome)
            row[3:5] = (f"~{number}" if alike else number for number, alike in zip(row[3:5], same, strict=True))
        rows.append([*row, f"{outcome.score.late_jobs:,}"])
    return table((*_COLUMNS, Column("late jobs")), rows, page)


def _run_name(outcome: Outcome, page: Page) -> str:
    """The file name of a configuration, without its folder."""
    return _clean(outcome.policy.rpartition("/")[2], page)


def _fleet_sentence(error: FleetError | None) -> str:
    """How far fleetd's own hours and starts are off, and so which differences mean something."""
    if error is None:
        return (
            "The configuration changed in that time, so it is unknown how far instance-hours and starts are off: do "
            "not compare them with what was recorded."
        )
    share = error.instance_seconds_share
    hours = f"{abs(share):.0%} {'below' if share < 0 else 'above'}" if round(share, 2) else "at"
    return (
        f"fleetd itself (current) comes out {hours} the instance-hours it truly used, with "
        f"{_change(error.starts, 'start')}: differences of up to {error.share_of_nothing:.0%} of the hours, or "
        f"{error.starts_of_nothing} of the starts, mean nothing (~)."
    )


def _difference(now: Outcome, new: Outcome, error: FleetError | None, page: Page) -> str:
    """`new.toml instead of the current configuration: 1,204 fewer late jobs, 4.8 more instance-hours, …`"""
    jobs = new.score.late_jobs - now.score.late_jobs
    hours = round((new.score.instance_seconds - now.score.instance_seconds) / 3600, 1)
    starts = new.score.starts - now.score.starts
    nothing = (False, False) if error is None else error.means_nothing(now, new)
    of_hours, of_starts = (" (means nothing)" if within else "" for within in nothing)
    return (
        f"{_run_name(new, page)} instead of the current configuration: {_change(jobs, 'late job')}, "
        f"{_change(hours, 'instance-hour')}{of_hours if hours else ''}, "
        f"{_change(starts, 'start')}{of_starts if starts else ''}."
    )


def _change(by: float, what: str) -> str:
    """`as many starts`, `1 fewer start`, `1,204 more late jobs`."""
    if not by:
        return f"as many {what}s"
    return f"{count(abs(by))} {'more' if by > 0 else 'fewer'} {what}{'' if abs(by) == 1 else 's'}"


def _errors(errors: dict[str, QueueError], page: Page) -> Lines:
    columns = (
        Column("queue", left=True, cells_min=8),
        *(Column(title) for title in ("jobs ±", "time late", "95th percentile", "longest")),
    )
    rows: list[Row] = []
    for name, error in errors.items():
        level = Level.OK if error.trusted else Level.WARN
        waits = (
            tuple(duration(getattr(waits, of)) for waits in (error.recorded, error.reconstructed))
            for of in ("late_seconds", "p95_seconds", "longest_seconds")
        )
        rows.append(
            [
                Text.assemble(sign(level, page.symbols), f" {name}"),
                f"{error.jobs_factor - 1.0:.0%}",
                *(f"{recorded} {page.symbols.arrow} {rebuilt}" for recorded, rebuilt in waits),
            ]
        )
    return table(columns, rows, page)


def error_sentence(errors: dict[str, QueueError]) -> str:
    """Which queues' waits and jobs can't be trusted, and why."""
    waits = [name for name, error in errors.items() if set(error.doubts) - {"jobs"}]
    jobs = [name for name, error in errors.items() if "jobs" in error.doubts]
    if not (waits or jobs):
        return "The rebuilt waits are close to the recorded ones, and each queue's jobs are known."
    said = []
    if waits:
        said.append(
            f"The rebuilt waits of {', '.join(waits)} are far from the recorded ones: trust nothing about them."
        )
    if jobs:
        said.append(
            f"How many jobs {', '.join(jobs)} had is not known well: nothing in the recording tells them from others "
            "that were busy at the same time."
        )
    return " ".join(said)
