"""Whether a worker's unit is as fleetd needs it, and if not, the line that mends it.

Law 1: a unit without our settings serves every queue, `scheduler` included. Law 4: one that systemd kills too early, or
whose main process never gets our quiet, loses jobs. Law 6: a unit that lacks these is not ours to start or end.

A unit is judged by what it says, whoever wrote it and wherever it is: a copy of ours in /etc with other limits is ours.
docs/other-mastodons.md has the table of what is understood and what is refused; a test compares them.

Sources: systemd.unit(5), systemd.service(5), systemd.kill(5), systemd.exec(5); Sidekiq's options and signals.
"""

from __future__ import annotations

import operator
import posixpath
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from fleetd.core.model.facts import UnfitUnit, UnitFault, UnitRule
from fleetd.core.model.identity import SCHEDULER, SCHEDULER_UNIT, TEMPLATE_UNIT, InstanceKey, key_of_unit, unit_of
from fleetd.core.model.unit_rules.command import asks_first, ends_others, start_faults, stops_gently
from fleetd.core.model.unit_rules.text import UnitLine, UnitText
from fleetd.core.model.unit_rules.values import is_understood, signal_name, span_seconds, yes_or_no
from fleetd.core.model.worker_settings import SETTINGS_DIRECTORY, SHUTDOWN_SECONDS

#: Sidekiq's -t, 3 s to push unfinished jobs back, up to 10 s of Mastodon's exit hooks, and a margin.
STOP_SECONDS_MIN: Final = SHUTDOWN_SECONDS + 3 + 10 + 2
#: A shorter RuntimeMaxSec= would push every longer job back again and again, and the scheduler's slower jobs never run.
RUNTIME_SECONDS_MIN: Final = 3600.0

_OTHER_QUEUES: Final = frozenset({UnitRule.SETTINGS, UnitRule.ARGUMENTS, UnitRule.OPTIONS})
_USUAL_COMMAND: Final = "/home/mastodon/.rbenv/shims/bundle exec sidekiq $SIDEKIQ_ARGS"

#: Whether two paths are one directory.
SamePlace = Callable[[str, str], bool]


def unfit(text: UnitText, directory: str | None = None, same_place: SamePlace = operator.eq) -> UnfitUnit | None:
    """What keeps fleetd from running this unit; None: nothing. `directory`: Mastodon's; None: not compared."""
    unknown = [(path, f"chmod a+r {path}") for path in text.unreadable]
    unknown += [(path, f"chmod a+rx {path}") for path in text.closed]
    if unknown:  # unknown is not fit (law 3)
        faults = tuple(UnitFault(rule=UnitRule.UNREADABLE, file=path, write=cure) for path, cure in unknown)
        return UnfitUnit(unit=text.unit, file=text.file, foreign=False, faults=faults)
    found = tuple(_Judged(text).faults(directory, same_place))
    own = [line for line in text.lines if line.file == text.file and line.name == "EnvironmentFile"]
    foreign = not any(line.value.lstrip("-").startswith(f"{SETTINGS_DIRECTORY}/") for line in own)
    return UnfitUnit(unit=text.unit, file=text.file, foreign=foreign, faults=found) if found else None


def may_boot(unfit: UnfitUnit | None) -> bool:
    """Whether a boot of the host starts such a unit: not on queues of its own (law 1).

    Any other fault keeps fleetd away, but must not leave a host without workers after a reboot (law 5).
    """
    return unfit is None or not any(fault.rule in _OTHER_QUEUES for fault in unfit.faults)


def unfit_of(key: InstanceKey, found: Mapping[str, UnfitUnit]) -> UnfitUnit | None:
    """Why this unit is none that fleetd starts, ends or replaces; None: it is one. `found`: by unit."""
    return found.get(unit_of(key)) or found.get(SCHEDULER_UNIT if key == SCHEDULER else TEMPLATE_UNIT)


class _Judged:
    """One unit's lines, by what they set in the end."""

    def __init__(self, text: UnitText) -> None:
        self.text = text
        self.lines = [line for line in text.lines if line.section == "Service"]
        self.unit_lines = [line for line in text.lines if line.section == "Unit"]
        key = key_of_unit(text.unit)
        name = "scheduler" if text.unit == SCHEDULER_UNIT else "%i" if key is None else str(key)
        self.settings = f"{SETTINGS_DIRECTORY}/{name}.env"
        self.also = {self.settings} | {f"{SETTINGS_DIRECTORY}/{i}.env" for i in ("%i", "%I") if name != "scheduler"}

    def faults(self, directory: str | None, same_place: SamePlace) -> Iterator[UnitFault]:
        yield from self._settings_file()
        yield from self._command()
        yield from self._starts()
        yield from self._stops()
        yield from self._stop_commands()
        yield from self._ends()
        yield from self._limits()
        yield from self._dependencies()
        yield from self._place(directory, same_place)

    # Reading

    def last(self, *names: str) -> UnitLine | None:
        """The line that decides a setting with one value; None: it has systemd's default."""
        lines = [line for line in self.lines if line.name in names and is_understood(line.name, line.value)]
        return lines[-1] if lines and lines[-1].value else None

    def listed(self, name: str) -> list[UnitLine]:
        """The lines of a setting that may have several; an empty one forgets those before it."""
        found: list[UnitLine] = []
        for line in self.lines:
            if line.name == name:
                found = [*found, line] if line.value else []
        return found

    def blamed(self, name: str) -> str:
        """The file to blame for a setting that is missing: the one that took it away, else the unit file."""
        return next((line.file for line in reversed(self.lines) if line.name == name), self.text.file)

    def fault(self, rule: UnitRule, line: UnitLine | None, write: str, name: str = "") -> UnitFault:
        said = ""
        if line is not None:  # a command may hold a password
            said = f"{line.name}=…" if line.name.startswith("Exec") else f"{line.name}={line.value}"
        return UnitFault(rule=rule, says=said, file=line.file if line else self.blamed(name), write=write)

    def flag(self, name: str, wrong: bool, rule: UnitRule) -> Iterator[UnitFault]:
        """A fault if this yes or no is the wrong one; the right one is systemd's default."""
        line = self.last(name)
        if line is not None and yes_or_no(line.value) is wrong:
            yield self.fault(rule, line, f"{name}={'no' if wrong else 'yes'}")

    def one_of(self, name: str, right: set[str], rule: UnitRule, write: str) -> Iterator[UnitFault]:
        """A fault unless this has one of these values; systemd's default is none of them."""
        line = self.last(name)
        if line is None or line.value not in right:
            yield self.fault(rule, line, f"{name}={write}", name)

    # Judging

    def _settings_file(self) -> Iterator[UnitFault]:
        files = self.listed("EnvironmentFile")
        ours = [place for place, line in enumerate(files) if posixpath.normpath(line.value) in self.also]
        write = f"EnvironmentFile={self.settings}"
        if ours:
            for line in files[ours[-1] + 1 :]:  # the last file wins
                path = posixpath.normpath(line.value.removeprefix("-"))
                wins = path.startswith(f"{SETTINGS_DIRECTORY}/") or path in self.text.rivals
                rule = UnitRule.SETTINGS if wins else UnitRule.SETTINGS_LATER
                if path not in self.text.harmless:
                    yield self.fault(rule, line, write)
            return
        optional = next((f for f in files if posixpath.normpath(f.value.removeprefix("-")) in self.also), None)
        rule = UnitRule.SETTINGS if optional is None else UnitRule.SETTINGS_OPTIONAL
        yield self.fault(rule, optional, write, "EnvironmentFile")

    def _command(self) -> Iterator[UnitFault]:
        for unset in self.listed("UnsetEnvironment"):
            if "SIDEKIQ_ARGS" in unset.value.split():
                yield self.fault(UnitRule.ARGUMENTS, unset, "UnsetEnvironment=")
        commands = self.listed("ExecStart")
        if len(commands) != 1:
            line = commands[-1] if commands else None
            rule = UnitRule.COMMANDS if commands else UnitRule.ARGUMENTS
            write = "ExecStart=   (an empty line before your own)" if commands else self._right_command()
            yield self.fault(rule, line, write, "ExecStart")
            return
        line = commands[0]
        for rule in start_faults(line.value):
            own = "ExecStart=   (your own, with `exec` before bundle or sidekiq)"
            yield self.fault(rule, line, own if rule == UnitRule.SHELL else self._right_command())

    def _right_command(self) -> str:
        """One that is in these files already, so that user, place and Ruby are right; else the usual one.

        One that may hold a password is only pointed at.
        """
        there = [line for line in self.lines if line.name == "ExecStart" and not any(start_faults(line.value))]
        if not there:
            return f"ExecStart={_USUAL_COMMAND}"
        right = there[-1]
        is_plain = not set(right.value) & set("='\"")
        return f"ExecStart={right.value}" if is_plain else f"ExecStart=   (the one that {right.file} has)"

    def _starts(self) -> Iterator[UnitFault]:
        yield from self.one_of("Type", {"notify", "notify-reload"}, UnitRule.TYPE, "notify")
        access = self.last("NotifyAccess")
        if access is not None and access.value == "none":
            yield self.fault(UnitRule.TYPE, access, "NotifyAccess=all")
        for line in self.listed("ExecCondition"):
            if self.text.unit == SCHEDULER_UNIT and asks_first(line.value):
                continue  # whether another host's runs; one that does not ask is fit as well
            yield self.fault(UnitRule.CONDITION, line, "ExecCondition=")

    def _stops(self) -> Iterator[UnitFault]:
        yield from self.one_of("KillMode", {"mixed", "process"}, UnitRule.KILL_MODE, "mixed")
        for name in ("KillSignal", "RestartKillSignal"):
            line = self.last(name)
            if line is not None and signal_name(line.value) not in {"TERM", "INT"}:
                yield self.fault(UnitRule.SIGNAL, line, f"{name}=SIGTERM")
        yield from self.flag("SendSIGHUP", True, UnitRule.SIGNAL)
        yield from self.flag("SendSIGKILL", False, UnitRule.LEFT_OVER)
        limit = self.last("TimeoutStopSec", "TimeoutSec")
        seconds = span_seconds(limit.value) if limit is not None else None
        if limit is not None and seconds is not None and 0.0 < seconds < STOP_SECONDS_MIN:  # 0: none
            yield self.fault(UnitRule.STOP_TIMEOUT, limit, "TimeoutStopSec=60")

    def _stop_commands(self) -> Iterator[UnitFault]:
        for line in self.listed("ExecStop"):
            if not stops_gently(line.value):
                yield self.fault(UnitRule.STOP_COMMAND, line, "ExecStop=")
        for name in ("ExecStartPre", "ExecStartPost", "ExecStopPost"):
            for line in self.listed(name):
                if ends_others(line.value):
                    yield self.fault(UnitRule.STOP_COMMAND, line, f"{name}=")

    def _ends(self) -> Iterator[UnitFault]:
        yield from self.one_of("Restart", {"always"}, UnitRule.RESTART, "always")
        for line in self.listed("RestartPreventExitStatus"):
            yield self.fault(UnitRule.RESTART, line, "RestartPreventExitStatus=")
        yield from self.flag("RemainAfterExit", True, UnitRule.LEFT_OVER)
        kind = self.last("ExitType")
        if kind is not None and kind.value == "cgroup":
            yield self.fault(UnitRule.LEFT_OVER, kind, "ExitType=main")

    def _limits(self) -> Iterator[UnitFault]:
        """What ends a process that works."""
        for name, right in (
            ("OOMPolicy", "continue"),
            ("ManagedOOMSwap", "auto"),
            ("ManagedOOMMemoryPressure", "auto"),
        ):
            line = self.last(name)
            if line is not None and line.value == "kill":
                yield self.fault(UnitRule.OOM, line, f"{name}={right}")
        watchdog, runtime, cpu = self.last("WatchdogSec"), self.last("RuntimeMaxSec"), self.last("LimitCPU")
        if watchdog is not None and 0.0 < (span_seconds(watchdog.value) or 0.0) < float("inf"):
            yield self.fault(UnitRule.WATCHDOG, watchdog, "WatchdogSec=0")
        if runtime is not None and 0.0 < (span_seconds(runtime.value) or 0.0) < RUNTIME_SECONDS_MIN:
            yield self.fault(UnitRule.RUNTIME, runtime, "RuntimeMaxSec=1d")
        if cpu is not None and cpu.value != "infinity":
            yield self.fault(UnitRule.CPU_TIME, cpu, "LimitCPU=infinity")
        error = next((line for line in reversed(self.lines) if line.name == "SystemCallErrorNumber"), None)
        if self.listed("SystemCallFilter") and (error is None or error.value in {"", "kill"}):
            yield self.fault(UnitRule.SYSTEM_CALL, error, "SystemCallErrorNumber=EPERM", "SystemCallFilter")

    def _dependencies(self) -> Iterator[UnitFault]:
        """What stops it without anybody's order. A target is a person's own, and is stopped by one."""
        for line in self.unit_lines:
            services = [unit for unit in line.value.split() if unit.endswith(".service")]
            if line.name in {"Requires", "Requisite", "BindsTo"} and services:
                yield self.fault(UnitRule.DEPENDENCY, line, f"Wants={' '.join(services)}")
            if line.name in {"PartOf", "StopPropagatedFrom", "Conflicts"} and services:
                yield self.fault(UnitRule.DEPENDENCY, line, f"After={' '.join(services)}")
        for name in ("StopWhenUnneeded", "RefuseManualStart", "RefuseManualStop"):
            lines = [line for line in self.unit_lines if line.name == name and is_understood(name, line.value)]
            if lines and yes_or_no(lines[-1].value):
                yield self.fault(UnitRule.NOT_STEERED, lines[-1], f"{name}=no")

    def _place(self, directory: str | None, same_place: SamePlace) -> Iterator[UnitFault]:
        user, place = self.last("User"), self.last("WorkingDirectory")
        if user is None or user.value in {"root", "0"} or "%" in user.value:
            others = (
                x.value for x in self.lines if x.name == "User" and x.value not in {"", "root", "0"} and x != user
            )
            *_, usual = ("mastodon", *others)
            yield self.fault(UnitRule.USER, user, f"User={usual}", "User")
        where = place.value.removeprefix("-").replace("%%", "%") if place is not None else ""
        there = directory is None or not where.startswith("/") or _same(where, directory, same_place)
        if place is None or not there:
            write = f"WorkingDirectory={(directory or '/home/mastodon/live').replace('%', '%%')}"
            yield self.fault(UnitRule.DIRECTORY, place, write, "WorkingDirectory")


def _same(one: str, other: str, same_place: SamePlace) -> bool:
    one, other = (posixpath.normpath(path) for path in (one, other))
    return one == other or same_place(one, other)
