"""Which settings of a worker's unit fleetd relies on, and what it makes of others.

Law 1: a unit without our settings serves every queue, `scheduler` included. Law 4: one that systemd kills too early, or
whose main process never gets our quiet, loses jobs. Law 6: a unit that lacks these is not ours to start or end.

A unit is judged by what it says, whoever wrote it and wherever it is: a copy of ours in /etc with other limits is ours.
docs/other-mastodons.md has the table of what is understood and what is refused; a test compares them.

Sources: systemd.unit(5), systemd.service(5), systemd.kill(5), systemd.exec(5); Sidekiq's options and signals.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from fleetd.core.model.facts import UnfitUnit, UnitFault, UnitRule, Value
from fleetd.core.model.identity import SCHEDULER, SCHEDULER_UNIT, TEMPLATE_UNIT, InstanceKey, key_of_unit, unit_of
from fleetd.core.model.worker_settings import SETTINGS_DIRECTORY, SHUTDOWN_SECONDS

#: Sidekiq's -t, 3 s to push unfinished jobs back, up to 10 s of Mastodon's exit hooks, and a margin.
STOP_SECONDS_MIN: Final = SHUTDOWN_SECONDS + 3 + 10 + 2
#: A shorter RuntimeMaxSec= would push every longer job back again and again, and the scheduler's slower jobs never run.
RUNTIME_SECONDS_MIN: Final = 3600.0

_OTHER_QUEUES: Final = frozenset({UnitRule.SETTINGS, UnitRule.ARGUMENTS, UnitRule.OPTIONS})
_SHELLS: Final = frozenset({"sh", "bash", "dash", "zsh", "ksh", "ash", "fish"})
#: These stay in between as a process of their own, so that a signal to the main process does not reach Sidekiq, or is
#: turned into another one.
_STAY_BETWEEN: Final = frozenset(
    {
        "sudo",
        "su",
        "runuser",
        "doas",
        "timeout",
        "flock",
        "script",
        "dumb-init",
        "tini",
        "unbuffer",
        "foreman",
        "strace",
    }
)
_EXEC: Final = re.compile(r"(?:^|[;&|(){}\n]|\b(?:then|else|do))\s*exec\s")
_OPTION: Final = re.compile(r"-[qcgt]\S*|--(?:queue|concurrency|tag|timeout)(?:=.*)?")
_TIMEOUT: Final = re.compile(r"(?<!\S)-t (\d{1,9})(?!\S)")
_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]*)")
_UNITS: Final = {
    "us": 1e-6, "usec": 1e-6, "ms": 1e-3, "msec": 1e-3, "": 1.0, "s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0,
    "m": 60.0, "min": 60.0, "minute": 60.0, "minutes": 60.0, "h": 3600.0, "hr": 3600.0, "hour": 3600.0, "hours": 3600.0,
    "d": 86400.0, "day": 86400.0, "days": 86400.0, "w": 604800.0, "week": 604800.0, "weeks": 604800.0,
    "M": 2629800.0, "month": 2629800.0, "months": 2629800.0, "y": 31557600.0, "year": 31557600.0, "years": 31557600.0,
}  # fmt: skip
_TRUE: Final = frozenset({"1", "yes", "y", "true", "t", "on"})
_FALSE: Final = frozenset({"0", "no", "n", "false", "f", "off"})


class UnitLine(Value, frozen=True, kw_only=True):
    """One assignment in the section [Service]. `file`: the unit file or drop-in that has it."""

    name: str
    value: str
    file: str


class UnitText(Value, frozen=True, kw_only=True):
    """A unit file with its drop-ins, in systemd's order. `unreadable`: those of them that could not be read."""

    unit: str
    file: str
    lines: tuple[UnitLine, ...] = ()
    unreadable: tuple[str, ...] = ()


def unfit(text: UnitText, directory: str | None = None) -> UnfitUnit | None:
    """What keeps fleetd from running this unit; None: nothing. `directory`: Mastodon's; None: not compared."""
    if text.unreadable:  # unknown is not fit (law 3)
        faults = tuple(UnitFault(rule=UnitRule.UNREADABLE, file=f, write=f"chmod a+r {f}") for f in text.unreadable)
        return UnfitUnit(unit=text.unit, file=text.file, foreign=False, faults=faults)
    found = tuple(_Judged(text).faults(directory))
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


def span_seconds(text: str) -> float | None:
    """A time span of systemd.time(7) in seconds, infinity included; None: it is none, so systemd ignores the line."""
    if text.strip() == "infinity":
        return float("inf")
    parts = _SPAN.findall(text)
    if not parts or _SPAN.sub("", text).strip() or any(unit not in _UNITS for _, unit in parts):
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


class _Judged:
    """One unit's lines, by what they set in the end."""

    def __init__(self, text: UnitText) -> None:
        self.text = text
        key = key_of_unit(text.unit)
        name = "scheduler" if text.unit == SCHEDULER_UNIT else "%i" if key is None else str(key)
        self.settings = f"{SETTINGS_DIRECTORY}/{name}.env"
        self.also = {self.settings} | {f"{SETTINGS_DIRECTORY}/{i}.env" for i in ("%i", "%I") if name != "scheduler"}

    def faults(self, directory: str | None) -> Iterator[UnitFault]:
        yield from self._settings_file()
        yield from self._command()
        yield from self._starts()
        yield from self._stops()
        yield from self._ends()
        yield from self._place(directory)

    # Reading

    def last(self, *names: str) -> UnitLine | None:
        """The line that decides a setting with one value; None: it has systemd's default."""
        lines = [line for line in self.text.lines if line.name in names]
        return lines[-1] if lines and lines[-1].value else None

    def listed(self, name: str) -> list[UnitLine]:
        """The lines of a setting that may have several; an empty one forgets those before it."""
        found: list[UnitLine] = []
        for line in self.text.lines:
            if line.name == name:
                found = [*found, line] if line.value else []
        return found

    def blamed(self, name: str) -> str:
        """The file to blame for a setting that is missing: the one that took it away, else the unit file."""
        return next((line.file for line in reversed(self.text.lines) if line.name == name), self.text.file)

    def fault(self, rule: UnitRule, line: UnitLine | None, write: str, name: str = "") -> UnitFault:
        said = ""
        if line is not None:  # a command may hold a password
            said = f"{line.name}=…" if line.name == "ExecStart" else f"{line.name}={line.value}"
        return UnitFault(rule=rule, says=said, file=line.file if line else self.blamed(name), write=write)

    def flag(self, name: str, wrong: bool, rule: UnitRule) -> Iterator[UnitFault]:
        """A fault if this yes or no is the wrong one; the right one is systemd's default."""
        line = self.last(name)
        if line is not None and line.value.lower() in (_TRUE if wrong else _FALSE):
            yield self.fault(rule, line, f"{name}={'no' if wrong else 'yes'}")

    # Judging

    def _settings_file(self) -> Iterator[UnitFault]:
        files = self.listed("EnvironmentFile")
        if any(line.value in self.also for line in files):
            return
        optional = next((line for line in files if line.value.removeprefix("-") in self.also), None)
        rule = UnitRule.SETTINGS if optional is None else UnitRule.SETTINGS_OPTIONAL
        yield self.fault(rule, optional, f"EnvironmentFile={self.settings}", "EnvironmentFile")

    def _command(self) -> Iterator[UnitFault]:
        for unset in self.listed("UnsetEnvironment"):
            if "SIDEKIQ_ARGS" in unset.value.split():
                yield self.fault(UnitRule.ARGUMENTS, unset, "UnsetEnvironment=")
        commands = self.listed("ExecStart")
        if len(commands) != 1:
            line = commands[-1] if commands else None
            rule = UnitRule.COMMANDS if commands else UnitRule.ARGUMENTS
            write = "ExecStart=   (an empty line before your own)" if commands else _arguments_line(None)
            yield self.fault(rule, line, write, "ExecStart")
            return
        line = commands[0]
        bare = line.value.lstrip("@-:+!|")
        prefix = line.value[: len(line.value) - len(bare)]
        words = _words(bare)
        if set(prefix) & {"+", "!"}:
            yield self.fault(UnitRule.PRIVILEGES, line, _arguments_line(None))
        script = _script(words)
        inner = _words(script) if script is not None else words
        if any(_program(word) in _STAY_BETWEEN for word in (*_before_sidekiq(words), *_before_sidekiq(inner))):
            yield self.fault(UnitRule.BETWEEN, line, _arguments_line(None))
        if script is not None and not _execs(script):
            yield self.fault(UnitRule.SHELL, line, _arguments_line("exec"))
        if ":" in prefix or not _passes_arguments(words, script):
            yield self.fault(UnitRule.ARGUMENTS, line, _arguments_line(None))
        elif any(_OPTION.fullmatch(word) for word in _without_shorter_timeout(_after_sidekiq(inner))):
            yield self.fault(UnitRule.OPTIONS, line, _arguments_line(None))

    def _starts(self) -> Iterator[UnitFault]:
        kind, access = self.last("Type"), self.last("NotifyAccess")
        if kind is None or kind.value not in {"notify", "notify-reload"}:
            yield self.fault(UnitRule.TYPE, kind, "Type=notify", "Type")
        if access is not None and access.value == "none":
            yield self.fault(UnitRule.TYPE, access, "NotifyAccess=all")

    def _stops(self) -> Iterator[UnitFault]:
        mode = self.last("KillMode")
        if mode is None or mode.value not in {"mixed", "process"}:
            yield self.fault(UnitRule.KILL_MODE, mode, "KillMode=mixed", "KillMode")
        for name in ("KillSignal", "RestartKillSignal"):
            line = self.last(name)
            if line is not None and line.value.removeprefix("SIG") not in {"TERM", "INT", "15", "2"}:
                yield self.fault(UnitRule.SIGNAL, line, f"{name}=SIGTERM")
        yield from self.flag("SendSIGHUP", True, UnitRule.SIGNAL)
        yield from self.flag("SendSIGKILL", False, UnitRule.LEFT_OVER)
        limit = self.last("TimeoutStopSec", "TimeoutSec")
        seconds = span_seconds(limit.value) if limit is not None else None
        if limit is not None and seconds is not None and 0.0 < seconds < STOP_SECONDS_MIN:  # 0: none
            yield self.fault(UnitRule.STOP_TIMEOUT, limit, "TimeoutStopSec=60")

    def _ends(self) -> Iterator[UnitFault]:
        restart, oom = self.last("Restart"), self.last("OOMPolicy")
        if restart is None or restart.value != "always":
            yield self.fault(UnitRule.RESTART, restart, "Restart=always", "Restart")
        yield from self.flag("RemainAfterExit", True, UnitRule.LEFT_OVER)
        if oom is not None and oom.value == "kill":
            yield self.fault(UnitRule.OOM, oom, "OOMPolicy=continue")
        watchdog, runtime = self.last("WatchdogSec"), self.last("RuntimeMaxSec")
        if watchdog is not None and 0.0 < (span_seconds(watchdog.value) or 0.0) < float("inf"):
            yield self.fault(UnitRule.WATCHDOG, watchdog, "WatchdogSec=0")
        if runtime is not None and 0.0 < (span_seconds(runtime.value) or 0.0) < RUNTIME_SECONDS_MIN:
            yield self.fault(UnitRule.RUNTIME, runtime, "RuntimeMaxSec=1d")

    def _place(self, directory: str | None) -> Iterator[UnitFault]:
        user, place = self.last("User"), self.last("WorkingDirectory")
        if user is None or user.value in {"root", "0"}:
            yield self.fault(UnitRule.USER, user, "User=mastodon", "User")
        where = place.value.removeprefix("-").rstrip("/") if place is not None else ""
        if place is None or (directory is not None and where.startswith("/") and where != directory.rstrip("/")):
            write = f"WorkingDirectory={directory or '/home/mastodon/live'}"
            yield self.fault(UnitRule.DIRECTORY, place, write, "WorkingDirectory")


def _arguments_line(prefix: str | None) -> str:
    if prefix is None:
        return "ExecStart=/home/mastodon/.rbenv/shims/bundle exec sidekiq $SIDEKIQ_ARGS"
    return "ExecStart=/bin/bash -lc '… && exec bundle exec sidekiq $SIDEKIQ_ARGS'"


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:  # an odd quote
        return command.split()


def _program(word: str) -> str:
    return word.rpartition("/")[2]


def _before_sidekiq(words: list[str]) -> list[str]:
    return words[: next((i for i, w in enumerate(words) if _program(w) in {"sidekiq", "bundle"}), len(words))]


def _after_sidekiq(words: list[str]) -> list[str]:
    at = next((i for i, word in enumerate(words) if _program(word) == "sidekiq"), len(words))
    return words[at + 1 :]


def _script(words: Iterable[str]) -> str | None:
    """What a shell is given with -c; None: no shell is, or it runs a file, which may do anything."""
    rest = iter(words)
    for word in rest:
        if _program(word) in _SHELLS:
            for option in rest:
                if re.fullmatch(r"-[a-zA-Z]*c[a-zA-Z]*", option):
                    return next((text for text in rest if not text.startswith("-")), None)
                if not option.startswith("-"):
                    return None
    return None


def _execs(script: str) -> bool:
    """Whether the shell becomes Sidekiq: the last exec is of a command that takes our arguments, and in no pipe."""
    *_, rest = _EXEC.split(script)
    command = re.split(r"[;\n]", rest)[0]
    piped = re.search(r"[|&]", re.sub(r"[0-9]*>&[0-9-]+|&>", "", command))
    return rest != script and piped is None and re.search(r"\$@|\$\*|SIDEKIQ_ARGS", command) is not None


def _without_shorter_timeout(words: list[str]) -> list[str]:
    """Without `-t 10`: less than ours fits into the time that the unit gives."""
    return _TIMEOUT.sub(lambda t: "" if int(t[1]) <= SHUTDOWN_SECONDS else t[0], " ".join(words)).split()


def _passes_arguments(words: list[str], script: str | None) -> bool:
    """Whether Sidekiq gets its settings as words: systemd splits $SIDEKIQ_ARGS, but not ${SIDEKIQ_ARGS}."""
    if "$SIDEKIQ_ARGS" in words:
        return script is None or "$@" in script or "$*" in script or "$SIDEKIQ_ARGS" in script
    return script is not None and re.search(r"\$SIDEKIQ_ARGS\b|\$\{SIDEKIQ_ARGS\}", script) is not None
