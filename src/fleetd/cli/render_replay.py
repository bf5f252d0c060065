"""The comparison that `fleetctl replay` shows, and how far it can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from fleetd.cli.bars import sign
from fleetd.cli.terminal import symbols_for
from fleetd.cli.verdict import Level
from fleetd.cli.wording import clean, count, duration

if TYPE_CHECKING:
    from fleetd.simulate.reconstruct import Reconstruction
    from fleetd.simulate.replay import QueueError
    from fleetd.simulate.run import Outcome

#: From this width on, columns stand well apart.
ROOMY_CELLS = 70


def show_replay(found: Reconstruction, outcomes: list[Outcome], errors: dict[str, QueueError]) -> None:
    """The runs, what changes between the last two, and the error of the reconstruction."""
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(f"{found.trace.name}, {duration(found.trace.duration_seconds)}", style="bold")
    console.print(_runs(console, outcomes))
    if len(outcomes) > 2:
        console.print(difference(outcomes[-2], outcomes[-1]))
        console.print()
    _show_error(console, errors)
    for note in found.notes:
        console.print(f"note: {clean(note)}", style="dim")


def _table(console: Console) -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1 if console.width >= ROOMY_CELLS else 0))


def _runs(console: Console, outcomes: list[Outcome]) -> Table:
    table = _table(console)
    for name in ("", "late\njobs", "late", "worst queue", "instance-\nhours", "starts"):
        left = name in (
            "",
            "worst queue",
        )  # where it is narrow these go on in the next line; numbers stay whole
        table.add_column(name, justify="left" if left else "right", no_wrap=not left, overflow="fold")
    for outcome in outcomes:
        score, name = outcome.score, outcome.policy.rpartition("/")[2]
        worst = max(score.queues.items(), key=lambda item: item[1].late_fraction, default=None)
        table.add_row(
            clean(name)[:24],
            f"{score.late_jobs:,}",
            f"{score.late_fraction:.2%}",
            "" if worst is None else f"{clean(worst[0])[:20]} {worst[1].late_fraction:.1%}",
            f"{score.instance_seconds / 3600:.1f}",
            str(score.starts),
        )
    return table


def difference(now: Outcome, new: Outcome) -> str:
    """`new.toml instead of the current configuration: 1,204 late jobs fewer, 4.8 instance-hours more, …`"""
    jobs = new.score.late_jobs - now.score.late_jobs
    hours = (new.score.instance_seconds - now.score.instance_seconds) / 3600
    starts = new.score.starts - now.score.starts
    return (
        f"{clean(new.policy.rpartition('/')[2])} instead of the current configuration: {_change(jobs, 'late jobs')}, "
        f"{_change(round(hours, 1), 'instance-hours')}, {_change(starts, 'starts')}."
    )


def _change(by: float, what: str) -> str:
    if not by:
        return f"as many {what}"
    return f"{count(abs(by))} {what} {'more' if by > 0 else 'fewer'}"


def _show_error(console: Console, errors: dict[str, QueueError]) -> None:
    trusted = all(error.trusted for error in errors.values())
    mark, style = sign(Level.OK if trusted else Level.WARN, symbols_for(console.encoding, ""))
    console.print(f"{mark} {error_sentence(errors)}", style="" if trusted else style)
    table = _table(console)
    for name in ("oldest\njob", "recorded:\nmean", "p95", "longest", "here:\nmean", "p95", "longest"):
        left = name == "oldest\njob"
        table.add_column(name, justify="left" if left else "right", no_wrap=not left, overflow="fold")
    for name, error in errors.items():
        cells = (
            duration(seconds)
            for waits in (error.recorded, error.reconstructed)
            for seconds in (waits.mean_seconds, waits.p95_seconds, waits.longest_seconds)
        )
        table.add_row(clean(name)[:20], *cells)
    console.print(table)


def error_sentence(errors: dict[str, QueueError]) -> str:
    """By how much the reconstruction is off, and whether that is too much."""
    p95, longest = (
        {
            name: abs(getattr(error.recorded, of) - getattr(error.reconstructed, of))
            for name, error in errors.items()
        }
        for of in ("p95_seconds", "longest_seconds")
    )
    said = (
        f"Reconstructed waits differ from the recorded ones by at most {_most(p95)} at the 95th percentile, and "
        f"{_most(longest)} in the longest wait."
    )
    doubted = [clean(name) for name, error in errors.items() if not error.trusted]
    return said + (f" Too much: trust nothing above about {', '.join(doubted)}." if doubted else "")


def _most(off: dict[str, float]) -> str:
    worst = max(off, key=lambda name: off[name], default="")
    if not worst or not off[worst]:
        return duration(0.0)
    return f"{duration(off[worst])} ({clean(worst)})"
