"""The last lines of failed units in the journal. fleetctl reads them itself, with the rights of the person who runs it.

fleetd may not read the journal, and need not: only a person can do something about a Ruby error. A worker's log may
contain a database URL, so secrets are removed as they are from fleetd's own log.
"""

from __future__ import annotations

import re

from fleetd.cli.advice.postmortem import Run, journal_lines
from fleetd.core.model.facts import Value
from fleetd.core.model.identity import SCHEDULER_UNIT, InstanceKey, unit_of
from fleetd.core.model.status import Status

UNITS_MAX = 3
LINES_MAX = 3
#: Enough to find the error among systemd's messages and Ruby's backtraces.
_LINES_READ = 40
_LINE_CHARACTERS_MAX = 400
_NOISE = re.compile(
    r"\s*from |"
    r".{0,300}:[0-9]+:in [`'][^']{0,200}'\s*$|"  # a line of a backtrace, but not the one with the error
    r"mastodon-sidekiq\S*\.service: (Scheduled restart job|Start request repeated|Consumed |Main process exited|"
    r"Failed with result|Control process exited|Triggering OnFailure|Deactivated successfully)|"
    r"(Starting|Started|Stopping|Stopped|Failed to start) .{0,300}[.]$"
)


class LastWords(Value, frozen=True, kw_only=True):
    """The last lines of one unit, oldest first; if there are none, why."""

    lines: tuple[str, ...] = ()
    why: str | None = None


def failed_units(status: Status) -> tuple[str, ...]:
    """At most `UNITS_MAX` units that failed, the scheduler's first."""
    failed = [SCHEDULER_UNIT] if status.scheduler.unit_state == "failed" else []
    failed += [unit_of(InstanceKey(i.number)) for i in status.instances if i.state == "failed"]
    return tuple(failed[:UNITS_MAX])


def last_words(status: Status, run: Run) -> dict[str, LastWords]:
    """The last words of each failed unit. If none failed, journalctl is not run."""
    return {unit: _last_words(unit, run) for unit in failed_units(status)}


def _last_words(unit: str, run: Run) -> LastWords:
    lines, why = journal_lines(run, f"--unit={unit}", f"--lines={_LINES_READ}", "--output=cat")
    if not lines:
        return LastWords(why=why or "the journal has nothing of it")
    telling = [line for line in lines if not _NOISE.match(line)]
    # A unit that fails again and again repeats itself.
    latest = list(dict.fromkeys(reversed(telling or lines)))[:LINES_MAX]
    return LastWords(lines=tuple(_without_secrets(line) for line in reversed(latest)))


def _without_secrets(line: str) -> str:
    from fleetd.adapters.logging.redaction import without_secrets

    return without_secrets(line[: 4 * _LINE_CHARACTERS_MAX])[:_LINE_CHARACTERS_MAX]
