"""`fleetctl explain`: from what the queues need to what runs, and each thing that came between (law 8)."""

from __future__ import annotations

from functools import partial

import click
import msgspec

from fleetd.cli.advice.explanation import explain_status
from fleetd.cli.client import reach_of, tell_json
from fleetd.cli.commands.arguments import complete_profile
from fleetd.cli.commands.status import EXIT_CODES
from fleetd.cli.terminal.safe_text import clean
from fleetd.core.model.status import Status
from fleetd.words.formatting import nearest


@click.command(
    short_help="Why so many instances run: from what the queues need to what runs.",
    epilog=EXIT_CODES
    + """
\b
Examples:
  fleetctl explain
  fleetctl explain default-first
  fleetctl explain --json | jq '.profiles[] | {raw, granted, running}'

Every code is in docs/operations.md, with what it means and what to do.
""",
)
@click.argument("profile", shell_complete=complete_profile, default="")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help='One JSON document: "profiles", by name, each with "raw", "granted", "running" and "clamps"; "host": what'
    ' concerns all of them; "next"; or {"error": ...} with what systemd knows.',
)
@click.pass_context
def explain(context: click.Context, profile: str, as_json: bool) -> None:
    """Of PROFILE, or of each one: how many instances its queues need, what changed that number step by step, how many
    were granted, how many run. Then what concerns the whole host, and what fleetd does next.
    """
    reach = reach_of(context)
    if as_json:
        context.exit(tell_json(reach, partial(_document, profile)))
    from fleetd.cli.commands.watch import draw_once, explain_view

    context.exit(draw_once(reach, explain_view(lambda status: known_profile(status, profile))))


def known_profile(status: Status, typed: str) -> str:
    """The name as typed, if there is such a profile; "" stands for all."""
    known = [profile.name for profile in status.profiles]
    if typed and typed not in known:
        hint = clean(nearest(typed, known), ascii_only=True) if known else "None is configured."
        raise click.UsageError(f"There is no profile '{clean(typed[:60], ascii_only=True)}'. {hint}")
    return typed


def _document(profile: str, _answer: str, status: Status) -> str:
    return msgspec.json.encode(explain_status(status, known_profile(status, profile))).decode()
