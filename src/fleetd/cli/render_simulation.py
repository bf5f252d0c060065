"""The table that `fleetctl simulate` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from fleetd.cli.wording import duration

if TYPE_CHECKING:
    from fleetd.simulate.run import Outcome
    from fleetd.simulate.trace import Trace


def show(trace: Trace, outcomes: list[Outcome]) -> None:
    """One row a policy; of one alone the queues as well."""
    console = Console(highlight=False)
    console.print(f"[bold]{trace.name}[/bold]  {duration(trace.duration_seconds)}, seed {trace.seed}")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("", "policy", "late", "worst queue", "hours", "starts", "back", "claims", "lost"):
        numeric = name not in ("policy", "worst queue", "")
        table.add_column(name, justify="right" if numeric else "left", no_wrap=True)
    for outcome in outcomes:
        score = outcome.score
        worst = max(score.queues.items(), key=lambda item: item[1].late_fraction)
        table.add_row(
            "[green]✔[/green]" if score.meets_objective else "[red]✖[/red]",
            outcome.policy,
            f"{score.late_fraction:.2%}",
            f"{worst[0]} {worst[1].late_fraction:.1%}",
            f"{score.instance_seconds / 3600:.1f}",
            str(score.starts),
            str(score.reversals),
            str(score.connections_max),
            str(score.lost_jobs),
        )
    console.print(table)
    console.print(
        "[dim]✔ at most 1 % of all jobs late, and 5 % of a queue's; hours: of all instances;\n"
        "back: starts soon after a stop, or the other way round; claims: the most at once[/dim]"
    )
    if len(outcomes) == 1:
        console.print(_queues(outcomes[0]))


def _queues(outcome: Outcome) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("queue", "jobs", "p50", "p95", "p99", "max", "late"):
        table.add_column(name, justify="left" if name == "queue" else "right", no_wrap=True)
    for name, queue in outcome.score.queues.items():
        waits = (f"{queue.wait_seconds[mark]:.0f} s" for mark in ("p50", "p95", "p99", "max"))
        table.add_row(name, str(queue.jobs), *waits, f"{queue.late_fraction:.2%}")
    return table
