"""`fleetctl hosts` and `fleetctl maintenance`: what concerns several hosts, asked for and ordered on any of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import click
import msgspec

from fleetd.cli.advice import postmortem
from fleetd.cli.client import EXIT_ERROR, Client, client_of, exit_code, write_json
from fleetd.cli.commands.arguments import complete_host, to_seconds
from fleetd.cli.commands.orders import EXIT_CODES, give
from fleetd.core.fleet.orders import NOTE_CHARACTERS_MAX
from fleetd.core.sharing.orders.to_fleet import EndMaintenance, ForgetHost, Maintenance
from fleetd.errors import FleetdError, SourceUnavailableError

if TYPE_CHECKING:
    from fleetd.cli.terminal.lines import Lines, Page
    from fleetd.core.model.hosts import FleetHosts

_EXIT_CODES = """\b
Exit status:
  0  fleetd answered; what others do may be unknown
  1  it does not answer, or refuses
  2  the command line is wrong
  3  fleetd is not running
"""


def _tell(client: Client, screen: Callable[[FleetHosts, Page], Lines], *, as_json: bool) -> int:
    """Ask fleetd for every host, and print; returns the exit status."""
    from fleetd.cli.screens.down import down_screen
    from fleetd.cli.terminal.output import show_screen

    try:
        fleet = client.fleet()
    except SourceUnavailableError as error:
        found = postmortem.examine(str(error), client.run)
        if as_json:
            write_json(msgspec.json.encode(found).decode())
        else:
            show_screen(lambda page: down_screen(found, page))
        return exit_code(found)
    except FleetdError as error:
        if not as_json:
            raise
        write_json(json.dumps({"error": str(error)}))
        return EXIT_ERROR
    if as_json:
        write_json(msgspec.json.encode(fleet).decode())
    else:
        show_screen(lambda page: screen(fleet, page))
    return 0


@click.group(
    invoke_without_command=True,
    short_help="Every host of the fleet: what runs there, and who leads.",
    subcommand_metavar="[forget HOST]",
    epilog=_EXIT_CODES
    + """
\b
Examples:
  fleetctl hosts
  fleetctl hosts --json | jq -r '.hosts[] | [.host, .silent_seconds, .instances] | @tsv'
  fleetctl hosts forget w3        once it is switched off for good
""",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help='One JSON document: "hosts", "leader", "scheduler_host", "orders", and "problem", why others are unknown; or'
    ' {"error": ...} with what systemd knows.',
)
@click.pass_context
def hosts(context: click.Context, as_json: bool) -> None:
    """All hosts that share this Redis, from any of them: since when each is silent, what it runs and may open.

    SEEN is its last sign of life, RUN its instances, CONN the connections that they may open. A host that is lost keeps
    its connections for five minutes, and for as long as one of them is open.
    """
    if context.invoked_subcommand is not None:
        return
    from fleetd.cli.screens.hosts import hosts_screen

    context.exit(_tell(client_of(context), hosts_screen, as_json=as_json))


@hosts.command(
    short_help="Free what a host had that is gone for good.",
    epilog=EXIT_CODES + "\n\b\nExamples:\n  fleetctl hosts forget w3\n",
)
@click.argument("host", shell_complete=complete_host)
@click.pass_context
def forget(context: click.Context, host: str) -> None:
    """Say that HOST does not come back: its connections, the scheduler and orders about it are free at once.

    Refused for a host that beats. Make sure that it is switched off: one that only can't reach Redis may still run its
    scheduler.
    """
    give(context, ForgetHost(host=host))


@click.command(
    short_help="Let other hosts do a host's work while you work on it.",
    epilog=EXIT_CODES
    + """
\b
Examples:
  fleetctl maintenance                          which hosts are in maintenance
  fleetctl maintenance w2 --for 2h --reason "new kernel"
  fleetctl maintenance w2 --end                 it works again
""",
)
@click.argument("host", required=False, shell_complete=complete_host)
@click.option(
    "--for",
    "for_seconds",
    callback=to_seconds,
    default=None,
    metavar="TIME",
    help="How long: 90s, 30m, 2h, 1h30m, 1d. Else until --end, at most 7d.",
)
@click.option(
    "--reason", default="", metavar="TEXT", help=f"Shown to everybody, {NOTE_CHARACTERS_MAX} characters at most."
)
@click.option("--end", is_flag=True, help="Let it work again.")
@click.option("--force", is_flag=True, help="Even if no other host serves, so that jobs wait.")
@click.pass_context
def maintenance(
    context: click.Context, host: str | None, for_seconds: float, reason: str, end: bool, force: bool
) -> None:
    """Empty HOST, from any host: its instances move to others as far as these have room, then its scheduler does.

    Nothing starts there meanwhile, and what a boot starts ends again. Instances that you start by hand stay. No job is
    lost. Without HOST: which hosts are in maintenance.
    """
    typed = bool(for_seconds or reason or force)
    if host is None:
        if typed or end:
            raise click.UsageError("Which HOST? `fleetctl hosts` lists them.")
        from fleetd.cli.screens.hosts import maintenance_screen

        context.exit(_tell(client_of(context), maintenance_screen, as_json=False))
    if end and typed:
        raise click.UsageError("--end takes no other option.")
    give(
        context,
        EndMaintenance(host=host)
        if end
        else Maintenance(host=host, for_seconds=for_seconds, reason=reason, force=force),
    )
