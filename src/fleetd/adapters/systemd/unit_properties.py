"""What systemd says about one unit, as values, and how it refuses a step, as sentences.

Sources: org.freedesktop.systemd1(5), interfaces Manager, Unit and Service; systemd's bus-common-errors.h.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from fleetd.adapters.bus.connection import BusCallError, BusLostError
from fleetd.adapters.systemd.link import SYSTEMD_GONE, SYSTEMD_PATH
from fleetd.core.model.bounds import essential
from fleetd.core.model.decision import Step, StepResult
from fleetd.core.model.facts import SKIPPED, EndCause, Ending, TargetFacts, UnitFacts

#: One row of ListUnitsByPatterns: name, description, load, active, sub, following, path, job id, type, path.
UnitRow = list[Any]
UNIT_ROWS_SIGNATURE: Final = "a(ssssssouso)"

#: Errors for a unit that was unloaded after it was listed: it is inactive.
UNIT_UNLOADED: Final = frozenset({"org.freedesktop.DBus.Error.UnknownObject", "org.freedesktop.systemd1.NoSuchUnit"})


def unit_path(name: str) -> str:
    """The object path of a unit: every byte but ASCII letters and digits becomes _xx (sd_bus_path_encode)."""
    escaped = "".join(c if c.isascii() and c.isalnum() else f"_{ord(c):02x}" for c in name)
    return f"{SYSTEMD_PATH}/unit/{escaped}"


#: ExecMainCode (waitid(2)).
_CLD_EXITED: Final = 1
_CLD_KILLED: Final = 2
_CLD_DUMPED: Final = 3
_SIGNAL_MAX: Final = 64
#: systemd.exec(5), $SERVICE_RESULT: what systemd or the kernel did, whatever the process made of it.
_BY_OTHERS: Final = {"oom-kill": EndCause.OOM, "timeout": EndCause.TIMEOUT, "watchdog": EndCause.WATCHDOG}
#: Likewise, where no main process was started, because what comes before it failed.
_BEFORE_MAIN: Final = {
    **_BY_OTHERS,
    "exit-code": EndCause.EXIT,
    "protocol": EndCause.EXIT,
    "signal": EndCause.SIGNAL,
    "core-dump": EndCause.CORE_DUMP,
}
#: What systemd gives for a time that never came (USEC_INFINITY).
_UNSET: Final = 2**64 - 1


def ending(properties: Mapping[str, Any]) -> Ending | None:
    """How the latest main process ended, from Result, ExecMainCode and ExecMainStatus.

    None: it has not ended, or the values are missing or make no sense.
    """
    result, code, status = (properties.get(name) for name in ("Result", "ExecMainCode", "ExecMainStatus"))
    if not isinstance(code, int) or not isinstance(status, int) or not isinstance(result, str):
        return None
    if code <= 0:
        none_ended = result in ("success", "start-limit-hit", SKIPPED)
        return None if none_ended else Ending(cause=_BEFORE_MAIN.get(result, EndCause.UNKNOWN))
    if code == _CLD_EXITED:
        exited = _BY_OTHERS.get(result, EndCause.EXIT)
        return Ending(cause=exited, exit_status=status & 0xFF, clean=result == "success" and status == 0)
    if code not in (_CLD_KILLED, _CLD_DUMPED) or not 0 < status <= _SIGNAL_MAX:
        return Ending(cause=EndCause.UNKNOWN)
    by_signal = EndCause.CORE_DUMP if code == _CLD_DUMPED else EndCause.SIGNAL
    return Ending(cause=_BY_OTHERS.get(result, by_signal), signal=status)


class SeenUnit(msgspec.Struct, frozen=True):
    """A unit's properties as they were last read; until something changes, only the age of its state grows."""

    facts: UnitFacts
    changed_seconds: float  # CLOCK_MONOTONIC

    @classmethod
    def from_properties(cls, name: str, properties: dict[str, Any]) -> SeenUnit:
        """From a GetAll of all interfaces. Raises LookupError, TypeError or ValueError for nonsense."""
        facts = UnitFacts(
            name=name,
            load_state=str(properties["LoadState"]),
            active_state=str(properties["ActiveState"]),
            sub_state=str(properties["SubState"]),
            result=_result(properties),
            main_pid=essential(properties["MainPID"], "MainPID", "pid"),
            restarts=essential(properties["NRestarts"], "NRestarts", "total"),
            invocation_id=_hex(properties["InvocationID"]),
            control_group=str(properties["ControlGroup"]),
            need_daemon_reload=bool(properties["NeedDaemonReload"]),
        )
        return cls(facts, _seconds(properties, "StateChangeTimestampMonotonic"))

    def agrees_with(self, row: UnitRow) -> bool:
        return [self.facts.load_state, self.facts.active_state, self.facts.sub_state] == row[2:5]

    def at(self, now_seconds: float) -> UnitFacts:
        age_seconds = max(0.0, now_seconds - self.changed_seconds)
        return msgspec.structs.replace(self.facts, state_age_seconds=age_seconds)


def target_facts(row: UnitRow, properties: dict[str, Any], now_seconds: float) -> TargetFacts:
    """From its row and, if it is not active, its properties. Raises LookupError, TypeError or ValueError for nonsense.

    `now_seconds`: CLOCK_MONOTONIC. systemd keeps the time of the stop over daemon-reload and daemon-reexec.
    """
    left = _seconds(properties, "ActiveExitTimestampMonotonic") if properties else 0.0
    age = max(0.0, now_seconds - left) if left > 0.0 else None
    return TargetFacts(active_state=str(row[3]), job=str(row[8]), stopped_age_seconds=age)


#: systemd.exec(5), "Process Exit Codes": what went wrong before the command ran.
_BEFORE_COMMAND: Final = {200: "exec-chdir", 203: "exec-command", 217: "exec-user"}


def _result(properties: dict[str, Any]) -> str:
    """$SERVICE_RESULT; for a command that could not even be run, which step of that failed."""
    result = str(properties["Result"])
    step = _BEFORE_COMMAND.get(properties.get("ExecMainStatus", 0)) if result == "exit-code" else None
    return step or result


def _seconds(properties: dict[str, Any], name: str) -> float:
    """A time on CLOCK_MONOTONIC, from microseconds; 0.0, the host's boot, if it never came."""
    microseconds = properties[name]
    return 0.0 if microseconds == _UNSET else essential(microseconds, name, "total") / 1_000_000


def _hex(content: object) -> str:
    """Raises TypeError for a number, of which bytes() would make as many zeros."""
    if not isinstance(content, bytes | bytearray | list):
        raise TypeError("InvocationID is not bytes")
    return bytes(content).hex()


_POLKIT = (
    "polkit does not let fleetd do this. See that 50-fleetd.rules is in /etc/polkit-1/rules.d and that polkit"
    " runs (journalctl -u polkit)"
)
_POLKIT_ABSENT = (
    "polkit does not run, which systemd asks whether fleetd may: systemctl unmask polkit, then systemctl start polkit"
)
#: Errors that polkit's absence may bring; "masked" is then said of polkit.
_ABOUT_POLKIT = {
    "org.freedesktop.DBus.Error.AccessDenied",
    "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
    "org.freedesktop.systemd1.UnitMasked",
    "org.freedesktop.DBus.Error.NoReply",
    "org.freedesktop.DBus.Error.Timeout",
    "org.freedesktop.DBus.Error.TimedOut",
}
_REFUSALS = {
    "org.freedesktop.DBus.Error.AccessDenied": _POLKIT,
    "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired": _POLKIT,
    "org.freedesktop.systemd1.NoSuchUnit": (
        "systemd has no such unit. Install fleetd's unit files and run systemctl daemon-reload"
    ),
    "org.freedesktop.systemd1.LoadFailed": "its unit file can't be loaded. See systemctl status",
    "org.freedesktop.systemd1.BadUnitSetting": "its unit file has a bad setting. Run systemd-analyze verify",
    "org.freedesktop.systemd1.TransactionIsDestructive": (
        "it is being stopped (or the host shuts down), and a start does not cancel a stop"
    ),
    "org.freedesktop.systemd1.ShuttingDown": "the host is shutting down",
}


def failure(step: Step, error: Exception, *, polkit_runs: bool = True) -> StepResult:
    """What became of a step that `error` ended, with a sentence for the admin, who is told the step beside it."""
    unknown = "the next readings show whether it happened"
    if isinstance(error, TimeoutError):
        sentence = f"systemd did not answer in time; it asks polkit first: systemctl status polkit; {unknown}"
        return StepResult(step=step, result="timeout", sentence=sentence)
    if isinstance(error, BusLostError):
        return StepResult(step=step, result="failed", sentence=f"{error}; {unknown}")
    if not isinstance(error, BusCallError):
        return StepResult(step=step, result="failed", sentence=f"systemd's answer can't be understood ({error})")
    refusal = _refusal(step, error, polkit_runs=polkit_runs)
    if refusal is not None:
        return StepResult(step=step, result="refused", sentence=f"{refusal}. systemd says: {error.text}")
    if error.name in SYSTEMD_GONE:
        return StepResult(step=step, result="failed", sentence=f"systemd went away; {unknown}")
    return StepResult(step=step, result="failed", sentence=f"systemd says: {error.text} ({error.name})")


def _refusal(step: Step, error: BusCallError, *, polkit_runs: bool) -> str | None:
    """Why systemd refuses, and what to do; None: this is no refusal."""
    if not polkit_runs and error.name in _ABOUT_POLKIT:
        return _POLKIT_ABSENT
    if error.name == "org.freedesktop.systemd1.UnitMasked":
        unit = step.unit.removesuffix(".service")
        return f"{unit} is masked: systemctl unmask {unit} lets it start again"
    return _REFUSALS.get(error.name)
