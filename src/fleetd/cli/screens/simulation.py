"""The table that `fleetctl simulate` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from fleetd.cli.advice.verdict import Level
from fleetd.cli.terminal.lines import Lines, hanging
from fleetd.cli.terminal.output import open_console
from fleetd.cli.terminal.output import show as show_lines
from fleetd.cli.terminal.safe_text import clean
from fleetd.cli.terminal.symbols import Symbols, sign
from fleetd.cli.terminal.tables import Column, table
from fleetd.words.formatting import duration

if TYPE_CHECKING:
    from fleetd.simulate.scoring.outcome import Outcome
    from fleetd.simulate.trace.trace import Trace

POLICIES = (
    Column("policy", left=True),
    Column("late"),
    Column("worst queue", left=True, least=11),
    Column("hours"),
    Column("starts"),
    Column("back"),
    Column("claims"),
    Column("lost"),
)
QUEUES = (
    Column("queue", left=True, least=8),
    Column("jobs"),
    Column("p50"),
    Column("p95"),
    Column("p99"),
    Column("max"),
    Column("late"),
)
WELL, NOT_WELL = Level.OK, Level.BAD


def show(trace: Trace, outcomes: list[Outcome]) -> None:
    """One row a policy; of one alone the queues as well."""
    console, symbols = open_console()
    show_lines(console, simulation_lines(trace, outcomes, console.width, symbols))


def simulation_lines(trace: Trace, outcomes: list[Outcome], width: int, symbols: Symbols) -> Lines:
    """All of it, laid out to a width."""

    def wrapped(text: Text) -> Lines:
        return hanging(Text(""), text, width, lines_max=20, symbols=symbols)

    name = clean(trace.name, ascii_only=symbols.ascii_only)
    said = Text.assemble((name, "bold"), f"  {duration(trace.duration_seconds)}, seed {trace.seed}")
    legend = (
        f"{symbols.signs[WELL]} at most 1 % of all jobs late, and 5 % of a queue's; hours: of all instances; "
        "back: starts soon after a stop, or the other way round; claims: the most at once"
    )
    lines = [
        *wrapped(said),
        Text(),
        *_policies(outcomes, width, symbols),
        Text(),
        *wrapped(Text(legend, "dim")),
    ]
    if len(outcomes) == 1:
        lines += [Text(), *_queues(outcomes[0], width, symbols)]
    return lines


def _policies(outcomes: list[Outcome], width: int, symbols: Symbols) -> Lines:
    rows = []
    for outcome in outcomes:
        score = outcome.score
        worst = max(score.queues.items(), key=lambda item: item[1].late_fraction)
        rows.append(
            [
                f"{symbols.signs[WELL if score.meets_objective else NOT_WELL]} {outcome.policy}",
                f"{score.late_fraction:.2%}",
                # The figure first: it is the name that may be cut.
                f"{worst[1].late_fraction:.1%} {clean(worst[0], ascii_only=symbols.ascii_only)}",
                f"{score.instance_seconds / 3600:.1f}",
                str(score.starts),
                str(score.reversals),
                str(score.connections_max),
                str(score.lost_jobs),
            ]
        )
    lines = table(POLICIES, rows, width, symbols)
    for level in (WELL, NOT_WELL):
        mark, style = sign(level, symbols)
        for line in lines:
            if line.plain.startswith(f" {mark} "):
                line.stylize(style, 1, 2)
    return lines


def _queues(outcome: Outcome, width: int, symbols: Symbols) -> Lines:
    rows = [
        [
            clean(name, ascii_only=symbols.ascii_only),
            str(queue.jobs),
            *(f"{queue.wait_seconds[mark]:.0f} s" for mark in ("p50", "p95", "p99", "max")),
            f"{queue.late_fraction:.2%}",
        ]
        for name, queue in outcome.score.queues.items()
    ]
    return table(QUEUES, rows, width, symbols)
