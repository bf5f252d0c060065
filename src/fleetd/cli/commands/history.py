"""`fleetctl history` and `fleetctl trace`: what fleetd did and why, and the traffic that it recorded.

Both read the history file, so they work when fleetd is down.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleetd.cli.advice.recording import gaps_of
from fleetd.cli.client import EXIT_ERROR, write_json
from fleetd.cli.commands.arguments import to_past_seconds
from fleetd.cli.terminal.safe_text import printable
from fleetd.errors import FleetdError
from fleetd.words.formatting import duration

if TYPE_CHECKING:
    from fleetd.core.model.history import Recording
    from fleetd.simulate.replay.reconstruct import Reconstruction

DEFAULT_FILE = "/var/lib/fleetd/history.sqlite"

EXIT_CODES = """\b
Exit status:
  0  done
  1  there is no history, or it can't be read or used; standard error says why
  2  the command line is wrong
"""


def since_option(default: str) -> Callable[[Any], Any]:
    """--since, as seconds."""
    return click.option(
        "--since",
        "since_seconds",
        metavar="TIME",
        default=default,
        show_default=True,
        callback=to_past_seconds,
        help="How far back: 90s, 5m, 2h, 1h30m, 7d; at most 31d.",
    )


file_option = click.option(
    "--file",
    type=click.Path(readable=False),  # read_history says what to do about a file that may not be read
    default=DEFAULT_FILE,
    show_default=True,
    help="Another history, such as a copy of another host's.",
)


def read_history(file: str, since_seconds: float, *, samples: bool, apart_seconds: float = 0.0) -> Recording:
    """What was recorded in the last `since_seconds`, with samples at least `apart_seconds` apart.

    Raises SourceUnavailableError with the reason.
    """
    from fleetd.adapters.history.reader import SqliteHistorySource

    return SqliteHistorySource(Path(file)).read(
        time.time() - since_seconds, samples=samples, apart_seconds=apart_seconds
    )


@click.command(
    short_help="What fleetd did and why, newest last.",
    epilog=EXIT_CODES
    + """
\b
Examples:
  fleetctl history
  fleetctl history --since 8h
  fleetctl history --since 8h --all
  fleetctl history --since 1d --json | jq -r '.entries[] | select(.kind == "step") | .sentence'

The signs: an arrow is a step, a triangle a warning, a diamond a person's order.
""",
)
@since_option("2h")
@file_option
@click.option("--all", "everything", is_flag=True, help="Also reasons that led to nothing.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help='One JSON document: "entries", all of them, each with "at" (UTC), "kind", "sentence" and "warning"; "gaps", in'
    ' which nothing was recorded; "unreadable_rows"; or {"error": ...}.',
)
@click.pass_context
def history(context: click.Context, since_seconds: float, file: str, everything: bool, as_json: bool) -> None:
    """Show how many instances were wanted and why, what was done, what people ordered and what could not be read: the
    sentences of fleetd's log, in local time. Reads the file that fleetd writes, so it works when fleetd is down.
    """
    now_seconds = time.time()
    try:
        recording = read_history(file, since_seconds, samples=False)
    except FleetdError as error:
        if not as_json:
            raise
        write_json(json.dumps({"error": str(error)}))
        context.exit(EXIT_ERROR)
    if as_json:
        write_json(json.dumps(_document(recording, now_seconds - since_seconds, now_seconds)))
        return
    from fleetd.cli.screens.history import history_screen
    from fleetd.cli.terminal.output import show_screen

    since = now_seconds - since_seconds
    show_screen(lambda page: history_screen(recording, since, now_seconds, page, everything=everything))


def _document(recording: Recording, since_seconds: float, now_seconds: float) -> dict[str, object]:
    gaps = gaps_of(recording, since_seconds, now_seconds)
    return {
        "since": _utc(since_seconds),
        "until": _utc(now_seconds),
        "entries": [
            {"at": _utc(e.at_seconds), "kind": e.kind, "sentence": e.sentence, "warning": e.warning}
            for e in recording.entries
        ],
        "gaps": [{"from": _utc(gap.from_seconds), "to": _utc(gap.to_seconds)} for gap in gaps],
        "unreadable_rows": recording.unreadable_rows,
    }


def _utc(at_seconds: float) -> str:
    """Unix time as ISO 8601."""
    return datetime.fromtimestamp(at_seconds, UTC).isoformat(timespec="milliseconds")


@click.command(
    short_help="The recorded traffic as a trace for fleetctl simulate.",
    epilog=EXIT_CODES
    + """
\b
Examples:
  fleetctl trace --since 24h > mine.toml
  fleetctl simulate mine.toml --policy all

docs/traces.md explains the format, and what a reconstruction can't know.
""",
)
@since_option("1d")
@file_option
def trace(since_seconds: float, file: str) -> None:
    """Write the recorded traffic to standard output as a TOML file: incoming jobs, the instances' profiles, others'
    connections and outages.

    Comments at its top say what could not be reconstructed. fleetctl replay says how far its waits are off.
    """
    from fleetd.simulate.replay.reconstruct import with_policy
    from fleetd.simulate.trace.text import trace_text

    found = reconstructed(file, since_seconds)
    head = f"{found.trace.name}, by fleetctl trace: {duration(found.trace.duration_seconds)}"
    click.echo(trace_text(with_policy(found.trace, found.policy), (head, *found.notes)), nl=False)
    for note in found.notes:
        click.echo(printable(f"note: {note}"), err=True)


def reconstructed(file: str, since_seconds: float) -> Reconstruction:
    """The traffic of the recorded time. Raises FleetdError if there are too few samples."""
    from fleetd.simulate.replay.reconstruct import reconstruct, refuse_too_much
    from fleetd.simulate.replay.timeline import EARLIER_SECONDS_MAX, apart_seconds, from_calm

    since, apart = time.time() - since_seconds, apart_seconds(since_seconds)
    recording, notes = from_calm(
        read_history(file, since_seconds + EARLIER_SECONDS_MAX, samples=True, apart_seconds=apart), since
    )
    if apart:
        notes += (f"of so long a time only samples {apart:.0f} s apart are used: short bursts are blurred",)
    begun = recording.samples[0].at_seconds if recording.samples else time.time()
    local = datetime.fromtimestamp(begun, UTC).astimezone()
    found = reconstruct(recording, f"recorded from {local:%Y-%m-%d %H:%M}", notes)
    refuse_too_much(found.trace)
    return found
