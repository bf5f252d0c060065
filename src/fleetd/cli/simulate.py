"""`fleetctl simulate`: what fleetd, or a rival, would have done with a trace of traffic."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleetd.cli.check_config import list_problems
from fleetd.cli.status import EXIT_ERROR
from fleetd.cli.wording import printable
from fleetd.errors import ConfigError, FleetdError

if TYPE_CHECKING:
    from fleetd.core.policy import Policy
    from fleetd.simulate.run import Outcome, Progress
    from fleetd.simulate.trace import Trace


@click.command(
    short_help="What fleetd, or a rival, would do with a trace of traffic.",
    epilog="""\b
Exit status:
  0  it ran
  1  the trace, the configuration or a law is broken; every problem is listed
  2  the command line is wrong

\b
Examples:
  fleetctl simulate benchmarks/traces/celebrity-post.toml
  fleetctl simulate mine.toml --config /etc/fleetd/fleetd.toml --policy all
  fleetctl simulate mine.toml --json | jq '.policies.fleetd.late_jobs'
  fleetctl simulate mine.toml --policy all --plot mine.svg
""",
)
@click.argument("trace", type=click.Path())
@click.option(
    "--config", type=click.Path(), help="Profiles and paces of this fleetd.toml; the trace's own win."
)
@click.option("--policy", "policy_name", default="fleetd", show_default=True, help="A policy's name, or all.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.option(
    "--plot", type=click.Path(dir_okay=False), help="Draw arrivals, waits, instances and connections as SVG."
)
@click.pass_context
def simulate(
    context: click.Context, trace: str, config: str | None, policy_name: str, as_json: bool, plot: str | None
) -> None:
    """Run the daemon's own decisions on TRACE, a TOML file of traffic, without any server.

    The same seed gives the same run. After every tick the laws are checked against the truth of the simulated world.
    The trace's format is in docs/traces.md.
    """
    from fleetd.simulate import run
    from fleetd.simulate.trace import load_trace

    try:
        loaded = load_trace(trace)
        configured = _policy(config)
        run.policy_of(loaded, configured)
        names = run.POLICIES if policy_name == "all" else (policy_name,)
        if not set(names) <= set(run.POLICIES):
            raise click.BadParameter(f"there are: {', '.join(run.POLICIES)}, all", param_hint="--policy")
        with shown_progress() as progress:
            outcomes = list(run.simulate(loaded, configured, names, progress))
    except ConfigError as error:
        list_problems(error, err=True)
        context.exit(EXIT_ERROR)
    if as_json:
        from fleetd.simulate.report import document

        click.echo(document(loaded, outcomes))
    else:
        from fleetd.cli.render_simulation import show

        show(loaded, outcomes)
    if plot is not None:
        _draw(plot, loaded, run.policy_of(loaded, configured), outcomes)
    broken = [sentence for outcome in outcomes for sentence in outcome.breaks]
    for sentence in broken:
        click.echo(printable(f"fleetctl: {sentence}"), err=True)
    context.exit(EXIT_ERROR if broken else 0)


def _policy(config: str | None) -> Policy | None:
    if config is None:
        return None
    from fleetd.config import load

    return load(config).policy


def _draw(path: str, trace: Trace, policy: Policy, outcomes: list[Outcome]) -> None:
    from fleetd.simulate.plot import draw

    try:
        Path(path).write_text(draw(trace, policy, outcomes), encoding="utf-8")
    except OSError as error:
        raise FleetdError(f"{path} can't be written: {error.strerror}") from None
    click.echo(printable(f"{path} written"), err=True)


@contextlib.contextmanager
def shown_progress() -> Iterator[Progress | None]:
    """A bar on a terminal, nothing elsewhere."""
    import sys

    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:12}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        tasks: dict[str, object] = {}

        def tell(name: str, share: float) -> None:
            if name not in tasks:
                tasks[name] = shown.add_task(name, total=1.0)
            shown.update(tasks[name], completed=share)  # type: ignore[arg-type]

        yield tell
