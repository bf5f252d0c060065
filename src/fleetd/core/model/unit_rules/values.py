"""Values of systemd's settings. A line with a value that systemd does not understand is ignored: the one before holds.

Sources: systemd.syntax(7), systemd.time(7), systemd.service(5), systemd.kill(5), signal(7); tried with systemd 252.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Mapping
from typing import Final

_SPAN: Final = re.compile(r"(\+?\d+(?:\.\d*)?|\.\d+)\s*([a-zA-Zµμ]*)\s*")
_UNITS: Final = {
    "us": 1e-6, "usec": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "msec": 1e-3,
    "": 1.0, "s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0,
    "m": 60.0, "min": 60.0, "minute": 60.0, "minutes": 60.0, "h": 3600.0, "hr": 3600.0, "hour": 3600.0, "hours": 3600.0,
    "d": 86400.0, "day": 86400.0, "days": 86400.0, "w": 604800.0, "week": 604800.0, "weeks": 604800.0,
    "M": 2629800.0, "month": 2629800.0, "months": 2629800.0, "y": 31557600.0, "year": 31557600.0, "years": 31557600.0,
}  # fmt: skip
_TRUE: Final = frozenset({"1", "yes", "y", "true", "t", "on"})
_FALSE: Final = frozenset({"0", "no", "n", "false", "f", "off"})
_SIGNALS: Final = frozenset(s.name.removeprefix("SIG") for s in signal.Signals)
_REAL_TIME: Final = re.compile(r"RTMIN(?:\+\d{1,2})?|RTMAX(?:-\d{1,2})?")


def span_seconds(text: str) -> float | None:
    """A time span in seconds, infinity included; None: it is none."""
    rest = text.strip()
    if rest == "infinity":
        return float("inf")
    seconds, at = 0.0, 0
    while at < len(rest):
        part = _SPAN.match(rest, at)
        if part is None or part[2] not in _UNITS:
            return None
        seconds += float(part[1]) * _UNITS[part[2]]
        at = part.end()
    return seconds if rest else None


def yes_or_no(text: str) -> bool | None:
    """None: neither."""
    return True if text.lower() in _TRUE else False if text.lower() in _FALSE else None


def signal_name(text: str) -> str | None:
    """Without SIG; None: there is no such signal."""
    if re.fullmatch(r"[0-9]{1,2}", text):
        try:
            return signal.Signals(int(text)).name.removeprefix("SIG")
        except ValueError:
            return None
    name = text.removeprefix("SIG")
    return name if name in _SIGNALS or _REAL_TIME.fullmatch(name) else None


def is_understood(name: str, value: str) -> bool:
    """Whether systemd takes this value, so that it replaces the one before."""
    check = _CHECKS.get(name)
    return check is None or check(value)


def _one_of(*words: str) -> Callable[[str], bool]:
    return frozenset(words).__contains__


def _span(value: str) -> bool:
    return span_seconds(value) is not None


def _flag(value: str) -> bool:
    return yes_or_no(value) is not None


def _signal(value: str) -> bool:
    return signal_name(value) is not None


def _directory(value: str) -> bool:
    place = value.removeprefix("-")
    return value == "" or place == "~" or place.startswith(("/", "%"))


#: An empty value is among those that take the setting away; so it is of User=, which is not here.
_CHECKS: Final[Mapping[str, Callable[[str], bool]]] = {
    "Type": _one_of("simple", "forking", "oneshot", "dbus", "notify", "notify-reload", "idle", "exec"),
    "NotifyAccess": _one_of("none", "main", "exec", "all"),
    "KillMode": _one_of("", "control-group", "process", "mixed", "none"),
    "Restart": _one_of("no", "on-success", "on-failure", "on-abnormal", "on-watchdog", "on-abort", "always"),
    "OOMPolicy": _one_of("continue", "stop", "kill"),
    "ManagedOOMSwap": _one_of("", "auto", "kill"),
    "ManagedOOMMemoryPressure": _one_of("", "auto", "kill"),
    "ExitType": _one_of("main", "cgroup"),
    "KillSignal": _signal,
    "RestartKillSignal": _signal,
    "SendSIGHUP": _flag,
    "SendSIGKILL": _flag,
    "RemainAfterExit": _flag,
    "StopWhenUnneeded": _flag,
    "RefuseManualStart": _flag,
    "RefuseManualStop": _flag,
    "RestartSec": _span,
    "TimeoutStopSec": _span,
    "TimeoutSec": _span,
    "WatchdogSec": _span,
    "LimitCPU": bool,
    "RuntimeMaxSec": _span,
    "WorkingDirectory": _directory,
}
