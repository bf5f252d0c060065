"""The comparison that `fleetctl replay` shows, and how far it can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from fleetd.cli.advice.verdict import Level
from fleetd.cli.terminal.output import symbols_for
from fleetd.cli.terminal.safe_text import clean
from fleetd.cli.terminal.symbols import sign
from fleetd.words.formatting import count, duration

if TYPE_CHECKING:
    from fleetd.simulate.replay.reconstruct import Reconstruction
    from fleetd.simulate.replay.replay import FleetError, QueueError
    from fleetd.simulate.scoring.outcome import Outcome

#: From this width on, columns stand well apart.
ROOMY_CELLS = 70
REBUILT = "as recorded, rebuilt"
LEGEND = (
    "late: jobs that waited longer than their queue's target, which nobody records. ✔ at most 1 % of all jobs, and 5 % "
    "of a queue's. rebuilt: a simulation, with as many instances as truly ran."
)


def show_replay(
    found: Reconstruction,
    outcomes: list[Outcome],
    errors: dict[str, QueueError],
    fleet_error: FleetError | None,
) -> None:
    """What was recorded, the runs, what changes between the last two, and the error of it all."""
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(f"{found.trace.name}, {duration(found.trace.duration_seconds)}", style="bold")
    console.print(_runs(console, found, outcomes, fleet_error))
    console.print(_plain_signs(console, LEGEND), style="dim")
    console.print(fleet_sentence(fleet_error))
    if len(outcomes) > 2:
        console.print(difference(outcomes[-2], outcomes[-1], fleet_error))
    console.print()
    _show_error(console, errors)
    for note in found.notes:
        console.print(f"note: {clean(note)}", style="dim")


def _table(console: Console, *names: str) -> Table:
    """The first columns' words go on in the next line where it is narrow; numbers stay whole."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1 if console.width >= ROOMY_CELLS else 0))
    for name in names:
        left = name in ("", "run", "worst queue", "queue", "doubted")
        table.add_column(name, justify="left" if left else "right", no_wrap=not left, overflow="fold")
    return table


def _runs(
    console: Console, found: Reconstruction, outcomes: list[Outcome], fleet_error: FleetError | None
) -> Table:
    names = ("", "run", "late\njobs", "late", "worst queue", "instance-\nhours", "starts")
    table = _table(console, *names)
    truly = found.use
    table.add_row("", "recorded", "", "", "", f"{truly.instance_seconds / 3600:.1f}", str(truly.starts))
    for index, outcome in enumerate(outcomes):
        score, name = outcome.score, outcome.policy.rpartition("/")[2]
        worst = max(score.queues.items(), key=lambda item: item[1].late_fraction, default=None)
        alike = (False, False)
        if index > 1 and fleet_error is not None:
            alike = fleet_error.means_nothing(outcomes[1], outcome)
        table.add_row(
            _plain_signs(console, "✔" if score.meets_objective else "✖"),
            REBUILT if not index else clean(name)[:24],
            f"{score.late_jobs:,}",
            f"{score.late_fraction:.2%}",
            "" if worst is None else f"{clean(worst[0])[:20]} {worst[1].late_fraction:.1%}",
            ("~" if alike[0] else "") + f"{score.instance_seconds / 3600:.1f}",
            ("~" if alike[1] else "") + str(score.starts),
        )
    return table


def _plain_signs(console: Console, said: str) -> str:
    signs = symbols_for(console.encoding, "").signs
    return said.replace("✔", signs[Level.OK]).replace("✖", signs[Level.BAD])


def fleet_sentence(error: FleetError | None) -> str:
    """How far fleetd's own figures are off, and so which differences mean something."""
    if error is None:
        return (
            "The configuration changed in that time, so nothing says how far instance-hours and starts are off: do not "
            "compare them with what was recorded."
        )
    share = error.instance_seconds_share
    hours = f"{abs(share):.0%} {'below' if share < 0 else 'above'}" if round(share, 2) else "at"
    return (
        f"fleetd itself (current) comes out {hours} the instance-hours it truly used, with "
        f"{_change(error.starts, 'starts')}: "
        f"differences of up to {error.share_of_nothing:.0%} of the hours, or {error.starts_of_nothing} of the starts, "
        "mean nothing (~)."
    )


def difference(now: Outcome, new: Outcome, error: FleetError | None = None) -> str:
    """`new.toml instead of the current configuration: 1,204 late jobs fewer, 4.8 instance-hours more, …`"""
    jobs = new.score.late_jobs - now.score.late_jobs
    hours = (new.score.instance_seconds - now.score.instance_seconds) / 3600
    starts = new.score.starts - now.score.starts
    nothing = (False, False) if error is None else error.means_nothing(now, new)
    of_hours, of_starts = (" (means nothing)" if within else "" for within in nothing)
    return (
        f"{clean(new.policy.rpartition('/')[2])} instead of the current configuration: {_change(jobs, 'late jobs')}, "
        f"{_change(round(hours, 1), 'instance-hours')}{of_hours if round(hours, 1) else ''}, "
        f"{_change(starts, 'starts')}{of_starts if starts else ''}."
    )


def _change(by: float, what: str) -> str:
    if not by:
        return f"as many {what}"
    return f"{count(abs(by))} {what} {'more' if by > 0 else 'fewer'}"


def _show_error(console: Console, errors: dict[str, QueueError]) -> None:
    trusted = all(error.trusted for error in errors.values())
    mark, style = sign(Level.OK if trusted else Level.WARN, symbols_for(console.encoding, ""))
    console.print(f"{mark} {error_sentence(errors)}", style="" if trusted else style)
    table = _table(console, "", "queue", "jobs\n±", "time late", "95th percentile", "longest")
    for name, error in errors.items():
        mark, _ = sign(Level.OK if error.trusted else Level.WARN, symbols_for(console.encoding, ""))
        waits = (
            tuple(duration(getattr(waits, of)) for waits in (error.recorded, error.reconstructed))
            for of in ("late_seconds", "p95_seconds", "longest_seconds")
        )
        cells = (
            f"{was} → {here}" if console.encoding.startswith("utf") else f"{was} > {here}"
            for was, here in waits
        )
        table.add_row(mark, clean(name)[:20], f"{error.jobs_factor - 1.0:.0%}", *cells)
    console.print(table)
    console.print(
        "Of each queue's oldest job, recorded and rebuilt; the percentile is of the time in which something waited.",
        style="dim",
    )


def error_sentence(errors: dict[str, QueueError]) -> str:
    """Which queues' figures can be trusted, and why others can't."""
    waits = [clean(name) for name, error in errors.items() if set(error.doubts) - {"jobs"}]
    jobs = [clean(name) for name, error in errors.items() if "jobs" in error.doubts]
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
