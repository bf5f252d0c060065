"""`fleetctl connections`: whose the database's connections are, and how many are left."""

from __future__ import annotations

import click
import msgspec

from fleetd.cli.client import loose, reach_of, tell_json
from fleetd.cli.commands.status import EXIT_CODES
from fleetd.core.model.status import Status
from fleetd.words.formatting import CONNECTION_SOURCES


@click.command(
    short_help="Whose the database's connections are, and how many more instances fit.",
    epilog=EXIT_CODES
    + """
\b
Examples:
  fleetctl connections
  fleetctl connections --watch
  fleetctl connections --json | jq .connections.headroom_connections

What it says and how to declare others: docs/operations.md, "Connections".
""",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help='One JSON document: "host", "tick_age_seconds", "connections" as in fleetctl status --json, and "sources":'
    ' whether each one that limits connections could be read; or {"error": ...} with what systemd knows.',
)
@click.option("--watch", is_flag=True, help="Draw it anew every 2 s until Ctrl-C.")
@click.pass_context
def connections(context: click.Context, as_json: bool, watch: bool) -> None:
    """What limits connections, the tightest first, each with its arithmetic: limit, reserve, others, claims, headroom.

    Then who the others are, what our instances may open by host and profile, and how many more instances of each
    profile the headroom buys.
    """
    reach = reach_of(context)
    if as_json and watch:
        raise click.UsageError("--json gives one document; leave out --watch, or call it repeatedly.")
    if as_json:
        context.exit(tell_json(reach, _document))
    from fleetd.cli.commands.watch import connection_view, draw_once, watch_forever

    draw = watch_forever if watch else draw_once
    context.exit(draw(reach, connection_view))


def _document(answer: str, status: Status) -> str:
    """Taken from the answer itself, so that what a newer fleetd adds is passed on."""
    said = loose(answer)
    health = [source for source in status.sources if source.name in CONNECTION_SOURCES]
    document = {
        "host": status.host,
        "tick_age_seconds": status.tick_age_seconds,
        "connections": said.get("connections"),
        "sources": health,
    }
    return msgspec.json.encode(document).decode()
