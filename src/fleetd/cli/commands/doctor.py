"""`fleetctl doctor`: what keeps fleetd from doing its job here, each with the line that mends it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleetd.cli.advice.verdict import Level
from fleetd.cli.client import write_json
from fleetd.cli.commands.config_file import config_file
from fleetd.cli.terminal.safe_text import printable

if TYPE_CHECKING:
    from fleetd.app.doctor.check import Check

_LEVELS = {"ok": Level.OK, "look": Level.WARN, "broken": Level.BAD}


@click.command(
    short_help="What keeps fleetd from its work here, and the lines that mend it.",
    epilog="""\b
Exit status:
  0  nothing is broken
  1  something is
  2  the command line is wrong

\b
Examples:
  sudo fleetctl doctor
  sudo fleetctl doctor --json | jq '.checks[] | select(.verdict == "broken")'
""",
)
@config_file
@click.option("--json", "as_json", is_flag=True, help="All checks, as JSON.")
@click.pass_context
def doctor(context: click.Context, file: str, as_json: bool) -> None:
    """Look at Redis, the databases, systemd and this host as fleetd's own user meets them.

    Logs in everywhere with the settings of FILE (default: /etc/fleetd/fleetd.toml) and of Mastodon, and reads; it
    changes nothing. Run it as root, who may read Mastodon's settings.
    """
    from fleetd.app.doctor.examine import examine

    found = examine(Path(file))
    if as_json:
        import msgspec

        write_json(msgspec.json.format(msgspec.json.encode({"checks": found})).decode())
    else:
        from fleetd.cli.terminal.output import symbols_for

        signs = symbols_for(sys.stdout.encoding, os.environ.get("TERM", "")).signs
        for check in found:
            for line in _lines(check, signs):
                click.echo(printable(line))
    context.exit(1 if any(check.verdict == "broken" for check in found) else 0)


def _lines(check: Check, signs: dict[Level, str]) -> list[str]:
    lines = [f"{signs[_LEVELS[check.verdict]]} {check.subject}: {check.what}"]
    if check.verdict != "ok":
        lines += [f"    {check.why}"] if check.why else []
        lines += [f"    {check.line}"] if check.line else []
    return lines
