"""`fleetctl init`: a first configuration from what runs now."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleetd.cli.commands.check_config import DEFAULT_FILE
from fleetd.cli.terminal.safe_text import printable

if TYPE_CHECKING:
    from fleetd.app.init.propose import Proposal


@click.command(
    short_help="Write a first configuration from what runs now.",
    epilog="""\b
Exit status:
  0  the configuration was written, or shown with --stdout
  1  it was not: there is one already, or it can't be written there
  2  the command line is wrong

\b
Examples:
  sudo fleetctl init
  sudo fleetctl init --stdout
  sudo fleetctl init --output /root/fleetd.toml
""",
)
@click.option("--stdout", "to_stdout", is_flag=True, help="Show it and write nothing.")
@click.option("--output", type=click.Path(), metavar="FILE", help=f"Write it there instead of to {DEFAULT_FILE}.")
@click.pass_context
def init(context: click.Context, to_stdout: bool, output: str | None) -> None:
    """Write a first fleetd.toml for this host, each number with its reason as a comment.

    Reads Mastodon's units and .env.production, cores and memory, and asks Redis and the databases. Starts, stops and
    overwrites nothing. Run it as root, who may read Mastodon's settings; fleetd need not run yet.
    """
    from fleetd.app.init.look import look_around
    from fleetd.app.init.place import refuse_taken, write
    from fleetd.app.init.propose import propose
    from fleetd.app.init.text import file_text

    if to_stdout and output is not None:
        raise click.UsageError("--stdout and --output exclude each other.")
    path = Path(output or DEFAULT_FILE)
    if not to_stdout:
        refuse_taken(path)  # before the seconds that looking takes
    proposal = propose(look_around())
    text = file_text(proposal)
    if to_stdout:
        click.echo(text, nl=False)
        _say(proposal, "")
        return
    for_fleetd = write(path, text)
    _say(proposal, f"Wrote {path}.")
    if not for_fleetd:
        _line("There is no group fleetd yet, so only root may read it: sudo make install makes one.")
        _line(f"Then: sudo chgrp fleetd {path} && sudo chmod 0640 {path}")
    file = "" if output is None else f" {path}"
    _line("Next:")
    _line(f"  sudo fleetctl check-config{file}")
    _line(f"  sudo fleetctl doctor{file}")


def _say(proposal: Proposal, first: str) -> None:
    """On standard error, where the file itself may be on standard output."""
    from fleetd.app.init.sentences import found_lines, growth_lines, unknown_lines

    for line in found_lines(proposal):
        _line(f"Found: {line}")
    for line in unknown_lines(proposal):
        _line(f"Not found out: {line}")
    for line in growth_lines(proposal):
        _line(line)
    if first:
        _line(first)


def _line(text: str) -> None:
    click.echo(printable(text), err=True)
