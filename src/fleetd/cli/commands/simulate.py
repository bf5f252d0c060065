"""`fleetctl simulate`: what fleetd, or another autoscaler, would do with a trace of traffic."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleetd.cli.client import EXIT_ERROR, write_json
from fleetd.cli.commands.check_config import list_problems
from fleetd.cli.terminal.safe_text import clean, printable
from fleetd.errors import ConfigError, ConfigProblem, FleetdError
from fleetd.words.formatting import nearest

if TYPE_CHECKING:
    from fleetd.core.model.policy_tables import Policy
    from fleetd.simulate.run import Progress
    from fleetd.simulate.scoring.outcome import Outcome
    from fleetd.simulate.trace.trace import Trace


@click.command(
    short_help="What fleetd, or another autoscaler, would do with a trace of traffic.",
    epilog="""\b
Exit status:
  0  it ran
  1  the trace or the configuration has problems, or a run broke a law; all are listed
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
    "--config",
    type=click.Path(),
    help="Take profiles, targets and paces from this fleetd.toml, where the trace does not set them.",
)
@click.option("--policy", "policy_name", default="fleetd", show_default=True, help="A policy's name, or all.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.option("--plot", type=click.Path(), help="Draw arrivals, waits, instances and connections as SVG.")
@click.pass_context
def simulate(
    context: click.Context, trace: str, config: str | None, policy_name: str, as_json: bool, plot: str | None
) -> None:
    """Run the daemon's own decisions on TRACE, a TOML file of traffic, without any server.

    The same seed gives the same run. After every tick the laws are checked against the simulated world. docs/traces.md
    explains the trace's format.
    """
    from fleetd.simulate import run

    loaded, configured, names = _checked(context, trace, config, policy_name, plot)
    with shown_progress() as progress:
        outcomes = list(run.simulate(loaded, configured, names, progress))
    if as_json:
        from fleetd.simulate.scoring.outcome import document

        write_json(document(loaded, outcomes))
    else:
        from fleetd.cli.screens.simulation import simulation_screen
        from fleetd.cli.terminal.output import show_screen

        show_screen(lambda page: simulation_screen(loaded, outcomes, page))
    if plot is not None:
        _draw(plot, loaded, run.policy_of(loaded, configured), outcomes)
    context.exit(tell_broken_laws(outcomes))


def tell_broken_laws(outcomes: list[Outcome]) -> int:
    """Each law that a run broke, to standard error; returns the exit status."""
    broken = [sentence for outcome in outcomes for sentence in outcome.breaks]
    for sentence in broken:
        click.echo(printable(f"fleetctl: {sentence}"), err=True)
    return EXIT_ERROR if broken else 0


def _checked(
    context: click.Context, trace: str, config: str | None, policy_name: str, plot: str | None
) -> tuple[Trace, Policy | None, tuple[str, ...]]:
    """What is to be run. Ends here, before anything runs, with everything that is wrong."""
    from fleetd.simulate.run import POLICIES

    errors: list[ConfigError] = []
    names = POLICIES if policy_name == "all" else (policy_name,)
    loaded, configured = _inputs(trace, config, tuple(name for name in names if name in POLICIES), errors)
    if plot is not None and (why := _not_writable(plot)):
        errors.append(ConfigError(plot, [ConfigProblem("", *why)]))
    for error in errors:
        list_problems(error, err=True)
    if policy_name not in (*POLICIES, "all"):
        hint = nearest(policy_name, (*POLICIES, "all"))
        raise click.BadParameter(f"There is no policy '{clean(policy_name)}'. {hint}", param_hint="--policy")
    if errors or loaded is None:
        context.exit(EXIT_ERROR)
    return loaded, configured, names


def _inputs(
    trace: str, config: str | None, names: tuple[str, ...], errors: list[ConfigError]
) -> tuple[Trace | None, Policy | None]:
    """The trace and the policy it runs under; what is wrong with either, or between them, is added to `errors`.

    `names`: the policies that are asked for.
    """
    from fleetd.config import load
    from fleetd.simulate.run import without_hosts
    from fleetd.simulate.trace.trace import configured, read_trace

    loaded, settings, problems = None, None, list[ConfigProblem]()
    try:
        loaded, problems = read_trace(trace)
    except ConfigError as error:
        errors.append(error)
    try:
        settings = load(config) if config is not None else None
    except ConfigError as error:
        errors.append(error)
    policy, without_min = (settings.policy, settings.profiles_without_min) if settings else (None, ())
    if loaded is not None and (settings is not None or config is None):
        policy = configured(loaded, policy, without_min, problems)
    if loaded is not None:
        problems += without_hosts(loaded, names)
    if problems:
        errors.insert(0, ConfigError(trace, problems))
    return loaded, policy


def _not_writable(path: str) -> tuple[str, str] | None:
    """Why a picture can't be written there, and what to do. What is there stays as it is."""
    if path == "-":
        return "standard output has the table", "Name a file for the picture; ./- for one of this name."
    file = Path(path)
    try:
        new = not file.exists()
        file.open("ab").close()
        if new:
            Path(os.path.realpath(file)).unlink()  # what a dangling link names, not the link
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        return f"can't be written: {why}", "Name another file with --plot."
    return None


def _draw(path: str, trace: Trace, policy: Policy, outcomes: list[Outcome]) -> None:
    from fleetd.simulate.plot.picture import draw

    try:
        Path(path).write_text(draw(trace, policy, outcomes), encoding="utf-8")
    except OSError as error:
        raise FleetdError(f"{path} can't be written: {error.strerror}") from None
    click.echo(printable(f"{path} written"), err=True)


@contextlib.contextmanager
def shown_progress() -> Iterator[Progress | None]:
    """A function that draws a bar for each run on a terminal; None where standard error is none."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:12}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        tasks: dict[str, TaskID] = {}

        def tell(name: str, share: float) -> None:
            if name not in tasks:
                tasks[name] = shown.add_task(printable(name), total=1.0)
            shown.update(tasks[name], completed=share)

        yield tell
