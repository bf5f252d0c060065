"""What failed units said last. fleetctl itself reads it from the journal, with the rights of whoever looks.

fleetd may not read the journal, and need not: only a person can do something about a Ruby error. What a worker writes
may hold a database URL, so secrets are taken out as they are from fleetd's own log.
"""

from __future__ import annotations

import re

from fleetd.cli.advice.postmortem import Run, journal_lines
from fleetd.core.model.decision import SCHEDULER_UNIT, instance_unit
from fleetd.core.model.facts import Value
from fleetd.core.model.status import Status

UNITS_MAX = 3
LINES_MAX = 3
#: Enough to hold the error among systemd's reports and Ruby's backtraces.
_LINES_READ = 40
_LINE_CHARACTERS_MAX = 400
_NOISE = re.compile(
    r"\s*from |"
    r".{0,300}:[0-9]+:in [`'][^']{0,200}'\s*$|"  # a backtrace's line, but not the one with the error in it
    r"mastodon-sidekiq\S*\.service: (Scheduled restart job|Start request repeated|Consumed |Main process exited|"
    r"Failed with result|Control process exited|Triggering OnFailure|Deactivated successfully)|"
    r"(Starting|Started|Stopping|Stopped|Failed to start) .{0,300}[.]$"
)


class LastWords(Value, frozen=True, kw_only=True):
    """The last lines of one unit, oldest first; where there are none, why."""

    lines: tuple[str, ...] = ()
    why: str = ""


def failed_units(status: Status) -> tuple[str, ...]:
    """Units whose last words would help, the scheduler's first; at most `UNITS_MAX`."""
    failed = [SCHEDULER_UNIT] if status.scheduler.unit_state == "failed" else []
    failed += [instance_unit(i.number) for i in status.instances if i.state == "failed"]
    return tuple(failed[:UNITS_MAX])


def last_words(status: Status, run: Run) -> dict[str, LastWords]:
    """Of each unit that failed, by unit; journalctl is not run where none did."""
    return {unit: _last_words(unit, run) for unit in failed_units(status)}


def _last_words(unit: str, run: Run) -> LastWords:
    lines, why = journal_lines(run, f"--unit={unit}", f"--lines={_LINES_READ}", "--output=cat")
    if not lines:
        return LastWords(why=why or "the journal has nothing of it")
    telling = [line for line in lines if not _NOISE.match(line)]
    latest = list(dict.fromkeys(reversed(telling or lines)))[:LINES_MAX]  # each try says the same again
    return LastWords(lines=tuple(_without_secrets(line) for line in reversed(latest)))


def _without_secrets(line: str) -> str:
    from fleetd.adapters.logging.redaction import without_secrets

    return without_secrets(line[: 4 * _LINE_CHARACTERS_MAX])[:_LINE_CHARACTERS_MAX]
