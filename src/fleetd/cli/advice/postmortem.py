"""What systemd and the journal know when fleetd itself does not answer.

systemctl and journalctl are run, each with a deadline. If one is missing, hangs or may not read the journal, its part
is left out, with the reason.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable

from fleetd.core.model.facts import Value

UNIT = "fleetd.service"
COMMAND_SECONDS_MAX = 2.0
JOURNAL_LINES = 5
_OUTPUT_CHARACTERS_MAX = 100_000
_PROPERTIES = (
    "LoadState,ActiveState,SubState,StateChangeTimestampMonotonic,Result,ExecMainStatus,ExecMainCode,NRestarts"
)
_CLD_EXITED, _CLD_DUMPED = 1, 3  # ExecMainCode, see waitid(2)


class Output(Value, frozen=True, kw_only=True):
    """What a program printed. `status` is None if it could not be run or took too long; `error` says why."""

    status: int | None
    text: str = ""
    error: str = ""


#: Runs a program with its arguments.
Run = Callable[[tuple[str, ...]], Output]


class UnitState(Value, frozen=True, kw_only=True):
    """fleetd.service as systemd has it."""

    load_state: str
    active_state: str
    sub_state: str
    result: str
    exit_status: int | None
    killed: bool  # exit_status is the number of a signal
    restarts: int
    since_age_seconds: float | None  # how long it has been in this state; None: systemd has forgotten


class Worker(Value, frozen=True, kw_only=True):
    """A Sidekiq unit; workers outlive fleetd."""

    unit: str
    active_state: str
    sub_state: str


class Postmortem(Value, frozen=True, kw_only=True):
    """Everything that is known without fleetd. An unknown part is None, and its `_why` says why."""

    error: str  # why fleetd could not be asked
    unit: UnitState | None
    unit_why: str
    journal: tuple[str, ...] | None
    journal_why: str
    workers: tuple[Worker, ...] | None

    @property
    def running(self) -> bool:
        """Whether systemd says that fleetd runs, although it did not answer."""
        return self.unit is not None and self.unit.active_state in ("active", "reloading")


def run(arguments: tuple[str, ...]) -> Output:
    """Run a program without a shell, a terminal or a pager, for at most `COMMAND_SECONDS_MAX`."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": ""}
    try:
        done = subprocess.run(
            arguments,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=COMMAND_SECONDS_MAX,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        return Output(status=None, error=f"{arguments[0]} gave no answer in {COMMAND_SECONDS_MAX:.0f} s")
    except OSError as error:
        return Output(status=None, error=f"{arguments[0]} can't be run: {error.strerror}")
    return Output(
        status=done.returncode,
        text=done.stdout.decode(errors="replace")[-_OUTPUT_CHARACTERS_MAX:],
        error=" ".join(done.stderr.decode(errors="replace").split())[:300],
    )


def examine(error: str, run: Run = run, *, monotonic_seconds: float | None = None) -> Postmortem:
    """Ask systemd and the journal; `error`: why fleetd could not be asked."""
    shown = run(("systemctl", "show", UNIT, f"--property={_PROPERTIES}"))
    now = time.clock_gettime(time.CLOCK_MONOTONIC) if monotonic_seconds is None else monotonic_seconds
    unit = _unit(shown.text, now) if shown.status == 0 else None
    if unit is None:
        why = shown.error or "systemctl gave no answer that can be read"
        return Postmortem(error=error, unit=None, unit_why=why, journal=None, journal_why=why, workers=None)
    journal, journal_why = _fleetd_lines(run)
    units = ("systemctl", "list-units", "--all", "--full", "--plain", "--no-legend", "--no-pager")
    listed = run((*units, "mastodon-sidekiq*"))
    return Postmortem(
        error=error,
        unit=unit,
        unit_why="",
        journal=journal,
        journal_why=journal_why,
        workers=_workers(listed.text) if listed.status == 0 else None,
    )


def _fleetd_lines(run: Run) -> tuple[tuple[str, ...] | None, str]:
    """fleetd's last lines, or if it wrote none, systemd's about its unit; None with why if the journal is not readable.

    They are not mixed: if fleetd fails at each start, systemd's messages would push out the ones that say why.
    """
    for match in (f"_SYSTEMD_UNIT={UNIT}", f"--unit={UNIT}"):
        lines, why = journal_lines(run, match, f"--lines={JOURNAL_LINES}", "--no-hostname", "--output=short")
        if lines != ():
            return lines, why
    return (), ""


def journal_lines(run: Run, *arguments: str) -> tuple[tuple[str, ...] | None, str]:
    """What journalctl prints with these arguments; None with why if the journal is not readable."""
    read = run(("journalctl", "--no-pager", *arguments))
    if read.status is None:
        return None, read.error
    lines = tuple(line for line in read.text.splitlines() if line and not line.startswith("-- "))
    if not lines and (read.status != 0 or read.error):  # e.g. "You are currently not seeing messages from other users"
        return None, "the journal is not readable for you: use sudo, or join the group systemd-journal"
    return lines, ""


def _unit(text: str, monotonic_seconds: float) -> UnitState | None:
    """Parses `systemctl show` (KEY=value lines); None if it is something else."""
    facts = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    if "ActiveState" not in facts:
        return None
    changed, code = _number(facts, "StateChangeTimestampMonotonic"), _number(facts, "ExecMainCode")
    return UnitState(
        load_state=facts.get("LoadState", ""),
        active_state=facts["ActiveState"],
        sub_state=facts.get("SubState", ""),
        result=facts.get("Result", ""),
        exit_status=_number(facts, "ExecMainStatus") if code else None,
        killed=code is not None and _CLD_EXITED < code <= _CLD_DUMPED,
        restarts=_number(facts, "NRestarts") or 0,
        since_age_seconds=max(0.0, monotonic_seconds - changed / 1e6) if changed else None,
    )


def _number(facts: dict[str, str], key: str) -> int | None:
    text = facts.get(key, "")
    return int(text) if re.fullmatch(r"[0-9]{1,19}", text) else None


def _workers(text: str) -> tuple[Worker, ...]:
    """Parses `systemctl list-units` (UNIT LOAD ACTIVE SUB DESCRIPTION). Sorted, with @2 before @10."""
    rows = [line.split() for line in text.splitlines()]
    found = [
        Worker(unit=row[0].removesuffix(".service"), active_state=row[2], sub_state=row[3])
        for row in rows
        if len(row) >= 4 and row[0].endswith(".service") and row[2] != "inactive"
    ]
    return tuple(sorted(found, key=lambda worker: (len(worker.unit.partition("@")[2]), worker.unit)))
