"""`fleetctl grants`: logins of fleetd's own with the least rights, as commands for this installation."""

from __future__ import annotations

import click

from fleetd.cli.client import EXIT_ERROR
from fleetd.cli.commands.check_config import list_problems
from fleetd.cli.commands.config_file import config_file
from fleetd.cli.terminal.safe_text import printable
from fleetd.errors import ConfigError


@click.command(
    short_help="Commands that give fleetd logins of its own, with the least rights.",
    epilog="""\b
Exit status:
  0  they were printed
  1  it is not known where Redis and the databases are
  2  the command line is wrong

\b
Examples:
  sudo fleetctl grants
""",
)
@config_file
@click.pass_context
def grants(context: click.Context, file: str) -> None:
    """Print what to run on Redis, Postgres and PgBouncer, and what then stands in FILE.

    fleetd uses Mastodon's logins otherwise. Changes nothing and connects to nothing. The passwords are new each time,
    for the users that the commands make, and kept nowhere.
    """
    import secrets

    from fleetd.app.endpoints import find_endpoints
    from fleetd.app.given_env import given_env
    from fleetd.app.grants import grants as made
    from fleetd.app.pooler_search import found_before
    from fleetd.config import load

    try:
        settings = load(file)
        endpoints = find_endpoints(settings, given_env(settings, {}), found_before(settings))
    except ConfigError as error:
        list_problems(error, err=True)
        context.exit(EXIT_ERROR)
    for grant in made(endpoints, (secrets.token_hex(16), secrets.token_hex(16), secrets.token_hex(16))):
        click.echo(printable(f"# {grant.server}"))
        for line in (*grant.commands, *(f"#   {note}" for note in grant.notes)):
            click.echo(printable(line))
        if grant.settings:
            click.echo(printable(f"# then, in {file}; where such a table is there already, these keys belong into it:"))
        for line in grant.settings:
            click.echo(printable(line))
        click.echo()
    click.echo(printable(f"# at last: sudo fleetctl check-config {file} && sudo systemctl restart fleetd"))
