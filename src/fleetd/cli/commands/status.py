"""`fleetctl status`, `connections` and `explain`: fleetd's answer as a screen, or for scripts as JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click
import msgspec

from fleetd.cli.advice.explanation import explain_status
from fleetd.cli.advice.last_words import last_words
from fleetd.cli.client import client_of, fields_of, tell_json
from fleetd.cli.commands.arguments import complete_profile
from fleetd.cli.terminal.safe_text import clean
from fleetd.core.model.status import Status
from fleetd.words.formatting import CONNECTION_SOURCES, nearest

if TYPE_CHECKING:
    from fleetd.cli.terminal.lines import Lines, Page

_EXIT_CODES = """\b
Exit status (as of systemctl status):
  0  fleetd runs and answered, whatever it had to say
  1  it runs but does not answer, or the answer can't be read
  2  the command line is wrong
  3  fleetd is not running
"""
_watch = click.option("--watch", is_flag=True, help="Draw it again every 2 s until q or Ctrl-C.")


def _exit_with_json(context: click.Context, document: Callable[[str, Status], str], *, watch: bool) -> None:
    """Write one document, made from fleetd's answer, and exit."""
    if watch:
        raise click.UsageError("--json writes one document: leave --watch out, or call it repeatedly.")
    context.exit(tell_json(client_of(context), document))


@click.command(
    short_help="Queues, instances, connections and what fleetd does next.",
    epilog=_EXIT_CODES
    + """
\b
Examples:
  fleetctl status
  fleetctl status --watch
  fleetctl status --fleet         and a line for every host
  fleetctl status --json | jq -r '.queues[] | [.name, .latency_seconds] | @tsv'

The signs: a tick means well, an arrow under way, a triangle a warning, a cross a fault, ? unknown (+ > ! X ? where the
terminal can't draw them). NO_COLOR=1 turns colours off.
""",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help='One JSON document: fleetd\'s answer, and when a unit failed "journal" with its last lines, by unit; or'
    ' {"error": ...} with what systemd knows.',
)
@click.option("--fleet", is_flag=True, help="And every host of the fleet, as fleetctl hosts lists them.")
@_watch
@click.pass_context
def status(context: click.Context, as_json: bool, fleet: bool, watch: bool) -> None:
    """What fleetd sees, has decided, did last and does next, on one screen.

    When fleetd is down: what systemd and the journal know about it.
    """
    if fleet and as_json:
        raise click.UsageError("For all hosts as JSON: fleetctl hosts --json.")

    client = client_of(context)

    def document(answer: str, status: Status) -> str:
        words = last_words(status, client.run)
        if not words:
            return answer
        journal = {unit: list(said.lines) for unit, said in words.items()}
        return msgspec.json.encode({**fields_of(answer), "journal": journal}).decode()

    if as_json:
        _exit_with_json(context, document, watch=watch)
    from fleetd.cli.commands.watch import draw, status_view

    context.exit(draw(client, status_view(client, fleet=fleet), again=watch))


@click.command(
    short_help="Who has the database's connections, and how many more instances fit.",
    epilog=_EXIT_CODES
    + """
\b
Examples:
  fleetctl connections
  fleetctl connections --watch
  fleetctl connections --json | jq .connections.headroom_connections

docs/operations.md, "Connections", explains the numbers and how to declare what others may take.
""",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help='One JSON document: "host", "tick_age_seconds", "connections" as in fleetctl status --json, and "sources":'
    ' whether each source of connections could be read; or {"error": ...} with what systemd knows.',
)
@_watch
@click.pass_context
def connections(context: click.Context, as_json: bool, watch: bool) -> None:
    """Each limit on connections, the tightest first, with its arithmetic: limit, reserve, others, claims, headroom.

    Then who the others are, what our instances may open by host and profile, and how many more instances of each
    profile fit.
    """
    if as_json:
        _exit_with_json(context, _connections_document, watch=watch)
    from fleetd.cli.commands.watch import draw
    from fleetd.cli.screens.connections import connection_screen

    def view(status: Status, page: Page, _height: int | None, clock: str | None) -> Lines:
        return connection_screen(status, page, clock=clock)

    context.exit(draw(client_of(context), view, again=watch))


def _connections_document(answer: str, status: Status) -> str:
    """Taken from the answer itself, so that fields of a newer fleetd are passed on."""
    document = {
        "host": status.host,
        "tick_age_seconds": status.tick_age_seconds,
        "connections": fields_of(answer).get("connections"),
        "sources": [source for source in status.sources if source.name in CONNECTION_SOURCES],
    }
    return msgspec.json.encode(document).decode()


@click.command(
    short_help="Why so many instances run: from what the queues need to what runs.",
    epilog=_EXIT_CODES
    + """
\b
Examples:
  fleetctl explain
  fleetctl explain default-first
  fleetctl explain --json | jq '.profiles[] | {needed_instances, running_instances}'

docs/operations.md has every code, what it means and what to do.
""",
)
@click.argument("profile", shell_complete=complete_profile, required=False)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help='One JSON document: "profiles", by name, with "needed_instances", "admitted_instances", "running_instances",'
    ' "clamps"; "host": what concerns all of them; "next"; or {"error": ...} with what systemd knows.',
)
@click.pass_context
def explain(context: click.Context, profile: str | None, as_json: bool) -> None:
    """For PROFILE, or for each one, show how many instances its queues need, what changed that number step by step, how
    many were admitted and how many run. Then what concerns the whole host, and what fleetd does next.
    """

    def document(_answer: str, status: Status) -> str:
        return msgspec.json.encode(explain_status(status, _known_profile(status, profile))).decode()

    if as_json:
        _exit_with_json(context, document, watch=False)
    from fleetd.cli.commands.watch import draw
    from fleetd.cli.screens.explain import explain_screen

    def view(status: Status, page: Page, _height: int | None, _clock: str | None) -> Lines:
        return explain_screen(status, page, profile=_known_profile(status, profile))

    context.exit(draw(client_of(context), view, again=False))


def _known_profile(status: Status, typed: str | None) -> str | None:
    """The name as typed; raises UsageError if there is no such profile."""
    known = [profile.name for profile in status.profiles]
    if typed is not None and typed not in known:
        hint = clean(nearest(typed, known), ascii_only=True) if known else "None is configured."
        raise click.UsageError(f"There is no profile '{clean(typed[:60], ascii_only=True)}'. {hint}")
    return typed
