"""`fleetctl install-units`: fleetd's units and policies on this host, for programs that pip, pipx or uv installed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleetd.cli.client import EXIT_ERROR
from fleetd.cli.terminal.safe_text import printable
from fleetd.errors import ConfigProblem, FleetdError
from fleetd.words.units import headline, way_over

if TYPE_CHECKING:
    from fleetd.app.installing.staged import StagedFile

_PLANNED = {"new": "new", "changed": "changed", "unseen": "only root sees whether this is there"}
_BACK = (
    "sudo systemctl disable --now mastodon-sidekiq.target    # stops every worker; unfinished jobs are pushed back",
    "sudo systemctl enable --now mastodon-sidekiq            # Mastodon's own unit",
)


@click.command(
    name="install-units",
    short_help="Install fleetd's units and policies on this host, or remove them.",
    epilog="""\b
Exit status:
  0  done, or nothing was to be done
  1  something is missing or could not be written; it is named
  2  the command line is wrong

\b
Examples:
  fleetctl install-units --dry-run         what it would write, and where
  sudo fleetctl install-units              again after an upgrade, too
  sudo fleetctl install-units --remove     workers stay as they are
""",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be done; anybody may.")
@click.option("--remove", "removing", is_flag=True, help="Take them away again, but for what workers run from.")
@click.pass_context
def install_units(context: click.Context, dry_run: bool, removing: bool) -> None:
    """Write the units, the polkit rule, the bus policy, the user and the directories that fleetd needs.

    Restarts fleetd if it runs, starts nothing else, and touches no worker. Not needed where fleetd came as a .deb,
    which has all of it.
    """
    from fleetd.app.installing.staged import programs, staged

    if sys.prefix == "/usr/lib/fleetd":
        raise FleetdError("this fleetd is the Debian package's, which has brought its units; apt removes them again")
    if not dry_run and os.geteuid() != 0:
        raise FleetdError("this writes to /etc and /usr/local: run it with sudo, or look first with --dry-run")
    if removing:
        _remove(dry_run)
        return
    from fleetd.app.installing.needs import missing

    needed = list(missing(programs()))
    if needed:
        _say_missing(needed)
        context.exit(EXIT_ERROR)
    files = staged(programs())
    if dry_run:
        _say_plan(files)
        return
    _write(files, programs())


def _say_missing(needed: list[ConfigProblem]) -> None:
    click.echo("Nothing was changed. This host lacks:", err=True)
    for problem in needed:
        click.echo(printable(f"  {problem.path}: {problem.what}"), err=True)
        click.echo(printable(f"    {problem.cure}"), err=True)


def _say_plan(files: tuple[StagedFile, ...]) -> None:
    for file in files:
        if file.change != "same":
            click.echo(printable(f"{_PLANNED[file.change]}: {file.path}"))
    wanted = sum(file.change in ("new", "changed") for file in files)
    click.echo(f"{wanted} of {len(files)} files would be written. Nothing was changed.")


def _write(files: tuple[StagedFile, ...], bin_directory: Path) -> None:
    from fleetd.adapters.host.unit_files import UnitFiles
    from fleetd.app.installing.apply import write

    try:
        for sentence in write(files, bin_directory):
            click.echo(printable(sentence))
    except OSError as error:
        raise _broken_off(error) from None
    for unfit in UnitFiles().unfit().values():
        click.echo(printable(f"look: {headline(unfit)}"), err=True)
        for line in way_over(unfit):
            click.echo(printable(f"  {line}"), err=True)
    click.echo("Installed. No worker was touched.")


def _broken_off(error: OSError) -> FleetdError:
    """A write that fails names no file."""
    return FleetdError(
        f"{error.filename or 'a file of /etc or /usr/local'}: {error.strerror}. Run it again once that is mended."
    )


def _remove(dry_run: bool) -> None:
    from fleetd.app.installing.apply import is_workers, remove
    from fleetd.app.installing.staged import installed_before, programs, staged

    paths = installed_before() or tuple(file.path for file in staged(programs()) if file.change != "new")
    kept = [path for path in paths if is_workers(path)]
    if dry_run:
        for path in paths:
            click.echo(printable(f"{'would stay' if path in kept else 'would go'}: {path}"))
        click.echo("Nothing was changed.")
        return
    try:
        for sentence in remove(paths):
            click.echo(printable(sentence))
    except OSError as error:
        raise _broken_off(error) from None
    click.echo("These stay, because workers run from them and a boot starts them with them, without fleetd too:")
    for path in (*kept, "/var/lib/mastodon-sidekiq", "/etc/systemd/system/mastodon-workers-boot.target.wants"):
        click.echo(printable(f"  {path}"))
    click.echo("So do /etc/fleetd and /var/lib/fleetd. To go back to Mastodon's own unit:")
    undo = f"sudo {programs() / 'fleetctl'} migrate --undo"
    click.echo(f"  {undo}    # the best way if `fleetctl migrate` came before: each job ends first. By hand:")
    for line in _BACK:
        click.echo(f"  {line}")
    click.echo("After that all of these can be deleted, and the user: sudo userdel fleetd")
