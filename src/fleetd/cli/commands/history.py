"""`fleetctl history` and `fleetctl trace`: what fleetd did and why, and the traffic it met, from what it recorded.

Both read the file itself, so they work as well when fleetd is down or gone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleetd.cli.client import EXIT_ERROR
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
    return click.option(
        "--since",
        "since_seconds",
        metavar="TIME",
        default=default,
        show_default=True,
        callback=to_past_seconds,
        help="How far back: 90m, 2h, 1h30m, 7d.",
    )


file_option = click.option(
    "--file",
    type=click.Path(readable=False),  # whoever may not read it is told what to do
    default=DEFAULT_FILE,
    show_default=True,
    help="The history, if it is elsewhere, such as a copy of another host's.",
)


def read_history(file: str, since_seconds: float, *, samples: bool, apart_seconds: float = 0.0) -> Recording:
    """What is kept of the last so many seconds. Raises SourceUnavailableError with the reason.

    `apart_seconds`: samples that are nearer to the last one than this are left out.
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
@click.option("--all", "everything", is_flag=True, help="Also what changed without a step or another want.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help='One JSON document: "entries", all of them, each with "at" (UTC), "kind", "sentence" and "warning"; "gaps", in'
    ' which nothing was recorded; "unreadable_rows"; or {"error": ...}.',
)
@click.pass_context
def history(context: click.Context, since_seconds: float, file: str, everything: bool, as_json: bool) -> None:
    """What was wanted and why, steps, orders of people, what could not be read, what else changed: the sentences of the
    log, repeats drawn together, in local time. Reads the file that fleetd writes, so it works when fleetd does not run.
    """
    now = time.time()
    try:
        recording = read_history(file, since_seconds, samples=False)
    except FleetdError as error:
        if not as_json:
            raise
        _write_json({"error": str(error)})
        context.exit(EXIT_ERROR)
    if as_json:
        _write_json(_document(recording, now - since_seconds, now))
        return
    from fleetd.cli.screens.history import history_lines
    from fleetd.cli.terminal.output import open_console, show

    console, symbols = open_console()
    show(
        console,
        history_lines(
            recording,
            now - since_seconds,
            now,
            width=console.width,
            symbols=symbols,
            everything=everything,
        ),
    )


def _document(recording: Recording, since: float, now: float) -> dict[str, object]:
    from fleetd.cli.screens.history import gaps_of

    return {
        "since": utc(since),
        "until": utc(now),
        "entries": [
            {"at": utc(e.at_seconds), "kind": e.kind, "sentence": e.sentence, "warning": e.warning}
            for e in recording.entries
        ],
        "gaps": [
            {"from": utc(gap.from_seconds), "to": utc(gap.to_seconds)}
            for gap in gaps_of(recording, since, now)
        ],
        "unreadable_rows": recording.unreadable_rows,
    }


def utc(at_seconds: float) -> str:
    """Unix time as ISO 8601."""
    return datetime.fromtimestamp(at_seconds, UTC).isoformat(timespec="milliseconds")


def _write_json(document: dict[str, object]) -> None:
    import json

    click.echo(json.dumps(document))


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
    """Write a TOML file of what came in, the instances' profiles, others' connections and outages to standard output.

    What is not as it was stands in comments at its top. `fleetctl replay` states how far its waits are off.
    """
    from fleetd.simulate.replay.reconstruct import with_policy
    from fleetd.simulate.trace.text import trace_text

    found = reconstructed(file, since_seconds)
    head = f"{found.trace.name}, by fleetctl trace: {duration(found.trace.duration_seconds)}"
    text = trace_text(with_policy(found.trace, found.policy), (head, *found.notes))
    click.echo(text, nl=False)
    for note in found.notes:
        click.echo(printable(f"note: {note}"), err=True)


def reconstructed(file: str, since_seconds: float) -> Reconstruction:
    """Raises FleetdError where there is nothing to make a trace of."""
    from fleetd.simulate.replay.reconstruct import reconstruct
    from fleetd.simulate.replay.timeline import EARLIER_SECONDS_MAX, apart_seconds, from_calm

    since, apart = time.time() - since_seconds, apart_seconds(since_seconds)
    recording, notes = from_calm(
        read_history(file, since_seconds + EARLIER_SECONDS_MAX, samples=True, apart_seconds=apart), since
    )
    if apart:
        notes = (
            *notes,
            f"so long a time is taken from samples {apart:.0f} s apart: short bursts are blurred",
        )
    begun = recording.samples[0].at_seconds if recording.samples else time.time()
    local = datetime.fromtimestamp(begun, UTC).astimezone()
    return reconstruct(recording, f"recorded from {local:%Y-%m-%d %H:%M}", notes)
