"""The screens of `fleetctl simulate` and `fleetctl replay`: what runs would have cost, as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from fleetd.cli.advice.verdict import Level
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
    """A row for each policy; of a policy alone, its queues as well."""
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
    return page.joined(blocks)


def _policies(outcomes: list[Outcome], page: Page) -> Lines:
    columns = (
        Column("policy", left=True),
        Column("late"),
        Column("worst queue", left=True, cells_min=11),
        *(Column(title) for title in ("hours", "starts", "reversals", "claims", "lost")),
    )
    rows: list[Row] = []
    for outcome in outcomes:
        score = outcome.score
        numbers = (score.starts, score.reversals, score.connections_max, score.lost_jobs)
        hours = f"{score.instance_seconds / 3600:.1f}"
        rows.append(
            [_judged(outcome, outcome.policy, page), *_late(outcome, page), hours, *map(str, numbers)]
        )
    return table(columns, rows, page)


def _judged(outcome: Outcome, name: str, page: Page) -> Text:
    """The name of a run behind the sign that says whether it meets the objective."""
    level = Level.OK if outcome.score.meets_objective else Level.BAD
    return Text.assemble(sign(level, page.symbols), f" {name}")


def _late(outcome: Outcome, page: Page) -> tuple[str, str]:
    """The share of late jobs, and the queue with the greatest; its number first, for its name may be cut."""
    share, queues = f"{outcome.score.late_fraction:.2%}", outcome.score.queues
    if not queues:
        return share, ""
    name = max(queues, key=lambda name: queues[name].late_fraction)
    return share, f"{queues[name].late_fraction:.1%} {_clean(name, page)}"


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
    """What was recorded, the runs, what changes between the last two, and how far all of it can be trusted."""
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


def _runs(
    found: Reconstruction, outcomes: list[Outcome], fleet_error: FleetError | None, page: Page
) -> Lines:
    columns = (
        Column("run", left=True, cells_min=12),
        Column("late jobs"),
        Column("late"),
        Column("worst queue", left=True, cells_min=11),
        Column("hours"),
        Column("starts"),
    )
    truly = found.use
    rows: list[Row] = [["  recorded", "", "", "", f"{truly.instance_seconds / 3600:.1f}", str(truly.starts)]]
    for index, outcome in enumerate(outcomes):
        alike = (False, False)
        if index > 1 and fleet_error is not None:
            alike = fleet_error.means_nothing(outcomes[1], outcome)
        hours, starts = f"{outcome.score.instance_seconds / 3600:.1f}", str(outcome.score.starts)
        rows.append(
            [
                _judged(outcome, _run_name(outcome, page) if index else REBUILT, page),
                f"{outcome.score.late_jobs:,}",
                *_late(outcome, page),
                f"~{hours}" if alike[0] else hours,
                f"~{starts}" if alike[1] else starts,
            ]
        )
    return table(columns, rows, page)


def _run_name(outcome: Outcome, page: Page) -> str:
    """A configuration's file without its folder."""
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
        f"{_change(error.starts, 'starts')}: differences of up to {error.share_of_nothing:.0%} of the hours, or "
        f"{error.starts_of_nothing} of the starts, mean nothing (~)."
    )


def _difference(now: Outcome, new: Outcome, error: FleetError | None, page: Page) -> str:
    """`new.toml instead of the current configuration: 1,204 late jobs fewer, 4.8 instance-hours more, …`"""
    jobs = new.score.late_jobs - now.score.late_jobs
    hours = round((new.score.instance_seconds - now.score.instance_seconds) / 3600, 1)
    starts = new.score.starts - now.score.starts
    nothing = (False, False) if error is None else error.means_nothing(now, new)
    of_hours, of_starts = (" (means nothing)" if within else "" for within in nothing)
    return (
        f"{_run_name(new, page)} instead of the current configuration: {_change(jobs, 'late jobs')}, "
        f"{_change(hours, 'instance-hours')}{of_hours if hours else ''}, "
        f"{_change(starts, 'starts')}{of_starts if starts else ''}."
    )


def _change(by: float, what: str) -> str:
    if not by:
        return f"as many {what}"
    return f"{count(abs(by))} {what} {'more' if by > 0 else 'fewer'}"


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
