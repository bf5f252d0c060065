"""The comparison that `fleetctl replay` shows, and how far it can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from fleetd.cli.bars import Symbols, sign
from fleetd.cli.figures import Column, table
from fleetd.cli.lines import Lines, hanging
from fleetd.cli.terminal import open_console, show
from fleetd.cli.verdict import Level
from fleetd.cli.wording import clean, count, duration

if TYPE_CHECKING:
    from fleetd.simulate.reconstruct import Reconstruction
    from fleetd.simulate.replay import QueueError
    from fleetd.simulate.run import Outcome


RUNS = (
    Column("", left=True, least=8),
    Column("late jobs"),
    Column("late"),
    Column("worst queue", left=True, least=11),
    Column("instance-hours"),
    Column("starts"),
)
WAITS = (
    Column("oldest job", left=True, least=8),
    Column("recorded: mean"),
    Column("p95"),
    Column("longest"),
    Column("here: mean"),
    Column("p95"),
    Column("longest"),
)


def show_replay(found: Reconstruction, outcomes: list[Outcome], errors: dict[str, QueueError]) -> None:
    """The runs, what changes between the last two, and the error of the reconstruction."""
    console, symbols = open_console()
    show(console, replay_lines(found, outcomes, errors, console.width, symbols))


def replay_lines(
    found: Reconstruction,
    outcomes: list[Outcome],
    errors: dict[str, QueueError],
    width: int,
    symbols: Symbols,
) -> Lines:
    """All of it, laid out to a width."""

    def wrapped(text: str, style: str = "", head: Text | None = None) -> Lines:
        said = Text(clean(text, ascii_only=symbols.ascii_only), style)
        return hanging(head or Text(""), said, width, lines_max=20, symbols=symbols)

    trace, trusted = found.trace, all(error.trusted for error in errors.values())
    lines = [*wrapped(f"{trace.name}, {duration(trace.duration_seconds)}", "bold"), Text()]
    lines += [*_runs(outcomes, width, symbols), Text()]
    if len(outcomes) > 2:
        lines += [*wrapped(difference(outcomes[-2], outcomes[-1])), Text()]
    mark, style = sign(Level.OK if trusted else Level.WARN, symbols)
    lines += wrapped(error_sentence(errors), "" if trusted else style, Text.assemble((mark, style), " "))
    lines += [Text(), *_waits(errors, width, symbols), Text()]
    for note in found.notes:
        lines += wrapped(f"note: {note}", "dim")
    return lines


def _runs(outcomes: list[Outcome], width: int, symbols: Symbols) -> Lines:
    rows = []
    for outcome in outcomes:
        score, name = outcome.score, outcome.policy.rpartition("/")[2]
        worst = max(score.queues.items(), key=lambda item: item[1].late_fraction, default=None)
        rows.append(
            [
                clean(name, ascii_only=symbols.ascii_only),
                f"{score.late_jobs:,}",
                f"{score.late_fraction:.2%}",
                # The figure first: it is the name that may be cut.
                ""
                if worst is None
                else f"{worst[1].late_fraction:.1%} {clean(worst[0], ascii_only=symbols.ascii_only)}",
                f"{score.instance_seconds / 3600:.1f}",
                str(score.starts),
            ]
        )
    return table(RUNS, rows, width, symbols)


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


def _waits(errors: dict[str, QueueError], width: int, symbols: Symbols) -> Lines:
    rows = [
        [
            clean(name, ascii_only=symbols.ascii_only),
            *(
                duration(seconds)
                for waits in (error.recorded, error.reconstructed)
                for seconds in (waits.mean_seconds, waits.p95_seconds, waits.longest_seconds)
            ),
        ]
        for name, error in errors.items()
    ]
    return table(WAITS, rows, width, symbols)


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
