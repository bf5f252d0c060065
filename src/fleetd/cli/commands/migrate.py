"""`fleetctl migrate`: from an admin's own Sidekiq units to fleetd's without losing a job, and back."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleetd.cli.client import EXIT_ERROR
from fleetd.cli.commands.check_config import list_problems
from fleetd.cli.commands.config_file import DEFAULT_FILE, config_file, in_place
from fleetd.cli.terminal.safe_text import printable
from fleetd.errors import ConfigError, FleetdError

if TYPE_CHECKING:
    from fleetd.app.migrating.plan import NextStep
    from fleetd.app.migrating.seen import Record, Seen


@click.command(
    short_help="From your own Sidekiq units to fleetd's without losing a job, and back.",
    epilog="""\b
Exit status:
  0  done
  1  something keeps it from going on; it is named, and nothing more was changed
  2  the command line is wrong

\b
Examples:
  sudo fleetctl migrate --dry-run     what it would do, as commands
  sudo fleetctl migrate               asks once, then goes step by step
  sudo fleetctl migrate --undo        the way back to the units of before
""",
)
@config_file
@click.option("--dry-run", is_flag=True, help="Only show the steps.")
@click.option("--undo", is_flag=True, help="Back to the units that ran Sidekiq before.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@click.pass_context
def migrate(context: click.Context, file: str, dry_run: bool, undo: bool, yes: bool) -> None:
    """Let fleetd's instances take over from the units that run Mastodon's Sidekiq now, by the settings of FILE.

    fleetd runs beside them first. Then each takes no more jobs, finishes those it has, and is disabled. Each step is
    checked before the next. It may be interrupted at any time: run again, it goes on from where things stand. Only
    --dry-run takes another FILE than /etc/fleetd/fleetd.toml, which fleetd itself reads.
    """
    if os.geteuid() != 0:
        raise FleetdError("this starts and stops units: run it with sudo")
    if not dry_run and file != DEFAULT_FILE:
        put_there = in_place(file)
        raise FleetdError(f"fleetd reads {DEFAULT_FILE}, so only --dry-run takes another FILE. Run: {put_there}")
    try:
        _migrate(context, Path(file), dry_run=dry_run, undo=undo, yes=yes)
    except ConfigError as error:
        list_problems(error, err=True)
        context.exit(EXIT_ERROR)


def _migrate(context: click.Context, file: Path, *, dry_run: bool, undo: bool, yes: bool) -> None:
    from fleetd.app.migrating.look import look
    from fleetd.app.migrating.plan import steps_of
    from fleetd.app.migrating.record import forget_record, load_record, one_at_a_time, record_of, save_record
    from fleetd.app.migrating.seen import Record

    record = load_record()
    seen = look(file, record if undo else Record())
    if not undo:
        record = record_of(seen, record)
    steps = steps_of(seen, record if undo else None)
    _show(seen, steps)
    if dry_run or steps[-1].kind == "stuck":
        context.exit(EXIT_ERROR if steps[-1].kind == "stuck" else 0)
    if len(steps) == 1:
        return
    if not yes and not _agreed():
        click.echo("Nothing was changed.")
        context.exit(EXIT_ERROR)
    with one_at_a_time():
        if not undo:
            save_record(record)
        last = _run(file, record if undo else None)
        if undo and last.kind == "done":
            forget_record()
    context.exit(0 if last.kind == "done" else EXIT_ERROR)


def _show(seen: Seen, steps: tuple[NextStep, ...]) -> None:
    running = [unit.name for unit in (*seen.old, *seen.named) if unit.active]
    click.echo(printable(f"Runs Mastodon's Sidekiq now, beside fleetd's: {', '.join(running) or 'nothing'}"))
    for number, step in enumerate(steps, 1):
        if step.kind == "stuck":
            click.echo(printable(f"✖ {step.says}"))
        elif step.kind == "done":
            click.echo(printable(f"{'then' if number > 1 else '✔'} {step.says}"))
        else:
            click.echo(printable(f"{number:3}. {f'wait until {step.until}' if step.kind == 'wait' else step.says}"))
        for command in step.commands:
            click.echo(printable(f"       {command}"))


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise FleetdError("there is no terminal to ask on: add --yes")
    return click.confirm("Go?", default=False)


def _run(file: Path, record: Record | None) -> NextStep:
    from fleetd.app.migrating.look import look
    from fleetd.app.migrating.plan import next_step, next_step_back
    from fleetd.app.migrating.run import Runner, perform
    from fleetd.app.migrating.seen import Record

    def step() -> NextStep:
        seen = look(file, record or Record())
        return next_step(seen) if record is None else next_step_back(seen, record)

    def tell(step: NextStep) -> None:
        click.echo(printable(f"{'…' if step.kind == 'wait' else '·'} {step.says}"))
        for command in step.commands:
            click.echo(printable(f"    {command}"))

    last = Runner(step, tell, perform).run()
    click.echo(printable(f"{'✔' if last.kind == 'done' else '✖'} {last.says}"))
    return last
