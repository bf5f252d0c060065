"""`fleetctl status`: ask fleetd, show its answer to a person or hand it on as JSON."""

from __future__ import annotations

import click
import msgspec

from fleetd.cli.advice.last_words import last_words
from fleetd.cli.client import Reach, loose, reach_of, tell_json
from fleetd.core.model.status import Status

EXIT_CODES = """\b
Exit status (as of systemctl status):
  0  fleetd runs and answered, whatever it had to say
  1  it runs but does not answer, or the answer can't be read
  2  the command line is wrong
  3  fleetd is not running
"""


@click.command(
    short_help="Queues, instances, connections and what fleetd does next.",
    epilog=EXIT_CODES
    + """
\b
Examples:
  fleetctl status
  fleetctl status --watch
  fleetctl status --json | jq -r '.queues[] | [.name, .latency_seconds] | @tsv'

The signs: a tick is well, an arrow is under way, a triangle wants a look, a cross is wrong, ? is unknown
(+ > ! X ? where the terminal can't draw them). NO_COLOR=1 leaves colours out.
""",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help='One JSON document: what fleetd said, with "journal" beside it when a unit failed (its last words, by'
    ' unit); or {"error": ...} with what systemd knows.',
)
@click.option("--watch", is_flag=True, help="Draw it anew every 2 s until Ctrl-C.")
@click.pass_context
def status(context: click.Context, as_json: bool, watch: bool) -> None:
    """What fleetd sees, decided, did last and does next, on one screen.

    When fleetd is down, what systemd and the journal know about that instead.
    """
    reach = reach_of(context)
    if as_json and watch:
        raise click.UsageError("--json gives one document; leave out --watch, or call it repeatedly.")
    if as_json:
        context.exit(tell_json(reach, lambda answer, status: _with_last_words(answer, status, reach)))
    from fleetd.cli.commands.watch import draw_once, status_view, watch_forever

    draw = watch_forever if watch else draw_once
    context.exit(draw(reach, status_view(reach)))


def _with_last_words(answer: str, status: Status, reach: Reach) -> str:
    words = last_words(status, reach.run)
    if not words:
        return answer
    journal = {unit: list(said.lines) for unit, said in words.items()}
    return msgspec.json.encode({**loose(answer), "journal": journal}).decode()
