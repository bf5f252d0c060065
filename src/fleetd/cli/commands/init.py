"""`fleetctl init`: a first configuration from what runs now."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleetd.cli.commands.config_file import DEFAULT_FILE, in_place
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

    Reads Mastodon's units and .env.production, cores and memory, and asks Redis and the databases. Starts and stops
    nothing, and overwrites nothing but the example as it was installed. Run it as root, who may read Mastodon's
    settings; fleetd need not run yet.
    """
    from fleetd.app.init.look import look_around
    from fleetd.app.init.place import refuse_taken, write
    from fleetd.app.init.propose import propose
    from fleetd.app.init.sentences import replaced_units
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
        _say(_found(proposal), err=True)
        return
    readers = write(path, text)
    file = "" if output is None else f" {path}"
    lines = [f"sudo fleetctl check-config{file}", f"sudo fleetctl doctor{file}"]
    lines += [] if output is None else [in_place(output)]
    lines += ["sudo fleetctl migrate"] if replaced_units(proposal) else []
    _say([*_found(proposal), f"Wrote {path}.", *_READERS[readers], "Next:", *(f"  {line}" for line in lines)])


_READERS = {
    "fleetd": [],
    "nobody": ["Only its owner may read it, since there is no group fleetd yet; doctor prints the line for later."],
    "owner": ["Only you may read it, since you may not give it to the group fleetd."],
}


def _found(proposal: Proposal) -> list[str]:
    from fleetd.app.init.sentences import found_lines, growth_lines, unknown_lines

    return [
        *(f"Found: {line}" for line in found_lines(proposal)),
        *(f"Not found out: {line}" for line in unknown_lines(proposal)),
        *growth_lines(proposal),
    ]


def _say(lines: list[str], *, err: bool = False) -> None:
    """On standard error where the file itself is on standard output."""
    for line in lines:
        click.echo(printable(line), err=err)
