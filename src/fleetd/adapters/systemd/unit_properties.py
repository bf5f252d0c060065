"""What systemd says about one unit, as values, and how it refuses a step, as sentences.

Sources: org.freedesktop.systemd1(5), interfaces Manager, Unit and Service; systemd's bus-common-errors.h.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from fleetd.adapters.bus.connection import BusCallError, BusLostError
from fleetd.adapters.systemd.link import SYSTEMD_GONE, SYSTEMD_PATH
from fleetd.core.model.bounds import essential
from fleetd.core.model.decision import Step, StepResult
from fleetd.core.model.facts import TargetFacts, UnitFacts

#: One row of ListUnitsByPatterns: name, description, load, active, sub, following, path, job id, type, path.
UnitRow = list[Any]
UNIT_ROWS_SIGNATURE: Final = "a(ssssssouso)"

#: Errors for a unit that was unloaded after it was listed: it is inactive.
UNIT_UNLOADED: Final = frozenset({"org.freedesktop.DBus.Error.UnknownObject", "org.freedesktop.systemd1.NoSuchUnit"})


def unit_path(name: str) -> str:
    """The object path of a unit: every byte but ASCII letters and digits becomes _xx (sd_bus_path_encode)."""
    escaped = "".join(c if c.isascii() and c.isalnum() else f"_{ord(c):02x}" for c in name)
    return f"{SYSTEMD_PATH}/unit/{escaped}"


#: ExecMainCode of a process that a signal ended (waitid(2)): CLD_KILLED, CLD_DUMPED.
_ENDED_BY_SIGNAL: Final = frozenset({2, 3})
_SIGNAL_MAX: Final = 64
#: What systemd gives for a time that never came (USEC_INFINITY).
_UNSET: Final = 2**64 - 1


def ending(code: object, status: object) -> int | None:
    """The signal that ended the latest main process, from ExecMainCode and ExecMainStatus.

    0: it exited by itself. None: it has not ended, or the values make no sense.
    """
    if not isinstance(code, int) or not isinstance(status, int) or code <= 0:
        return None
    return status if code in _ENDED_BY_SIGNAL and 0 < status <= _SIGNAL_MAX else 0


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
_REFUSALS = {
    "org.freedesktop.DBus.Error.AccessDenied": _POLKIT,
    "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired": _POLKIT,
    "org.freedesktop.systemd1.NoSuchUnit": (
        "systemd has no such unit. Install fleetd's unit files and run systemctl daemon-reload"
    ),
    "org.freedesktop.systemd1.LoadFailed": "its unit file can't be loaded. See systemctl status",
    "org.freedesktop.systemd1.BadUnitSetting": "its unit file has a bad setting. Run systemd-analyze verify",
    "org.freedesktop.systemd1.UnitMasked": "it is masked. systemctl unmask lets it start again",
    "org.freedesktop.systemd1.TransactionIsDestructive": (
        "it is being stopped (or the host shuts down), and a start does not cancel a stop"
    ),
    "org.freedesktop.systemd1.ShuttingDown": "the host is shutting down",
}


def failure(step: Step, error: Exception) -> StepResult:
    """What became of a step that `error` ended, with a sentence for the admin."""
    what, unknown = f"{step.verb} {step.unit}", "the next readings show whether it happened"
    if isinstance(error, TimeoutError):
        sentence = f"{what}: systemd did not answer in time; {unknown}"
        return StepResult(step=step, result="timeout", sentence=sentence)
    if isinstance(error, BusLostError):
        return StepResult(step=step, result="failed", sentence=f"{what}: {error}; {unknown}")
    if not isinstance(error, BusCallError):
        sentence = f"{what}: systemd's answer can't be understood ({error})"
        return StepResult(step=step, result="failed", sentence=sentence)
    if error.name in _REFUSALS:
        sentence = f"{what}: {_REFUSALS[error.name]}. systemd says: {error.text}"
        return StepResult(step=step, result="refused", sentence=sentence)
    if error.name in SYSTEMD_GONE:
        return StepResult(step=step, result="failed", sentence=f"{what}: systemd went away; {unknown}")
    sentence = f"{what}: systemd says: {error.text} ({error.name})"
    return StepResult(step=step, result="failed", sentence=sentence)
